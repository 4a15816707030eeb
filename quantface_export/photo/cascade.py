"""Find upright frontal faces without a neural network: scikit-image's LBP cascade.

The cascade compares brightness only, so now and then it takes a reflection or a
pattern for a face. Each candidate is therefore looked at again, enlarged, as it is and
mirrored, twice; how persistently it is found then decides, and less is asked of a candidate
that has the colour of skin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray
from skimage.data import lbp_frontal_face_cascade_filename
from skimage.feature import Cascade

from quantface_export.photo.box import Box, overlap

LOOK = 64
"""Pixels a candidate's side is resized to for the second look."""
PERSISTENCE = (1, 4, 8, 12, 16, 24)
"""Overlapping hits asked of the second look, one after the other."""
COLOURLESS = 4.0
"""Mean distance from gray, in Cr and Cb levels, up to which a photograph has no colour."""
REACH = 1.07
"""Side of a brow-to-chin box over that of the cascade's."""
TYPICAL_MEAN = np.array([4.0, -4.0], np.float32)
"""Mean Cr and Cb, less 128, of photographs of people in neutral light."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeDetector:
    """Detector for upright frontal faces.

    Attributes:
        working_side: The photograph's longer side is resized to this many pixels.
        smallest: Smallest face, as a part of the longer side.
        step: Ratio of two successive face sizes, > 1.
        hits: Overlapping hits that make a candidate.
        certain: Persistence, of 48, that is enough for a skin-coloured box.
        certain_gray: The same in a photograph without colour.
        certain_odd: The same for a box of another colour in a colour photograph.
    """

    working_side: int = 720
    smallest: float = 0.05
    step: float = 1.1
    hits: int = 4
    certain: int = 8
    certain_gray: int = 20
    certain_odd: int = 30

    def __call__(self, rgb: NDArray[np.uint8]) -> list[Box]:
        """Find faces in (h, w, 3) RGB; boxes in its pixels, in no order, may overlap."""
        factor = self.working_side / max(rgb.shape[:2])
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        small = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=method)
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        least = max(24, round(self.smallest * self.working_side))
        found = _hits(gray, self.step, least, min(gray.shape), self.hits)
        looks = [
            _look_again(gray, _look_again(gray, box, PERSISTENCE[:2]), PERSISTENCE) for box in found
        ]
        return [
            _brow_to_chin(look, factor)
            for look, needed in zip(looks, self._needed(small, found), strict=True)
            if look.score >= needed
        ]

    def _needed(self, rgb: MatLike, boxes: list[Box]) -> list[int]:
        """The persistence that each box must show, given its colour."""
        chroma = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(np.float32) - 128
        if np.abs(chroma).mean() < COLOURLESS:
            return [self.certain_gray] * len(boxes)
        needed = []
        for box in boxes:
            inside = chroma[box.y : box.y + box.side, box.x : box.x + box.side]
            # A colour cast moves skin out of its range; what the photograph's mean says
            # of the cast moves it back.
            likely = max(_skin(inside), _skin(inside - chroma.mean((0, 1)) + TYPICAL_MEAN))
            needed.append(self.certain if likely > 0.3 else self.certain_odd)
        return needed


def _skin(chroma: NDArray[np.float32]) -> float:
    """Part of (h, w, 2) Cr and Cb, both less 128, that is in the range of human skin."""
    red, blue = chroma[..., 0], chroma[..., 1]
    return float(((red > 5) & (red < 52) & (blue > -51) & (blue < 2)).mean())


@cache
def _cascade() -> Cascade:
    return Cascade(lbp_frontal_face_cascade_filename())  # type: ignore[no-untyped-call]


def _hits(gray: MatLike, step: float, least: int, most: int, neighbours: int) -> list[Box]:
    if most < least:
        return []
    found = _cascade().detect_multi_scale(
        img=gray,
        scale_factor=step,
        step_ratio=1,
        min_size=(least, least),
        max_size=(most, most),
        min_neighbor_number=neighbours,
    )
    return [Box(x=f["c"], y=f["r"], side=f["width"], score=neighbours) for f in found]


def _look_again(gray: MatLike, box: Box, levels: Sequence[int]) -> Box:
    """Score a candidate by how persistently it is found, and average where.

    ``levels`` are the numbers of overlapping hits asked for, one after the other.

    The score is 0, or up to twice the last of ``levels``.
    """
    expected = Box(x=LOOK // 2, y=LOOK // 2, side=LOOK, score=0)
    seen, score = [], 0
    for mirrored, view in enumerate(_views(gray, box)):
        best, reached = expected, 0
        for neighbours in levels:
            hits = _hits(view, 1.1, round(0.7 * LOOK), round(1.45 * LOOK), neighbours)
            hit = max(hits, key=lambda hit: overlap(hit, expected), default=None)
            if hit is None or overlap(hit, expected) <= 0.4:
                break
            best, reached = hit, neighbours
        if reached == 0:
            return replace(box, score=0)
        left = 2 * LOOK - best.x - best.side if mirrored else best.x
        seen.append(replace(best, x=left))
        score += reached
    x, y, side = np.mean([(b.x, b.y, b.side) for b in seen], axis=0) * box.side / LOOK
    corner_x, corner_y = box.x - box.side / 2, box.y - box.side / 2
    return Box(x=round(corner_x + x), y=round(corner_y + y), side=round(side), score=float(score))


def _brow_to_chin(box: Box, factor: float) -> Box:
    """The cascade's box, which ends above the chin, as a ``Box`` of the photograph."""
    side = REACH * box.side
    x, y = (centre - side / 2 for centre in box.centre)
    return Box(x=round(x / factor), y=round(y / factor), side=round(side / factor), score=box.score)


def _views(gray: MatLike, box: Box) -> Iterator[MatLike]:
    """The box with as much again around it, at ``LOOK`` pixels a side, and mirrored."""
    factor = LOOK / box.side
    x, y = box.centre
    move = np.array([[factor, 0, LOOK - factor * x], [0, factor, LOOK - factor * y]])
    view = cv2.warpAffine(gray, move, (2 * LOOK, 2 * LOOK), borderMode=cv2.BORDER_REFLECT_101)
    yield view
    yield np.ascontiguousarray(view[:, ::-1])
