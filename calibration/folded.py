"""The low-rank branch folded into 8-bit weights, for units whose integers are 8 bits wide anyway.

On disk a layer is an INT4 plane and 10-bit factors of its branch (in int16); when a session
starts they become one int8 weight, with nothing left to compute beside it:

    c8 = clamp(round(plane * (s4 / s8) + (left @ right) * (s_branch / s8)), -64, 64)

Every sum in ``left @ right`` is an integer below 2^24, and the rest are single float32
operations, so every runtime that does these standard operations gets the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from calibration.lowrank import product
from calibration.quantizer import weight_limits
from calibration.rounding import ste_round
from calibration.weights import StoredWeight, Weight, WeightForm

FACTOR_LIMIT = 511
"""Largest code of the factors: up to rank 64 their product is exact in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedParts:
    """What is on disk: everything float32, the integers too.

    Attributes:
        plane: (F, C, ...) codes of the 4-bit grid.
        left, right: (F, r) and (r, C, ...) codes of the branch.
        plane_gain, branch_gain: (F,) what one step of each is worth in steps of 8 bits.
        scale: (F,) the 8-bit step.
    """

    plane: Tensor
    left: Tensor
    right: Tensor
    plane_gain: Tensor
    branch_gain: Tensor
    scale: Tensor

    def codes(self) -> Tensor:
        """The 8-bit codes, (F, C, ...)."""
        rows = [-1] + [1] * (self.plane.ndim - 1)
        total = self.plane * self.plane_gain.reshape(rows)
        total = total + product(self.right, self.left) * self.branch_gain.reshape(rows)
        return ste_round(total).clamp(*weight_limits(8))


def _unit(x: Tensor, limit: int) -> Tensor:
    """Step of a symmetric grid for each row of ``x``; (rows,)."""
    return x.detach().flatten(1).abs().amax(1).clamp_min(1e-12) / limit


class FoldedWeight(WeightForm):
    """Computes 8-bit codes from a 4-bit weight and its branch, trained or stored."""

    def __init__(self, inner: WeightForm) -> None:
        super().__init__()
        self.inner = inner

    def parts(self) -> FoldedParts:
        """The integers and gains that are stored."""
        codes, scale, down, up = self.inner()
        assert down is not None and up is not None
        plane = codes.float()
        of_right = _unit(down, FACTOR_LIMIT)
        right = ste_round(down / of_right.reshape([-1] + [1] * (down.ndim - 1)))
        scaled = up * of_right
        of_left = _unit(scaled, FACTOR_LIMIT)
        left = ste_round(scaled / of_left[:, None])
        rows = [-1] + [1] * (plane.ndim - 1)
        whole = plane * scale.reshape(rows) + product(right, left) * of_left.reshape(rows)
        step = _unit(whole, weight_limits(8)[1])
        return FoldedParts(
            plane=plane,
            left=left,
            right=right,
            plane_gain=scale / step,
            branch_gain=of_left / step,
            scale=step,
        )

    def forward(self) -> Weight:
        parts = self.parts()
        return Weight(parts.codes(), parts.scale, None, None)

    def stored(self) -> FoldedWeight:
        return FoldedWeight(StoredWeight(self.inner()))
