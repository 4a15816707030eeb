"""The low-rank branch from the SVD (paper eq. 9).

Only the leading r singular vectors are needed. Up to ``DENSE`` channels on the short side they
come from the eigenvectors of that side's Gram matrix; beyond, from a randomized range finder
with power iterations (Halko, Martinsson, Tropp, SIAM Review 2011), whose cost grows with r and
not with the number of channels. Its expected error is at most ``sqrt(1 + r / (p - 1))`` times
the optimum in the Frobenius norm before any power iteration (their theorem 10.5), with p =
``OVERSAMPLED``; with them it is within 1 % of the optimum's energy on weights, which a test holds.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from calibration.rounding import ste_half

DENSE = 512
OVERSAMPLED = 16
POWER_ITERATIONS = 4

_RANDOM = threading.Lock()
"""torch's state of random numbers is one for all threads."""


def svd_branch(w: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best rank-r approximation ``up @ down`` of a weight.

    Args:
        w: (F, C, ...) float32; as a matrix it is (F, C * taps).
        rank: r, at least 1.

    Both factors are representable in float16, in which bundles store them.

    Returns:
        ``down`` (r, C, ...), which reads the input like a layer of r outputs, and ``up``
        (F, r). The singular values are shared evenly, so that both have a like range.
    """
    flat = w.flatten(1)
    leading = _exact if min(flat.shape) <= DENSE else _randomized
    if len(flat) <= flat.shape[1]:
        top, root = leading(flat, rank)
        up, down = top * root, (top / root).T @ flat
    else:
        top, root = leading(flat.T, rank)
        up, down = flat @ (top / root), (top * root).T
    return ste_half(down.reshape(rank, *w.shape[1:])), ste_half(up)


def _exact(a: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Leading left singular vectors (m, r) of a wide matrix, and the roots of their values."""
    energy, vectors = torch.linalg.eigh((a @ a.T).double())
    return vectors[:, -rank:].flip(1).to(a), energy[-rank:].flip(0).clamp_min(1e-20).to(a) ** 0.25


def _randomized(a: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """As :func:`_exact`; its random start is the same every time."""
    with _RANDOM, torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        vectors, values, _ = torch.svd_lowrank(a, rank + OVERSAMPLED, POWER_ITERATIONS)
    return vectors[:, :rank], values[:rank].clamp_min(1e-10).sqrt()


def product(down: Tensor, up: Tensor) -> Tensor:
    """``up @ down`` in the shape of the layer's weight: (F, C, ...)."""
    return (up @ down.flatten(1)).reshape(len(up), *down.shape[1:])
