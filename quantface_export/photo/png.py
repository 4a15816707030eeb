"""Walk a PNG from chunk to chunk (W3C PNG, third edition, section 5)."""

from __future__ import annotations

import struct
import zlib

from quantface_export.photo.errors import ImageError
from quantface_export.photo.exif import orientation
from quantface_export.photo.header import Header

MAGIC = b"\x89PNG\r\n\x1a\n"
CRITICAL = frozenset((b"IHDR", b"PLTE", b"IDAT", b"IEND"))


def png_header(data: bytes) -> Header:
    """Read size, orientation and completeness; checksums of critical chunks included.

    Args:
        data: The whole file.

    Raises:
        ImageError: The file does not begin with an image header.
    """
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise ImageError(
            "is a damaged PNG: it does not begin with an image header (IHDR); "
            "copy or download the file again"
        )
    width, height = struct.unpack_from(">II", data, 16)
    turn = 1
    fault: str | None = "it stops before its end chunk (IEND)"
    position = len(MAGIC)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        if kind in CRITICAL:
            (stored,) = struct.unpack_from(">I", data, end)
            actual = zlib.crc32(memoryview(data)[position + 4 : end])
            if stored != actual:
                name = kind.decode("ascii")
                fault = f"the {name} chunk has checksum {actual:08x}, expected {stored:08x}"
                break
        if kind == b"eXIf":
            turn = orientation(data[position + 8 : end])
        elif kind == b"IEND":
            fault = None
            break
        position = end + 4
    return Header(format="PNG", width=width, height=height, orientation=turn, fault=fault)
