"""NumPy reference of the integer layers, exactly as ONNX Runtime's CPU provider computes them.

A quantized layer is three steps: ``quantize`` its input to uint8 codes, accumulate codes times
int8 weights in int32, and either ``requantize`` to the next layer's codes or multiply by a
float scale. Every function here returns integers, equal to the runtime's bit for bit.

The runtime's own accumulation is exact only within a bound. On x86 CPUs with AVX2 or AVX-512
but no VNNI, its u8 x s8 kernels add each pair of products in int16 with saturation, so every
pair must satisfy ``2 * max|code| * max|weight| <= 32767``: with 8-bit codes, |weight| <= 64.
Larger weights saturate silently on those CPUs. The codes count as stored, before the zero
point is subtracted.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SAFE_WEIGHT: Final = 64
"""Largest |weight| whose pair sums with codes up to 255 stay in int16 on every CPU."""

_COLUMN_VALUES: Final = 1 << 22
"""Values in one block of unfolded columns: 16 MiB in float32."""


def quantize(
    x: NDArray[np.float32] | NDArray[np.float64],
    scale: float | np.float32,
    zero_point: int,
    qmin: int = 0,
    qmax: int = 255,
) -> NDArray[np.uint8]:
    """Codes ``clip(round(x / scale) + zero_point, qmin, qmax)``, ties to even (eq. 4).

    Args:
        x: Any shape; the division is done in its dtype, as QuantizeLinear does in float32.
        scale: Width of one step, rounded to float32 first.
        zero_point: Code of 0.
        qmin: Smallest code of the grid; the grid of b bits has ``2**b`` codes.
        qmax: Largest code of the grid.

    Returns:
        The shape of x, uint8.

    Raises:
        ValueError: the grid or the zero point leaves 0..255, or scale is not positive.
    """
    if not (0 <= qmin <= qmax <= 255 and 0 <= zero_point <= 255):
        raise ValueError(
            "need 0 <= qmin <= qmax <= 255 and 0 <= zero_point <= 255, "
            f"got qmin {qmin}, qmax {qmax}, zero_point {zero_point}"
        )
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    steps = np.rint(x / x.dtype.type(np.float32(scale)))
    codes = np.clip(steps, qmin - zero_point, qmax - zero_point) + zero_point
    return np.asarray(codes, np.uint8)


def conv_accumulate(
    codes: NDArray[np.uint8],
    zero_point: int,
    weight: NDArray[np.int8],
    *,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilations: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> NDArray[np.int32]:
    """Accumulators of a quantized convolution, ``sum (codes - zero_point) * weight``.

    Padding holds the zero point, so it adds nothing. The products run through float BLAS,
    exactly: in float32 while the sums stay below 2**24, else in float64.

    Args:
        codes: (N, C, H, W) uint8.
        zero_point: Code of 0.
        weight: (F, C / groups, kh, kw) int8.
        strides: Steps between windows, (vertical, horizontal).
        pads: (top, left, bottom, right), in ONNX's order.
        dilations: Steps between taps, (vertical, horizontal).
        groups: Number of independent blocks of channels.

    Returns:
        (N, F, H', W') int32.

    Raises:
        ValueError: channels, groups and weight disagree, the window does not fit the padded
            input, or the sums could leave int32.
    """
    batch, channels, _, _ = codes.shape
    filters, group_channels, kh, kw = weight.shape
    if channels != groups * group_channels or filters % groups:
        raise ValueError(
            f"{groups} groups of {group_channels} channels and {filters} filters do not match "
            f"codes {codes.shape} and weight {weight.shape}"
        )
    top, left, bottom, right = pads
    padded = np.pad(
        codes, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=zero_point
    )
    window = (dilations[0] * (kh - 1) + 1, dilations[1] * (kw - 1) + 1)
    if padded.shape[2] < window[0] or padded.shape[3] < window[1]:
        raise ValueError(f"window {window} does not fit the padded input {padded.shape[2:]}")
    windows = sliding_window_view(padded, window, axis=(2, 3))[
        :, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]
    ]  # (N, C, H', W', kh, kw), a view
    out_h, out_w = windows.shape[2:4]
    depth = group_channels * kh * kw
    dtype = _exact_dtype(codes, zero_point, weight, depth)
    matrix = weight.reshape(groups, filters // groups, depth).astype(dtype)
    result = np.empty((batch, groups, filters // groups, out_h, out_w), np.int32)
    for n in range(batch):
        for g in range(groups):
            block = windows[n, g * group_channels : (g + 1) * group_channels]
            for rows in row_blocks(out_h, depth * out_w):
                taps = block[:, rows].transpose(0, 3, 4, 1, 2)
                columns = taps.astype(dtype, order="C").reshape(depth, -1)
                columns -= zero_point
                result[n, g, :, rows] = (matrix[g] @ columns).reshape(-1, taps.shape[3], out_w)
    return result.reshape(batch, filters, out_h, out_w)


def matmul_accumulate(
    codes: NDArray[np.uint8], zero_point: int, weight: NDArray[np.int8]
) -> NDArray[np.int32]:
    """Accumulators of a quantized linear layer, ``(codes - zero_point) @ weight``.

    Args:
        codes: (..., K) uint8.
        zero_point: Code of 0.
        weight: (K, N) int8.

    Returns:
        (..., N) int32.

    Raises:
        ValueError: the two K differ, or the sums could leave int32.
    """
    depth, columns = weight.shape
    if codes.shape[-1] != depth:
        raise ValueError(f"codes {codes.shape} and weight {weight.shape} differ in K")
    dtype = _exact_dtype(codes, zero_point, weight, depth)
    matrix = weight.astype(dtype)
    flat = codes.reshape(-1, depth)
    result = np.empty((len(flat), columns), np.int32)
    for rows in row_blocks(len(flat), depth + columns):
        result[rows] = (flat[rows].astype(dtype) - dtype.type(zero_point)) @ matrix
    return result.reshape(*codes.shape[:-1], columns)


def requantize_multiplier(
    x_scale: float | np.float32,
    w_scale: NDArray[np.float32],
    y_scale: float | np.float32,
) -> NDArray[np.float32]:
    """QLinearConv's ``(x_scale * w_scale) / y_scale``, each operation rounded to float32.

    Args:
        x_scale: Scale of the input's codes.
        w_scale: (F,) float32, scale of each output channel's weights.
        y_scale: Scale of the output's codes.

    Returns:
        (F,) float32.
    """
    scales = np.float32(x_scale) * w_scale.astype(np.float32)
    return np.asarray(scales / np.float32(y_scale), np.float32)


def requantize(
    acc: NDArray[np.int32],
    multiplier: NDArray[np.float32],
    zero_point: int,
    axis: int = 1,
) -> NDArray[np.uint8]:
    """Output codes of QLinearConv, ``saturate(round(float32(acc) * multiplier) + zero_point)``.

    The order is the runtime's: the int32 bias is added to the accumulator before it becomes
    float32, one float32 product follows, ties round to even, and the zero point is added as
    an integer.

    Args:
        acc: Accumulators with the bias added, channels at ``axis``.
        multiplier: (F,) float32 from ``requantize_multiplier``.
        zero_point: Code of 0 in the output.
        axis: Position of the channels.

    Returns:
        The shape of acc, uint8.

    Raises:
        ValueError: multiplier is not (F,) or not float32, or acc is not int32.
    """
    if acc.dtype != np.int32 or multiplier.dtype != np.float32:
        raise ValueError(
            f"need acc int32 and multiplier float32, got {acc.dtype} and {multiplier.dtype}"
        )
    if multiplier.shape != (acc.shape[axis],):
        raise ValueError(
            f"multiplier must be ({acc.shape[axis]},), one per channel, got {multiplier.shape}"
        )
    channels_last = np.moveaxis(acc, axis, -1).astype(np.float32)
    steps = np.rint(channels_last * multiplier)
    codes = np.clip(steps, -zero_point, 255 - zero_point) + np.float32(zero_point)
    return np.ascontiguousarray(np.moveaxis(codes.astype(np.uint8), -1, axis))


def _exact_dtype(
    codes: NDArray[np.uint8], zero_point: int, weight: NDArray[np.int8], depth: int
) -> np.dtype[np.floating[Any]]:
    """The narrowest float dtype in which every partial sum of the products is an integer."""
    if codes.size == 0 or weight.size == 0:
        return np.dtype(np.float32)
    code = max(abs(int(codes.max()) - zero_point), abs(int(codes.min()) - zero_point))
    bound = depth * code * int(np.abs(weight.astype(np.int16)).max())
    if bound >= 2**31:
        raise ValueError(f"sums of {depth} products reach {bound}, beyond int32")
    return np.dtype(np.float32) if bound < 2**24 else np.dtype(np.float64)


def row_blocks(rows: int, values_per_row: int) -> Iterator[slice]:
    """Bands of so many rows that their values fit in memory at once."""
    step = max(1, _COLUMN_VALUES // max(1, values_per_row))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
