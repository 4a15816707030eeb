"""Weight codes on disk, at the bits that they have.

4 bits      INT4
5, 6 bits   INT4 plane of the high bits, UINT4 plane of two times two low bits
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
from onnx_ops.variants import weight_tensors
from quantface_export.lower.builder import Builder


def packed_codes(graph: Builder, layer: QuantLayer) -> list[ir.Value]:
    """The layer's codes as its op takes them: (F, C, kh, kw), or (F, C) of a linear layer.

    One tensor, int4 or int8, or two planes (:mod:`onnx_ops.variants`).
    """
    name, form = layer.name, layer.form
    if isinstance(form, FoldedWeight):
        return [_folded(graph, name, form)]
    tensors = weight_tensors(layer.weight.codes.numpy(), layer.weight_bits)
    return [graph.constant(f"{name}/{key}", array) for key, array in tensors.items()]


def _folded(graph: Builder, name: str, form: FoldedWeight) -> ir.Value:
    """As :meth:`calibration.folded.FoldedParts.codes`."""
    parts = form.parts()
    plane, left, right = (t.numpy() for t in (parts.plane, parts.left, parts.right))
    per_filter = [-1] + [1] * (plane.ndim - 1)
    gains = [g.numpy().reshape(per_filter) for g in (parts.plane_gain, parts.branch_gain)]
    factors = [left, right.reshape(len(right), -1)]

    def cast(x: ir.Value, key: str, to: ir.DataType) -> ir.Value:
        return graph.op("Cast", [x], f"{name}/{key}", to=to.value)

    def number(key: str, array: NDArray[Any], kind: type) -> ir.Value:
        stored = graph.constant(f"{name}/{key}", array.astype(kind))
        return cast(stored, f"{key}_float", ir.DataType.FLOAT)

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
    return cast(clipped, "weight_int8", ir.DataType.INT8)
