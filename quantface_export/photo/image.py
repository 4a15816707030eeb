"""Read a photograph file as upright 8-bit RGB, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from quantface_export.photo.errors import ImageError
from quantface_export.photo.exif import upright
from quantface_export.photo.header import Header
from quantface_export.photo.sniff import PREFIX_BYTES, read_header, require_image

LARGEST_FILE = 1 << 30
"""Bytes; 120 megapixels of 16-bit RGBA are 0.9 GiB without any compression."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a JPEG, PNG or WebP.

    Colour, grayscale, palette, 16-bit and transparent files are all taken: 16 bits
    are rounded to 8, transparency is laid on white, and the EXIF orientation is
    applied. Colour profiles are ignored: values are taken as sRGB.

    Args:
        path: The file.

    Returns:
        (h, w, 3) RGB, 0..255, contiguous.

    Raises:
        ImageError: The file is missing, a folder, empty, not an image, damaged or
            truncated, or its size is out of range. One line that begins with the path.
    """
    try:
        data = _bytes(path)
        header = read_header(data)
        header.require_usable()
        return upright(_rgb8(_decode(data, header)), header.orientation)
    except ImageError as error:
        raise ImageError(f"{path} {error}") from None
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError(f"{path} does not fit in memory; shrink the photograph") from error


def _bytes(path: Path) -> bytes:
    if not path.exists():
        raise ImageError("does not exist; check the name")
    if path.is_dir():
        raise ImageError("is a folder; expected one JPEG, PNG or WebP file")
    if not path.is_file():
        raise ImageError("is not a regular file; expected a JPEG, PNG or WebP file")
    size = path.stat().st_size
    if size == 0:
        raise ImageError("is empty (0 bytes); copy or download the file again")
    with path.open("rb") as file:
        require_image(file.read(PREFIX_BYTES))
        if size > LARGEST_FILE:
            raise ImageError(f"is too large: {size >> 20} MiB, expected at most 1024 MiB")
        file.seek(0)
        return file.read()


def _decode(data: bytes, header: Header) -> cv2.typing.MatLike:
    """Decode to what the file stores: (h, w) or (h, w, 3 or 4), BGR, not yet upright."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ImageError(
            f"is a damaged {header.format}: its picture data cannot be decoded; "
            "copy or download the file again"
        )
    if pixels.shape[:2] != (header.height, header.width):
        raise ImageError(
            f"is a damaged {header.format}: decoded {pixels.shape[1]}x{pixels.shape[0]} pixels, "
            f"expected {header.width}x{header.height}; copy or download the file again"
        )
    return pixels


def _rgb8(pixels: cv2.typing.MatLike) -> NDArray[np.uint8]:
    """Stored pixels (see ``_decode``) as (h, w, 3) RGB of 8 bits."""
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8)
    rgb = np.asarray(cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2RGB), np.uint8)
    return rgb if pixels.shape[2] == 3 else _on_white(rgb, pixels[..., 3].astype(np.uint8))


def _on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``rgb * alpha + white * (1 - alpha)``, one channel at a time to spare memory."""
    if alpha.min() == 255:
        return rgb
    paper = 255 * (255 - alpha.astype(np.uint16))
    for channel in range(3):
        mixed = rgb[..., channel] * alpha.astype(np.uint16) + paper
        rgb[..., channel] = (mixed + np.uint16(127)) // np.uint16(255)
    return rgb
