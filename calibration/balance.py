"""Rotation-scaling channel balancing (paper section 3.2, eq. 8).

``W x = (W D^-1 R^T) (R D x)`` with ``D = diag(d)``, ``d = signs / s`` and an orthogonal
Hadamard matrix ``R``: one multiplier per channel and one transform on the activation,
both undone in the weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from onnx_ops.hadamard import factor, matrix

TINY = 1e-5


DENSE = 256
"""Up to this order one dense product is faster than two small ones."""


@lru_cache(maxsize=64)
def _matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(matrix(n)).to(device, dtype)


def rotate(x: Tensor, dim: int, *, transposed: bool = False) -> Tensor:
    """``(H_m kron S_p) / sqrt(n)`` along ``dim`` of size n = m * p; shape and dtype kept."""
    dim %= x.ndim
    n = x.shape[dim]
    if n <= DENSE:
        h = _matrix(n, x.dtype, x.device)
        h = h.T if transposed else h
        if x.ndim == 4 and dim == 1:
            return F.conv2d(x, h[:, :, None, None])
        return F.linear(x.movedim(dim, -1), h).movedim(-1, dim)
    h, s = (_matrix(k, x.dtype, x.device) for k in factor(n))
    if transposed:
        h, s = h.T, s.T
    x = x.movedim(dim, -1)
    y = h @ (x.unflatten(-1, (len(h), len(s))) @ s.T)
    return y.flatten(-2).movedim(-1, dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What happens to one activation's channels before it is quantized.

    Attributes:
        d: (C,) float32, ``signs / s``; all ones where nothing is balanced.
        block: Channels that one rotation spans: C, or a head's width, or 1 for none.
    """

    d: Tensor
    block: int

    def activation(self, x: Tensor, dim: int) -> Tensor:
        """``R D x`` along ``dim``."""
        shape = [1] * x.ndim
        shape[dim] = -1
        x = x * self.d.to(x).reshape(shape)
        if self.block == 1:
            return x
        dim %= x.ndim
        blocks = x.unflatten(dim, (-1, self.block))
        return rotate(blocks, dim + 1).flatten(dim, dim + 1)

    def undone(self, y: Tensor, dim: int) -> Tensor:
        """``D^-1 R^T y`` along ``dim``: the inverse of :meth:`activation`."""
        if self.block > 1:
            dim %= y.ndim
            blocks = y.unflatten(dim, (-1, self.block))
            y = rotate(blocks, dim + 1, transposed=True).flatten(dim, dim + 1)
        shape = [1] * y.ndim
        shape[dim] = -1
        return y / self.d.to(y).reshape(shape)

    def weight(self, w: Tensor) -> Tensor:
        """``W D^-1 R^T`` for a weight whose input channels are axis 1."""
        inverse = Balance(d=1 / self.d, block=self.block)
        return inverse.activation(w, 1)

    def original(self, w: Tensor) -> Tensor:
        """``W R D``: undoes :meth:`weight`."""
        return Balance(d=1 / self.d, block=self.block).undone(w, 1)


def channel_scale(x_peak: Tensor, w_peak: Tensor, alpha: float) -> Tensor:
    """``s = max|X|^alpha / max|K|^(1 - alpha)`` per input channel, eq. 8.

    Args:
        x_peak: (C,) largest magnitude of the activation.
        w_peak: (C,) largest magnitude of the weights that read the channel.
        alpha: Share of the difficulty that moves into the weights, 0..1.

    Returns:
        (C,) > 0, with geometric mean 1: a common factor would only move the grids' steps.
    """
    s = x_peak.clamp_min(TINY) ** alpha / w_peak.clamp_min(TINY) ** (1 - alpha)
    return s / s.log().mean().exp()
