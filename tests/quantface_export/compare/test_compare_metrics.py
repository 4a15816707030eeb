import numpy as np
import pytest

from quantface_export.compare.metrics import bootstrap_ci, frechet, frechet_ci, psnr, ssim

EPS = np.finfo(np.float64).eps


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0.2, 0.8, (3, 3, 32, 32))


def exact_rows(rng, n, mean, spread):
    """Rows whose sample mean and covariance are exactly ``mean`` and ``spread @ spread.T``."""
    d = len(mean)
    raw = rng.standard_normal((n, d))
    basis = np.linalg.qr(raw - raw.mean(0))[0]  # orthonormal, columns sum to 0
    return basis * np.sqrt(n - 1) @ spread.T + mean


def test_psnr_of_a_constant_offset(images):
    np.testing.assert_allclose(psnr(images + 0.1, images), 20, rtol=1e-12)
    np.testing.assert_allclose(psnr(images.astype(np.float32) + 0.01, images), 40, rtol=1e-4)


def test_equal_images(images):
    np.testing.assert_array_equal(psnr(images, images), np.inf)
    np.testing.assert_allclose(ssim(images, images), 1, rtol=1e-12)


def test_ssim_ignores_an_offset_more_than_noise_of_equal_psnr(images):
    noise = np.random.default_rng(1).choice([-0.1, 0.1], images.shape)
    np.testing.assert_allclose(psnr(images + noise, images), psnr(images + 0.1, images))
    assert (ssim(images + 0.1, images) > ssim(images + noise, images) + 0.05).all()


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 32, 32, 3), (2, 3, 32, 32)])
def test_other_shapes_are_refused(metric, shape, images):
    with pytest.raises(ValueError, match="expected two sets of images"):
        metric(np.zeros(shape), images)


@pytest.mark.parametrize(("n", "d"), [(64, 8), (9, 8), (8, 8), (5, 8), (2, 8), (40, 1)])
def test_frechet_of_equal_sets_is_zero(n, d):
    rows = np.random.default_rng(n).standard_normal((n, d))
    assert frechet(rows, rows[::-1]) <= 100 * EPS * (rows**2).sum()


@pytest.mark.parametrize(("n1", "n2"), [(20, 20), (9, 300), (300, 12)])
def test_frechet_of_known_gaussians(n1, n2):
    """With commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    rng = np.random.default_rng(3)
    d = 6
    m1, m2 = rng.standard_normal((2, d))
    s1, s2 = rng.uniform(0.1, 3, (2, d))
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    a = exact_rows(rng, n1, m1, turn * s1)
    b = exact_rows(rng, n2, m2, turn * s2)
    expected = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    np.testing.assert_allclose(frechet(a, b), expected, rtol=1e-10)


@pytest.mark.parametrize("n", [50, 4])
def test_frechet_equals_the_definition(n):
    """Covariances that do not commute; with 4 rows of 7 features they have no full rank."""
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal((n, 7)) @ rng.standard_normal((7, 7)) + k for k in (0, 1))
    c1, c2 = (np.cov(x, rowvar=False) for x in (a, b))
    products = np.linalg.eigvals(c1 @ c2).real.clip(0)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c1 + c2)
    expected -= 2 * np.sqrt(products).sum()
    # The definition takes roots of eigenvalues that are only rounding errors of zero.
    np.testing.assert_allclose(frechet(a, b), expected, rtol=1e-10 if n == 50 else 1e-5)


@pytest.mark.parametrize("shapes", [((1, 3), (4, 3)), ((4, 3), (4, 2)), ((4,), (4,))])
def test_frechet_refuses(shapes):
    with pytest.raises(ValueError, match="expected"):
        frechet(*(np.zeros(shape) for shape in shapes))


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    rng, trials = np.random.default_rng(0), 400
    inside = 0
    for seed in range(trials):
        low, high = bootstrap_ci(rng.gamma(4.0, 0.5, 60), seed)
        inside += low <= 2.0 <= high
    # Three standard errors of a share of 0.95, and some percent that a skewed sample costs.
    assert 0.95 - 0.033 - 0.025 < inside / trials < 0.95 + 0.033


@pytest.mark.parametrize(("level", "quantile"), [(0.95, 1.960), (0.68, 0.994)])
def test_bootstrap_is_as_wide_as_the_central_limit_says(level, quantile):
    values = np.random.default_rng(2).standard_normal(400)
    low, high = bootstrap_ci(values, 0, level)
    expected = 2 * quantile * values.std() / 20
    assert high - low == pytest.approx(expected, rel=0.08)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.1 * expected)


def test_bootstrap_depends_on_its_seed_only():
    values = np.random.default_rng(6).standard_normal(9)
    assert bootstrap_ci(values, 4) == bootstrap_ci(values, 4)
    assert bootstrap_ci(values, 4) != bootstrap_ci(values, 5)


def test_bootstrap_of_infinite_values():
    assert bootstrap_ci(np.full(4, np.inf), 0) == (np.inf, np.inf)
    low, high = bootstrap_ci(np.array([1.0, 2.0, np.inf]), 0)
    assert high == np.inf
    assert 1 <= low <= 2


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros((2, 2))])
def test_bootstrap_refuses(values):
    with pytest.raises(ValueError, match=r"values must be \(N,\)"):
        bootstrap_ci(values, 0)


def test_frechet_interval_encloses_its_value_and_shrinks():
    rng = np.random.default_rng(7)
    a = rng.standard_normal((240, 5))
    b = a + 0.3 * rng.standard_normal((240, 5)) + 0.4
    widths = []
    for n in (15, 60, 240):
        low, high = frechet_ci(a[:n], b[:n], seed=1)
        assert 0 <= low < frechet(a[:n], b[:n]) < high
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
