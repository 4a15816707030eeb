"""The low-rank branch from the SVD (paper eq. 9).

Only the leading r singular vectors on the short side are needed, so they come from the
eigenvectors of that side's Gram matrix: many times faster than a full SVD of (F, C * 9).
"""

from __future__ import annotations

import torch
from torch import Tensor

from calibration.rounding import ste_half


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
    gram = (flat @ flat.T).double() if len(flat) <= flat.shape[1] else (flat.T @ flat).double()
    energy, vectors = torch.linalg.eigh(gram)
    top = vectors[:, -rank:].flip(1).to(w.dtype)
    root = energy[-rank:].flip(0).clamp_min(1e-20).to(w.dtype) ** 0.25
    if len(flat) <= flat.shape[1]:
        up, down = top * root, (top / root).T @ flat
    else:
        up, down = flat @ (top / root), (top * root).T
    return ste_half(down.reshape(rank, *w.shape[1:])), ste_half(up)


def product(down: Tensor, up: Tensor) -> Tensor:
    """``up @ down`` in the shape of the layer's weight: (F, C, ...)."""
    return (up @ down.flatten(1)).reshape(len(up), *down.shape[1:])
