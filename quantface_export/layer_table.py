"""Read the quantized layers back out of an exported stage. Never imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_ops import linear_prologue, prologue, scale_quantize
from onnx_ops import quantized_conv as conv_op
from onnx_ops import quantized_linear as linear_op
from onnx_ops.function_body import DOMAIN
from onnx_ops.hadamard import rotate
from onnx_ops.integer import matmul_accumulate, quantize
from onnx_ops.quantized_conv import ConvGrid, low_rank_branch, quantized_conv, upsample
from onnx_ops.quantized_linear import linear_branch
from onnx_ops.variants import WEIGHT, WEIGHT_LOW, Variant, join_planes

Array = NDArray[Any]

UPSAMPLING: Final = {op.name: op for op in conv_op.UPSAMPLE_VARIANTS}
CONVS: Final = {op.name: op for op in conv_op.VARIANTS} | UPSAMPLING
LINEARS: Final = {op.name: op for op in linear_op.VARIANTS}
LAYER_OPS: Final[dict[str, Variant]] = CONVS | LINEARS
"""The ops that are quantized layers, by name."""

FUSED_OPS: Final = {
    "conv": ("QLinearConv", *CONVS),
    "linear": ("MatMulIntegerToFloat", *LINEARS),
}
"""What a layer must run as: made by ONNX Runtime of the function body, or the native kernels'."""

PROLOGUES: Final = prologue.NAME, linear_prologue.LAYER_NORM, linear_prologue.GEGLU
"""Ops that give a layer's float input besides its codes."""

GROUP_BYTES = 2 << 30
"""A run that returns values of layers returns those of as many as fit in about this."""

PROBED_BYTES = 9
"""Of each value that a layer sees: float32, its code, and about one float32 of the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """One quantized layer as the graph states it.

    Attributes:
        name: The layer's path in its stage.
        kind: ``conv`` or ``linear``.
        x: Name of the float value it reads, before its transform.
        codes: Name of its uint8 input codes.
        out: Name of its float result.
        d: Multiplier of the online transform, None without one: (C,), or shaped to multiply
            ``x`` where nothing is rotated.
        rotated: Whether a Hadamard rotation follows the multiplier.
        scale, zero_point, top: Grid of the input codes.
        weight: int8 codes, (F, C, kh, kw) or (F, C).
        weight_scale: (F,) float32.
        bias: (F,), int32 of a convolution and float32 of a linear layer.
        out_scale, out_zero_point: Grid of a convolution's output.
        strides, pads: Geometry of a convolution.
        upsamples: Whether it sees each pixel of ``x`` and of ``codes`` as four.
        branch: Low-rank factors, float32: (r, C, kh, kw) and (F, r, 1, 1), or (r, C) and (F, r).
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
    bias: Array
    out_scale: np.float32
    out_zero_point: int
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    upsamples: bool
    branch: tuple[NDArray[np.float32], NDArray[np.float32]] | None

    @property
    def key(self) -> str:
        """Name of a constant that the fused node reads; folded weights may have another name."""
        return f"{self.name}/weight_scale"

    @property
    def whole(self) -> str:
        """Name of the float result less the branch, where integers are recovered from that.

        A linear layer has no output grid: at 6 bits its branch is millions of steps of its sums,
        and float32's rounding of it several. ``probe.add_whole`` gives a graph this value.
        """
        return f"{self.out}/whole" if self.kind == "linear" and self.branch else self.out

    @property
    def fused_ops(self) -> tuple[str, ...]:
        """What ONNX Runtime must make of the layer: one of these."""
        return FUSED_OPS[self.kind]

    def input_codes(self, x: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The reference's codes for this float input."""
        if self.d is not None:
            x = rotate(x, self.d, 1 if self.kind == "conv" else -1) if self.rotated else x * self.d
        return quantize(x, self.scale, self.zero_point, 0, self.top)

    def result(self, codes: NDArray[np.uint8]) -> Array:
        """The reference's integers for these codes: output codes, or accumulators."""
        if self.kind == "linear":
            return matmul_accumulate(codes, self.zero_point, self.weight.T)
        grid = ConvGrid(
            x_scale=self.scale,
            x_zero_point=self.zero_point,
            weight_scale=self.weight_scale,
            y_scale=self.out_scale,
            y_zero_point=self.out_zero_point,
        )
        seen = self._seen(codes)
        return quantized_conv(
            seen, self.weight, self.bias, grid, strides=self.strides, pads=self.pads
        )

    def _seen(self, image: Array) -> Array:
        """What a convolution sees of its codes or of ``x``."""
        return upsample(image) if self.upsamples else image

    def integers(self, x: NDArray[np.float32], whole: NDArray[np.float32]) -> Array:
        """ONNX Runtime's result as integers, recovered from a float one: codes or accumulators.

        What float32 adds by rounding is far below half a step.

        Args:
            x: The float input; only a convolution's branch reads it.
            whole: The value that :attr:`whole` names.
        """
        y = whole.astype(np.float64)
        if self.kind == "linear":
            return np.rint((y - self.bias) / self.step)
        if self.branch is not None:
            seen = self._seen(x)
            y -= low_rank_branch(seen, *self.branch, strides=self.strides, pads=self.pads)
        return np.rint(y / self.out_scale) + self.out_zero_point

    @property
    def step(self) -> Array:
        """What one more in a linear layer's accumulators adds to its result: (F,) float64."""
        return np.float64(self.scale) * self.weight_scale

    def branch_error(
        self, x: NDArray[np.float32], out: NDArray[np.float32], whole: NDArray[np.float32]
    ) -> Array:
        """How far a linear layer's branch is from the reference's, in steps.

        0 where the rounding of float32 sums explains it: 64 units in the last place of the sum of
        what was added.

        Args:
            x: The float input.
            out: The result.
            whole: The same less the branch.
        """
        assert self.branch is not None
        down, up = (np.abs(factor) for factor in self.branch)
        error = np.abs(out.astype(np.float64) - whole - linear_branch(x, *self.branch))
        size = linear_branch(np.abs(x), down, up) + np.abs(whole)
        return np.where(error <= 64 * 2.0**-24 * size, 0, np.ceil(error / self.step))


def read_layers(model: Path) -> list[LayerRecord]:
    """All quantized layers of an exported stage, in graph order."""
    return list(_records(onnx.load(model).graph))


def value_shapes(model: Path, inputs: Sequence[Array]) -> dict[str, tuple[int, ...]]:
    """Shape of every value of a stage when it reads ``inputs``.

    A graph for any size has dimensions such as ``64*rows``; the inputs say what they are.
    """
    graph = onnx.load(model, load_external_data=False).graph
    symbols: dict[str, int] = {}
    for given, x in zip(graph.input, inputs, strict=True):
        for dim, n in zip(given.type.tensor_type.shape.dim, x.shape, strict=True):
            if dim.dim_param:
                step, _, symbol = dim.dim_param.rpartition("*")
                symbols[symbol] = n // int(step or 1)

    def size(dim: onnx.TensorShapeProto.Dimension) -> int:
        if not dim.dim_param:
            return dim.dim_value
        import onnx_ir as ir  # a second of import that graphs of a fixed size do without

        return cast(int, ir.SymbolicDim(dim.dim_param).evaluate(symbols))

    return {
        v.name: tuple(size(d) for d in v.type.tensor_type.shape.dim)
        for v in (*graph.input, *graph.value_info)
    }


def layer_groups(
    model: Path, records: Sequence[LayerRecord], inputs: Sequence[Array]
) -> Iterator[list[LayerRecord]]:
    """Layers whose inputs, codes and results fit in memory together, in graph order."""
    shapes = value_shapes(model, inputs)
    group: list[LayerRecord] = []
    total = 0
    for record in records:
        size = math.prod(shapes[record.x]) * PROBED_BYTES * (4 if record.upsamples else 1)
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
        if node.op_type not in LAYER_OPS:
            continue
        conv, op = node.op_type in CONVS, LAYER_OPS[node.op_type]
        inputs = dict(zip(op.input_names, node.input, strict=True))
        scale = np.float32(array(inputs["x_scale"])[()])
        zero_point = int(array(inputs["x_zero_point"])[()])
        weight = array(inputs[WEIGHT])
        if op.planes:
            weight = join_planes(weight, array(inputs[WEIGHT_LOW]))
        rounding = producer[inputs["codes"]]
        source, top, d = rounding.input[0], 255, None
        rotated = rounding.op_type in ("HadamardQuantize", prologue.NAME)
        if rounding.op_type in PROLOGUES:
            source = rounding.output[0]
        if rotated or rounding.op_type == scale_quantize.NAME:
            d = array(rounding.input[-3])
        if rounding.domain == DOMAIN:
            top = next(a.i for a in rounding.attribute if a.name == "qmax")
        if source in producer and producer[source].op_type == "Clip":
            clip = producer[source]
            top = int(np.rint(array(clip.input[2]) / scale)) + zero_point
            source = clip.input[0]
        if source.endswith("/balanced"):
            source, multiplier = producer[source].input
            d = array(multiplier)
        geometry = {a.name: tuple(a.ints) for a in node.attribute}
        yield LayerRecord(
            name=node.name.removesuffix("/y"),
            kind="conv" if conv else "linear",
            x=source,
            codes=inputs["codes"],
            out=node.output[0],
            d=d,
            rotated=rotated,
            scale=scale,
            zero_point=zero_point,
            top=top,
            weight=weight.astype(np.int8),
            weight_scale=array(inputs["weight_scale"]),
            bias=array(inputs["bias"]),
            out_scale=np.float32(array(inputs["y_scale"])[()]) if conv else np.float32(1),
            out_zero_point=int(array(inputs["y_zero_point"])[()]) if conv else 0,
            strides=geometry.get("strides", (1, 1)),
            pads=geometry.get("pads", (0, 0, 0, 0)),
            upsamples=node.op_type in UPSAMPLING,
            branch=(array(inputs["down"]), array(inputs["up"])) if op.branch else None,
        )
