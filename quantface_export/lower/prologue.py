"""Join a rotation to the GroupNormSilu before it: the native kernels compute both in one pass."""

from __future__ import annotations

import onnx_ir as ir

from onnx_ops.function_body import DOMAIN
from onnx_ops.group_norm import SILU
from onnx_ops.prologue import NAME
from quantface_export.lower.builder import take_place

_NOT_TAKEN = "axis", "channels_last"
"""Attributes of HadamardQuantize that the joined op fixes: channels first, in and out."""


def join_prologue(model: ir.Model) -> int:
    """``GroupNormSilu -> HadamardQuantize`` becomes one op with both results, in place.

    Returns:
        How many were joined.
    """
    joined = 0
    for rounding in list(model.graph):
        if rounding.domain != DOMAIN or rounding.op_type != "HadamardQuantize":
            continue
        x = rounding.inputs[0]
        norm = x.producer() if x is not None else None
        if norm is None or norm.domain != DOMAIN or norm.op_type != SILU:
            continue
        if rounding.attributes["axis"].as_int() != 1:
            continue
        y, codes = norm.outputs[0], rounding.outputs[0]
        attributes = [*norm.attributes.values(), *rounding.attributes.values()]
        both = ir.Node(
            DOMAIN,
            NAME,
            [*norm.inputs, *rounding.inputs[1:]],
            [a for a in attributes if a.name not in _NOT_TAKEN],
            num_outputs=2,
            name=rounding.name,
        )
        model.graph.insert_before(norm, both)
        for old, new in zip((y, codes), both.outputs, strict=True):
            take_place(new, old)
        model.graph.remove([rounding, norm], safe=True)
        joined += 1
    return joined
