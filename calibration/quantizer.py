"""Uniform quantizers (paper eq. 4): grids, scales and how ranges are observed.

A b-bit value lives on its b-bit grid inside an 8-bit container, because 8 bits are what
integer kernels carry. Rounding is half to even everywhere, as in ONNX.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calibration.rounding import ste_codes, ste_round
from onnx_ops.integer import SAFE_WEIGHT

SHRINK = torch.linspace(0.3, 1.0, 22)
"""Candidate shares of the full range in a search for the least squared error."""

PERCENTILE = 0.999

SEARCH_BLOCK = 1 << 20
"""Weights whose scales are searched at once: what a core's cache holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationGrid:
    """Asymmetric static grid of one tensor: ``x ~ scale * (code - zero_point)``.

    Attributes:
        scale: Step, > 0, representable in float32.
        zero_point: Code of 0.0, in ``[0, 2^bits - 1]``.
        bits: Width of the grid, 2..8; codes run from 0 to ``2^bits - 1``.
    """

    scale: float
    zero_point: int
    bits: int

    @property
    def step(self) -> Tensor:
        """The scale as a float32 tensor."""
        return torch.tensor(self.scale, dtype=torch.float32)

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1

    def codes(self, x: Tensor) -> Tensor:
        """``clamp(round(x / scale) + zero_point, 0, top)``, in the dtype of ``x``.

        The division happens in the dtype of ``x``, as QuantizeLinear does.
        """
        return self.centred(x) + self.zero_point

    def centred(self, x: Tensor) -> Tensor:
        """Codes less the zero point."""
        return ste_codes(x, self.step.to(x), -self.zero_point, self.top - self.zero_point)


class LearnedGrid(nn.Module):
    """An :class:`ActivationGrid` whose ends ``low <= 0 <= high`` are parameters.

    They count in steps of the grid that it starts from, so one learning rate suits tensors of
    any range: ``scale = unit (high - low) / (2^bits - 1)`` and ``zero_point = round(-low unit /
    scale)``. The gradient is the one of learned step sizes (Esser et al., ICLR 2020).
    """

    unit: Tensor

    def __init__(self, grid: ActivationGrid) -> None:
        super().__init__()
        self.bits, self.top = grid.bits, grid.top
        self.register_buffer("unit", grid.step)
        self.low = nn.Parameter(torch.tensor(-float(grid.zero_point)))
        self.high = nn.Parameter(torch.tensor(float(grid.top - grid.zero_point)))

    @property
    def _stretch(self) -> Tensor:
        """The scale in units."""
        span = self.high.clamp_min(0) - self.low.clamp_max(0)
        return (span / self.top).clamp_min(1e-3)

    @property
    def step(self) -> Tensor:
        """The scale, float32."""
        return self._stretch * self.unit

    @property
    def zero_point(self) -> Tensor:
        """Code of 0.0, an integer in float32."""
        return ste_round(-self.low.clamp_max(0) / self._stretch).clamp(0, self.top)

    def codes(self, x: Tensor) -> Tensor:
        """As :meth:`ActivationGrid.codes`."""
        return torch.clamp(ste_round(x / self.step.to(x)) + self.zero_point, 0, self.top)

    def centred(self, x: Tensor) -> Tensor:
        """As :meth:`ActivationGrid.centred`."""
        return self.codes(x) - self.zero_point

    def stored(self) -> ActivationGrid:
        """The grid that was learned."""
        scale, zero_point = float(self.step.detach()), int(self.zero_point.detach())
        return ActivationGrid(scale=scale, zero_point=zero_point, bits=self.bits)


def grid_from_range(low: float, high: float, bits: int) -> ActivationGrid:
    """The grid of ``bits`` that spans [low, high] widened to contain zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    top = (1 << bits) - 1
    step = max((high - low) / top, 1e-8)
    scale = float(torch.tensor(step, dtype=torch.float32))
    zero_point = int(min(max(round(-low / scale), 0), top))
    return ActivationGrid(scale=scale, zero_point=zero_point, bits=bits)


def observe_grid(x: Tensor, bits: int, observer: str) -> ActivationGrid:
    """Choose the grid of a tensor from samples of it.

    Args:
        x: Samples, any shape, float32.
        bits: Width of the grid.
        observer: ``minmax`` takes the full range, ``percentile`` cuts 0.1 % on each side,
            ``mse`` shrinks the full range to the least squared error.

    Raises:
        ValueError: ``observer`` is none of the three, or ``x`` is not finite.
    """
    low, high = (float(v) for v in torch.aminmax(x))
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise ValueError(f"activations must be finite, got a range of [{low}, {high}]")
    if observer == "minmax":
        return grid_from_range(low, high, bits)
    if observer == "percentile":
        ordered = x.flatten().sort().values
        cut = int((1 - PERCENTILE) * (len(ordered) - 1))
        return grid_from_range(float(ordered[cut]), float(ordered[-1 - cut]), bits)
    if observer == "mse":
        grids = [grid_from_range(low * f, high * f, bits) for f in SHRINK.tolist()]
        return min(grids, key=lambda g: _squared_error(x, g))
    raise ValueError(f"observer must be minmax, percentile or mse, got {observer!r}")


def _squared_error(x: Tensor, grid: ActivationGrid) -> float:
    error = grid.scale * (grid.codes(x) - grid.zero_point) - x
    return float((error * error).mean())


def weight_limits(bits: int) -> tuple[int, int]:
    """Smallest and largest weight code: the signed range, at 8 bits cut to +-64."""
    if bits == 8:
        return -SAFE_WEIGHT, SAFE_WEIGHT
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def quantize_weight(w: Tensor, bits: int, search: bool = True) -> tuple[Tensor, Tensor]:
    """Symmetric grid per output channel, each scale searched for the least squared error.

    Args:
        w: (F, ...) float32.
        bits: Width of the grid, 2..8.
        search: Without it, each channel's largest magnitude is its largest code.

    Returns:
        Codes, int8, the shape of ``w``; and scales (F,) float32: ``w ~ scale[f] * code[f]``.
    """
    flat = w.flatten(1)
    rows = max(1, SEARCH_BLOCK // flat.shape[1])
    scale = torch.cat([_weight_scale(x, bits, search) for x in flat.split(rows)])
    codes = (flat / scale).round_().clamp_(*weight_limits(bits))
    return codes.reshape(w.shape).to(torch.int8), scale.flatten()


def _weight_scale(w: Tensor, bits: int, search: bool) -> Tensor:
    """(F, 1) steps of the rows of a matrix."""
    low, high = weight_limits(bits)
    full = (w.abs().amax(1, keepdim=True) / high).clamp_min(1e-8)
    best, scale = torch.full_like(full, torch.inf), full
    for share in SHRINK.tolist() if search else (1.0,):
        candidate = full * share
        error = (w / candidate).round_().clamp_(low, high).mul_(candidate).sub_(w)
        loss = error.square_().sum(1, keepdim=True)
        scale = torch.where(loss < best, candidate, scale)
        best = torch.minimum(loss, best)
    return scale
