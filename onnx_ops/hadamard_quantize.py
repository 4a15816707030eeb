"""The HadamardQuantize op: ``Hadamard`` and the rounding to codes behind it, in one pass.

``y = clip(round(R_n (d * x) / scale) + zero_point, qmin, qmax)``, ties to even (eq. 4 and 8): the
definition in NumPy, the ONNX function body, the node and the schema. The function body computes
``Hadamard``, so a model that carries it carries ``hadamard_function()`` too.
"""

from typing import Any, Final

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
    matrix_attributes,
    order_attributes,
    rounding,
)
from onnx_ops.hadamard import Float, rotate

Codes = NDArray[np.integer[Any]]
"""uint8 or int8."""

# An x of rank 4 or of any other: moving the channels last goes through three dimensions.
_BODY: Final = """
<domain: "quantface", opset_import: ["" : 21, "quantface" : 1]>
HadamardQuantize <axis: int, seed: int, log2: int, outer: tensor, inner: tensor,
                  qmin: int, qmax: int, channels_last: int = 0>
  (x, d, scale, zero_point) => (y)
{
  x_float = %s (x)
  rotated = quantface.Hadamard <axis: int = @axis, seed: int = @seed, log2: int = @log2,
                                outer: tensor = @outer, inner: tensor = @inner> (x_float, d)
  %s
  channels_last = Constant <value_int: int = @channels_last> ()
  one = Constant <value_int: int = 1> ()
  moved = Equal (channels_last, one)
  y = If (moved) <
    then_branch = channels_to_the_end () => (codes_last)
    {
      batch = Shape <start: int = 0, end: int = 1> (codes)
      channels = Shape <start: int = 1, end: int = 2> (codes)
      pixels = Shape <start: int = 2> (codes)
      rest = Constant <value_ints: ints = [-1]> ()
      flat_shape = Concat <axis: int = 0> (batch, channels, rest)
      flat = Reshape (codes, flat_shape)
      turned = Transpose <perm: ints = [0, 2, 1]> (flat)
      last_shape = Concat <axis: int = 0> (batch, pixels, channels)
      codes_last = Reshape (turned, last_shape)
    },
    else_branch = channels_stay () => (codes_first)
    {
      codes_first = Identity (codes)
    }
  >
}
"""


def hadamard_quantize(
    x: NDArray[Float],
    d: NDArray[np.float32],
    scale: float | np.float32,
    zero_point: np.uint8 | np.int8,
    *,
    axis: int,
    qmin: int,
    qmax: int,
    channels_last: bool = False,
) -> Codes:
    """Rotate the channels and round them to codes.

    Args:
        x: (N, n, ...) for axis 1 or (..., n) for axis -1; the arithmetic is done in its dtype.
        d: (n,) multiplier per channel.
        scale: Width of one step, rounded to float32 first.
        zero_point: Code of 0; its type is that of the codes.
        axis: 1 (channels first) or -1 (channels last).
        qmin: Smallest code of the grid.
        qmax: Largest code of the grid; b bits have ``2**b`` codes.
        channels_last: Return (N, ..., n); with axis 1 only.

    Returns:
        Codes of the type of ``zero_point``.

    Raises:
        ValueError: the grid leaves the type of ``zero_point``, scale is not positive and finite,
            ``channels_last`` with axis -1, or n is not an order (see ``factor``).
    """
    _check(zero_point.dtype, axis, qmin, qmax, channels_last)
    if not 0 < scale < np.inf:
        raise ValueError(f"scale must be positive and finite, got {scale}")
    zero = int(zero_point)
    steps = np.rint(rotate(x, d, axis) / x.dtype.type(np.float32(scale)))
    clipped = np.clip(steps, qmin - zero, qmax - zero) + zero
    codes = clipped.astype(zero_point.dtype)
    return np.ascontiguousarray(np.moveaxis(codes, 1, -1)) if channels_last else codes


def hadamard_quantize_function(*, half: bool = False) -> onnx.FunctionProto:
    """The function body of ``HadamardQuantize``, for ``ModelProto.functions``.

    Args:
        half: x is float16; everything is computed in float32.
    """
    cast = "Cast <to: int = 1>" if half else "Identity"
    return onnx.parser.parse_function(_BODY % (cast, rounding("rotated")))


def hadamard_quantize_node(
    inputs: tuple[str, str, str, str],
    y: str,
    *,
    n: int,
    axis: int,
    qmin: int,
    qmax: int,
    name: str,
    channels_last: bool = False,
) -> onnx.NodeProto:
    """The node ``y = HadamardQuantize(x, d, scale, zero_point)``.

    Args:
        inputs: Names of x (float32 or float16), d (n,) float32, scale (one float32) and
            zero_point (one uint8 or int8, the type of y).
        y: Name of the output.
        n: Number of channels.
        axis: 1 (channels first) or -1 (channels last).
        qmin: Smallest code.
        qmax: Largest code.
        name: Name of the node.
        channels_last: Whether y is (N, ..., n) for an x of (N, n, ...).

    Raises:
        ValueError: axis, grid or ``channels_last`` do not fit, or n is not an order.
    """
    _check(np.dtype(np.int8 if qmin < 0 else np.uint8), axis, qmin, qmax, channels_last)
    return onnx.helper.make_node(
        "HadamardQuantize",
        list(inputs),
        [y],
        name=name,
        domain=DOMAIN,
        axis=axis,
        qmin=qmin,
        qmax=qmax,
        channels_last=int(channels_last),
        **order_attributes(n),
    )


def hadamard_quantize_schema() -> onnx.defs.OpSchema:
    """The schema of ``HadamardQuantize``: y has the type of zero_point."""
    schema = onnx.defs.OpSchema
    integer = schema.AttrType.INT
    result = schema(
        "HadamardQuantize",
        DOMAIN,
        VERSION,
        "y = clip(round(Hadamard(x, d) / scale) + zero_point, qmin, qmax).",
        inputs=[
            schema.FormalParameter("x", "T", "(N, n, ...) or (..., n)"),
            schema.FormalParameter("d", "tensor(float)", "(n,), one multiplier per channel"),
            schema.FormalParameter("scale", "tensor(float)", "one value, the width of a step"),
            schema.FormalParameter("zero_point", "Q", "one value, the code of 0"),
        ],
        outputs=[schema.FormalParameter("y", "Q", "the shape of x, or (N, ..., n)")],
        type_constraints=[
            ("T", ["tensor(float)", "tensor(float16)"], "x"),
            ("Q", ["tensor(uint8)", "tensor(int8)"], "codes"),
        ],
        attributes=[
            schema.Attribute("axis", integer, "1: channels first; -1: channels last"),
            schema.Attribute("seed", integer, "m, order of the Paley seed: 1, 12, 20 or 60"),
            schema.Attribute("log2", integer, "k, with n = m * 2**k"),
            *matrix_attributes(),
            *grid_attributes(),
            schema.Attribute("channels_last", onnx.helper.make_attribute("channels_last", 0)),
        ],
    )
    result.set_type_and_shape_inference_function(_infer)
    return result


def _infer(context: onnx.shape_inference.InferenceContext) -> None:
    x_type, zero_type = context.get_input_type(0), context.get_input_type(3)
    if x_type is None or zero_type is None:
        return
    y_type = onnx.TypeProto()
    y_type.CopyFrom(x_type)
    y_type.tensor_type.elem_type = zero_type.tensor_type.elem_type
    last = context.get_attribute("channels_last")
    if last is not None and last.i == 1 and x_type.tensor_type.HasField("shape"):
        batch, channels, *pixels = x_type.tensor_type.shape.dim
        y_type.tensor_type.shape.ClearField("dim")
        y_type.tensor_type.shape.dim.extend([batch, *pixels, channels])
    context.set_output_type(0, y_type)


def _check(dtype: np.dtype, axis: int, qmin: int, qmax: int, channels_last: bool) -> None:
    if axis not in (1, -1):
        raise ValueError(f"axis must be 1 (channels first) or -1 (channels last), got {axis}")
    if channels_last and axis != 1:
        raise ValueError("channels_last moves the channels of axis 1; with axis -1 they are last")
    limits = np.iinfo(dtype)
    if not limits.min <= qmin <= qmax <= limits.max:
        raise ValueError(
            f"need {limits.min} <= qmin <= qmax <= {limits.max}, got qmin {qmin}, qmax {qmax}"
        )
