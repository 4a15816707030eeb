"""Every figure of one method: against the ground truth and against the float32 model's output."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.perceptual import PerceptualDistance
from quantface_export.compare.landmarks import lmd
from quantface_export.compare.metrics import (
    Images,
    Values,
    bootstrap_ci,
    frechet,
    frechet_ci,
    psnr,
    ssim,
)

BATCH = 8

Rows = Callable[[Tensor], Tensor]
"""Images (N, 3, s, s) in [-1, 1] to feature rows (N, d)."""

Regressor = Callable[[Tensor], Tensor]
"""Images (N, 3, s, s) in [-1, 1] to landmarks (N, K, 2) in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value and its 95 % bootstrap interval over images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What there is to say of images against others.

    Attributes:
        psnr_db: Mean peak signal-to-noise ratio.
        ssim: Mean structural similarity, -1..1.
        perceptual: Mean perceptual distance.
        frechet: Frechet distance of the two sets' features.
        lmd: Mean landmark distance, pixels.
    """

    psnr_db: Figure
    ssim: Figure
    perceptual: Figure
    frechet: Figure
    lmd: Figure


KEYS = tuple(Figures.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One method's figures.

    Attributes:
        truth: Against the clean images and their true landmarks.
        fp32: Against what the float32 model gives, and the landmarks found there.
    """

    truth: Figures
    fp32: Figures

    def as_json(self) -> dict[str, Any]:
        """The values by name, those against float32 under ``vs_fp32``, intervals under ``ci95``.

        An infinite PSNR (equal images) is None, as JSON has no infinity.
        """
        sides = {"truth": self.truth, "fp32": self.fp32}
        values = {
            side: {key: _finite(getattr(figures, key).value) for key in KEYS}
            for side, figures in sides.items()
        }
        ends = {
            side: {
                key: [_finite(getattr(figures, key).low), _finite(getattr(figures, key).high)]
                for key in KEYS
            }
            for side, figures in sides.items()
        }
        return {
            **values["truth"],
            "vs_fp32": values["fp32"],
            "ci95": {**ends["truth"], "vs_fp32": ends["fp32"]},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A set of images and what the networks make of them, computed once.

    Attributes:
        images: (N, 3, s, s) in [0, 1].
        normalized: Per batch of images, what `PerceptualDistance.normalized` gives.
        rows: (N, d) features for the Frechet distance.
        landmarks: (N, K, 2) pixels.
    """

    images: Images
    normalized: list[list[Tensor]]
    rows: NDArray[np.float32]
    landmarks: NDArray[np.float32]


class Judge:
    """Scores any number of methods on the same faces; the references are looked at once.

    Args:
        fp32: (N, 3, s, s) in [0, 1], what the float32 model gives.
        clean: (N, 3, s, s) in [0, 1], the ground truth.
        truth_landmarks: (N, K, 2) pixels, of the ground truth.
        distance: Perceptual distance of images in [-1, 1].
        features: For the Frechet distance.
        regressor: Finds the landmarks of restored images.
        seed: Of the bootstrap.
    """

    def __init__(
        self,
        fp32: Images,
        clean: Images,
        truth_landmarks: NDArray[np.floating],
        *,
        distance: PerceptualDistance,
        features: Rows,
        regressor: Regressor,
        seed: int,
    ) -> None:
        self.distance, self.features, self.regressor = distance, features, regressor
        self.seed = seed
        self._clean = self._look(clean, truth_landmarks)
        self._fp32 = self._look(fp32)

    def score(self, restored: Images) -> Scores:
        """The figures of (N, 3, s, s) images in [0, 1].

        Raises:
            ValueError: Another shape than the references'.
        """
        if restored.shape != self._clean.images.shape:
            raise ValueError(
                f"expected {self._clean.images.shape} restored images, got {restored.shape}"
            )
        seen = self._look(restored)
        return Scores(truth=self._figures(seen, self._clean), fp32=self._figures(seen, self._fp32))

    @torch.inference_mode()
    def _look(self, images: Images, landmarks: NDArray[np.floating] | None = None) -> _Seen:
        tensor = torch.from_numpy(np.ascontiguousarray(images, np.float32)) * 2 - 1
        batches = tensor.split(BATCH)
        if landmarks is None:
            landmarks = np.concatenate([self.regressor(x).cpu().numpy() for x in batches])
        return _Seen(
            images=images,
            normalized=[self.distance.normalized(x) for x in batches],
            rows=np.concatenate([self.features(x).cpu().numpy() for x in batches]),
            landmarks=landmarks.astype(np.float32),
        )

    @torch.inference_mode()
    def _figures(self, seen: _Seen, reference: _Seen) -> Figures:
        pairs = zip(seen.normalized, reference.normalized, strict=True)
        perceptual = torch.cat([self.distance.between(a, b) for a, b in pairs])
        low, high = frechet_ci(seen.rows, reference.rows, self.seed)
        return Figures(
            psnr_db=self._mean(psnr(seen.images, reference.images)),
            ssim=self._mean(ssim(seen.images, reference.images)),
            perceptual=self._mean(perceptual.cpu().numpy().astype(np.float64)),
            frechet=Figure(value=frechet(seen.rows, reference.rows), low=low, high=high),
            lmd=self._mean(lmd(seen.landmarks, reference.landmarks)),
        )

    def _mean(self, values: Values) -> Figure:
        low, high = bootstrap_ci(values, self.seed)
        return Figure(value=float(values.mean()), low=low, high=high)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
