"""The fake-quantized layer: the specification that the exported graph is held to.

A convolution computes, on integer codes,

    c = clamp(round((R D x) / s_x) + z_x, 0, 2^b - 1)
    a = sum (c - z_x) * w + round(bias / (s_x s_w))            exact integers
    o = clamp(round(float32(a) * (s_x s_w / s_y)) + z_y, 0, 255)
    y = s_y (o - z_y) + up(down(R D x))

and a linear layer the same without the output grid: ``y = s_x s_w a + bias + up(down(.))``,
because that is what ONNX Runtime fuses (QLinearConv, MatMulIntegerToFloat).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.balance import Balance
from calibration.quantizer import ActivationGrid

EXACT_FLOAT32 = 1 << 24
"""Integers up to here are exact in float32; larger sums are computed in float64."""


class QuantLayer(nn.Module):
    """A convolution or linear layer on integer codes.

    Attributes:
        name: Where the layer sits in its stage, e.g. ``unet.conv_in``.
        site: Name of the activation it reads; layers of one site share balance and grid.
        kind: ``conv`` or ``linear``.
        balance: Online transform of the input; None where it is folded into a producer.
        x_grid: Grid of the input.
        y_grid: 8-bit grid of a convolution's output before the branch; None until
            it is observed, and for linear layers.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    down: Tensor | None
    up: Tensor | None

    def __init__(
        self,
        layer: nn.Conv2d | nn.Linear,
        *,
        name: str,
        site: str,
        codes: Tensor,
        scale: Tensor,
        branch: tuple[Tensor, Tensor] | None,
        balance: Balance | None,
        x_grid: ActivationGrid,
        weight_bits: int,
    ) -> None:
        super().__init__()
        self.name, self.site = name, site
        self.kind: Literal["conv", "linear"] = "conv" if isinstance(layer, nn.Conv2d) else "linear"
        self.balance, self.x_grid, self.weight_bits = balance, x_grid, weight_bits
        self.y_grid: ActivationGrid | None = None
        self.stride, self.padding = (1, 1), (0, 0)
        if isinstance(layer, nn.Conv2d):
            self.stride, self.padding = layer.stride, layer.padding  # type: ignore[assignment]
        self.register_buffer("weight", codes)
        self.register_buffer("weight_scale", scale)
        bias = torch.zeros(len(codes)) if layer.bias is None else layer.bias.detach().float()
        self.register_buffer("bias", bias)
        down, up = branch if branch is not None else (None, None)
        self.register_buffer("down", down)
        self.register_buffer("up", up)
        bound = max(x_grid.zero_point, x_grid.top - x_grid.zero_point)
        taps = codes[0].numel()
        self.float32_is_exact = taps * bound * int(codes.abs().max()) < EXACT_FLOAT32

    @property
    def channel_dim(self) -> int:
        """Axis of the input's channels."""
        return 1 if self.kind == "conv" else -1

    @property
    def accumulator_scale(self) -> Tensor:
        """(F,) float32: what one step of the accumulator is worth, ``s_x s_w``."""
        return torch.tensor(self.x_grid.scale, dtype=torch.float32) * self.weight_scale.float()

    @property
    def integer_bias(self) -> Tensor:
        """(F,) int32 bias on the accumulator's scale."""
        limit = float(2**31 - 128)
        return (
            (self.bias.float() / self.accumulator_scale)
            .round()
            .clamp(-limit, limit)
            .to(torch.int32)
        )

    def balanced(self, x: Tensor) -> Tensor:
        """``R D x``, or ``x`` where the transform is folded away."""
        return x if self.balance is None else self.balance.activation(x, self.channel_dim)

    def accumulate(self, codes: Tensor) -> Tensor:
        """Exact integer sums ``sum (c - z_x) w`` as float64."""
        dtype = torch.float32 if self.float32_is_exact else torch.float64
        centred, weight = (codes - self.x_grid.zero_point).to(dtype), self.weight.to(dtype)
        if self.kind == "conv":
            return F.conv2d(centred, weight, None, self.stride, self.padding).double()
        return F.linear(centred, weight).double()

    def requantize(self, accumulator: Tensor) -> Tensor:
        """Output codes of a convolution from its sums, in float32 as QLinearConv does."""
        assert self.y_grid is not None
        scale = torch.tensor(self.y_grid.scale, dtype=torch.float32)
        multiplier = (self.accumulator_scale / scale)[:, None, None]
        total = (accumulator + self.integer_bias[:, None, None]).float()
        return (torch.round(total * multiplier) + self.y_grid.zero_point).clamp(0, 255)

    def dequantized(self, accumulator: Tensor, dtype: torch.dtype) -> Tensor:
        """The integer path's float output, without the branch."""
        if self.kind == "linear":
            return (accumulator.to(dtype) * self.accumulator_scale.to(dtype)) + self.bias.to(dtype)
        if self.y_grid is None:
            total = accumulator + self.integer_bias[:, None, None]
            return total.to(dtype) * self.accumulator_scale[:, None, None].to(dtype)
        scale = torch.tensor(self.y_grid.scale, dtype=torch.float32).to(dtype)
        return (self.requantize(accumulator) - self.y_grid.zero_point).to(dtype) * scale

    def branch(self, x: Tensor) -> Tensor:
        """``up(down(x))`` in float on the balanced input; 0 without a branch."""
        if self.down is None or self.up is None:
            return torch.zeros((), dtype=x.dtype)
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        if self.kind == "conv":
            low = F.conv2d(x, down, None, self.stride, self.padding)
            return F.conv2d(low, up[:, :, None, None])
        return F.linear(F.linear(x, down), up)

    def forward(self, x: Tensor) -> Tensor:
        x = self.balanced(x)
        y = self.dequantized(self.accumulate(self.x_grid.codes(x)), x.dtype)
        return y + self.branch(x)


def quant_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """All fake-quantized layers of a model by module path."""
    return {n: m for n, m in model.named_modules() if isinstance(m, QuantLayer)}
