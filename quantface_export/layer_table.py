"""Read the quantized layers back out of an exported stage. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_ops.hadamard import rotate
from onnx_ops.integer import (
    conv_accumulate,
    matmul_accumulate,
    quantize,
    requantize,
    requantize_multiplier,
)

Array = NDArray[Any]

GROUP_BYTES = 2 << 30
"""A run that returns values of layers returns those of as many as fit in about this."""

PROBED_BYTES = 6
"""Of each value of a layer's input: float32, its code, and about one of the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """One quantized layer as the graph states it.

    Attributes:
        name: The layer's path in its stage.
        kind: ``conv`` or ``linear``.
        x: Name of the float value it reads, before its transform.
        codes: Name of its uint8 input codes.
        out: Name of its result: uint8 codes of a convolution, float product of a linear layer.
        d: Multiplier of the online transform, None without one: (C,), or shaped to multiply
            ``x`` where nothing is rotated.
        rotated: Whether a Hadamard rotation follows the multiplier.
        scale, zero_point, top: Grid of the input codes.
        weight: int8 codes, (F, C, kh, kw) or (K, N).
        weight_scale: (F,) or (N,) float32.
        bias: (F,) int32 of a convolution, None for linear layers.
        out_scale, out_zero_point: Grid of a convolution's output.
        strides, pads: Geometry of a convolution.
    """

    name: str
    kind: str
    x: str
    codes: str
    out: str
    d: NDArray[np.float32] | None
    rotated: bool
    scale: np.float32
    zero_point: int
    top: int
    weight: NDArray[np.int8]
    weight_scale: NDArray[np.float32]
    bias: NDArray[np.int32] | None
    out_scale: np.float32
    out_zero_point: int
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]

    @property
    def key(self) -> str:
        """Name of the initializer that the fused node reads."""
        return f"{self.name}/weight_int8"

    @property
    def fused_op(self) -> str:
        """What ONNX Runtime must make of the layer."""
        return "QLinearConv" if self.kind == "conv" else "MatMulIntegerToFloat"

    def input_codes(self, x: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The reference's codes for this float input."""
        if self.d is not None:
            x = rotate(x, self.d, 1 if self.kind == "conv" else -1) if self.rotated else x * self.d
        return quantize(x, self.scale, self.zero_point, 0, self.top)

    def result(self, codes: NDArray[np.uint8]) -> Array:
        """The reference's integers for these codes: output codes, or accumulators."""
        if self.kind == "linear":
            return matmul_accumulate(codes, self.zero_point, self.weight)
        assert self.bias is not None
        sums = conv_accumulate(
            codes, self.zero_point, self.weight, strides=self.strides, pads=self.pads
        )
        multiplier = requantize_multiplier(self.scale, self.weight_scale, self.out_scale)
        total = sums + self.bias[:, None, None]
        return requantize(total, multiplier, self.out_zero_point)

    def integers(self, out: Array) -> Array:
        """ONNX Runtime's result as integers: accumulators of a linear layer are recovered."""
        if self.kind == "conv":
            return out
        return np.rint(out.astype(np.float64) / (np.float64(self.scale) * self.weight_scale))


def read_layers(model: Path) -> list[LayerRecord]:
    """All quantized layers of an exported stage, in graph order."""
    return list(_records(onnx.load(model).graph))


def layer_groups(model: Path, records: Sequence[LayerRecord]) -> Iterator[list[LayerRecord]]:
    """Layers whose inputs, codes and results fit in memory together, in graph order."""
    graph = onnx.load(model, load_external_data=False).graph
    values = {
        v.name: math.prod(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in graph.value_info
    }
    group: list[LayerRecord] = []
    total = 0
    for record in records:
        size = values.get(record.x, 0) * PROBED_BYTES
        if group and total + size > GROUP_BYTES:
            yield group
            group, total = [], 0
        group.append(record)
        total += size
    yield group


def _records(graph: onnx.GraphProto) -> Iterator[LayerRecord]:
    tensors = {t.name: t for t in graph.initializer}
    producer = {output: node for node in graph.node for output in node.output}

    def array(name: str) -> Array:
        """A constant of the graph, stored or computed from stored ones."""
        if name in tensors:
            return numpy_helper.to_array(tensors[name])
        node = producer[name]
        values = {x: array(x) for x in node.input}
        return cast(list[Array], ReferenceEvaluator(node).run(None, values))[0]

    for node in graph.node:
        name, _, leaf = node.name.rpartition("/")
        if leaf not in ("conv", "product") or node.op_type not in ("Conv", "MatMul"):
            continue
        dequantize, weight = producer[node.input[0]], producer[node.input[1]]
        codes = dequantize.input[0]
        scale = np.float32(array(dequantize.input[1])[()])
        zero_point = int(array(dequantize.input[2])[()])
        rounding = producer[codes]
        source, top, d = rounding.input[0], 255, None
        rotated = rounding.op_type == "HadamardQuantize"
        if rotated:
            d = array(rounding.input[1])
            top = next(a.i for a in rounding.attribute if a.name == "qmax")
        if source in producer and producer[source].op_type == "Clip":
            clip = producer[source]
            top = int(np.rint(array(clip.input[2]) / scale)) + zero_point
            source = clip.input[0]
        if source.endswith("/balanced"):
            source, multiplier = producer[source].input
            d = array(multiplier)
        conv = leaf == "conv"
        geometry = {a.name: tuple(a.ints) for a in node.attribute}
        yield LayerRecord(
            name=name,
            kind="conv" if conv else "linear",
            x=source,
            codes=codes,
            out=f"{name}/out" if conv else node.output[0],
            d=d,
            rotated=rotated,
            scale=scale,
            zero_point=zero_point,
            top=top,
            weight=array(weight.input[0]),
            weight_scale=array(weight.input[1]),
            bias=array(f"{name}/bias") if conv else None,
            out_scale=np.float32(array(f"{name}/out_scale")[()]) if conv else np.float32(1),
            out_zero_point=int(array(f"{name}/out_zero_point")[()]) if conv else 0,
            strides=geometry.get("strides", (1, 1)),
            pads=geometry.get("pads", (0, 0, 0, 0)),
        )
