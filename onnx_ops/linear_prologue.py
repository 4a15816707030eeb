"""LayerNormQuantize and GegluQuantize: what stands before a linear layer of a transformer.

``y = (x - mean) / sqrt(variance + epsilon) * gamma + beta`` over the last axis, or
``y = value * gelu(gate)`` of the two halves of x with ``gelu(v) = v / 2 (1 + erf(v / sqrt(2)))``;
and its codes ``clip(round(y / scale) + zero_point, qmin, qmax)``, ties to even (eq. 4). Both are
outputs: the layer reads the codes, its low-rank branch reads y. The definitions in NumPy, the ONNX
function bodies, the nodes and the schemas.
"""

import math
from typing import Final

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.parser
import onnx.shape_inference
from numpy.typing import NDArray

from onnx_ops.function_body import (
    DOMAIN,
    VERSION,
    grid_attributes,
    grid_inputs,
    rounding,
    set_y_and_codes,
)

LAYER_NORM: Final = "LayerNormQuantize"
GEGLU: Final = "GegluQuantize"

_LAYER_NORM_BODY: Final = f"""
<domain: "quantface", opset_import: ["" : 21]>
{LAYER_NORM} <epsilon: float, qmin: int, qmax: int>
  (x, gamma, beta, scale, zero_point) => (y, codes)
{{
  y = LayerNormalization <axis: int = -1, epsilon: float = @epsilon> (x, gamma, beta)
  {rounding("y")}
}}
"""

_GEGLU_BODY: Final = f"""
<domain: "quantface", opset_import: ["" : 21]>
{GEGLU} <qmin: int, qmax: int> (x, scale, zero_point) => (y, codes)
{{
  value, gate = Split <axis: int = -1, num_outputs: int = 2> (x)
  share = Gelu (gate)
  y = Mul (value, share)
  {rounding("y")}
}}
"""


def layer_norm(
    x: NDArray[np.float64],
    gamma: NDArray[np.float64],
    beta: NDArray[np.float64],
    *,
    epsilon: float,
) -> NDArray[np.float64]:
    """The definition, in float64.

    Args:
        x: (..., C).
        gamma: (C,).
        beta: (C,).
        epsilon: Added to the variance.

    Returns:
        The shape of x.
    """
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return normal * gamma + beta


def geglu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The definition, in float64.

    Args:
        x: (..., 2 C), values, then gates.

    Returns:
        (..., C).

    Raises:
        ValueError: The number of channels is odd.
    """
    if x.shape[-1] % 2:
        raise ValueError(f"{x.shape[-1]} channels have no halves")
    value, gate = np.split(x, 2, -1)
    erf = np.vectorize(math.erf, otypes=[np.float64])(gate / math.sqrt(2))
    return np.asarray(value * gate / 2 * (1 + erf))


def linear_prologue_functions() -> tuple[onnx.FunctionProto, onnx.FunctionProto]:
    """The function bodies of both ops, for ``ModelProto.functions``."""
    return onnx.parser.parse_function(_LAYER_NORM_BODY), onnx.parser.parse_function(_GEGLU_BODY)


def layer_norm_node(
    inputs: tuple[str, str, str, str, str],
    outputs: tuple[str, str],
    *,
    epsilon: float,
    qmin: int,
    qmax: int,
    name: str,
) -> onnx.NodeProto:
    """The node ``y, codes = LayerNormQuantize(x, gamma, beta, scale, zero_point)``.

    Args:
        inputs: Names of x (..., C), gamma (C,), beta (C,), scale (one value), all float32, and
            zero_point (one uint8).
        outputs: Names of y, float32, and codes, uint8, both of the shape of x.
        epsilon: Added to the variance.
        qmin: Smallest code.
        qmax: Largest code.
        name: Name of the node.
    """
    return onnx.helper.make_node(
        LAYER_NORM,
        inputs,
        outputs,
        name=name,
        domain=DOMAIN,
        epsilon=epsilon,
        qmin=qmin,
        qmax=qmax,
    )


def geglu_node(
    inputs: tuple[str, str, str], outputs: tuple[str, str], *, qmin: int, qmax: int, name: str
) -> onnx.NodeProto:
    """The node ``y, codes = GegluQuantize(x, scale, zero_point)``.

    Args:
        inputs: Names of x (..., 2 C) and scale (one value), both float32, and zero_point (one
            uint8).
        outputs: Names of y, float32, and codes, uint8, both (..., C).
        qmin: Smallest code.
        qmax: Largest code.
        name: Name of the node.
    """
    return onnx.helper.make_node(
        GEGLU, inputs, outputs, name=name, domain=DOMAIN, qmin=qmin, qmax=qmax
    )


def linear_prologue_schemas() -> tuple[onnx.defs.OpSchema, onnx.defs.OpSchema]:
    """The schemas of both ops."""
    schema = onnx.defs.OpSchema
    epsilon = schema.Attribute("epsilon", schema.AttrType.FLOAT, "added to the variance")
    affine = ("gamma", "tensor(float)", "(C,)"), ("beta", "tensor(float)", "(C,)")
    x = "x", "tensor(float)", "(..., C)"
    halves = "x", "tensor(float)", "(..., 2 C), values, then gates"
    norm = "y = (x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axis"
    return (
        _schema(LAYER_NORM, norm, (x, *affine), [epsilon]),
        _schema(GEGLU, "y = value * gelu(gate)", (halves,), []),
    )


def _schema(
    name: str,
    what: str,
    inputs: tuple[tuple[str, str, str], ...],
    attributes: list[onnx.defs.OpSchema.Attribute],
) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    parameter = schema.FormalParameter
    result = schema(
        name,
        DOMAIN,
        VERSION,
        what + ", codes = clip(round(y / scale) + zero_point, qmin, qmax).",
        inputs=[*(parameter(*row) for row in inputs), *grid_inputs()],
        outputs=[
            parameter("y", "tensor(float)", "(..., C)"),
            parameter("codes", "tensor(uint8)", "(..., C)"),
        ],
        attributes=[*attributes, *grid_attributes()],
    )
    result.set_type_and_shape_inference_function(_infer_halves if name == GEGLU else _infer)
    return result


def _infer(context: onnx.shape_inference.InferenceContext) -> None:
    x_type = context.get_input_type(0)
    if x_type is not None:
        set_y_and_codes(context, x_type)


def _infer_halves(context: onnx.shape_inference.InferenceContext) -> None:
    x_type = context.get_input_type(0)
    if x_type is None:
        return
    y_type = onnx.TypeProto()
    y_type.CopyFrom(x_type)
    if y_type.tensor_type.shape.dim:
        channels = y_type.tensor_type.shape.dim[-1]
        size = channels.dim_value // 2
        channels.Clear()
        if size:
            channels.dim_value = size
    set_y_and_codes(context, y_type)
