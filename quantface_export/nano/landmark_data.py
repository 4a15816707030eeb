"""Faces with landmarks for training the landmark network, each a function of its number alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.degradation import Degradation, Round, degrade
from calibration.faces import face
from quantface_export.nano.data import HELD_OUT

Image = NDArray[np.uint8]
Points = NDArray[np.float32]

MILD = Degradation(
    first=Round(
        blur=(0.001, 0.012), shrink=(1.0, 2.2), gaussian=(0, 8), poisson=(0, 12), quality=(50, 95)
    ),
    second=Round(
        blur=(0.001, 0.006), shrink=(0.8, 1.3), gaussian=(0, 6), poisson=(0, 8), quality=(60, 95)
    ),
)
"""About as soft and as blocky as a restored face can be."""

_CHUNK = 1 << 20  # faces between two training seeds, as in `quantface_export.nano.data`
_SHARES = (0.35, 0.55, 0.10)  # untouched, mildly degraded, degraded as in training nano
_TURN, _SHIFT, _ZOOM = 0.12, 0.05, 0.1  # largest angle in radians, shift in sides, log of scale

MIRRORED = np.array(
    [
        *range(16, -1, -1),  # jaw
        *range(26, 16, -1),  # brows
        *range(27, 31),  # bridge of the nose
        *range(35, 30, -1),  # under the nose
        *(45, 44, 43, 42, 47, 46),  # left eye
        *(39, 38, 37, 36, 41, 40),  # right eye
        *range(54, 47, -1),  # outer lips, above
        *range(59, 54, -1),  # and below
        *range(64, 59, -1),  # inner lips, above
        *range(67, 64, -1),  # and below
        *(69, 68),  # pupils
    ]
)
"""Landmark k of a mirrored face is landmark ``MIRRORED[k]`` of the face."""


def first_seed(seed: int, count: int) -> int:
    """Seed of the first of ``count`` training faces; the others follow.

    Raises:
        ValueError: The faces would be held-out ones.
    """
    first = seed * _CHUNK
    if not 0 <= first <= first + count <= min(HELD_OUT, first + _CHUNK):
        raise ValueError(
            f"seed must be in 0..{HELD_OUT // _CHUNK - 1} and count at most {_CHUNK}, "
            f"got seed {seed} and {count} faces"
        )
    return first


def render_faces(seeds: Iterable[int], size: int) -> tuple[Image, Points]:
    """Pictures (n, size, size, 3) RGB and landmarks (n, 70, 2) of these face seeds."""
    faces = [face(seed, size) for seed in seeds]
    return np.stack([f.image for f in faces]), np.stack([f.landmarks for f in faces])


def moved(image: Image, points: Points, rng: np.random.Generator) -> tuple[Image, Points]:
    """Turn, shift and scale a face about its middle, and mirror it half of the time."""
    size = image.shape[0]
    if rng.random() < 0.5:
        image, points = np.ascontiguousarray(image[:, ::-1]), points[MIRRORED]
        points = (points * [-1, 1] + [size - 1, 0]).astype(np.float32)
    angle, zoom = rng.uniform(-_TURN, _TURN), np.exp(rng.uniform(-_ZOOM, _ZOOM))
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.full(2, (size - 1) / 2)
    shift = middle - linear @ middle + rng.uniform(-_SHIFT, _SHIFT, 2) * size
    matrix = np.column_stack([linear, shift])
    turned = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    return cast(Image, turned), (points @ linear.T + shift).astype(np.float32)


def example(seed: int, number: int, images: Image, points: Points) -> tuple[Image, Points]:
    """Training example ``number``: a face, moved, recoloured and perhaps degraded."""
    rng = np.random.default_rng([seed, number])
    i = int(rng.integers(len(images)))
    image, at = moved(images[i], points[i], rng)
    image = recoloured(image, rng)
    how = rng.choice(3, p=_SHARES)
    if how:
        image = degrade(image, rng, MILD if how == 1 else Degradation())
    return image, at


def recoloured(image: Image, rng: np.random.Generator) -> Image:
    """Another gamma, gain and offset, each channel with a little of its own."""
    gamma = np.exp(rng.uniform(-0.25, 0.25) + rng.uniform(-0.1, 0.1, 3))
    gain = rng.uniform(0.8, 1.15)
    offset = rng.uniform(-0.06, 0.06)
    table = np.linspace(0, 1, 256)[:, None] ** gamma * gain + offset
    table = np.rint(255 * np.clip(table, 0, 1)).astype(np.uint8)
    return cast(Image, cv2.LUT(image, table[None]))
