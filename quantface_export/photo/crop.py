"""Cut a square around a face and paste its restored version back without a seam."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from quantface_export.photo.box import Box
from quantface_export.photo.framing import FFHQ_LIFT, FFHQ_MARGIN

ROUNDNESS = 3.0
"""Exponent of the mask's superellipse ``|u|^n + |v|^n = 1``: 2 a circle, large a square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A square of a photograph; it may reach beyond its edges.

    Attributes:
        x: Left edge, pixels, may be negative.
        y: Top edge, pixels, may be negative.
        side: Width and height, pixels.
    """

    x: int
    y: int
    side: int


def frame(box: Box, *, margin: float = FFHQ_MARGIN, lift: float = FFHQ_LIFT) -> Crop:
    """Frame a face as the restorer's training pictures do.

    Args:
        box: The face, brow to chin.
        margin: Side of the crop over the side of the box.
        lift: How far the crop moves up, in sides of the box.
    """
    side = max(2, round(box.side * margin))
    x, y = box.centre
    return Crop(x=round(x - side / 2), y=round(y - lift * box.side - side / 2), side=side)


def resize(rgb: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize (h, w, 3) by area when shrinking and by a cubic when enlarging."""
    if rgb.shape[:2] == (height, width):
        return rgb.copy()
    shrinks = height * width < rgb.shape[0] * rgb.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=method), np.uint8)


def cut(photo: NDArray[np.uint8], crop: Crop, size: int) -> NDArray[np.uint8]:
    """Cut a crop at the model's size; beyond the photograph it is mirrored.

    Args:
        photo: (h, w, 3) RGB.
        crop: The square.
        size: Side of the result, pixels.

    Returns:
        (size, size, 3) RGB.
    """
    rows = _mirrored(crop.y, crop.side, photo.shape[0])
    columns = _mirrored(crop.x, crop.side, photo.shape[1])
    return resize(photo[np.ix_(rows, columns)], size, size)


def mask(side: int, feather: float) -> NDArray[np.float32]:
    """How much of the restored face shows: 1 in the middle, 0 along the edge.

    With ``r = (|u|^n + |v|^n)^(1/n)`` for u, v in [-1, 1], the mask is
    ``3 t^2 - 2 t^3`` of ``t = (1 - r) / feather`` clipped to [0, 1].

    Args:
        side: Pixels.
        feather: Width of the transition, as a part of the half side; in (0, 1].

    Returns:
        (side, side) in [0, 1].

    Raises:
        ValueError: ``feather`` is out of range.
    """
    if not 0 < feather <= 1:
        raise ValueError(f"feather must be in (0, 1], got {feather}")
    line = np.abs((2 * np.arange(side, dtype=np.float32) + 1) / side - 1) ** ROUNDNESS
    radius = (line[:, None] + line) ** (1 / ROUNDNESS)
    t = np.clip((1 - radius) / feather, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def paste(
    photo: NDArray[np.uint8], restored: NDArray[np.uint8], crop: Crop, feather: float = 0.3
) -> NDArray[np.uint8]:
    """Blend a restored face into a photograph.

    ``photo + mask * (restored - photo)``, rounded; where the mask is 0 and outside the
    crop every pixel keeps its exact value.

    Args:
        photo: (h, w, 3) RGB; not changed.
        restored: (s, s, 3) RGB, the crop's restored version at any size.
        crop: Where it was cut; only its part inside the photograph is pasted.
        feather: See ``mask``.

    Returns:
        (h, w, 3) RGB, a new array.
    """
    result = photo.copy()
    height, width = photo.shape[:2]
    top, left = max(0, crop.y), max(0, crop.x)
    bottom, right = min(height, crop.y + crop.side), min(width, crop.x + crop.side)
    if top >= bottom or left >= right:
        return result
    inside = np.s_[top - crop.y : bottom - crop.y, left - crop.x : right - crop.x]
    face = resize(restored, crop.side, crop.side)[inside].astype(np.float32)
    under = photo[top:bottom, left:right].astype(np.float32)
    alpha = mask(crop.side, feather)[inside][..., None]
    blend = np.clip(np.rint(under + alpha * (face - under)), 0, 255)
    result[top:bottom, left:right] = blend.astype(np.uint8)
    return result


def _mirrored(start: int, count: int, length: int) -> NDArray[np.intp]:
    """Indices ``start .. start + count`` folded into ``0 .. length`` (reflect-101)."""
    period = max(1, 2 * (length - 1))
    index = np.arange(start, start + count) % period
    return np.where(index < length, index, period - index)
