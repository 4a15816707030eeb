"""Calibration images: degraded faces, generated or from a folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.degradation import degrade
from calibration.faces import face

Image = NDArray[np.uint8]

CALIBRATION_SEEDS = 2_000_000_000
"""Face seeds of calibration images start here, apart from those of training and testing."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def generated(count: int, size: int, seed: int) -> tuple[list[Image], list[Image]]:
    """Degraded rendered faces and their clean originals.

    Args:
        count: How many.
        size: Pixels per side.
        seed: Chooses faces and degradations.
    """
    rng = np.random.default_rng(seed)
    first = CALIBRATION_SEEDS + seed * 10_000
    clean = [face(first + i, size).image for i in range(count)]
    return [degrade(image, rng) for image in clean], clean


def from_folder(folder: Path, count: int, size: int) -> list[Image]:
    """The first ``count`` images of a folder by name, square-cropped at the centre.

    Raises:
        ValueError: The folder is missing, or holds fewer readable images than ``count``.
    """
    if not folder.is_dir():
        raise ValueError(
            f"calibration folder {folder} does not exist; give a folder of face images"
        )
    images = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        if image is not None:
            images.append(_square(image[..., ::-1].astype(np.uint8), size))
        if len(images) == count:
            return images
    raise ValueError(
        f"calibration folder {folder} holds {len(images)} readable images ({', '.join(SUFFIXES)}), "
        f"expected at least {count}; add images or lower --calib-count"
    )


def _square(image: NDArray[np.uint8], size: int) -> Image:
    side = min(image.shape[:2])
    top, left = ((n - side) // 2 for n in image.shape[:2])
    crop = np.ascontiguousarray(image[top : top + side, left : left + side])
    interpolation = cv2.INTER_AREA if side >= size else cv2.INTER_CUBIC
    return cv2.resize(crop, (size, size), interpolation=interpolation).astype(np.uint8)
