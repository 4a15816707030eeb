import numpy as np
import pytest

from onnx_ops.hadamard import factor, rotate, signs
from onnx_ops.hadamard_quantize import hadamard_quantize

EPS = 2.0**-24
GRIDS = [  # zero point, qmin, qmax
    (np.uint8(7), 0, 15),
    (np.uint8(128), 120, 135),
    (np.uint8(0), 0, 255),
    (np.uint8(255), 0, 255),
    (np.int8(0), -8, 7),
    (np.int8(-3), -128, 127),
]
SCALE = 0.3


def multiplier(n):
    return (signs(n, 0) * np.random.default_rng(n).uniform(0.5, 2, n)).astype(np.float32)


def given(shape, dtype=np.float32):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def assert_codes(codes, x, d, axis, zero_point, qmin, qmax, terms, *, channels_last=False):
    """Equal to the definition in float64, or next to a tie within the stated float error."""
    grid = {"axis": axis, "qmin": qmin, "qmax": qmax, "channels_last": channels_last}
    wide = x.astype(np.float64)
    expected = hadamard_quantize(wide, d, SCALE, zero_point, **grid)
    assert codes.dtype == zero_point.dtype
    assert codes.shape == expected.shape
    scale, n = np.float64(np.float32(SCALE)), x.shape[axis]
    steps = np.moveaxis(rotate(wide, d, axis) / scale, axis, -1)
    size = np.moveaxis(np.abs(wide), axis, -1) @ np.abs(d).astype(np.float64)[:, None]
    bound = (terms + 3) * EPS * size / (np.sqrt(n) * scale)
    tied = np.abs(steps - np.floor(steps) - 0.5) <= bound
    if not (channels_last or axis == -1):
        tied = np.moveaxis(tied, -1, 1)
    difference = np.abs(codes.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert not np.any(difference[~tied])


def additions(n):
    m, p = factor(n)
    return (m // 4 + 1 if m > 1 else 0) + p.bit_length() - 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("n", [1, 12, 20, 60, 64, 128, 320, 512, 960])
def test_codes_equal_the_definition_on_every_instruction_set(n, dtype, ops, every_isa):
    d = multiplier(n)
    cases = [((2, n, 3, 5), 1, False), ((1, n, 19, 17), 1, True), ((2, 9, n), -1, False)]
    for (shape, axis, last), (zero, qmin, qmax) in zip(cases * 2, GRIDS, strict=True):
        x = given(shape, dtype)
        model = ops.quantize_model(x, d, SCALE, zero, axis, qmin, qmax, channels_last=last)
        results = every_isa(model, x)
        for codes in results:
            np.testing.assert_array_equal(codes, results[0])
        assert_codes(results[0], x, d, axis, zero, qmin, qmax, additions(n), channels_last=last)


@pytest.mark.parametrize(("zero_point", "qmin", "qmax"), GRIDS, ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize(("n", "side"), [(128, 70), (128, 91), (80, 70)])  # 256 and 512 pixels
def test_wide_tiles(zero_point, qmin, qmax, last, n, side, ops, every_isa):
    x, d = given((1, n, side, side)), multiplier(n)
    model = ops.quantize_model(x, d, SCALE, zero_point, 1, qmin, qmax, channels_last=last)
    for codes in every_isa(model, x):
        assert_codes(codes, x, d, 1, zero_point, qmin, qmax, additions(n), channels_last=last)


def test_codes_that_are_written_past_the_caches(ops, every_isa):
    x, d = given((1, 64, 256, 257)), multiplier(64)  # 2**22 codes and more; rows not aligned
    model = ops.quantize_model(x, d, SCALE, np.uint8(7), 1, 0, 15)
    for codes in (*every_isa(model, x), ops.run(model, x, threads=3)):
        assert_codes(codes, x, d, 1, np.uint8(7), 0, 15, additions(64))


@pytest.mark.parametrize("zero_point", [np.uint8(8), np.uint8(9), np.int8(0), np.int8(-1)])
def test_ties_round_to_even(zero_point, ops, every_isa):
    steps = (np.arange(-6, 6) + 0.5).astype(np.float32)  # exact halves: order 1, scale 1
    x = steps[:, None]
    low = -16 if zero_point.dtype == np.int8 else 0
    model = ops.quantize_model(x, np.ones(1, np.float32), 1, zero_point, -1, low, 15)
    expected = np.clip(np.rint(steps) + int(zero_point), low, 15)
    for codes in every_isa(model, x):
        np.testing.assert_array_equal(codes[:, 0], expected)


def test_what_is_not_finite_gets_the_codes_at_the_ends(ops, every_isa):
    x = np.array([[np.nan], [np.inf], [-np.inf], [3e38], [-3e38], [0]], np.float32)
    model = ops.quantize_model(x, np.ones(1, np.float32), 0.01, np.uint8(5), -1, 2, 13)
    for codes in every_isa(model, x):
        np.testing.assert_array_equal(codes[:, 0], [2, 13, 2, 13, 2, 5])


@pytest.mark.parametrize("native", [True, False], ids=["kernel", "body"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("zero_point", [np.uint8(8), np.int8(-3)], ids=["uint8", "int8"])
@pytest.mark.parametrize(
    ("shape", "axis", "last"),
    [((2, 40, 3, 5), 1, False), ((2, 40, 3, 5), 1, True), ((2, 7, 40), -1, False)],
    ids=str,
)
def test_one_model_runs_with_the_kernel_and_without(
    shape, axis, last, zero_point, dtype, native, ops
):
    qmin, qmax = (-8, 7) if zero_point.dtype == np.int8 else (0, 15)
    x, d = given(shape, dtype), multiplier(40)
    model = ops.quantize_model(x, d, SCALE, zero_point, axis, qmin, qmax, channels_last=last)
    session = ops.session(model, native=native)
    (codes,) = session.run(None, {"x": x})
    assert_codes(codes, x, d, axis, zero_point, qmin, qmax, 40, channels_last=last)


@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "NHWC"])
def test_every_number_of_threads_gives_the_same_codes(last, ops):
    x, d = given((2, 320, 30, 30)), multiplier(320)
    model = ops.quantize_model(x, d, SCALE, np.uint8(7), 1, 0, 15, channels_last=last)
    one, two, five = (ops.run(model, x, threads=threads) for threads in (1, 2, 5))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, five)
