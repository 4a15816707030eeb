"""The Hadamard op in a model: its node, its ONNX function body and its schema.

The function body is written in standard operators alone, so a model that carries it runs
wherever ONNX Runtime does; a registered kernel of the same name takes its place.
"""

import math
from typing import Final

import onnx
import onnx.defs
import onnx.helper
import onnx.parser
import onnx.shape_inference

from onnx_ops.hadamard import factor

DOMAIN: Final = "quantface"
VERSION: Final = 1
OPSET: Final = 21

# Both factors are built from the attributes, so a runtime that folds constants is left with
# the Reshapes and MatMuls of the last two sections. The split n = m * 2**k is first balanced to
# n = a * b, with a = m * 2**t and b = 2**(k - t): S_p = S_t kron S_b, and two factors near
# sqrt(n) cost the fewest multiplications (512 = 16 * 32, not 1 * 512). The integers mod q are
# those mod 1 when m = 1, whose matrix is its first row. Shape inference visits both branches of
# an If, so each must be well-formed for an x meant for the other.
_BODY: Final = """
<domain: "quantface", opset_import: ["" : 21]>
Hadamard <axis: int, seed: int, log2: int, transposed: int = 0> (x, d) => (y)
{
  x_float = %s (x)
  transposed = Constant <value_int: int = @transposed> ()
  axis = Constant <value_int: int = @axis> ()
  m = Constant <value_int: int = @seed> ()
  k = Constant <value_int: int = @log2> ()
  zero = Constant <value_int: int = 0> ()
  one = Constant <value_int: int = 1> ()
  two = Constant <value_int: int = 2> ()
  zero_1d = Constant <value_ints: ints = [0]> ()
  one_1d = Constant <value_ints: ints = [1]> ()
  minus_one_1d = Constant <value_ints: ints = [-1]> ()
  column = Constant <value_ints: ints = [-1, 1]> ()
  plus = Constant <value_float: float = 1.0> ()
  minus = Constant <value_float: float = -1.0> ()

  m_float = Cast <to: int = 1> (m)
  k_float = Cast <to: int = 1> (k)
  two_float = Cast <to: int = 1> (two)
  log_m = Log (m_float)
  log_two = Log (two_float)
  log2_m = Div (log_m, log_two)
  surplus = Sub (k_float, log2_m)
  half_surplus = Div (surplus, two_float)
  t_any = Floor (half_surplus)
  t_signed = Cast <to: int = 7> (t_any)
  t = Max (t_signed, zero)
  k_minus_t = Sub (k, t)
  t_order = Pow (two, t)
  b = Pow (two, k_minus_t)
  a = Mul (m, t_order)
  n = Mul (a, b)
  a_1d = Reshape (a, one_1d)
  b_1d = Reshape (b, one_1d)
  t_1d = Reshape (t_order, one_1d)

  q_or_zero = Sub (m, one)
  q = Max (q_or_zero, one)
  i = Range (zero, m, one)
  i_column = Reshape (i, column)
  difference = Sub (i_column, i)
  residue = Mod (difference, q)
  i_squared = Mul (i, i)
  square = Mod (i_squared, q)
  residue_cube = Unsqueeze (residue, minus_one_1d)
  is_this_square = Equal (residue_cube, square)
  is_this_square_float = Cast <to: int = 1> (is_this_square)
  is_square_float = ReduceMax <keepdims: int = 0> (is_this_square_float, minus_one_1d)
  is_square = Cast <to: int = 9> (is_square_float)
  core = Where (is_square, plus, minus)
  is_first_column = Equal (i, zero)
  below_first_row = Where (is_first_column, minus, core)
  is_first_row = Equal (i_column, zero)
  h_m_plain = Where (is_first_row, plus, below_first_row)
  h_m_transposed = Transpose <perm: ints = [1, 0]> (h_m_plain)
  is_transposed = Equal (transposed, one)
  h_m = Where (is_transposed, h_m_transposed, h_m_plain)

  bits_end = Add (k, one)
  bit = Range (zero, bits_end, one)
  bit_value = Pow (two, bit)
  j = Range (zero, b, one)
  j_column = Reshape (j, column)
  j_shifted = Div (j_column, bit_value)
  j_bits = Mod (j_shifted, two)
  j_bits_float = Cast <to: int = 1> (j_bits)
  j_bits_transposed = Transpose <perm: ints = [1, 0]> (j_bits_float)
  common_bits = MatMul (j_bits_float, j_bits_transposed)
  odd = Mod <fmod: int = 1> (common_bits, two_float)
  twice_odd = Add (odd, odd)
  s_b = Sub (plus, twice_odd)

  t_square = Concat <axis: int = 0> (t_1d, t_1d)
  corner = Constant <value_ints: ints = [0, 0]> ()
  both_axes = Constant <value_ints: ints = [0, 1]> ()
  inner_axes = Constant <value_ints: ints = [1, 3]> ()
  outer_axes = Constant <value_ints: ints = [0, 2]> ()
  s_t = Slice (s_b, corner, t_square, both_axes)
  h_m_outer = Unsqueeze (h_m, inner_axes)
  s_t_inner = Unsqueeze (s_t, outer_axes)
  kronecker = Mul (h_m_outer, s_t_inner)
  a_square = Concat <axis: int = 0> (a_1d, a_1d)
  h_a_integer = Reshape (kronecker, a_square)
  n_float = Cast <to: int = 1> (n)
  sqrt_n = Sqrt (n_float)
  h_a = Div (h_a_integer, sqrt_n)

  d_before = Where (is_transposed, plus, d)
  channels_first = Equal (axis, one)
  rotated_b = If (channels_first) <
    then_branch = along_axis_one () => (outer_a_inner)
    {
      d_shape = Concat <axis: int = 0> (a_1d, one_1d, b_1d)
      d_blocks = Reshape (d_before, d_shape)
      s_b_d = Mul (s_b, d_blocks)
      block_shape = Concat <axis: int = 0> (zero_1d, a_1d, b_1d, minus_one_1d)
      x_blocks = Reshape (x_float, block_shape)
      s_b_d_x = MatMul (s_b_d, x_blocks)
      first_shape = Concat <axis: int = 0> (zero_1d, a_1d, minus_one_1d)
      outer_a_inner = Reshape (s_b_d_x, first_shape)
    },
    else_branch = along_last_axis () => (outer_a_b)
    {
      channel_shape = Concat <axis: int = 0> (a_1d, b_1d)
      d_channels = Reshape (d_before, channel_shape)
      last_shape = Concat <axis: int = 0> (minus_one_1d, channel_shape)
      x_channels = Reshape (x_float, last_shape)
      d_x = Mul (x_channels, d_channels)
      outer_a_b = MatMul (d_x, s_b)
    }
  >

  rotated = MatMul (h_a, rotated_b)
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
    m, p = factor(n)
    node = onnx.helper.make_node(
        "Hadamard",
        [x, d],
        [y],
        name=name,
        domain=DOMAIN,
        axis=axis,
        seed=m,
        log2=p.bit_length() - 1,
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
            schema.Attribute("transposed", onnx.helper.make_attribute("transposed", 0)),
        ],
    )
    result.set_type_and_shape_inference_function(_infer_like_x)
    return result


def _infer_like_x(context: onnx.shape_inference.InferenceContext) -> None:
    x_type = context.get_input_type(0)
    if x_type is not None:
        context.set_output_type(0, x_type)
