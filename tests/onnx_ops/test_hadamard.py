import numpy as np
import pytest

from onnx_ops.hadamard import (
    SEED_ORDERS,
    factor,
    matrix,
    paley,
    rotate,
    rotate_weight,
    signs,
    sylvester,
)

STABLE_DIFFUSION = {320: 20, 640: 20, 960: 60, 1280: 20, 1920: 60, 2560: 20, 128: 1, 512: 1}
ORDERS = [1, 2, 12, 20, 24, 40, 60, 64, 320, 960]


def rotation_bound(n, dtype, d, x, axis):
    """Bound on the rounding error of n-term sums of +-d x / sqrt(n), one bound per sum.

    At most m + p additions follow one product, with two more roundings for 1 / sqrt(n).
    """
    m, p = factor(n)
    magnitudes = np.abs(np.moveaxis(x, axis, -1).astype(np.float64) * d)
    sums = magnitudes.sum(-1, keepdims=True) / np.sqrt(n)
    bound = (m + p + 3) * np.finfo(dtype).eps * np.broadcast_to(sums, magnitudes.shape)
    return np.moveaxis(bound, -1, axis)


@pytest.mark.parametrize("m", SEED_ORDERS)
def test_paley_seed_is_hadamard(m):
    h = paley(m).astype(int)
    np.testing.assert_array_equal(np.abs(h), 1)
    np.testing.assert_array_equal(h @ h.T, m * np.eye(m, dtype=int))


@pytest.mark.parametrize("m", SEED_ORDERS[1:])
def test_paley_seed_is_not_symmetric(m):
    assert not np.array_equal(paley(m), paley(m).T)


@pytest.mark.parametrize("p", [1, 2, 16, 128])
def test_sylvester_is_parity_of_common_bits(p):
    expected = [[(-1) ** (i & j).bit_count() for j in range(p)] for i in range(p)]
    np.testing.assert_array_equal(sylvester(p), expected)


@pytest.mark.parametrize(("n", "m"), STABLE_DIFFUSION.items())
def test_factor_of_stable_diffusion_channels(n, m):
    assert factor(n) == (m, n // m)


def test_factor_families_are_disjoint():
    products = [m << k for m in SEED_ORDERS for k in range(12)]
    assert len(products) == len(set(products))
    for n in products:
        m, p = factor(n)
        assert m * p == n


@pytest.mark.parametrize("n", [-4, 0, 3, 7, 28, 100])
def test_factor_without_a_construction_names_the_order(n):
    with pytest.raises(ValueError, match=rf"order {n} .*20 \* 2\*\*k"):
        factor(n)


@pytest.mark.parametrize("n", ORDERS)
def test_matrix_is_orthogonal(n):
    r = matrix(n).astype(np.float64)
    # Entries carry one float32 rounding each, so a product of two rows of norm 1 carries two.
    np.testing.assert_allclose(r @ r.T, np.eye(n), rtol=0, atol=2 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("n", ORDERS)
def test_rotate_matches_dense(n, axis, dtype):
    rng = np.random.default_rng(n)
    shape = (2, n, 3, 1) if axis == 1 else (2, 3, n)
    x = rng.standard_normal(shape).astype(dtype)
    d = (signs(n, 1) * rng.uniform(0.5, 2, n)).astype(np.float32)
    m, p = factor(n)
    dense = np.kron(paley(m), sylvester(p)) / np.sqrt(n)
    scaled = np.moveaxis(x.astype(np.float64), axis, -1) * d
    expected = np.moveaxis(scaled @ dense.T, -1, axis)

    y = rotate(x, d, axis)

    assert y.shape == x.shape
    assert y.dtype == dtype
    # The float64 reference rounds too: its own n-term sums, hence the second term.
    bound = rotation_bound(n, dtype, d, x, axis) + rotation_bound(n, np.float64, d, x, axis) * n
    assert np.all(np.abs(y - expected) <= bound)


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize(("shape", "axis"), [((8, None, 3, 3), 1), ((None, 8), 0)])
def test_rotated_weight_undoes_rotation(n, shape, axis):
    rng = np.random.default_rng(n)
    w = rng.standard_normal([n if size is None else size for size in shape])
    x = rng.standard_normal((n, 5))
    x_rotated = rotate(x, np.ones(n), 0)

    w_rotated = rotate_weight(w, axis)

    y = np.tensordot(w, x, (axis, 0))
    y_rotated = np.tensordot(w_rotated, x_rotated, (axis, 0))
    scale = np.linalg.norm(w, axis=axis)[..., None] * np.linalg.norm(x, axis=0)
    assert np.all(np.abs(y - y_rotated) <= 4 * n * np.finfo(np.float64).eps * scale)


def test_rotate_spreads_an_outlier_evenly():
    x = np.zeros((1, 320), np.float32)
    x[0, 7] = 320**0.5
    np.testing.assert_array_max_ulp(np.abs(rotate(x, np.ones(320), -1)), np.ones_like(x), 2)


def test_rotate_rejects_a_multiplier_of_another_length():
    with pytest.raises(ValueError, match=r"\(12,\).*\(20,\)"):
        rotate(np.ones((1, 12)), np.ones(20), -1)


def test_rotate_rejects_integers():
    with pytest.raises(TypeError, match="int64"):
        rotate(np.ones((1, 12), np.int64), np.ones(12), -1)


def test_signs_are_seeded_and_balanced():
    s = signs(1280, 5)
    assert s.dtype == np.float32
    np.testing.assert_array_equal(np.abs(s), 1)
    np.testing.assert_array_equal(s, signs(1280, 5))
    assert not np.array_equal(s, signs(1280, 6))
    assert abs(s.sum()) < 4 * 1280**0.5  # four standard deviations


def test_signs_are_stable_across_releases():
    expected = [-1, -1, -1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1]
    np.testing.assert_array_equal(signs(16, 0), expected)
