"""The GroupNorm ops: group normalization, and SiLU behind it, in one.

``y = gamma_c (x - mean_g) / sqrt(variance_g + epsilon) + beta_c`` over the channels and pixels of
each group, then ``y / (1 + exp(-y))`` in ``GroupNormSilu``: the definition in NumPy, the ONNX
function bodies, the node and the schemas. The bodies go through InstanceNormalization, which ONNX
Runtime's CPU provider computes faster than its own GroupNormalization.
"""

from typing import Final

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.parser
from numpy.typing import NDArray

from onnx_ops.function_body import DOMAIN, VERSION, infer_like_x

PLAIN: Final = "GroupNorm"
SILU: Final = "GroupNormSilu"

_BODY: Final = """
<domain: "quantface", opset_import: ["" : 21]>
%s <groups: int, epsilon: float> (x, gamma, beta) => (y)
{
  groups = Constant <value_int: int = @groups> ()
  zero_1d = Constant <value_ints: ints = [0]> ()
  one_1d = Constant <value_ints: ints = [1]> ()
  minus_one_1d = Constant <value_ints: ints = [-1]> ()
  column = Constant <value_ints: ints = [-1, 1]> ()
  one = Constant <value_float: float = 1.0> ()
  zero = Constant <value_float: float = 0.0> ()
  groups_1d = Reshape (groups, one_1d)
  group_shape = Concat <axis: int = 0> (zero_1d, groups_1d, minus_one_1d)
  by_group = Reshape (x, group_shape)
  ones = Expand (one, groups_1d)
  zeros = Expand (zero, groups_1d)
  normal = InstanceNormalization <epsilon: float = @epsilon> (by_group, ones, zeros)
  channels_1d = Shape (gamma)
  channel_shape = Concat <axis: int = 0> (zero_1d, channels_1d, minus_one_1d)
  by_channel = Reshape (normal, channel_shape)
  gain = Reshape (gamma, column)
  offset = Reshape (beta, column)
  scaled = Mul (by_channel, gain)
  shifted = Add (scaled, offset)
  %s
  x_shape = Shape (x)
  y = Reshape (activated, x_shape)
}
"""
_PLAIN_END: Final = "activated = Identity (shifted)"
_SILU_END: Final = """share = Sigmoid (shifted)
  activated = Mul (shifted, share)"""


def group_norm(
    x: NDArray[np.float64],
    gamma: NDArray[np.float64],
    beta: NDArray[np.float64],
    *,
    groups: int,
    epsilon: float,
    silu: bool,
) -> NDArray[np.float64]:
    """The definition, in float64.

    Args:
        x: (N, C, ...).
        gamma: (C,).
        beta: (C,).
        groups: Groups of equally many channels.
        epsilon: Added to the variance.
        silu: Whether SiLU follows.

    Returns:
        The shape of x.

    Raises:
        ValueError: C is not a multiple of groups.
    """
    if x.shape[1] % groups:
        raise ValueError(f"{x.shape[1]} channels are no {groups} groups")
    grouped = x.reshape(x.shape[0], groups, -1)
    mean = grouped.mean(-1, keepdims=True)
    variance = grouped.var(-1, keepdims=True)
    normal = ((grouped - mean) / np.sqrt(variance + epsilon)).reshape(*x.shape[:2], -1)
    y = (normal * gamma[:, None] + beta[:, None]).reshape(x.shape)
    return y / (1 + np.exp(-y)) if silu else y


def group_norm_functions() -> tuple[onnx.FunctionProto, onnx.FunctionProto]:
    """The function bodies of both ops, for ``ModelProto.functions``."""
    return (
        onnx.parser.parse_function(_BODY % (PLAIN, _PLAIN_END)),
        onnx.parser.parse_function(_BODY % (SILU, _SILU_END)),
    )


def group_norm_node(
    inputs: tuple[str, str, str], y: str, *, groups: int, epsilon: float, silu: bool, name: str
) -> onnx.NodeProto:
    """The node ``y = GroupNorm(x, gamma, beta)`` or ``GroupNormSilu``.

    Args:
        inputs: Names of x (N, C, ...), gamma (C,) and beta (C,), all float32.
        y: Name of the output.
        groups: Groups of equally many channels.
        epsilon: Added to the variance.
        silu: Whether SiLU follows.
        name: Name of the node.
    """
    return onnx.helper.make_node(
        SILU if silu else PLAIN,
        list(inputs),
        [y],
        name=name,
        domain=DOMAIN,
        groups=groups,
        epsilon=epsilon,
    )


def group_norm_schemas() -> tuple[onnx.defs.OpSchema, onnx.defs.OpSchema]:
    """The schemas of both ops: y has the shape of x."""
    return _schema(PLAIN, ""), _schema(SILU, ", then SiLU")


def _schema(name: str, end: str) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    parameter = schema.FormalParameter
    result = schema(
        name,
        DOMAIN,
        VERSION,
        "y = gamma (x - mean) / sqrt(variance + epsilon) + beta over each group" + end + ".",
        inputs=[
            parameter("x", "tensor(float)", "(N, C, ...)"),
            parameter("gamma", "tensor(float)", "(C,)"),
            parameter("beta", "tensor(float)", "(C,)"),
        ],
        outputs=[parameter("y", "tensor(float)", "the shape of x")],
        attributes=[
            schema.Attribute("groups", schema.AttrType.INT, "groups of equally many channels"),
            schema.Attribute("epsilon", schema.AttrType.FLOAT, "added to the variance"),
        ],
    )
    result.set_type_and_shape_inference_function(infer_like_x)
    return result
