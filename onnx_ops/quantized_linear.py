"""The QuantizedLinear ops: a linear layer of codes and its low-rank branch in one.

``y = s_x s_w a + bias + up (down x)`` of the accumulators ``a = sum (codes - z_x) * weight`` (eq. 4
and 9): the definition in NumPy, the ONNX function bodies, the nodes and the schemas.
``QuantizedLinear`` has no branch, ``QuantizedLinearLowRank`` has one; ``QuantizedLinearW6`` and
``QuantizedLinearW6LowRank`` have their weights in planes (:mod:`onnx_ops.variants`).

The bodies are the pattern that ONNX Runtime makes a MatMulIntegerToFloat of; with the bias as a
vector instead of a row it would make a float Gemm.
"""

from typing import Any, Final

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.shape_inference
from numpy.typing import NDArray

from onnx_ops.function_body import DOMAIN, VERSION
from onnx_ops.integer import matmul_accumulate
from onnx_ops.variants import Variant, bodies, dims, variants, with_inputs

_INPUTS: Final = (
    ("codes", "tensor(uint8)", "(N, ..., C), at most top"),
    ("x_scale", "tensor(float)", "one value, s_x"),
    ("x_zero_point", "tensor(uint8)", "one value, z_x"),
    ("weight", "W", "(F, C)"),
    ("weight_scale", "tensor(float)", "(F,), s_w"),
    ("bias", "tensor(float)", "(F,)"),
)
_BRANCH_INPUTS: Final = (
    ("x", "tensor(float)", "(N, ..., C), before the rounding to codes"),
    ("down", "tensor(float)", "(r, C)"),
    ("up", "tensor(float)", "(F, r)"),
)

VARIANTS: Final = variants("QuantizedLinear", _INPUTS, _BRANCH_INPUTS)
"""The four ops."""

_BODY: Final = """
<domain: "quantface", opset_import: ["" : 21]>
%s <top: int> (%s) => (y)
{
  x_float = DequantizeLinear (codes, x_scale, x_zero_point)
  %s
  matrix = Transpose <perm: ints = [1, 0]> (weight_int8)
  matrix_float = DequantizeLinear <axis: int = 1> (matrix, weight_scale)
  product = MatMul (x_float, matrix_float)
  first_axis = Constant <value_ints: ints = [0]> ()
  row = Unsqueeze (bias, first_axis)
  %s
}
"""
_PLAIN_END: Final = "y = Add (product, row)"
_BRANCH_END: Final = """integer = Add (product, row)
  first = Transpose <perm: ints = [1, 0]> (down)
  low = MatMul (x, first)
  second = Transpose <perm: ints = [1, 0]> (up)
  branch = MatMul (low, second)
  y = Add (integer, branch)
"""


def quantized_linear(
    codes: NDArray[np.uint8],
    zero_point: int,
    weight: NDArray[np.int8],
    scale: NDArray[np.floating[Any]],
    bias: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """The layer without its branch, in float64.

    Args:
        codes: (..., C) uint8.
        zero_point: Code of 0.
        weight: (F, C) int8.
        scale: (F,), ``s_x s_w``.
        bias: (F,).

    Returns:
        (..., F).

    Raises:
        ValueError: the two C differ, or sums could leave int32.
    """
    sums = matmul_accumulate(codes, zero_point, weight.T).astype(np.float64)
    return sums * scale.astype(np.float64) + bias.astype(np.float64)


def linear_branch(
    x: NDArray[np.floating[Any]], down: NDArray[np.float32], up: NDArray[np.float32]
) -> NDArray[np.float64]:
    """``up (down x)`` in float64.

    Args:
        x: (..., C).
        down: (r, C).
        up: (F, r).

    Returns:
        (..., F).
    """
    return np.asarray(
        x.astype(np.float64) @ down.T.astype(np.float64) @ up.T.astype(np.float64), np.float64
    )


def quantized_linear_functions() -> tuple[onnx.FunctionProto, ...]:
    """The function bodies of the ops, for ``ModelProto.functions``."""
    return bodies(VARIANTS, _BODY, _PLAIN_END, _BRANCH_END)


def quantized_linear_node(inputs: list[str], y: str, *, top: int, name: str) -> onnx.NodeProto:
    """The node ``y = QuantizedLinear(...)``, or of the variant that has as many inputs.

    Args:
        inputs: Names, in the order of the schema.
        y: Name of the float output.
        top: Largest code of the input's grid; ``2**b - 1`` for b bits.
        name: Name of the node.

    Raises:
        ValueError: No variant has this number of inputs.
    """
    op = with_inputs(VARIANTS, len(inputs)).name
    return onnx.helper.make_node(op, inputs, [y], name=name, domain=DOMAIN, top=top)


def quantized_linear_schemas() -> tuple[onnx.defs.OpSchema, ...]:
    """The schemas of the ops."""
    return tuple(map(_schema, VARIANTS))


def _schema(op: Variant) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    branch = " + up (down x)" if op.branch else ""
    result = schema(
        op.name,
        DOMAIN,
        VERSION,
        f"y = s_x s_w a + bias{branch}, a = sum (codes - z_x) * weight.",
        inputs=[schema.FormalParameter(*row) for row in op.inputs],
        outputs=[schema.FormalParameter("y", "tensor(float)", "(N, ..., F)")],
        type_constraints=[("W", list(op.weight_types), "weights, or their high planes")],
        attributes=[schema.Attribute("top", schema.AttrType.INT, "largest code of the input")],
    )
    result.set_type_and_shape_inference_function(_infer)
    return result


def _infer(context: onnx.shape_inference.InferenceContext) -> None:
    codes, weight = context.get_input_type(0), context.get_input_type(3)
    rows, filters = dims(codes), dims(weight)
    shape = [*rows[:-1], filters[0]] if rows and filters else None
    context.set_output_type(0, onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape))
