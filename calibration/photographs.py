"""Real photographs that ship inside scikit-image's wheel: no download, free licences.

Random crops of them keep a network trained on synthetic faces honest about real texture and
noise. The astronaut is held out: hers is the one real face that restoration is judged on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

Image = NDArray[np.uint8]

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "stereo_motorcycle")
_SMALLEST_CROP = 0.3  # of the photograph's shorter side
_FACE = (137, 26, 176)  # left, top, side of the astronaut's face crop


@lru_cache(maxsize=len(NAMES))
def photograph(name: str) -> Image:
    """A photograph, (h, w, 3) uint8 RGB, read-only.

    Raises:
        ValueError: The name is not in `NAMES`.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    loaded = getattr(data, name)()
    image = np.array(loaded[0] if isinstance(loaded, tuple) else loaded)
    image.flags.writeable = False
    return image


def crops(
    rng: np.random.Generator, size: int, hold_out: tuple[str, ...] = ("astronaut",)
) -> Iterator[Image]:
    """Random square crops without end: photograph, place, scale and mirroring are drawn.

    Args:
        rng: Source of every random choice.
        size: Pixels per side of a crop.
        hold_out: Photographs never to draw from.

    Yields:
        (size, size, 3) uint8 RGB.

    Raises:
        ValueError: size is below 1, or hold_out names an unknown photograph or all of them.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    unknown = sorted(set(hold_out) - set(NAMES))
    if unknown:
        raise ValueError(f"hold_out must name some of {', '.join(NAMES)}, got {', '.join(unknown)}")
    names = [name for name in NAMES if name not in hold_out]
    if not names:
        raise ValueError("hold_out must leave at least one photograph, got all of them")
    return _crops(rng, size, names)


def astronaut_face(size: int = 128) -> Image:
    """The held-out face, framed as the synthetic ones: eyes at 43 % of the height.

    Args:
        size: Pixels per side; the crop has 176 in the photograph.

    Returns:
        (size, size, 3) uint8 RGB.

    Raises:
        ValueError: size is below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    left, top, side = _FACE
    return _fit(photograph("astronaut")[top : top + side, left : left + side], size)


def _crops(rng: np.random.Generator, size: int, names: list[str]) -> Iterator[Image]:
    while True:
        image = photograph(names[int(rng.integers(len(names)))])
        shorter = min(image.shape[:2])
        side = int(shorter * np.exp(rng.uniform(np.log(_SMALLEST_CROP), 0.0)))
        top, left = (int(rng.integers(0, length - side + 1)) for length in image.shape[:2])
        crop = image[top : top + side, left : left + side]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        yield _fit(crop, size)


def _fit(crop: Image, size: int) -> Image:
    smaller = size < crop.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cast(Image, cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=how))
