"""Show a photograph before and after, side by side."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from quantface_export.photo.crop import resize

LONGEST_SIDE = 2048
SHORTEST_SIDE = 256


def comparison(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay two pictures side by side with a divider and a label each.

    Args:
        before: (h, w, 3) RGB.
        after: (H, W, 3) RGB; ``before`` is shown at its size.

    Returns:
        (h', 2 w' + divider, 3) RGB with w' and h' those of ``after``, scaled to a
        longer side of 256 to 2048 pixels.
    """
    longer = max(after.shape[:2])
    factor = min(max(longer, SHORTEST_SIDE), LONGEST_SIDE) / longer
    height, width = (max(1, round(factor * side)) for side in after.shape[:2])
    divider = np.full((height, max(2, width // 256), 3), 255, np.uint8)
    left = _labelled(resize(before, width, height), "before")
    right = _labelled(resize(after, width, height), "after")
    return np.hstack([left, divider, right])


def _labelled(picture: NDArray[np.uint8], label: str) -> NDArray[np.uint8]:
    """White letters on a darkened, rounded plate in the lower left corner."""
    height, width = picture.shape[:2]
    text = max(10, round(min(height, width) / 28))
    font, thickness = cv2.FONT_HERSHEY_DUPLEX, max(1, round(text / 16))
    scale = cv2.getFontScaleFromHeight(font, text, thickness)
    (letters, above), below = cv2.getTextSize(label, font, scale, thickness)
    pad = round(0.7 * text)
    x, y = pad, height - pad - above - below - pad
    size = (letters + 2 * pad, above + below + pad)
    if x + size[0] > width or y < 0:
        return picture
    plate = _plate(picture.shape[:2], x, y, *size, radius=size[1] // 2)
    shaded = picture * (1 - 0.6 * plate[..., None])
    ink = np.zeros((height, width), np.uint8)
    origin = (x + pad, y + pad // 2 + above)
    cv2.putText(ink, label, origin, font, scale, 255, thickness, cv2.LINE_AA)
    cover = ink[..., None] / np.float32(255)
    return np.rint(shaded * (1 - cover) + 255 * cover).astype(np.uint8)


def _plate(
    shape: tuple[int, int], x: int, y: int, width: int, height: int, *, radius: int
) -> NDArray[np.float32]:
    """Coverage, 0..1, of a rounded rectangle: its distance to a pixel, clipped."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    across = np.abs(columns - x - width / 2) - (width / 2 - radius)
    down = np.abs(rows - y - height / 2) - (height / 2 - radius)
    distance = np.hypot(np.maximum(across, 0), np.maximum(down, 0)) - radius
    return np.asarray(np.clip(0.5 - distance, 0, 1), np.float32)
