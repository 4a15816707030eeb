"""Real image files, made byte by byte where an encoder will not make them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from quantface_export.photo.box import Box

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """(512, 512, 3) RGB with one face, eyes near (203, 104) and (248, 104)."""
    return data.astronaut()


@pytest.fixture(scope="session")
def encode() -> Encode:
    """``encode(rgb, ".jpg", orientation=6)``: the bytes of an image file."""
    return _encode


@pytest.fixture(scope="session")
def png_chunk() -> Callable[[bytes, bytes], bytes]:
    """``png_chunk(kind, body)``: a PNG chunk with its length and checksum."""
    return _png_chunk


def _encode(pixels: NDArray, suffix: str, orientation: int | None = None) -> bytes:
    """Encode RGB(A) or gray pixels, lossless where the format can, with an EXIF block."""
    if pixels.ndim == 3:
        code = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        pixels = cv2.cvtColor(pixels, code)
    settings = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 98],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],
    }
    file = cv2.imencode(suffix, pixels, settings.get(suffix, []))[1].tobytes()
    if orientation is None:
        return file
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    if suffix == ".jpg":
        body = b"Exif\0\0" + tiff
        return file[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + file[2:]
    if suffix == ".png":
        return file[:33] + _png_chunk(b"eXIf", tiff) + file[33:]
    height, width = pixels.shape[:2]
    canvas = b"\x08\0\0\0" + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBP" + _riff(b"VP8X", canvas) + file[12:] + _riff(b"EXIF", tiff)
    return _riff(b"RIFF", body)


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.fixture(scope="session")
def crowd(astronaut) -> tuple[NDArray[np.uint8], list[Box]]:
    """A canvas with four pasted faces of several sizes, and where they are."""
    photo = np.full((900, 1400, 3), (120, 130, 140), np.uint8)
    faces = []
    for x, y, factor in [(40, 60, 1.0), (420, 30, 1.6), (980, 300, 1.2), (150, 520, 1.3)]:
        head = astronaut[10:210, 120:330]
        small = cv2.resize(head, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        photo[y : y + small.shape[0], x : x + small.shape[1]] = small
        left, top = x + round((173 - 120) * factor), y + round((61 - 10) * factor)
        faces.append(Box(x=left, y=top, side=round(104 * factor), score=1))
    return photo, faces
