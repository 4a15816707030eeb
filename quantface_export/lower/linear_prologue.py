"""Join the rounding before a linear layer to the LayerNorm or the GEGLU it follows."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from onnx_ops.function_body import DOMAIN
from onnx_ops.linear_prologue import GEGLU, LAYER_NORM
from quantface_export.lower.builder import clip_before, producer, take_place, top_of


def join_linear_prologue(model: ir.Model) -> int:
    """``LayerNormalization`` or ``value * Gelu(gate)``, then rounding, becomes one op, in place.

    Returns:
        How many were joined.
    """
    joined = 0
    for rounding in list(model.graph):
        if rounding.domain or rounding.op_type != "QuantizeLinear":
            continue
        clip = clip_before(rounding)
        y = rounding.inputs[0] if clip is None else clip.inputs[0]
        found = _layer_norm(y) or _geglu(y)
        if found is None:
            continue
        kind, inputs, attributes, before = found
        scale, zero_point = rounding.inputs[1:3]
        grid = {"qmin": 0, "qmax": top_of(rounding, clip)}
        both = ir.Node(
            DOMAIN,
            kind,
            [*inputs, scale, zero_point],
            [ir.convenience.convert_attribute(k, v) for k, v in (attributes | grid).items()],
            num_outputs=2,
            name=rounding.name,
        )
        model.graph.insert_before(before[0], both)
        for old, new in zip((y, rounding.outputs[0]), both.outputs, strict=True):
            assert old is not None
            take_place(new, old)
        steps = [rounding, *([] if clip is None else [clip]), *before]
        model.graph.remove(steps, safe=True)
        joined += 1
    return joined


_Found = tuple[str, list[ir.Value | None], dict[str, Any], list[ir.Node]]
"""The op, its first inputs and attributes, and the nodes that it stands for."""


def _layer_norm(y: ir.Value | None) -> _Found | None:
    """The LayerNorm over the last axis that gives ``y``."""
    norm = producer(y, "LayerNormalization")
    if norm is None or len(norm.inputs) != 3 or norm.attributes["axis"].as_int() != -1:
        return None
    return LAYER_NORM, list(norm.inputs), {"epsilon": norm.attributes["epsilon"].as_float()}, [norm]


def _geglu(y: ir.Value | None) -> _Found | None:
    """The halves of a tensor's last axis that ``y`` is the product of, one through Gelu."""
    product = producer(y, "Mul")
    if product is None:
        return None
    value, share = product.inputs
    gelu, split = producer(share, "Gelu"), producer(value, "Split")
    if gelu is None or split is None or len(split.outputs) != 2:
        return None
    halves, shape = list(split.outputs), split.inputs[0].shape if split.inputs[0] else None
    alone = all(len(half.uses()) == 1 for half in halves) and len(gelu.outputs[0].uses()) == 1
    if [value, gelu.inputs[0]] != halves or not alone or shape is None:
        return None
    exact = gelu.attributes["approximate"].as_string() == "none"
    if not exact or split.attributes["axis"].as_int() % len(shape) != len(shape) - 1:
        return None
    return GEGLU, [split.inputs[0]], {}, [product, gelu, split]
