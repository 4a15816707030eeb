"""What an image file says of itself, learned without decoding a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from quantface_export.photo.errors import ImageError

Format = Literal["JPEG", "PNG", "WebP"]

SMALLEST_SIDE = 16
LARGEST_SIDE = 16_384
MOST_PIXELS = 120_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """An image container, walked from its first to its last byte.

    Attributes:
        format: The container.
        width: Stored pixels per row, before any orientation is applied.
        height: Stored rows.
        orientation: EXIF orientation, 1..8; 1 also where the file names none.
        fault: Why the bytes cannot hold the whole picture; None if they can.
    """

    format: Format
    width: int
    height: int
    orientation: int = 1
    fault: str | None = None

    def require_usable(self) -> None:
        """Refuse a picture that is too small, too large or incomplete.

        Raises:
            ImageError: The size is out of range (16x16 to 16384 pixels a side and
                120 megapixels), or ``fault`` is set.
        """
        size = f"{self.width}x{self.height} pixels"
        if min(self.width, self.height) < SMALLEST_SIDE:
            raise ImageError(
                f"is too small: {size}, expected at least {SMALLEST_SIDE}x{SMALLEST_SIDE}; "
                "use a larger copy of the photograph"
            )
        if max(self.width, self.height) > LARGEST_SIDE:
            raise ImageError(
                f"is too large: {size}, expected at most {LARGEST_SIDE} a side; "
                "crop or shrink the photograph first"
            )
        if self.width * self.height > MOST_PIXELS:
            raise ImageError(
                f"is too large: {size} ({self.width * self.height / 1e6:.0f} megapixels), "
                f"expected at most {MOST_PIXELS // 1_000_000} megapixels; "
                "crop or shrink the photograph first"
            )
        if self.fault is not None:
            raise ImageError(
                f"is a damaged or incomplete {self.format}: {self.fault}; "
                "copy or download the file again"
            )
