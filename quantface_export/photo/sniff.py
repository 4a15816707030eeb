"""Tell image formats apart by their first bytes; a file's name is not believed."""

from __future__ import annotations

from quantface_export.photo import jpeg, png, webp
from quantface_export.photo.errors import ImageError
from quantface_export.photo.header import Header

PREFIX_BYTES = 32
"""How much of a file ``require_image`` needs to see."""

_OTHERS = {
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF or camera raw image",
    b"MM\0*": "a TIFF or camera raw image",
    b"8BPS": "a Photoshop document",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a zip archive",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
}
_BRANDS = {
    b"heic": "an HEIC image",
    b"heix": "an HEIC image",
    b"mif1": "an HEIF image",
    b"avif": "an AVIF image",
}


def require_image(prefix: bytes) -> None:
    """Refuse what is not JPEG, PNG or WebP.

    Args:
        prefix: The file's first ``PREFIX_BYTES`` bytes.

    Raises:
        ImageError: It is another format, named where it is a common one.
    """
    if prefix.startswith((jpeg.MAGIC, png.MAGIC)) or webp.is_webp(prefix):
        return
    other = next((name for magic, name in _OTHERS.items() if prefix.startswith(magic)), None)
    if other is None and prefix[4:8] == b"ftyp":
        other = _BRANDS.get(prefix[8:12], "a video or HEIF file")
    if other is None:
        raise ImageError("is not an image; expected a JPEG, PNG or WebP file")
    raise ImageError(f"is {other}; expected JPEG, PNG or WebP: convert it first")


def read_header(data: bytes) -> Header:
    """Read the header of a JPEG, PNG or WebP.

    Args:
        data: The whole file.

    Raises:
        ImageError: Another format, or a header that gives no size.
    """
    require_image(data[:PREFIX_BYTES])
    if data.startswith(jpeg.MAGIC):
        return jpeg.jpeg_header(data)
    if data.startswith(png.MAGIC):
        return png.png_header(data)
    return webp.webp_header(data)
