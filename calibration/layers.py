"""The fake-quantized layer: the specification that the exported graph is held to.

A convolution computes, on integer codes,

    c = clamp(round((R D x) / s_x) + z_x, 0, 2^b - 1)
    a = sum (c - z_x) * w + round(bias / (s_x s_w))            exact integers
    o = clamp(round(float32(a) * (s_x s_w / s_y)) + z_y, 0, 255)
    y = s_y (o - z_y) + up(down(x))

and a linear layer the same without the output grid: ``y = s_x s_w a + bias + up(down(.))``,
because that is what ONNX Runtime fuses (QLinearConv, MatMulIntegerToFloat). The branch has
``R D`` in ``down``, so that nothing but the rounding reads the rotated input.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.balance import Balance
from calibration.quantizer import ActivationGrid, LearnedGrid
from calibration.rounding import ste_half, ste_requantized, ste_round
from calibration.weights import Weight, WeightForm

EXACT_FLOAT32 = 1 << 24
"""Integers up to here are exact in float32; larger sums are computed in float64."""


COLUMNS = 1 << 25
"""Values in one block of unfolded columns of a float64 convolution: 256 MiB."""


def conv2d(x: Tensor, w: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> Tensor:
    """``F.conv2d``; in float64, where torch unfolds the whole input first, in bands of rows."""
    if x.dtype != torch.float64:
        return F.conv2d(x, w, None, stride, padding)
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    height = (x.shape[2] - w.shape[2]) // stride[0] + 1
    rows = max(1, COLUMNS // (w[0].numel() * (x.shape[3] // stride[1])))
    bands = [
        x[:, :, top * stride[0] : (min(top + rows, height) - 1) * stride[0] + w.shape[2]]
        for top in range(0, height, rows)
    ]
    return torch.cat([F.conv2d(band, w, None, stride) for band in bands], 2)


class QuantLayer(nn.Module):
    """A convolution or linear layer on integer codes.

    Every rounding has a straight-through gradient, so the same forward pass serves for
    training; only what ``form`` and ``x_grid`` hold differs.

    Attributes:
        name: Where the layer sits in its stage, e.g. ``unet.conv_in``.
        site: Name of the activation it reads; layers of one site share balance and grid.
        kind: ``conv`` or ``linear``.
        form: Weight codes, scales and branch.
        balance: Online transform of the input; None where it is folded into a producer.
        x_grid: Grid of the input.
        edge: First or last layer of its stage: 8 bits, no branch, never trained.
        y_grid: 8-bit grid of a convolution's output before the branch; None until
            it is observed, and for linear layers.
    """

    bias: Tensor

    def __init__(
        self,
        layer: nn.Conv2d | nn.Linear,
        *,
        name: str,
        site: str,
        form: WeightForm,
        balance: Balance | None,
        x_grid: ActivationGrid | LearnedGrid,
        weight_bits: int,
        edge: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.site, self.form = name, site, form
        self.kind: Literal["conv", "linear"] = "conv" if isinstance(layer, nn.Conv2d) else "linear"
        self.balance, self.weight_bits, self.edge = balance, weight_bits, edge
        self.x_grid = x_grid
        self.y_grid: ActivationGrid | None = None
        self.stride, self.padding = (1, 1), (0, 0)
        if isinstance(layer, nn.Conv2d):
            self.stride, self.padding = layer.stride, layer.padding  # type: ignore[assignment]
        self.shape = layer.weight.shape
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach().float()
        self.register_buffer("bias", bias)

    def float32_is_exact(self, weight: Weight) -> bool:
        """Whether no sum ``sum (c - z_x) w``, in any order, leaves the integers of float32."""
        sums = weight.codes.detach().flatten(1).abs().sum(1, dtype=torch.float32)
        return float(sums.max()) * self.x_grid.top < EXACT_FLOAT32 // 2

    @property
    def grid(self) -> ActivationGrid:
        """The input's grid, once nothing of it is learned any more."""
        assert isinstance(self.x_grid, ActivationGrid)
        return self.x_grid

    @property
    def weight(self) -> Weight:
        """Codes, scales and branch."""
        return self.form()

    @property
    def channel_dim(self) -> int:
        """Axis of the input's channels."""
        return 1 if self.kind == "conv" else -1

    def accumulator_scale(self, weight: Weight) -> Tensor:
        """(F,) float32: what one step of the accumulator is worth, ``s_x s_w``."""
        return self.x_grid.step * weight.scale.float()

    def integer_bias(self, weight: Weight) -> Tensor:
        """(F,) bias on the accumulator's scale, integers that int32 holds."""
        limit = float(2**31 - 128)
        return ste_round(self.bias.float() / self.accumulator_scale(weight)).clamp(-limit, limit)

    def balanced(self, x: Tensor) -> Tensor:
        """``R D x``, or ``x`` where the transform is folded away."""
        return x if self.balance is None else self.balance.activation(x, self.channel_dim)

    def accumulate(self, centred: Tensor, weight: Weight) -> Tensor:
        """Exact integer sums ``sum (c - z_x) w``, as float64 where float32 is not enough."""
        dtype = torch.float32 if self.float32_is_exact(weight) else torch.float64
        centred, w = centred.to(dtype), weight.codes.to(dtype)
        if self.kind == "conv":
            return conv2d(centred, w, self.stride, self.padding)
        return F.linear(centred, w)

    def requantize(self, accumulator: Tensor, weight: Weight) -> Tensor:
        """Output codes of a convolution less their zero point.

        From its sums in float32, as QLinearConv does.
        """
        grid = self.y_grid
        assert grid is not None
        multiplier = (self.accumulator_scale(weight) / grid.step)[:, None, None]
        bias = self.integer_bias(weight)[:, None, None]
        if (
            accumulator.dtype == torch.float32
            and float(bias.detach().abs().max()) > EXACT_FLOAT32 / 2
        ):
            accumulator = accumulator.double()
        total = (accumulator + bias.to(accumulator)).float()
        return ste_requantized(total, multiplier, -grid.zero_point, grid.top - grid.zero_point)

    def dequantized(self, accumulator: Tensor, weight: Weight, dtype: torch.dtype) -> Tensor:
        """The integer path's float output, without the branch."""
        scale = self.accumulator_scale(weight).to(dtype)
        if self.kind == "linear":
            return accumulator.to(dtype) * scale + self.bias.to(dtype)
        if self.y_grid is None:
            total = accumulator.double() + self.integer_bias(weight)[:, None, None]
            return total.to(dtype) * scale[:, None, None]
        return self.requantize(accumulator, weight).to(dtype) * self.y_grid.step.to(dtype)

    def down(self, weight: Weight) -> Tensor:
        """(r, C, ...) the branch's first factor on the input as it is: ``down R D`` in float16."""
        assert weight.down is not None
        if self.balance is None:
            return weight.down
        return ste_half(self.balance.original(weight.down.float()))

    def branch(self, x: Tensor, weight: Weight) -> Tensor:
        """``up(down(x))`` in float on the input as it is; 0 without a branch."""
        if weight.down is None or weight.up is None:
            return torch.zeros((), dtype=x.dtype)
        down, up = self.down(weight).to(x.dtype), weight.up.to(x.dtype)
        if self.kind == "conv":
            low = conv2d(x, down, self.stride, self.padding)
            return F.conv2d(low, up[:, :, None, None])
        return F.linear(F.linear(x, down), up)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        sums = self.accumulate(self.x_grid.centred(self.balanced(x)), weight)
        return self.dequantized(sums, weight, x.dtype) + self.branch(x, weight)


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Replace everything that was trained by the numbers that it computes, in place."""
    for layer in quant_layers(model).values():
        layer.form, grid = layer.form.stored(), layer.x_grid
        if isinstance(grid, LearnedGrid):
            del layer.x_grid
            layer.x_grid = grid.stored()


def quant_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """All fake-quantized layers of a model by module path."""
    return {n: m for n, m in model.named_modules() if isinstance(m, QuantLayer)}
