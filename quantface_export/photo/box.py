"""Where a face is in a photograph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A square around a face, brow to chin; it may reach beyond the photograph.

    Attributes:
        x: Left edge, pixels.
        y: Top edge, pixels.
        side: Width and height, pixels.
        score: The detector's certainty; comparable only within one detector.
    """

    x: int
    y: int
    side: int
    score: float

    @property
    def area(self) -> int:
        """Square pixels."""
        return self.side**2

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""
        return self.x + self.side / 2, self.y + self.side / 2


def shared(a: Box, b: Box) -> float:
    """Shared area over the smaller box's area: 1 where one lies inside the other."""
    width = min(a.x + a.side, b.x + b.side) - max(a.x, b.x)
    height = min(a.y + a.side, b.y + b.side) - max(a.y, b.y)
    return max(0, width) * max(0, height) / min(a.area, b.area)


def overlap(a: Box, b: Box) -> float:
    """Shared area over united area, 0..1."""
    common = shared(a, b) * min(a.area, b.area)
    return common / (a.area + b.area - common)


def suppress(boxes: Iterable[Box], *, limit: float) -> list[Box]:
    """Keep the best box of each face (greedy non-maximum suppression).

    Args:
        boxes: Candidates in any order.
        limit: A box that shares more than this part of itself, or of a better box,
            with that better box is the same face. In (0, 1).

    Returns:
        The kept boxes, largest first.
    """
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: (-box.score, -box.area, box.x, box.y)):
        if all(shared(box, better) <= limit for better in kept):
            kept.append(box)
    return sorted(kept, key=lambda box: (-box.area, box.y, box.x))
