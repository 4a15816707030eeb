"""The GroupNormSiluHadamardQuantize op: what stands before a convolution of a ResNet block.

``y = silu(group_norm(x))`` and its codes ``clip(round(R_n (d * y) / scale) + zero_point, qmin,
qmax)`` (eq. 4 and 8) in one. Both are outputs: the convolution reads the codes, its low-rank branch
reads y. The function body is the ops ``GroupNormSilu`` and ``HadamardQuantize``, whose bodies a
model carries too. The native kernel rotates what it just normalized, instead of reading it back.
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
    grid_attributes,
    grid_inputs,
    matrix_attributes,
    order_attributes,
    set_y_and_codes,
)

NAME: Final = "GroupNormSiluHadamardQuantize"

_BODY: Final = f"""
<domain: "quantface", opset_import: ["" : 21, "quantface" : 1]>
{NAME} <groups: int, epsilon: float, seed: int, log2: int, outer: tensor, inner: tensor,
        qmin: int, qmax: int>
  (x, gamma, beta, d, scale, zero_point) => (y, codes)
{{
  y = quantface.GroupNormSilu <groups: int = @groups, epsilon: float = @epsilon> (x, gamma, beta)
  codes = quantface.HadamardQuantize <axis: int = 1, seed: int = @seed, log2: int = @log2,
    outer: tensor = @outer, inner: tensor = @inner, qmin: int = @qmin, qmax: int = @qmax>
    (y, d, scale, zero_point)
}}
"""


def prologue_function() -> onnx.FunctionProto:
    """The function body, for ``ModelProto.functions``."""
    return onnx.parser.parse_function(_BODY)


def prologue_node(
    inputs: tuple[str, str, str, str, str, str],
    outputs: tuple[str, str],
    *,
    n: int,
    groups: int,
    epsilon: float,
    qmin: int,
    qmax: int,
    name: str,
) -> onnx.NodeProto:
    """The node ``y, codes = GroupNormSiluHadamardQuantize(x, gamma, beta, d, scale, zero_point)``.

    Args:
        inputs: Names of x (N, n, ...), gamma (n,), beta (n,), d (n,), scale (one value), all
            float32, and zero_point (one uint8).
        outputs: Names of y, float32, and codes, uint8, both of the shape of x.
        n: Number of channels.
        groups: Groups of equally many channels.
        epsilon: Added to the variance.
        qmin: Smallest code.
        qmax: Largest code.
        name: Name of the node.

    Raises:
        ValueError: n is not an order (see ``factor``).
    """
    return onnx.helper.make_node(
        NAME,
        list(inputs),
        list(outputs),
        name=name,
        domain=DOMAIN,
        groups=groups,
        epsilon=epsilon,
        qmin=qmin,
        qmax=qmax,
        **order_attributes(n),
    )


def prologue_schema() -> onnx.defs.OpSchema:
    """The schema: y and codes have the shape of x."""
    schema = onnx.defs.OpSchema
    parameter, integer = schema.FormalParameter, schema.AttrType.INT
    result = schema(
        NAME,
        DOMAIN,
        VERSION,
        "y = GroupNormSilu(x, gamma, beta), codes = HadamardQuantize(y, d, scale, zero_point).",
        inputs=[
            parameter("x", "tensor(float)", "(N, n, ...)"),
            parameter("gamma", "tensor(float)", "(n,)"),
            parameter("beta", "tensor(float)", "(n,)"),
            parameter("d", "tensor(float)", "(n,), one multiplier per channel"),
            *grid_inputs(),
        ],
        outputs=[
            parameter("y", "tensor(float)", "the shape of x"),
            parameter("codes", "tensor(uint8)", "the shape of x"),
        ],
        attributes=[
            schema.Attribute("groups", integer, "groups of equally many channels"),
            schema.Attribute("epsilon", schema.AttrType.FLOAT, "added to the variance"),
            schema.Attribute("seed", integer, "m, order of the Paley seed: 1, 12, 20 or 60"),
            schema.Attribute("log2", integer, "k, with n = m * 2**k"),
            *matrix_attributes(),
            *grid_attributes(),
        ],
    )
    result.set_type_and_shape_inference_function(_infer)
    return result


def _infer(context: onnx.shape_inference.InferenceContext) -> None:
    x_type = context.get_input_type(0)
    if x_type is not None:
        set_y_and_codes(context, x_type)
