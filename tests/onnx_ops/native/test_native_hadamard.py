import numpy as np
import onnx
import pytest

from onnx_ops.hadamard import factor, rotate, signs

EPS = {np.float32: 2.0**-24, np.float16: 2.0**-11}
SMALLEST_HALF = 2.0**-24
ORDERS = [1, 2, 4, 8, 12, 20, 24, 32, 60, 64, 120, 128, 240, 320, 512, 960, 1280, 2560]
SHAPES = [  # (shape, axis); None is n. Partial tiles, single pixels, more images than pixels.
    ((2, None, 3, 5), 1),
    ((1, None, 19, 17), 1),
    ((3, None), 1),
    ((2, 7, None), -1),
    ((67, None), -1),
    ((None,), -1),
]


def multiplier(n):
    return (signs(n, 0) * np.random.default_rng(n).uniform(0.5, 2, n)).astype(np.float32)


def depth(n):
    """Roundings on the way to one value: the multiplier's two, and one per addition."""
    m, p = factor(n)
    return 2 + (2 + m // 4 - 1 if m > 1 else 0) + p.bit_length() - 1


def tolerance(x, d, axis, dtype, *, transposed=False):
    """Bound of the error from the depth of the sum, for the kernels' order of additions."""
    n = x.shape[axis]
    rows = np.moveaxis(np.abs(x.astype(np.float64)), axis, -1)
    total = (
        rows.sum(-1, keepdims=True) * np.abs(d)
        if transposed
        else (rows * np.abs(d)).sum(-1, keepdims=True)
    )
    bound = (depth(n) + 1) * EPS[np.float32] * total / np.sqrt(n)
    bound = np.moveaxis(np.broadcast_to(bound, rows.shape), -1, axis)
    if dtype == np.float16:
        expected = rotate(x.astype(np.float64), d, axis, transposed=transposed)
        bound = bound + EPS[dtype] * (np.abs(expected) + bound) + SMALLEST_HALF / 2
    return bound


def given(shape, n, dtype):
    shape = [n if size is None else size for size in shape]
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize("n", ORDERS)
def test_rotates_like_the_definition_on_every_instruction_set(n, transposed, dtype, ops, every_isa):
    d = multiplier(n)
    for shape, axis in SHAPES:
        x = given(shape, n, dtype)
        model = ops.hadamard_model(x, d, axis, transposed=transposed)
        results = every_isa(model, x)
        expected = rotate(x.astype(np.float64), d, axis, transposed=transposed)
        error = np.abs(results[0].astype(np.float64) - expected)
        assert results[0].dtype == dtype
        assert results[0].shape == x.shape
        assert np.all(error <= tolerance(x, d, axis, dtype, transposed=transposed))
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("n", [12, 60, 320, 512])
def test_transposed_with_the_reciprocal_multiplier_is_the_inverse(n, axis, ops):
    d = multiplier(n)
    x = given((2, None, 5, 4) if axis == 1 else (3, 7, None), n, np.float32)
    y = ops.run(ops.hadamard_model(x, d, axis), x)
    back = ops.run(ops.hadamard_model(y, (1 / d).astype(np.float32), axis, transposed=True), y)
    first = tolerance(x, d, axis, np.float32)
    second = tolerance(np.abs(y) + first, 1 / d, axis, np.float32, transposed=True)
    carried = np.sqrt(n) * np.max(first) / np.abs(d).min()
    assert np.all(np.abs(back - x) <= second + carried + 2 * EPS[np.float32] * np.abs(x))


@pytest.mark.parametrize("native", [True, False], ids=["kernel", "body"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize(("shape", "axis"), [((2, 240, 3, 5), 1), ((2, 7, 240), -1)], ids=str)
def test_one_model_runs_with_the_kernel_and_without(
    shape, axis, transposed, dtype, native, ops, tmp_path
):
    x, d = given(shape, 240, dtype), multiplier(240)
    model = ops.hadamard_model(x, d, axis, transposed=transposed)
    y = ops.run(model, x, native=native, optimized=tmp_path / "o.onnx")
    expected = rotate(x.astype(np.float64), d, axis, transposed=transposed)
    # The body's sums are of at most m p terms.
    bound = tolerance(x, d, axis, dtype, transposed=transposed) * 240
    assert np.all(np.abs(y.astype(np.float64) - expected) <= bound)
    nodes = {node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node}
    assert ("Hadamard" in nodes) == native


@pytest.mark.parametrize("shape", [(1, 320, 64, 64), (1, 1280, 40, 40), (3, 64, 100)], ids=str)
def test_every_number_of_threads_gives_the_same_bits(shape, ops):
    x, d = given(shape, shape[1], np.float32), multiplier(shape[1])
    model = ops.hadamard_model(x, d, 1)
    one, two, five = (ops.run(model, x, threads=threads) for threads in (1, 2, 5))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, five)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_pixel(value, every_isa, ops):
    x = given((1, 24, 6, 50), 24, np.float32)
    x[0, 5, 2, 7] = value
    for y in every_isa(ops.hadamard_model(x, multiplier(24), 1), x):
        finite = np.isfinite(y).all(axis=1)
        assert finite.sum() == finite.size - 1
        assert not finite[0, 2, 7]
