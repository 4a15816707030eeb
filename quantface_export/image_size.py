"""Width and height of the images that a bundle takes. Never imports torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quantface_export.errors import QuantfaceError


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSize:
    """Pixels."""

    width: int
    height: int

    @property
    def longer(self) -> int:
        """The longer side."""
        return max(self.width, self.height)

    @property
    def square(self) -> bool:
        """Whether both sides are equal."""
        return self.width == self.height

    def __str__(self) -> str:
        return f"{self.width}" if self.square else f"{self.width}x{self.height}"


def read_size(text: str) -> ImageSize:
    """``512`` for a square, or ``512x768``, width first.

    Raises:
        QuantfaceError: It is neither.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if match is None:
        raise QuantfaceError(f"--size must be a side or WIDTHxHEIGHT in pixels, got {text!r}")
    width, height = match.groups()
    return ImageSize(width=int(width), height=int(height or width))
