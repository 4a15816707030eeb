"""Walk a JPEG from marker to marker (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct

from quantface_export.photo.errors import ImageError
from quantface_export.photo.exif import orientation
from quantface_export.photo.header import Header

MAGIC = b"\xff\xd8\xff"
EXIF = b"Exif\0\0"
# A marker is FF and a byte that is neither stuffing (00), a fill (FF) nor a restart (D0..D7).
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START, END, SCAN, APP1 = 0xD8, 0xD9, 0xDA, 0xE1


def jpeg_header(data: bytes) -> Header:
    """Read size, orientation and completeness.

    Anything after the end marker is left alone: phones append previews and video there.

    Args:
        data: The whole file.

    Raises:
        ImageError: No frame header says how large the picture is.
    """
    width = height = 0
    turn, scans = 1, 0
    fault: str | None = "it stops before its end-of-image marker"
    position = len(MAGIC) - 1
    while (found := MARKER.search(data, position)) is not None:
        marker, position = found[1][0], found.end()
        if marker == END:
            fault = None if scans else "it ends before any picture data"
            break
        if marker in (START, 0x01):
            continue
        if position + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, position)
        segment = data[position + 2 : position + length]
        position += length
        if marker in FRAMES and len(segment) >= 5:
            height, width = struct.unpack_from(">xHH", segment)
        elif marker == APP1 and segment.startswith(EXIF):
            turn = orientation(segment[len(EXIF) :])
        elif marker == SCAN:
            scans += 1
    if not (width and height):
        raise ImageError(
            "is a damaged JPEG: it has no frame header with a width and a height; "
            "copy or download the file again"
        )
    return Header(format="JPEG", width=width, height=height, orientation=turn, fault=fault)
