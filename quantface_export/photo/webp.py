"""Walk a WebP from chunk to chunk (RFC 9649, section 2)."""

from __future__ import annotations

import struct

from quantface_export.photo.errors import ImageError
from quantface_export.photo.exif import orientation
from quantface_export.photo.header import Header

EXIF = b"Exif\0\0"


def is_webp(data: bytes) -> bool:
    """Whether the first 12 bytes are those of a WebP."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def webp_header(data: bytes) -> Header:
    """Read size, orientation and completeness.

    Args:
        data: The whole file.

    Raises:
        ImageError: No chunk says how large the picture is.
    """
    (length,) = struct.unpack_from("<I", data, 4)
    size: tuple[int, int] | None = None
    turn = 1
    position = 12
    while position + 8 <= min(len(data), 8 + length):
        kind, count = struct.unpack_from("<4sI", data, position)
        chunk = data[position + 8 : position + 8 + count]
        size = size or _size(kind, chunk)
        if kind == b"EXIF":
            turn = orientation(chunk.removeprefix(EXIF))
        position += 8 + count + count % 2
    if size is None:
        raise ImageError(
            "is a damaged WebP: no chunk gives its width and height; "
            "copy or download the file again"
        )
    fault = None
    if 8 + length > len(data):
        fault = f"it has {len(data)} bytes, expected {8 + length}"
    return Header(format="WebP", width=size[0], height=size[1], orientation=turn, fault=fault)


def _size(kind: bytes, chunk: bytes) -> tuple[int, int] | None:
    """Width and height out of a chunk that gives them (canvas, lossless or lossy frame)."""
    if kind == b"VP8X" and len(chunk) >= 10:
        width = int.from_bytes(chunk[4:7], "little")
        return 1 + width, 1 + int.from_bytes(chunk[7:10], "little")
    if kind == b"VP8L" and len(chunk) >= 5 and chunk[0] == 0x2F:
        bits = int.from_bytes(chunk[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(chunk) >= 10 and chunk[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", chunk, 6)
        return width & 0x3FFF, height & 0x3FFF
    return None
