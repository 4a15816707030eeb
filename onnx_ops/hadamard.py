"""The Hadamard rotation: the one definition of the op's maths (paper section 3.2, eq. 8).

``R_n = (H_m kron S_p) / sqrt(n)`` with ``n = m * p``: ``S_p`` is Sylvester's matrix of order
``p = 2**k`` and ``H_m`` a Paley-I matrix of order 12, 20 or 60, or ``[[1]]``. ``R_n`` is
orthogonal. Paley-I matrices are not symmetric, so the inverse is the transpose.
"""

import math
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)

SEED_ORDERS: Final = (1, 12, 20, 60)
"""Orders of the seeds ``H_m``: 1, and ``q + 1`` for the primes q = 11, 19, 59 (q % 4 == 3)."""


def factor(n: int) -> tuple[int, int]:
    """Split an order as ``n = m * p`` with m a seed order and p a power of two.

    The odd parts of the seed orders are 1, 3, 5 and 15, so at most one split exists.

    Returns:
        ``(m, p)``, m in ``SEED_ORDERS``.

    Raises:
        ValueError: no such split exists.
    """
    for m in SEED_ORDERS:
        p, rest = divmod(n, m)
        if n > 0 and rest == 0 and p.bit_count() == 1:
            return m, p
    families = ", ".join(f"{m} * 2**k" if m > 1 else "2**k" for m in SEED_ORDERS)
    raise ValueError(f"no Hadamard matrix of order {n} is constructed; orders are {families}")


def sylvester(p: int) -> NDArray[np.int8]:
    """Sylvester's matrix ``S[i, j] = (-1)**popcount(i & j)``, symmetric.

    Args:
        p: Order, a power of two.

    Returns:
        (p, p) int8, entries +-1.
    """
    s = np.ones((1, 1), np.int8)
    while len(s) < p:
        s = np.block([[s, s], [s, -s]])
    return s


def paley(m: int) -> NDArray[np.int8]:
    """Paley's first construction, ``H = [[1, 1^T], [-1, C]]`` over the integers mod q = m - 1.

    ``C[i, j]`` is +1 where ``i - j`` is a square mod q (0 included) and -1 elsewhere.
    ``H H^T = m I``; not symmetric.

    Args:
        m: Order, one of ``SEED_ORDERS``; 1 gives ``[[1]]``.

    Returns:
        (m, m) int8, entries +-1.

    Raises:
        ValueError: m is not a seed order.
    """
    if m not in SEED_ORDERS:
        raise ValueError(f"seed order must be one of {SEED_ORDERS}, got {m}")
    q = m - 1
    i = np.arange(q)
    is_square = np.isin((i[:, None] - i[None, :]) % max(q, 1), i * i % max(q, 1))
    h = np.ones((m, m), np.int8)
    h[1:, 0] = -1
    h[1:, 1:] = np.where(is_square, 1, -1)
    return h


def matrix(n: int) -> NDArray[np.float32]:
    """The dense rotation ``R_n = (H_m kron S_p) / sqrt(n)``, for tests and small orders.

    Returns:
        (n, n) float32, orthogonal.

    Raises:
        ValueError: n has no split ``m * p`` (see ``factor``).
    """
    m, p = factor(n)
    return (np.kron(paley(m), sylvester(p)) / math.sqrt(n)).astype(np.float32)


def rotate(
    x: NDArray[Float],
    d: NDArray[np.float32] | NDArray[np.float64],
    axis: int,
    *,
    transposed: bool = False,
) -> NDArray[Float]:
    """Scale and rotate the channels, ``y = R_n (d * x)`` along ``axis`` (eq. 8).

    Args:
        x: (..., n, ...) float32 or float64, the channels at ``axis``.
        d: (n,) multiplier per channel: inverse channel scale times random sign.
        axis: Position of the channels; 1 for (N, C, H, W), -1 for (N, T, C).
        transposed: Compute ``d * (R_n^T x)``, the transpose of that linear map; with ``1 / d``
            it is the inverse.

    Returns:
        Array with the shape and dtype of x.

    Raises:
        ValueError: ``d`` is not (n,), or n has no split ``m * p`` (see ``factor``).
        TypeError: x is not floating point.
    """
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}")
    n = x.shape[axis]
    if d.shape != (n,):
        raise ValueError(f"d must have shape ({n},), one value per channel, got {d.shape}")
    m, p = factor(n)
    h, d = paley(m).astype(x.dtype), d.astype(x.dtype)
    channels_last = np.moveaxis(x, axis, -1)
    y = channels_last if transposed else channels_last * d
    y = y.reshape(*channels_last.shape[:-1], m, p)
    y = (h.T if transposed else h) @ (y @ sylvester(p).astype(x.dtype))
    y *= x.dtype.type(1 / math.sqrt(n))
    y = y.reshape(channels_last.shape)
    return np.ascontiguousarray(np.moveaxis(y * d if transposed else y, -1, axis))


def rotate_weight(w: NDArray[Float], axis: int) -> NDArray[Float]:
    """Rotate a weight's input channels, ``W' = W R_n^T``, so that ``W' (R_n x) = W x``.

    The multiplier ``d`` is not part of it: scale W by ``1 / d`` along ``axis`` first.

    Args:
        w: (..., n, ...) float32 or float64, the input channels at ``axis``: 1 for a
            convolution's (F, C, kh, kw), 0 for a MatMul's (K, N).
        axis: Position of the input channels.

    Returns:
        Array with the shape and dtype of w.

    Raises:
        ValueError: n has no split ``m * p`` (see ``factor``).
        TypeError: w is not floating point.
    """
    return rotate(w, np.ones(w.shape[axis], np.float32), axis)


def signs(n: int, seed: int) -> NDArray[np.float32]:
    """Random signs that make the rotation differ from layer to layer.

    Returns:
        (n,) float32, entries +-1, a function of ``n`` and ``seed`` alone.
    """
    draws = np.random.Generator(np.random.PCG64(seed)).integers(0, 2, size=n)
    return (1 - 2 * draws).astype(np.float32)
