"""Weight codes on disk, at the bits that they have.

4 bits      INT4, which the layers take as it is
5, 6 bits   UINT4 plane of the high bits, UINT4 plane of two times two low bits -> shifted, joined
folded      INT4 plane, int16 factors of the branch -> scaled, added, rounded
7, 8 bits   int8

The arrows are standard ops on constants, which ONNX Runtime folds to int8 when it loads a model.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from calibration.folded import FoldedWeight
from calibration.layers import QuantLayer
from calibration.quantizer import weight_limits
from quantface_export.lower.builder import Builder

OFFSET = 32
"""Added to 6-bit codes, so that their bits are those of a natural number."""


def packed_codes(graph: Builder, layer: QuantLayer) -> ir.Value:
    """The layer's codes, int4 or int8: (F, C, kh, kw), or (F, C) of a linear layer."""
    name, form = layer.name, layer.form
    if isinstance(form, FoldedWeight):
        return _folded(graph, name, form)
    array = layer.weight.codes.numpy()
    if layer.weight_bits <= 4:
        return graph.constant(f"{name}/weight", array.astype(ml_dtypes.int4))
    if layer.weight_bits <= 6:
        return _planes(graph, name, array)
    return graph.constant(f"{name}/weight_int8", array)


def _cast(graph: Builder, x: ir.Value, name: str, to: ir.DataType) -> ir.Value:
    return graph.op("Cast", [x], name, to=to.value)


def _planes(graph: Builder, name: str, codes: NDArray[np.int8]) -> ir.Value:
    """``4 high + low - 32``; element i of the low plane holds the bits of codes i and i + n."""
    flat = (codes.astype(np.int16) + OFFSET).astype(np.uint8).ravel()
    half = -(-flat.size // 2)
    low = np.zeros(2 * half, np.uint8)
    low[: flat.size] = flat & 3
    high = graph.constant(f"{name}/weight", (flat >> 2).astype(ml_dtypes.uint4))
    pairs = graph.constant(
        f"{name}/weight_low", (low[:half] | low[half:] << 2).astype(ml_dtypes.uint4)
    )
    two, three = (graph.constant(f"uint8_{n}", np.uint8(n)) for n in (2, 3))
    high = _cast(graph, high, f"{name}/weight_high_uint8", ir.DataType.UINT8)
    high = graph.op("BitShift", [high, two], f"{name}/weight_high_bits", direction="LEFT")
    pairs = _cast(graph, pairs, f"{name}/weight_low_uint8", ir.DataType.UINT8)
    first = graph.op("BitwiseAnd", [pairs, three], f"{name}/weight_low_first")
    second = graph.op("BitShift", [pairs, two], f"{name}/weight_low_second", direction="RIGHT")
    both = graph.op("Concat", [first, second], f"{name}/weight_low_bits", axis=0)
    if flat.size % 2:
        ends = (
            graph.constant(f"{name}/weight_{n}", np.array([v]))
            for n, v in (("from", 0), ("to", flat.size))
        )
        both = graph.op("Slice", [both, *ends], f"{name}/weight_low_cut")
    joined = graph.op("BitwiseOr", [high, both], f"{name}/weight_bits")
    wide = _cast(graph, joined, f"{name}/weight_int32", ir.DataType.INT32)
    offset = graph.constant("int32_offset", np.int32(OFFSET))
    signed = graph.op("Sub", [wide, offset], f"{name}/weight_signed")
    shape = graph.constant(f"{name}/weight_shape", np.array(codes.shape))
    shaped = graph.op("Reshape", [signed, shape], f"{name}/weight_shaped")
    return _cast(graph, shaped, f"{name}/weight_int8", ir.DataType.INT8)


def _folded(graph: Builder, name: str, form: FoldedWeight) -> ir.Value:
    """As :meth:`calibration.folded.FoldedParts.codes`."""
    parts = form.parts()
    plane, left, right = (t.numpy() for t in (parts.plane, parts.left, parts.right))
    per_filter = [-1] + [1] * (plane.ndim - 1)
    gains = [g.numpy().reshape(per_filter) for g in (parts.plane_gain, parts.branch_gain)]
    factors = [left, right.reshape(len(right), -1)]

    def number(key: str, array: NDArray[Any], kind: type) -> ir.Value:
        stored = graph.constant(f"{name}/{key}", array.astype(kind))
        return _cast(graph, stored, f"{name}/{key}_float", ir.DataType.FLOAT)

    whole = number("plane", plane, ml_dtypes.int4)
    whole = graph.op(
        "Mul", [whole, graph.constant(f"{name}/plane_gain", gains[0])], f"{name}/plane_scaled"
    )
    branch = graph.op(
        "MatMul",
        [number(f"factor_{i}", f, np.int16) for i, f in enumerate(factors)],
        f"{name}/branch",
    )
    if plane.ndim > 2:
        shape = graph.constant(f"{name}/weight_shape", np.array(plane.shape))
        branch = graph.op("Reshape", [branch, shape], f"{name}/branch_shaped")
    branch = graph.op(
        "Mul", [branch, graph.constant(f"{name}/branch_gain", gains[1])], f"{name}/branch_scaled"
    )
    total = graph.op("Add", [whole, branch], f"{name}/weight_sum")
    rounded = graph.op("Round", [total], f"{name}/weight_rounded")
    limits = [graph.constant(f"float_{v}", np.float32(v)) for v in weight_limits(8)]
    clipped = graph.op("Clip", [rounded, *limits], f"{name}/weight_clipped")
    return _cast(graph, clipped, f"{name}/weight_int8", ir.DataType.INT8)
