"""Two rounds of blur, resizing, noise and JPEG: how photographs of faces lose quality.

The blind-face-restoration pipeline of Real-ESRGAN (Wang et al. 2021, section 3) with its
"second-order" degradation: each round draws its own kernel, size, noise and quality, so the
result shows blur, grain and blocks in every mixture. Lengths are fractions of the picture's
side, so 128 and 512 pixels degrade alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Range = tuple[float, float]

_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_SMALLEST_SIDE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Ranges of one round; every value is drawn uniformly from its range.

    Attributes:
        blur: Standard deviation of the kernel as a fraction of the picture's side.
        anisotropic: Probability that the kernel is an ellipse turned at random.
        shrink: Factor by which the picture gets smaller before the noise, drawn in log scale;
            below 1 it grows.
        gaussian: Standard deviation of the Gaussian noise in grey levels of 255.
        poisson: Strength of the shot noise: grey levels of noise on white.
        poisson_share: Probability that the noise is shot noise rather than Gaussian.
        grey: Probability that the noise is equal in all channels.
        quality: JPEG quality.
    """

    blur: Range = (0.008, 0.036)
    anisotropic: float = 0.5
    shrink: Range = (1.3, 4.5)
    gaussian: Range = (5.0, 36.0)
    poisson: Range = (8.0, 44.0)
    poisson_share: float = 0.4
    grey: float = 0.4
    quality: Range = (25.0, 85.0)

    def __post_init__(self) -> None:
        bounds = {
            "blur": (0.0, 0.5),
            "shrink": (0.25, 32.0),
            "gaussian": (0.0, 255.0),
            "poisson": (0.0, 255.0),
            "quality": (1.0, 100.0),
        }
        for name, (least, most) in bounds.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(
                    f"{name} must be an increasing range in {least}..{most}, got {(low, high)}"
                )
        for name in ("anisotropic", "poisson_share", "grey"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0..1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """The two rounds; the second is milder, as a forwarded picture's is."""

    first: Round = field(default_factory=Round)
    second: Round = field(
        default_factory=lambda: Round(
            blur=(0.002, 0.018), shrink=(0.5, 1.6), gaussian=(4.0, 28.0), poisson=(6.0, 36.0)
        )
    )


def degrade(image: Image, rng: np.random.Generator, settings: Degradation = Degradation()) -> Image:
    """Degrade a picture; its size stays.

    Args:
        image: (h, w, 3) uint8 RGB, at least 12 pixels a side.
        rng: Source of every random choice; equal generators give equal pictures.
        settings: Ranges to draw from.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        ValueError: image has another dtype or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (h, w, 3) uint8, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    if min(height, width) < _SMALLEST_SIDE:
        raise ValueError(f"image must be at least 12 pixels a side, got {height} x {width}")
    for stage in (settings.first, settings.second):
        image = _round(image, rng, stage, height)
    return _resize(image, rng, (height, width))


def _round(image: Image, rng: np.random.Generator, stage: Round, full: int) -> Image:
    """One round on a picture that may be smaller than the original, ``full`` pixels high."""
    scale = image.shape[0] / full
    kernel = gaussian_kernel(
        sigma=rng.uniform(*stage.blur) * full * scale,
        ratio=rng.uniform(0.3, 1.0) if rng.random() < stage.anisotropic else 1.0,
        angle=rng.uniform(0, math.pi),
    )
    blurred = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    least, most = stage.shrink
    factor = math.exp(rng.uniform(math.log(least), math.log(most)))
    height, width = (max(_SMALLEST_SIDE, round(side / factor)) for side in image.shape[:2])
    small = _resize(cast(Image, blurred), rng, (height, width))
    return _jpeg(_noise(small, rng, stage), round(rng.uniform(*stage.quality)))


def gaussian_kernel(*, sigma: float, ratio: float, angle: float) -> NDArray[np.float32]:
    """Normalised elliptic Gaussian, exp(-u^2 / 2 sigma^2 - v^2 / 2 (ratio sigma)^2).

    Args:
        sigma: Standard deviation along the long axis, pixels.
        ratio: Short axis over long axis, 0..1.
        angle: Direction of the long axis, radians.

    Returns:
        (k, k) float32 with odd k that spans 3 sigma either side; sums to 1.
    """
    sigma = max(sigma, 1e-3)
    radius = max(1, math.ceil(3 * sigma))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    kernel = np.exp(-0.5 * ((u / sigma) ** 2 + (v / (ratio * sigma)) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def _resize(image: Image, rng: np.random.Generator, sides: tuple[int, int]) -> Image:
    """Resize to (height, width) with an interpolation drawn at random."""
    how = _INTERPOLATIONS[int(rng.integers(len(_INTERPOLATIONS)))]
    return cast(Image, cv2.resize(image, (sides[1], sides[0]), interpolation=how))


def _noise(image: Image, rng: np.random.Generator, stage: Round) -> Image:
    """Add Gaussian noise of constant strength, or shot noise that grows as sqrt(brightness)."""
    shot = rng.random() < stage.poisson_share
    channels = 1 if rng.random() < stage.grey else 3
    values = image.astype(np.float32)
    if not shot:
        sigma = rng.uniform(*stage.gaussian)
        grain = sigma * rng.standard_normal((*image.shape[:2], channels), np.float32)
    else:
        photons = (255 / max(rng.uniform(*stage.poisson), 1e-2)) ** 2  # on white
        mean = values if channels == 3 else values.mean(axis=2, keepdims=True)
        grain = rng.poisson(mean * (photons / 255)).astype(np.float32) * (255 / photons) - mean
    return np.clip(np.rint(values + grain), 0, 255).astype(np.uint8)


def _jpeg(image: Image, quality: int) -> Image:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"could not encode a {image.shape} picture as JPEG {quality}")
    decoded = cast(Image, cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(decoded[..., ::-1])
