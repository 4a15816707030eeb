"""How near restored images are to others: PSNR, SSIM, the Frechet distance, and how sure that is.

Images are (N, 3, s, s) float in [0, 1] throughout, as the models give them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Images = NDArray[np.floating]
Values = NDArray[np.float64]

RESAMPLES = 2000
"""Bootstrap samples of a mean."""

FRECHET_RESAMPLES = 200
"""Bootstrap samples of a Frechet distance, each of which takes a singular value decomposition."""


def psnr(images: Images, reference: Images) -> Values:
    """Peak signal-to-noise ratio, ``10 log10(1 / mean((a - b)^2))``.

    Returns:
        (N,) dB, infinite where two images are equal.

    Raises:
        ValueError: The shapes differ, or are not (N, 3, s, s).
    """
    _require_alike(images, reference)
    error = (images.astype(np.float64) - reference.astype(np.float64)) ** 2
    with np.errstate(divide="ignore"):
        return np.asarray(-10 * np.log10(error.mean(axis=(1, 2, 3))), np.float64)


def ssim(images: Images, reference: Images) -> Values:
    """Structural similarity with the Gaussian window of Wang et al. (IEEE TIP 2004), sigma 1.5.

    Returns:
        (N,) in -1..1, mean over channels.

    Raises:
        ValueError: The shapes differ, or are not (N, 3, s, s).
    """
    _require_alike(images, reference)
    settings: dict[str, Any] = {
        "channel_axis": 0,
        "data_range": 1.0,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
    }
    pairs = zip(images.astype(np.float64), reference.astype(np.float64), strict=True)
    return np.array(
        [structural_similarity(a, b, **settings) for a, b in pairs]  # type: ignore[no-untyped-call]
    )


def frechet(rows: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Frechet distance of the Gaussians fitted to two sets of feature rows.

        d = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

    (Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017). With
    centred rows A of n - 1 times the covariance ``A^T A``, the last trace is the sum of the
    singular values of ``A1 A2^T / sqrt((n1 - 1)(n2 - 1))``. So no matrix root is taken, and
    covariances without full rank (fewer images than features) need no regularization.

    Args:
        rows: (n1, d) with n1 >= 2.
        reference: (n2, d) with n2 >= 2.

    Raises:
        ValueError: Fewer than two rows, or another number of features.
    """
    a, b = (np.asarray(x, np.float64) for x in (rows, reference))
    if a.ndim != 2 or a.shape[1:] != b.shape[1:] or min(len(a), len(b)) < 2:
        raise ValueError(f"expected (n >= 2, d) rows with one d, got {a.shape} and {b.shape}")
    offset = ((a.mean(0) - b.mean(0)) ** 2).sum()
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b))
    # Only A^T A counts, so A may be replaced by the R of A = QR, which is smaller where A is tall.
    a, b = (np.asarray(np.linalg.qr(x, mode="r"), np.float64) for x in (a, b))
    spread = (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(offset + spread))


def bootstrap_ci(values: Values, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron & Tibshirani 1993, chapter 13).

    Args:
        values: (N,), one per image; infinite ones give infinite ends.
        seed: Of the 2000 resamples.
        level: Share of the resampled means that lies within.

    Raises:
        ValueError: No values, or a level outside 0..1.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must be (N,) with N >= 1, got {values.shape}")
    chosen = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    return _middle(values[chosen].mean(axis=1), level)


def frechet_ci(
    rows: NDArray[np.floating], reference: NDArray[np.floating], seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval of the Frechet distance of images in pairs, resampled together.

    Repeated images lower the rank of a resample's covariances, which shifts its distance; the
    interval is moved back by that shift, the mean of the resamples less the distance.

    Args:
        rows: (N, d).
        reference: (N, d), row i of the image that belongs to row i of ``rows``.
        seed: Of the 200 resamples.
        level: Share of the resampled distances that lies within.

    Raises:
        ValueError: Different shapes, fewer than two rows, or a level outside 0..1.
    """
    if rows.shape != reference.shape:
        raise ValueError(f"rows must come in pairs, got {rows.shape} and {reference.shape}")
    value, rng = frechet(rows, reference), np.random.default_rng(seed)
    chosen = rng.integers(len(rows), size=(FRECHET_RESAMPLES, len(rows)))
    found = np.array([frechet(rows[i], reference[i]) for i in chosen])
    low, high = _middle(found - (found.mean() - value), level)
    return max(0.0, low), high


def _middle(found: Values, level: float) -> tuple[float, float]:
    """The two order statistics that enclose the middle share of the values."""
    if not 0 < level < 1:
        raise ValueError(f"level must be within 0..1, got {level}")
    ordered = np.sort(found)
    outside = int((1 - level) / 2 * len(ordered))
    return float(ordered[outside]), float(ordered[-1 - outside])


def _require_alike(images: Images, reference: Images) -> None:
    if images.shape != reference.shape or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"expected two sets of images (N, 3, s, s), got {images.shape} and {reference.shape}"
        )
