"""The one EXIF tag that changes how a photograph looks: its orientation."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

ORIENTATION_TAG = 0x0112
SHORT = 3


def orientation(tiff: bytes) -> int:
    """Read the orientation from an EXIF block.

    Args:
        tiff: The block, from its byte-order mark ``II`` or ``MM`` on.

    Returns:
        1..8. A block that is malformed or names no orientation counts as 1: a bad
        EXIF block is no reason to refuse a photograph.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(
                f"{order}HHIH", tiff, directory + 2 + 12 * entry
            )
            if tag == ORIENTATION_TAG:
                valid = kind == SHORT and count == 1 and 1 <= value <= 8
                return value if valid else 1
    except struct.error:
        pass
    return 1


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels the way the camera was held.

    Args:
        image: (h, w, c) as stored.
        orientation: 1..8, the EXIF value.

    Returns:
        (h, w, c), or (w, h, c) for orientations 5 to 8; contiguous.

    Raises:
        ValueError: ``orientation`` is not in 1..8.
    """
    if not 1 <= orientation <= 8:
        raise ValueError(f"EXIF orientation must be in 1..8, got {orientation}")
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
