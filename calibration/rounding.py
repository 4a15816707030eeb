"""Rounding with a straight-through gradient (paper eq. 5).

The values are exactly those of plain rounding, so a layer computes the same numbers while
it is trained, after it is merged, and in the graph.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.half().to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Codes(torch.autograd.Function):
    """``clamp(round(x * gain or x / step), low, high)`` in one node.

    Backward is hardtanh's with bounds half a step further out, where no integer is: both bounds are
    inside then, and there is no mask to compute, which on a CPU took three times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, factor: Tensor, divide: bool, low: float, high: float
    ) -> Tensor:
        rounded = (x / factor if divide else x * factor).round_()
        ctx.save_for_backward(rounded, factor)
        ctx.divide, ctx.bounds = divide, (low - 0.5, high + 0.5)
        return rounded.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rounded, factor = ctx.saved_tensors
        grad = torch.ops.aten.hardtanh_backward(grads[0], rounded, *ctx.bounds)
        return (grad / factor if ctx.divide else grad * factor), None, None, None, None


def _apply(function: type[torch.autograd.Function], *args: object) -> Tensor:
    """``function.apply``, which torch leaves untyped."""
    return cast(Tensor, cast(Any, function).apply(*args))


def ste_round(x: Tensor) -> Tensor:
    """Nearest integer, half to even; the gradient passes unchanged."""
    return _apply(_Round, x) if x.requires_grad else x.round()


def ste_half(x: Tensor) -> Tensor:
    """What is left of ``x`` after it was stored as float16; the gradient passes unchanged."""
    return _apply(_Half, x) if x.requires_grad else x.half().to(x.dtype)


def ste_codes(x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
    """``clamp(round(x / step), low, high)`` for a fixed step; no gradient outside (eq. 5)."""
    return _apply(_Codes, x, step, True, low, high)


def ste_requantized(x: Tensor, multiplier: Tensor, low: float, high: float) -> Tensor:
    """``clamp(round(x * multiplier), low, high)``; trains the multiplier too if it learns."""
    if multiplier.requires_grad:
        return ste_round(x * multiplier).clamp(low, high)
    return _apply(_Codes, x, multiplier, False, low, high)
