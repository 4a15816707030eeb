"""Write a picture whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from quantface_export.photo.errors import ImageError

ENCODINGS: dict[str, list[int]] = {
    ".png": [],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 95],
}
"""Encoder settings by extension; JPEG keeps full colour resolution (4:4:4)."""
ENCODINGS[".jpeg"] = ENCODINGS[".jpg"]


def write_image(path: Path, rgb: NDArray[np.uint8], *, inputs: Sequence[Path] = ()) -> None:
    """Write a picture in the format its extension names.

    The bytes go to a temporary file in the same folder, which then takes the name:
    ``path`` is at every moment absent, its former self, or complete.

    Args:
        path: Where to; .png, .jpg, .jpeg or .webp. Its folder must exist.
        rgb: (h, w, 3) RGB, 0..255.
        inputs: Files that must not be overwritten, under whatever name.

    Raises:
        ImageError: Unknown extension, one of ``inputs``, a folder, a picture too large
            for the format, or a disk that is full or not writable.
        ValueError: ``rgb`` has another shape or dtype.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected (h, w, 3) uint8, got {rgb.shape} {rgb.dtype}")
    encoding = ENCODINGS.get(path.suffix.lower())
    if encoding is None:
        known = ", ".join(ENCODINGS)
        raise ImageError(f"{path} has extension {path.suffix!r}; expected one of {known}")
    require_not_input(path, inputs)
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name a file to write")
    try:
        written, data = cv2.imencode(path.suffix.lower(), rgb[..., ::-1], encoding)
    except cv2.error:
        written = False
    if not written:
        raise ImageError(
            f"{path} cannot hold {rgb.shape[1]}x{rgb.shape[0]} pixels; write a .png instead"
        )
    try:
        _replace(path, data)
    except OSError as error:
        raise ImageError(
            f"{path} cannot be written: {error.strerror or error}; "
            "free some space or name another folder"
        ) from error


def require_not_input(path: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output that is one of the inputs, also through a link.

    Raises:
        ImageError: It is.
    """
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise ImageError(f"{path} is an input and is not overwritten; name another output")


def _replace(path: Path, data: NDArray[np.uint8]) -> None:
    temporary = path.with_name(f".quantface-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data.data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
