"""One opaque op per quantized layer, so that torch.export never sees fake-quant arithmetic.

Exporters decompose or constant-fold fake quantization. A marker passes through untouched,
carries the layer's path, and becomes the layer's real subgraph in ``expand.py``.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from calibration.layers import QuantLayer, quant_layers

MARKER_DOMAIN = "quantface.marker"


class _Marker(nn.Module):
    """Emits ``quantface.marker::Layer(x, layer=path)`` with the layer's output shape."""

    def __init__(self, source: QuantLayer) -> None:
        super().__init__()
        self.path, self.kind, self.channels = source.name, source.kind, source.shape[0]
        self.kernel = tuple(source.shape[2:])
        self.stride, self.padding = source.stride, source.padding

    def _shape(self, x: Tensor) -> list[Any]:
        if self.kind == "linear":
            return [*x.shape[:-1], self.channels]
        axes = zip(x.shape[2:], self.kernel, self.stride, self.padding, strict=True)
        return [x.shape[0], self.channels, *((n + 2 * p - k) // s + 1 for n, k, s, p in axes)]

    def forward(self, x: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            f"{MARKER_DOMAIN}::Layer",
            (x,),
            {"layer": self.path},
            dtype=x.dtype,
            shape=self._shape(x),
            version=1,
        )


def with_markers(model: nn.Module) -> nn.Module:
    """A copy of a fake-quantized stage in which every quantized layer is a marker."""
    memo: dict[int, Any] = {id(q): _Marker(q) for q in quant_layers(model).values()}
    return copy.deepcopy(model, memo)
