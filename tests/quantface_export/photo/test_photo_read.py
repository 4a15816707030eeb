"""Reading photograph files of every kind, and refusing what is not one."""

from __future__ import annotations

import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from quantface_export.photo.errors import ImageError
from quantface_export.photo.exif import orientation, upright
from quantface_export.photo.image import read_image

SUFFIXES = [".jpg", ".png", ".webp"]


@pytest.fixture
def scene():
    """(32, 48, 3) with a different flat colour in each quarter."""
    rgb = np.empty((32, 48, 3), np.uint8)
    rgb[:16, :24], rgb[:16, 24:] = (200, 30, 30), (30, 200, 30)
    rgb[16:, :24], rgb[16:, 24:] = (30, 30, 200), (220, 220, 220)
    return rgb


def close(a, b, tolerance):
    return a.shape == b.shape and np.abs(a.astype(int) - b.astype(int)).mean() <= tolerance


@pytest.mark.parametrize("turn", [None, 1, 2, 3, 4, 5, 6, 7, 8, 0, 9])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_orientation_agrees_with_opencv(tmp_path, scene, encode, suffix, turn):
    file = encode(scene, suffix, turn)
    (tmp_path / f"a{suffix}").write_bytes(file)
    expected = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(read_image(tmp_path / f"a{suffix}"), expected)
    if turn == 6:  # stored on its side: the top left corner was at the top right
        assert close(expected[:8, -8:], np.full((8, 8, 3), (200, 30, 30)), 3)


def test_orientation_of_a_transparent_picture_is_respected(tmp_path, scene, encode):
    alpha = np.full((32, 48, 1), 255, np.uint8)
    (tmp_path / "a.png").write_bytes(encode(np.dstack([scene, alpha]), ".png", 6))
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(scene, -1))


@pytest.mark.parametrize("tiff", [b"", b"II*\0", b"XX*\0\0\0\0\x08", b"MM\0*\xff\xff\xff\xff"])
def test_malformed_exif_counts_as_upright(tiff):
    assert orientation(tiff) == 1


def test_upright_refuses_unknown_orientation(scene):
    with pytest.raises(ValueError, match=r"1\.\.8, got 9"):
        upright(scene, 9)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".jpg", 2), (".png", 0), (".webp", 0)])
def test_grayscale_becomes_rgb(tmp_path, scene, encode, suffix, tolerance):
    (tmp_path / "a").write_bytes(encode(scene[..., 0], suffix))
    assert close(read_image(tmp_path / "a"), np.repeat(scene[..., :1], 3, axis=2), tolerance)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_rounded_to_eight(tmp_path, encode, channels):
    values = np.linspace(0, 65535, 16 * 64).round().astype(np.uint16).reshape(16, 64)
    pixels = np.repeat(values[..., None], channels, axis=2)
    if channels == 4:
        pixels[..., 3] = 65535
    (tmp_path / "a.png").write_bytes(encode(pixels.squeeze(), ".png"))
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 0], np.rint(values / 257))


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_transparency_is_laid_on_white(tmp_path, encode, suffix):
    rgba = np.zeros((16, 256, 4), np.uint8)
    rgba[..., 3] = np.arange(256)
    rgba[..., 1] = 100
    (tmp_path / "a").write_bytes(encode(rgba, suffix))
    part = rgba[..., 3:] / 255
    expected = np.rint(rgba[..., :3] * part + 255 * (1 - part))
    seen = part[..., 0] > 0  # encoders may drop the colour of invisible pixels
    assert np.array_equal(read_image(tmp_path / "a")[seen], expected[seen])
    assert np.array_equal(read_image(tmp_path / "a")[~seen], np.full((16, 3), 255))


def test_palette_png(tmp_path, png_chunk):
    rows = b"".join(b"\0" + bytes([x % 2 for x in range(16)]) for _ in range(16))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 3, 0, 0, 0))
    palette = png_chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50]))
    data = png_chunk(b"IDAT", zlib.compress(rows))
    file = b"\x89PNG\r\n\x1a\n" + header + palette + data + png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(file)
    rgb = read_image(tmp_path / "a.png")
    assert rgb[0, 0].tolist() == [10, 20, 30]
    assert rgb[0, 1].tolist() == [200, 100, 50]


def test_bytes_after_a_jpeg_are_left_alone(tmp_path, scene, encode):
    file = encode(scene, ".jpg")
    (tmp_path / "a.jpg").write_bytes(file + b"appended video" + file[:100])
    assert read_image(tmp_path / "a.jpg").shape == (32, 48, 3)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, -1, -2, -12])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_file_is_detected(tmp_path, astronaut, encode, suffix, kept):
    file = encode(astronaut, suffix, 6)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(file[: kept if kept < 0 else int(kept * len(file))])
    with pytest.raises(ImageError, match=r"cut\.\w+ is a damaged .* again$"):
        read_image(path)


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_truncated(tmp_path, astronaut, encode):
    thumbnail = encode(astronaut[:64, :64], ".jpg")
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    file = encode(astronaut, ".jpg")
    path = tmp_path / "a.jpg"
    path.write_bytes(file[:2] + segment + file[2:])
    assert read_image(path).shape == (512, 512, 3)
    path.write_bytes((file[:2] + segment + file[2:])[:-5000])
    with pytest.raises(ImageError, match="stops before its end-of-image marker"):
        read_image(path)


def test_a_flipped_bit_in_a_png_is_detected(tmp_path, astronaut, encode):
    file = bytearray(encode(astronaut, ".png"))
    file[len(file) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(file)
    with pytest.raises(ImageError, match="IDAT chunk has checksum"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("shape", [(1, 1), (15, 400), (400, 15)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_too_small(tmp_path, encode, suffix, shape):
    (tmp_path / "a").write_bytes(encode(np.zeros((*shape, 3), np.uint8), suffix))
    with pytest.raises(ImageError, match=rf"too small: {shape[1]}x{shape[0]} .* at least 16x16"):
        read_image(tmp_path / "a")


@pytest.mark.parametrize("size", [(20_000, 20), (20, 20_000), (16_000, 16_000)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_forged_size_is_refused_without_decoding(tmp_path, encode, png_chunk, suffix, size):
    width, height = size
    limit = "120 megapixels" if width == height else "16384 a side"
    file = encode(np.zeros((32, 48, 3), np.uint8), suffix, 1)
    if suffix == ".jpg":
        at = file.index(b"\xff\xc0") + 5
        file = file[:at] + struct.pack(">HH", height, width) + file[at + 4 :]
    elif suffix == ".png":
        header = struct.pack(">II", width, height) + file[24:29]
        file = file[:8] + png_chunk(b"IHDR", header) + file[33:]
    else:
        canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        file = file[:24] + canvas + file[30:]
    (tmp_path / "a").write_bytes(file)
    with pytest.raises(ImageError, match=rf"too large: {width}x{height} .*{limit}"):
        read_image(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello, this is a text file, not a photograph", "is not an image; expected a JPEG"),
        (b"\xff", "is not an image"),
        (b"\xff\xd8\xff", "is a damaged JPEG"),
        (b"\x89PNG\r\n\x1a\n", "is a damaged PNG"),
        (b"RIFF\0\0\0\0WEBP", "is a damaged WebP"),
        (b"GIF89a" + bytes(40), "is a GIF image.*convert it first"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "is an HEIC image.*convert it first"),
    ],
)
def test_not_a_photograph(tmp_path, content, message):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=rf"a\.jpg {message}") as caught:
        read_image(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value)


def test_missing_and_folder_and_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        (tmp_path / "none.jpg", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is not a regular file"),
    ]:
        with pytest.raises(ImageError, match=message):
            read_image(path)
