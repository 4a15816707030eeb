"""The ONNX function bodies of the QuantizedConv ops (:mod:`onnx_ops.quantized_conv`).

They are the patterns that ONNX Runtime makes a QLinearConv of, so that a model runs as integers
with the native kernels and without them. Without the kernels, all weights become int8 when a
session starts, and stay so in memory.
"""

from collections.abc import Mapping
from typing import Final

import onnx
import onnx.helper

from onnx_ops.quantized_conv import UPSAMPLE_VARIANTS, VARIANTS
from onnx_ops.variants import bodies

NEAREST: Final = {
    "mode": "nearest",
    "nearest_mode": "floor",
    "coordinate_transformation_mode": "asymmetric",
}
"""Attributes of the Resize that copies pixels."""

_BODY: Final = """
<domain: "quantface", opset_import: ["" : 21]>
%s <kernel_shape: ints, strides: ints, pads: ints, top: int> (%s) => (y)
{
  x_float = DequantizeLinear (codes, x_scale, x_zero_point)
  %s
  weight_float = DequantizeLinear <axis: int = 0> (weight_int8, weight_scale)
  bias_scale = Mul (x_scale, weight_scale)
  bias_float = DequantizeLinear <axis: int = 0> (bias, bias_scale)
  product = Conv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads>
    (x_float, weight_float, bias_float)
  y_codes = QuantizeLinear (product, y_scale, y_zero_point)
  %s
}
"""
_PLAIN_END: Final = "y = DequantizeLinear (y_codes, y_scale, y_zero_point)"
_BRANCH_END: Final = """integer = DequantizeLinear (y_codes, y_scale, y_zero_point)
  low = Conv <kernel_shape: ints = @kernel_shape, strides: ints = @strides, pads: ints = @pads>
    (x, down)
  %s
"""
_STANDARD_SUM: Final = """branch = Conv (low, up)
  y = Add (integer, branch)"""
_FUSED_SUM: Final = "y = com.microsoft.FusedConv (low, up, , integer)"


def quantized_conv_functions(*, standard: bool = False) -> tuple[onnx.FunctionProto, ...]:
    """The function bodies of the ops, for ``ModelProto.functions``.

    Args:
        standard: Use standard operators alone. Otherwise ONNX Runtime's own FusedConv adds the
            branch to the integers' part where that lies.
    """
    template, end = _BODY, _BRANCH_END % _STANDARD_SUM
    if not standard:
        template = _BODY.replace('"" : 21', '"" : 21, "com.microsoft" : 1')
        end = _BRANCH_END % _FUSED_SUM
    plain = bodies(VARIANTS, template, _PLAIN_END, end)
    pairs = zip(plain, UPSAMPLE_VARIANTS, strict=True)
    return (*plain, *(_after_upsampling(body, op.name) for body, op in pairs))


def upsampling_nodes(images: Mapping[str, str]) -> list[onnx.NodeProto]:
    """The nodes that make :func:`upsample` of each key under the name that is its value."""
    node = onnx.helper.make_node
    resized = (node("Resize", [x, "", "scales"], [y], **NEAREST) for x, y in images.items())
    return [node("Constant", [], ["scales"], value_floats=[1.0, 1.0, 2.0, 2.0]), *resized]


def _after_upsampling(body: onnx.FunctionProto, name: str) -> onnx.FunctionProto:
    """The body of the op ``name``: ``body`` on upsampled ``codes`` and ``x``."""
    seen = {image: f"{image}_seen" for image in ("codes", "x") if image in body.input}
    result = onnx.FunctionProto()
    result.CopyFrom(body)
    result.name = name
    for node in result.node:
        node.input[:] = [seen.get(x, x) for x in node.input]
    steps = [*upsampling_nodes(seen), *result.node]
    del result.node[:]
    result.node.extend(steps)
    return result
