"""A picture sheet like the paper's figure 6: a row per face, a column per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

INK, PAPER = 32, 255
GAP = 6
FONT = cv2.FONT_HERSHEY_SIMPLEX
LETTERS = 16  # height of a capital letter in pixels
SMALLEST_LETTERS = 7
LEADING = 1.7  # from line to line, in heights


def draw_sheet(
    columns: Mapping[str, Image], captions: Sequence[str] = (), *, enlarge: int = 2
) -> Image:
    """Lay out pictures, with the columns' names above and the rows' captions to the left.

    Args:
        columns: Name of each column (a line break starts a second line) to its pictures,
            (n, s, s, 3) RGB, one per face: degraded, fp32, the methods, clean.
        captions: One per face, or none.
        enlarge: Every pixel becomes a square of this side, so that no filter hides anything.

    Returns:
        (h, w, 3) RGB.

    Raises:
        ValueError: No columns, columns of different shapes, or another number of captions.
    """
    shapes = {pictures.shape for pictures in columns.values()}
    if len(shapes) != 1 or len(min(shapes)) != 4:
        raise ValueError(f"columns must hold one shape (n, s, s, 3), got {sorted(shapes)}")
    shape = shapes.pop()
    if captions and len(captions) != shape[0]:
        raise ValueError(f"expected {shape[0]} captions, got {len(captions)}")
    side = shape[2] * enlarge
    lines = max(name.count("\n") + 1 for name in columns)
    above = round((lines + 0.5) * LEADING * LETTERS)
    gutter = max((_width(text, LETTERS) for text in captions), default=0)
    left = gutter + 2 * GAP if captions else GAP
    height = above + shape[0] * (shape[1] * enlarge + GAP)
    width = left + len(columns) * (side + GAP)
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    for j, (name, pictures) in enumerate(columns.items()):
        x = left + j * (side + GAP)
        _write(sheet, name, x, 0, side, above)
        for i, picture in enumerate(pictures):
            large = picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
            y = above + i * (large.shape[0] + GAP)
            sheet[y : y + large.shape[0], x : x + side] = large
    for i, text in enumerate(captions):
        tall = shape[1] * enlarge
        _write(sheet, text, GAP, above + i * (tall + GAP), gutter, tall)
    return sheet


def _write(sheet: Image, text: str, x: int, y: int, width: int, height: int) -> None:
    """Write lines centred in a box, smaller where a line is wider than the box."""
    lines = text.split("\n")
    letters = LETTERS
    while letters > SMALLEST_LETTERS and max(_width(s, letters) for s in lines) > width:
        letters -= 1
    step = LEADING * letters
    baseline = y + (height - step * (len(lines) - 1) + letters) / 2
    for i, line in enumerate(lines):
        start = x + (width - _width(line, letters)) // 2
        at = (max(0, start), round(baseline + i * step))
        scale = cv2.getFontScaleFromHeight(FONT, letters, 1)
        cv2.putText(sheet, line, at, FONT, scale, (INK, INK, INK), 1, cv2.LINE_AA)


def _width(text: str, letters: int) -> int:
    scale = cv2.getFontScaleFromHeight(FONT, letters, 1)
    (width, _), _ = cv2.getTextSize(text, FONT, scale, 1)
    return width
