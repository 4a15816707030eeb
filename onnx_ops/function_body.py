"""The Hadamard op in a model: its node, its ONNX function body and its schema.

The function body is written in standard operators alone, so a model that carries it runs
wherever ONNX Runtime does; a registered kernel of the same name takes its place.
"""

import math
from typing import Any, Final

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import onnx.shape_inference
from numpy.typing import NDArray

from onnx_ops.hadamard import factor, paley, sylvester

DOMAIN: Final = "quantface"
VERSION: Final = 1
OPSET: Final = 21

# The split n = m * 2**k is balanced to n = a * b, with a = m * 2**t and b = 2**(k - t): S_p = S_t
# kron S_b, and two factors near sqrt(n) cost the fewest multiplications (512 = 16 * 32, not 1 *
# 512). Nodes bring both factors as attributes; built here from seed and log2, which kernels read,
# they cost 45 nodes of every rotation, and opening a session took three times as long. Shape
# inference visits both branches of an If, so each must be well-formed for an x meant for the other.
_BODY: Final = """
<domain: "quantface", opset_import: ["" : 21]>
Hadamard <axis: int, seed: int, log2: int, outer: tensor, inner: tensor, transposed: int = 0>
  (x, d) => (y)
{
  x_float = %s (x)
  outer = Constant <value: tensor = @outer> ()
  inner = Constant <value: tensor = @inner> ()
  transposed = Constant <value_int: int = @transposed> ()
  axis = Constant <value_int: int = @axis> ()
  one = Constant <value_int: int = 1> ()
  zero_1d = Constant <value_ints: ints = [0]> ()
  one_1d = Constant <value_ints: ints = [1]> ()
  minus_one_1d = Constant <value_ints: ints = [-1]> ()
  plus = Constant <value_float: float = 1.0> ()
  a_1d = Shape <end: int = 1> (outer)
  b_1d = Shape <end: int = 1> (inner)
  is_transposed = Equal (transposed, one)

  d_before = Where (is_transposed, plus, d)
  channels_first = Equal (axis, one)
  rotated_b = If (channels_first) <
    then_branch = along_axis_one () => (outer_a_inner)
    {
      d_shape = Concat <axis: int = 0> (a_1d, one_1d, b_1d)
      d_blocks = Reshape (d_before, d_shape)
      inner_d = Mul (inner, d_blocks)
      block_shape = Concat <axis: int = 0> (zero_1d, a_1d, b_1d, minus_one_1d)
      x_blocks = Reshape (x_float, block_shape)
      inner_d_x = MatMul (inner_d, x_blocks)
      first_shape = Concat <axis: int = 0> (zero_1d, a_1d, minus_one_1d)
      outer_a_inner = Reshape (inner_d_x, first_shape)
    },
    else_branch = along_last_axis () => (outer_a_b)
    {
      channel_shape = Concat <axis: int = 0> (a_1d, b_1d)
      d_channels = Reshape (d_before, channel_shape)
      last_shape = Concat <axis: int = 0> (minus_one_1d, channel_shape)
      x_channels = Reshape (x_float, last_shape)
      d_x = Mul (x_channels, d_channels)
      outer_a_b = MatMul (d_x, inner)
    }
  >

  rotated = MatMul (outer, rotated_b)
  scaled = If (is_transposed) <
    then_branch = scaled_after () => (rotated_d)
    {
      n_1d = Mul (a_1d, b_1d)
      d_first_shape = Concat <axis: int = 0> (n_1d, one_1d)
      d_last_shape = Concat <axis: int = 0> (a_1d, b_1d)
      d_shape_after = Where (channels_first, d_first_shape, d_last_shape)
      d_after = Reshape (d, d_shape_after)
      first_shape_after = Concat <axis: int = 0> (zero_1d, n_1d, minus_one_1d)
      last_shape_after = Concat <axis: int = 0> (zero_1d, a_1d, b_1d)
      shape_after = Where (channels_first, first_shape_after, last_shape_after)
      rotated_channels = Reshape (rotated, shape_after)
      rotated_d = Mul (rotated_channels, d_after)
    },
    else_branch = scaled_before () => (rotated_only)
    {
      rotated_only = Identity (rotated)
    }
  >
  x_shape = Shape (x)
  y_float = Reshape (scaled, x_shape)
  y = %s (y_float)
}
"""


_ROUNDING: Final = """
  zero_1d = Constant <value_ints: ints = [0]> ()
  empty = Slice (zero_1d, zero_1d, zero_1d)
  scale_scalar = Reshape (scale, empty)
  zero_scalar = Reshape (zero_point, empty)
  rounded = QuantizeLinear (%s, scale_scalar, zero_scalar)
  lowest = Constant <value_int: int = @qmin> ()
  highest = Constant <value_int: int = @qmax> ()
  low = CastLike (lowest, zero_scalar)
  high = CastLike (highest, zero_scalar)
  codes = Clip (rounded, low, high)
"""


def rounding(value: str) -> str:
    """Steps of a body from ``value`` to ``codes``, by scale, zero_point, qmin and qmax."""
    return _ROUNDING % value


def body_factors(n: int) -> tuple[int, int]:
    """Orders ``a, b`` of the two dense factors that the function body multiplies by, ``a b = n``.

    A vector of n channels takes ``n (a + b)`` multiply-accumulates.

    >>> body_factors(512), body_factors(1920)
    ((16, 32), (60, 32))

    Raises:
        ValueError: n is not an order (see ``factor``).
    """
    m, p = factor(n)
    t = max(0, math.floor((math.log2(p) - math.log2(m)) / 2))
    return m << t, p >> t


def body_matrices(n: int, *, transposed: bool = False) -> dict[str, NDArray[np.float32]]:
    """``outer`` (a, a) and ``inner`` (b, b) float32, attributes of every node of order n = a b.

    ``R_n = outer kron inner`` with ``outer = (H_m kron S_t) / sqrt(n)`` and ``inner = S_b``; the
    transpose of R_n if ``transposed``.

    Raises:
        ValueError: n is not an order (see ``factor``).
    """
    (m, _), (a, b) = factor(n), body_factors(n)
    outer = np.kron(paley(m), sylvester(a // m)) / np.float32(math.sqrt(n))
    outer = outer.astype(np.float32)
    return {
        "outer": np.ascontiguousarray(outer.T if transposed else outer),
        "inner": sylvester(b).astype(np.float32),
    }


def body_attributes(n: int, *, transposed: bool = False) -> dict[str, onnx.TensorProto]:
    """:func:`body_matrices` as ``onnx.helper.make_node`` takes them."""
    matrices = body_matrices(n, transposed=transposed)
    return {name: onnx.numpy_helper.from_array(x, name) for name, x in matrices.items()}


def order_attributes(n: int, *, transposed: bool = False) -> dict[str, Any]:
    """What every node of order n says of it: ``seed``, ``log2`` and :func:`body_attributes`.

    Raises:
        ValueError: n is not an order (see ``factor``).
    """
    m, p = factor(n)
    return {"seed": m, "log2": p.bit_length() - 1, **body_attributes(n, transposed=transposed)}


def hadamard_function(*, half: bool = False) -> onnx.FunctionProto:
    """The function body of ``Hadamard``, for ``ModelProto.functions``.

    Args:
        half: x and y are float16, computed in float32. All nodes of a model share one body; a
            body for both types would leave a Cast to float32 behind in every float32 node.

    One body serves every order and both axes. For ``axis`` = 1 the first factor takes ``d``
    in, ``S_b diag(d_i)`` for each of the a blocks of channels, so scaling costs no pass of
    its own over x.
    """
    casts = ("Cast <to: int = 1>", "Cast <to: int = 10>") if half else ("Identity", "Identity")
    return onnx.parser.parse_function(_BODY % casts)


def hadamard_node(
    x: str, d: str, y: str, *, n: int, axis: int, name: str, transposed: bool = False
) -> onnx.NodeProto:
    """The node ``y = Hadamard(x, d)``, ``y = R_n (d * x)`` along ``axis``.

    Args:
        x: Name of a float32 or float16 input, (N, n, ...) for axis 1 or (..., n) for axis -1.
        d: Name of the (n,) float32 multiplier, best an initializer.
        y: Name of the output, which has the shape and type of x.
        n: Number of channels.
        axis: 1 (channels first) or -1 (channels last).
        name: Name of the node.
        transposed: Compute ``d * (R_n^T x)`` instead, which with ``1 / d`` is the inverse.

    Raises:
        ValueError: axis is neither 1 nor -1, or n is not an order (see ``factor``).
    """
    if axis not in (1, -1):
        raise ValueError(f"axis must be 1 (channels first) or -1 (channels last), got {axis}")
    node = onnx.helper.make_node(
        "Hadamard",
        [x, d],
        [y],
        name=name,
        domain=DOMAIN,
        axis=axis,
        **order_attributes(n, transposed=transposed),
    )
    if transposed:  # left out otherwise, as in models made before the attribute existed
        node.attribute.append(onnx.helper.make_attribute("transposed", 1))
    return node


def hadamard_schema() -> onnx.defs.OpSchema:
    """The schema of ``Hadamard``: y has the type and shape of x.

    A model that carries the function body needs no schema. Given to
    ``onnx.defs.register_schema``, it lets the onnx package check and infer models without the
    body, and infer symbolic shapes through the op without ``data_prop``.
    """
    schema = onnx.defs.OpSchema
    integer = schema.AttrType.INT
    result = schema(
        "Hadamard",
        DOMAIN,
        VERSION,
        "y = R_n (d * x) along axis, R_n = (H_m kron S_p) / sqrt(n), n = m * p; "
        "y = d * (R_n^T x) if transposed.",
        inputs=[
            schema.FormalParameter("x", "T", "(N, n, ...) or (..., n)"),
            schema.FormalParameter("d", "tensor(float)", "(n,), one multiplier per channel"),
        ],
        outputs=[schema.FormalParameter("y", "T", "the shape of x")],
        type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "x and y")],
        attributes=[
            schema.Attribute("axis", integer, "1: channels first; -1: channels last"),
            schema.Attribute("seed", integer, "m, order of the Paley seed: 1, 12, 20 or 60"),
            schema.Attribute("log2", integer, "k, with p = 2**k"),
            *matrix_attributes(),
            schema.Attribute("transposed", onnx.helper.make_attribute("transposed", 0)),
        ],
    )
    result.set_type_and_shape_inference_function(infer_like_x)
    return result


def matrix_attributes() -> list[onnx.defs.OpSchema.Attribute]:
    """The two that only the function body reads."""
    schema = onnx.defs.OpSchema
    shapes = {"outer": "(a, a) float32", "inner": "(b, b) float32, n = a * b"}
    return [
        schema.Attribute(name, schema.AttrType.TENSOR, f"factor of R_n for the body, {text}")
        for name, text in shapes.items()
    ]


def infer_like_x(context: onnx.shape_inference.InferenceContext) -> None:
    """The output has the type and shape of the first input."""
    x_type = context.get_input_type(0)
    if x_type is not None:
        context.set_output_type(0, x_type)


def grid_inputs() -> list[onnx.defs.OpSchema.FormalParameter]:
    """The grid of uint8 codes, for schemas."""
    parameter = onnx.defs.OpSchema.FormalParameter
    return [
        parameter("scale", "tensor(float)", "one value, the width of a step"),
        parameter("zero_point", "tensor(uint8)", "one value, the code of 0"),
    ]


def grid_attributes() -> list[onnx.defs.OpSchema.Attribute]:
    """What of the grid is used, for schemas."""
    attribute, integer = onnx.defs.OpSchema.Attribute, onnx.defs.OpSchema.AttrType.INT
    return [
        attribute("qmin", integer, "smallest code"),
        attribute("qmax", integer, "largest code"),
    ]


def codes_like(x_type: onnx.TypeProto) -> onnx.TypeProto:
    """The type of codes of a tensor: uint8 of its shape."""
    codes_type = onnx.TypeProto()
    codes_type.CopyFrom(x_type)
    codes_type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return codes_type


def set_y_and_codes(context: onnx.shape_inference.InferenceContext, y_type: onnx.TypeProto) -> None:
    """The outputs are y, of this type, and its codes, uint8 of the same shape."""
    context.set_output_type(0, y_type)
    context.set_output_type(1, codes_like(y_type))
