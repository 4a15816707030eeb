"""The weight of a quantized layer: integer codes, their scales, and a low-rank branch.

A :class:`WeightForm` computes those four tensors. :class:`StoredWeight` holds them; the forms
that are trained (QD-LoRA, adaptive rounding, ...) compute them from their parameters with
straight-through gradients and are merged into a :class:`StoredWeight` afterwards, which
then holds exactly the numbers that the last training step computed with.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from calibration.lowrank import product, svd_branch
from calibration.quantizer import quantize_weight
from calibration.rounding import ste_round


class Weight(NamedTuple):
    """``W ~ scale * codes + up @ down``.

    Attributes:
        codes: (F, C, ...) integers, int8 or (while trained) float.
        scale: (F,) float32 > 0.
        down: (r, C, ...) reads the input like a layer of r outputs; None without a branch.
        up: (F, r).
    """

    codes: Tensor
    scale: Tensor
    down: Tensor | None
    up: Tensor | None

    def effective(self) -> tuple[Tensor, Tensor | None]:
        """Dequantized codes, and the branch as a full matrix."""
        weight = self.codes * self.scale.reshape([-1] + [1] * (self.codes.ndim - 1))
        if self.down is None or self.up is None:
            return weight, None
        return weight, product(self.down, self.up)


def trained_codes(w: Tensor, scale: Tensor, limits: tuple[int, int]) -> Tensor:
    """``clamp(round(w / scale))`` per output channel, with a straight-through gradient."""
    return ste_round(w / scale.reshape([-1] + [1] * (w.ndim - 1))).clamp(*limits)


class WeightForm(nn.Module):
    """Computes a layer's :class:`Weight`; called once in every pass of the layer."""

    def forward(self) -> Weight:
        raise NotImplementedError

    def stored(self) -> WeightForm:
        """The form that holds what this one computes, for the export."""
        return StoredWeight(self())


class StoredWeight(WeightForm):
    """The weight as it is exported."""

    codes: Tensor
    scale: Tensor
    down: Tensor | None
    up: Tensor | None

    def __init__(self, weight: Weight) -> None:
        super().__init__()
        detached = (None if t is None else t.detach() for t in weight)
        for name, tensor in zip(Weight._fields, detached, strict=True):
            stored = tensor.to(torch.int8) if name == "codes" and tensor is not None else tensor
            self.register_buffer(name, stored)

    def forward(self) -> Weight:
        return Weight(self.codes, self.scale, self.down, self.up)


def round_weight(w: Tensor, bits: int, rank: int, search: bool = True) -> Weight:
    """Split off the branch of ``rank`` by SVD, round the rest (eq. 9).

    Args:
        w: (F, C, ...) float32.
        bits: Width of the grid, 2..8.
        rank: Rank of the branch; 0 for none.
        search: Search each scale for the least squared error; without, the largest
            magnitude is the largest code.
    """
    down, up = svd_branch(w, rank) if rank else (None, None)
    rest = w if down is None or up is None else w - product(down, up)
    codes, scale = quantize_weight(rest, bits, search)
    return Weight(codes, scale, down, up)
