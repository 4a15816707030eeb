import numpy as np
import pytest

from calibration.degradation import Degradation, Round, degrade, gaussian_kernel
from calibration.faces import face

GENTLE = Round(
    blur=(0.0, 0.0), shrink=(1.0, 1.0), gaussian=(0.0, 0.0), poisson_share=0.0, quality=(100, 100)
)


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


@pytest.fixture(scope="module")
def faces():
    return [face(seed).image for seed in range(40)]


def test_equal_generators_give_equal_pictures(faces):
    first, again, other = (degrade(faces[0], np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(float) - other).mean() > 1


def test_mean_psnr_is_that_of_a_bad_but_recognisable_picture(faces):
    degraded = [degrade(clean, np.random.default_rng(k)) for k, clean in enumerate(faces)]
    values = [psnr(clean, bad) for clean, bad in zip(faces, degraded, strict=True)]
    assert 20 < np.mean(values) < 22
    assert min(values) > 15
    assert max(values) < 29


def test_strength_scales_with_the_size():
    means = []
    for size in (128, 256):
        clean = [face(seed, size).image for seed in range(6)]
        means.append(
            np.mean([psnr(c, degrade(c, np.random.default_rng(k))) for k, c in enumerate(clean)])
        )
    assert abs(means[0] - means[1]) < 2.5


@pytest.mark.parametrize("shape", [(128, 128, 3), (96, 130, 3), (12, 12, 3)])
def test_shape_and_type_stay(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    result = degrade(image, np.random.default_rng(0))
    assert result.shape == shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_without_blur_shrinking_and_noise_only_jpeg_remains(faces):
    settings = Degradation(first=GENTLE, second=GENTLE)
    assert psnr(faces[0], degrade(faces[0], np.random.default_rng(0), settings)) > 36


@pytest.mark.parametrize("grey", [0.0, 1.0])
@pytest.mark.parametrize("poisson_share", [0.0, 1.0])
def test_noise_has_the_strength_and_colour_asked_for(poisson_share, grey):
    noisy = Round(
        blur=(0.0, 0.0),
        shrink=(1.0, 1.0),
        gaussian=(12.0, 12.0),
        poisson=(12.0, 12.0),
        poisson_share=poisson_share,
        grey=grey,
        quality=(100, 100),
    )
    level = 128
    flat = np.full((128, 128, 3), level, np.uint8)
    settings = Degradation(first=noisy, second=GENTLE)
    noise = degrade(flat, np.random.default_rng(0), settings).astype(float) - level
    luma = np.array([0.299, 0.587, 0.114])  # JPEG keeps it and halves the rest's resolution
    brightness = (noise @ luma).std()
    single = 12 * (np.sqrt(level / 255) if poisson_share else 1)
    expected = single if grey else single * np.linalg.norm(luma)
    assert brightness == pytest.approx(expected, rel=0.15)
    colour = (noise - noise.mean(axis=2, keepdims=True)).std()
    assert colour < 0.5 if grey else colour > 1.2


@pytest.mark.parametrize("ratio", [1.0, 0.4])
def test_kernel_has_the_moments_asked_for(ratio):
    sigma, angle = 3.0, 0.5
    kernel = gaussian_kernel(sigma=sigma, ratio=ratio, angle=angle)
    radius = kernel.shape[0] // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    assert (kernel * along**2).sum() == pytest.approx(sigma**2, rel=0.05)
    assert (kernel * across**2).sum() == pytest.approx((ratio * sigma) ** 2, rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: degrade(np.zeros((8, 8), np.uint8), np.random.default_rng(0)),
            r"image must be \(h, w, 3\) uint8, got \(8, 8\) uint8",
        ),
        (
            lambda: degrade(np.zeros((16, 16, 3), np.float32), np.random.default_rng(0)),
            r"image must be \(h, w, 3\) uint8, got \(16, 16, 3\) float32",
        ),
        (
            lambda: degrade(np.zeros((11, 16, 3), np.uint8), np.random.default_rng(0)),
            "image must be at least 12 pixels a side, got 11 x 16",
        ),
        (lambda: Round(blur=(0.2, 0.1)), r"blur must be an increasing range .* got \(0.2, 0.1\)"),
        (lambda: Round(quality=(0, 50)), r"quality must be .* in 1.0..100.0, got \(0, 50\)"),
        (lambda: Round(grey=1.5), "grey must be in 0..1, got 1.5"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
