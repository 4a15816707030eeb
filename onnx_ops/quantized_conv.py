"""The QuantizedConv ops: a convolution of codes, its output grid and its low-rank branch in one.

``y = s_y (o - z_y) + up (down * x)`` with the output codes
``o = clamp(round(float32(a) (s_x s_w / s_y)) + z_y, 0, 255)`` of the accumulators
``a = bias + sum (codes - z_x) * weight`` (eq. 4 and 9): the definition in NumPy, the ONNX node and
the schemas. ``QuantizedConv`` has no branch, ``QuantizedConvLowRank`` has;
``QuantizedConvW6`` and ``QuantizedConvW6LowRank`` have their weights in planes
(:mod:`onnx_ops.variants`). ``UpsampleQuantizedConv`` and its variants see each pixel of ``codes``
and of ``x`` as four: the nearest-neighbour upsampling before a decoder's convolution, which then
need not be rounded and stored four times over.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.shape_inference
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from onnx_ops.function_body import DOMAIN, VERSION
from onnx_ops.integer import conv_accumulate, requantize, requantize_multiplier, row_blocks
from onnx_ops.variants import Variant, dims, variants, with_inputs

_INPUTS: Final = (
    ("codes", "tensor(uint8)", "(N, C, H, W), at most top"),
    ("x_scale", "tensor(float)", "one value, s_x"),
    ("x_zero_point", "tensor(uint8)", "one value, z_x, also around the image"),
    ("weight", "W", "(F, C, kh, kw)"),
    ("weight_scale", "tensor(float)", "(F,), s_w"),
    ("bias", "tensor(int32)", "(F,), in steps of s_x s_w"),
    ("y_scale", "tensor(float)", "one value, s_y"),
    ("y_zero_point", "tensor(uint8)", "one value, z_y"),
)
_BRANCH_INPUTS: Final = (
    ("x", "tensor(float)", "(N, C, H, W), before the rounding to codes"),
    ("down", "tensor(float)", "(r, C, kh, kw)"),
    ("up", "tensor(float)", "(F, r, 1, 1)"),
)

VARIANTS: Final = variants("QuantizedConv", _INPUTS, _BRANCH_INPUTS)
"""The four ops."""

UPSAMPLE_VARIANTS: Final = variants("UpsampleQuantizedConv", _INPUTS, _BRANCH_INPUTS)
"""The four that upsample by 2 first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvGrid:
    """Scales and zero points of a quantized convolution.

    Attributes:
        x_scale: Width of a step of the input's codes.
        x_zero_point: Input code of 0.
        weight_scale: (F,) float32, width of a step of each filter's weights.
        y_scale: Width of a step of the output's codes.
        y_zero_point: Output code of 0.
    """

    x_scale: np.float32
    x_zero_point: int
    weight_scale: NDArray[np.float32]
    y_scale: np.float32
    y_zero_point: int


def quantized_conv(
    codes: NDArray[np.uint8],
    weight: NDArray[np.int8],
    bias: NDArray[np.int32],
    grid: ConvGrid,
    *,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> NDArray[np.uint8]:
    """Output codes of the convolution, before the branch.

    Args:
        codes: (N, C, H, W) uint8.
        weight: (F, C, kh, kw) int8.
        bias: (F,) int32 on the accumulators' scale.
        grid: Scales and zero points.
        strides: Steps between windows, (vertical, horizontal).
        pads: (top, left, bottom, right) of the zero point, in ONNX's order.

    Returns:
        (N, F, H', W') uint8.

    Raises:
        ValueError: Shapes disagree, the window does not fit, or sums could leave int32.
    """
    sums = conv_accumulate(codes, grid.x_zero_point, weight, strides=strides, pads=pads)
    multiplier = requantize_multiplier(grid.x_scale, grid.weight_scale, grid.y_scale)
    return requantize(sums + bias[:, None, None], multiplier, grid.y_zero_point)


def low_rank_branch(
    x: NDArray[np.floating[Any]],
    down: NDArray[np.float32],
    up: NDArray[np.float32],
    *,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> NDArray[np.float64]:
    """``up (down * x)`` in float64.

    Args:
        x: (N, C, H, W).
        down: (r, C, kh, kw).
        up: (F, r, 1, 1).
        strides: As in :func:`quantized_conv`.
        pads: As there, of zeros.

    Returns:
        (N, F, H', W').
    """
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height, width = (
        (n - k) // s + 1 for n, k, s in zip(padded.shape[2:], down.shape[2:], strides, strict=True)
    )
    first, second = down.astype(np.float64), up[:, :, 0, 0].astype(np.float64)
    y = np.empty((len(x), len(up), height, width))
    for rows in row_blocks(height, down[0].size * width):
        inputs = slice(rows.start * strides[0], (rows.stop - 1) * strides[0] + down.shape[2])
        band = padded[:, :, inputs].astype(np.float64)
        windows = sliding_window_view(band, down.shape[2:], axis=(2, 3))
        windows = windows[:, :, :: strides[0], :: strides[1]]
        low = np.einsum("nchwij,rcij->nrhw", windows, first, optimize=True)
        y[:, :, rows] = np.einsum("nrhw,fr->nfhw", low, second, optimize=True)
    return y


def upsample(x: NDArray[Any]) -> NDArray[Any]:
    """Each pixel of (N, C, H, W) four times, (N, C, 2 H, 2 W): what an upsampling op sees."""
    return x.repeat(2, axis=2).repeat(2, axis=3)


def quantized_conv_node(
    inputs: list[str],
    y: str,
    *,
    kernel_shape: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    top: int,
    name: str,
    upsamples: bool = False,
) -> onnx.NodeProto:
    """The node ``y = QuantizedConv(...)``, or of the variant that has as many inputs.

    Args:
        inputs: Names, in the order of the schema.
        y: Name of the float output.
        kernel_shape: (kh, kw).
        strides: (vertical, horizontal).
        pads: (top, left, bottom, right).
        top: Largest code of the input's grid; ``2**b - 1`` for b bits.
        name: Name of the node.
        upsamples: Whether it is an ``UpsampleQuantizedConv``.

    Raises:
        ValueError: No variant has this number of inputs.
    """
    return onnx.helper.make_node(
        with_inputs(UPSAMPLE_VARIANTS if upsamples else VARIANTS, len(inputs)).name,
        inputs,
        [y],
        name=name,
        domain=DOMAIN,
        kernel_shape=kernel_shape,
        strides=strides,
        pads=pads,
        top=top,
    )


def quantized_conv_schemas() -> tuple[onnx.defs.OpSchema, ...]:
    """The schemas of the ops."""
    plain = tuple(_schema(op, 1) for op in VARIANTS)
    return (*plain, *(_schema(op, 2) for op in UPSAMPLE_VARIANTS))


def _schema(op: Variant, scale: int) -> onnx.defs.OpSchema:
    schema = onnx.defs.OpSchema
    parameter, ints = schema.FormalParameter, schema.AttrType.INTS
    branch = " + up (down * x)" if op.branch else ""
    first = "" if scale == 1 else " Each pixel of codes and of x is seen as four."
    result = schema(
        op.name,
        DOMAIN,
        VERSION,
        "y = s_y (o - z_y)" + branch + ", o = clamp(round(a (s_x s_w / s_y)) + z_y, 0, 255), "
        "a = bias + sum (codes - z_x) * weight." + first,
        inputs=[parameter(*row) for row in op.inputs],
        outputs=[parameter("y", "tensor(float)", "(N, F, H', W')")],
        type_constraints=[("W", list(op.weight_types), "weights, or their high planes")],
        attributes=[
            schema.Attribute("kernel_shape", ints, "(kh, kw), at most 64 taps"),
            schema.Attribute("strides", ints, "(vertical, horizontal)"),
            schema.Attribute("pads", ints, "(top, left, bottom, right)"),
            schema.Attribute("top", schema.AttrType.INT, "largest code of the input"),
        ],
    )
    result.set_type_and_shape_inference_function(partial(_infer, scale=scale))
    return result


def _infer(context: onnx.shape_inference.InferenceContext, scale: int) -> None:
    codes, weight = context.get_input_type(0), context.get_input_type(3)
    image, filters = dims(codes), dims(weight)
    image[2:] = [n * scale if isinstance(n, int) else n for n in image[2:]]
    shape = _shape(context, image, filters) if len(image) == len(filters) == 4 else None
    context.set_output_type(0, onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, shape))


def _shape(
    context: onnx.shape_inference.InferenceContext,
    image: list[int | str | None],
    filters: list[int | str | None],
) -> list[int | str | None]:
    def ints(name: str) -> list[int]:
        attribute = context.get_attribute(name)
        return [] if attribute is None else list(attribute.ints)

    n, _, *sizes = image
    out = [n, filters[0]]
    kernel, strides, pads = ints("kernel_shape"), ints("strides"), ints("pads")
    for i, size in enumerate(sizes):
        if not isinstance(size, int):
            out.append(None)
            continue
        out.append((size + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1)
    return out
