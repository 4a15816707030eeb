"""Join what makes codes where nothing is rotated: the native kernels need one pass for it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnx_ops.function_body import DOMAIN
from onnx_ops.scale_quantize import NAME
from quantface_export.lower.builder import (
    BALANCED,
    Builder,
    clip_before,
    producer,
    take_place,
    top_of,
)


def join_scaling(model: ir.Model) -> int:
    """``[Mul] -> [Clip] -> QuantizeLinear`` of at least two nodes becomes one op, in place.

    Returns:
        How many were joined.
    """
    joined, builder = 0, Builder()
    for rounding in list(model.graph):
        if rounding.domain or rounding.op_type != "QuantizeLinear":
            continue
        clip = clip_before(rounding)
        x = rounding.inputs[0] if clip is None else clip.inputs[0]
        balanced = x is not None and str(x.name).endswith(BALANCED)
        product = producer(x, "Mul") if balanced else None
        if clip is None and product is None:
            continue
        x, d = (x, None) if product is None else product.inputs
        if d is None:
            d = builder.constant("unscaled", np.ones(1, np.float32))
        attributes = {"qmin": 0, "qmax": top_of(rounding, clip)}
        both = ir.Node(
            DOMAIN,
            NAME,
            [x, d, *rounding.inputs[1:3]],
            [ir.convenience.convert_attribute(k, v) for k, v in attributes.items()],
            name=rounding.name,
        )
        model.graph.insert_before(rounding, both)
        take_place(both.outputs[0], rounding.outputs[0])
        model.graph.remove([n for n in (rounding, clip, product) if n is not None], safe=True)
        joined += 1
    for value in builder.initializers.values():
        model.graph.register_initializer(value)
    return joined
