"""ScaleQuantize: the codes of a layer's input where nothing is rotated.

``codes = clip(round(d x / scale) + zero_point, qmin, qmax)``, ties to even (eq. 4, with eq. 8's
balancing alone), d for each channel or for all of x. The ONNX function body, the node and the
schema; ``onnx_ops.integer.quantize`` of ``d * x`` in float32 is the definition.
"""

from typing import Final

import onnx
import onnx.defs
import onnx.helper
import onnx.parser
import onnx.shape_inference

from onnx_ops.function_body import (
    DOMAIN,
    VERSION,
    codes_like,
    grid_attributes,
    grid_inputs,
    rounding,
)

NAME: Final = "ScaleQuantize"

_BODY: Final = f"""
<domain: "quantface", opset_import: ["" : 21]>
{NAME} <qmin: int, qmax: int> (x, d, scale, zero_point) => (codes)
{{
  scaled = Mul (x, d)
  {rounding("scaled")}
}}
"""


def scale_quantize_function() -> onnx.FunctionProto:
    """The function body, for ``ModelProto.functions``."""
    return onnx.parser.parse_function(_BODY)


def scale_quantize_node(
    inputs: tuple[str, str, str, str], codes: str, *, qmin: int, qmax: int, name: str
) -> onnx.NodeProto:
    """The node ``codes = ScaleQuantize(x, d, scale, zero_point)``.

    Args:
        inputs: Names of x (..., C, ...), d, scale (one value), all float32, and zero_point (one
            uint8). d is (1,), or (C, 1, ..., 1) with a one for each dimension of x behind C.
        codes: Name of the output, uint8 of the shape of x.
        qmin: Smallest code.
        qmax: Largest code.
        name: Name of the node.
    """
    return onnx.helper.make_node(
        NAME, list(inputs), [codes], name=name, domain=DOMAIN, qmin=qmin, qmax=qmax
    )


def scale_quantize_schema() -> onnx.defs.OpSchema:
    """The schema: codes have the shape of x."""
    schema = onnx.defs.OpSchema
    parameter = schema.FormalParameter
    result = schema(
        NAME,
        DOMAIN,
        VERSION,
        "codes = clip(round(d * x / scale) + zero_point, qmin, qmax).",
        inputs=[
            parameter("x", "tensor(float)", "(..., C, ...)"),
            parameter("d", "tensor(float)", "(1,), or (C, 1, ..., 1) up to the last dimension"),
            *grid_inputs(),
        ],
        outputs=[parameter("codes", "tensor(uint8)", "the shape of x")],
        attributes=grid_attributes(),
    )
    result.set_type_and_shape_inference_function(_infer)
    return result


def _infer(context: onnx.shape_inference.InferenceContext) -> None:
    x_type = context.get_input_type(0)
    if x_type is not None:
        context.set_output_type(0, codes_like(x_type))
