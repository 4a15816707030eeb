"""Image bytes in, image bytes out, in one process of its own.

onnxruntime-extensions ends the process where libjpeg gives up, so only whole files are decoded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest
import skimage.data
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from quantface_export.bundle import load_bundle
from quantface_export.image_size import ImageSize
from quantface_export.photo.crop import resize
from quantface_export.pixels import to_input, to_pictures
from quantface_export.pre_post import POST, PRE, open_pre_post, run_bytes, write_pre_post
from quantface_export.runner import Runner
from quantface_export.session import fastest_variant

WIDTH, HEIGHT = 96, 64


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[ort.InferenceSession, ...]:
    folder = tmp_path_factory.mktemp("models")
    write_pre_post(folder, ImageSize(width=WIDTH, height=HEIGHT))
    return open_pre_post(folder / PRE), open_pre_post(folder / POST)


@pytest.fixture(scope="module")
def face() -> NDArray[np.uint8]:
    return resize(skimage.data.astronaut()[20:220, 100:400], WIDTH, HEIGHT)


def encoded(suffix: str, pixels: NDArray[np.uint8], *options: int) -> bytes:
    """The bytes of an image file of BGR, gray or BGRA pixels."""
    done, data = cv2.imencode(suffix, pixels, options)
    assert done
    return data.tobytes()


def decoded(data: bytes) -> NDArray[np.uint8]:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


FULL_CHROMA = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


@pytest.mark.parametrize(
    ("suffix", "channels", "options"),
    [(".png", 3, ()), (".png", 1, ()), (".jpg", 3, FULL_CHROMA)],
    ids=["PNG", "gray PNG", "JPEG"],
)
def test_image_equals_python_s(
    models: tuple[ort.InferenceSession, ...],
    face: NDArray[np.uint8],
    suffix: str,
    channels: int,
    options: tuple[int, ...],
) -> None:
    pixels = face[..., ::-1] if channels == 3 else face[..., 1:2]
    data = encoded(suffix, pixels, *options)
    image = run_bytes(models[0], data)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, to_input(decoded(data)[None]))


def test_halved_colours_are_enlarged_in_another_way(
    models: tuple[ort.InferenceSession, ...], face: NDArray[np.uint8]
) -> None:
    """Its decoder repeats the pixels of 4:2:0; Python's interpolates. Brightness is the same."""
    data = encoded(".jpg", face[..., ::-1])
    there = to_pictures((run_bytes(models[0], data) + 1) / 2)[0]
    gray = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY).astype(int) for x in (there, decoded(data))]
    assert np.abs(gray[0] - gray[1]).mean() < 1
    assert np.abs(there.astype(int) - decoded(data)).mean() < 2


def test_transparency_is_ignored(
    models: tuple[ort.InferenceSession, ...], face: NDArray[np.uint8]
) -> None:
    pixels = np.dstack([face[..., ::-1], np.full((HEIGHT, WIDTH), 255, np.uint8)])
    image = run_bytes(models[0], encoded(".png", pixels))
    np.testing.assert_array_equal(image, to_input(face[None]))


@pytest.mark.parametrize("factor", [0.5, 2, 3.3])
def test_another_size_is_resized(
    models: tuple[ort.InferenceSession, ...], face: NDArray[np.uint8], factor: float
) -> None:
    other = resize(face, round(WIDTH * factor), round(HEIGHT * factor))
    there = to_pictures((run_bytes(models[0], encoded(".png", other[..., ::-1])) + 1) / 2)[0]
    here = resize(other, WIDTH, HEIGHT)
    # Bilinear there, area or cubic here; half a pixel of shift would give 8 and more.
    assert np.abs(there.astype(int) - here).mean() < 3.5


def test_of_another_aspect_the_middle_is_taken(
    models: tuple[ort.InferenceSession, ...], face: NDArray[np.uint8]
) -> None:
    wide = np.hstack([np.zeros_like(face), face, np.zeros_like(face)])
    image = run_bytes(models[0], encoded(".png", wide[..., ::-1]))
    np.testing.assert_array_equal(image, to_input(face[None]))


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n"], ids=["nothing", "a PNG's head"])
def test_bytes_that_are_no_picture(models: tuple[ort.InferenceSession, ...], data: bytes) -> None:
    with pytest.raises(RuntimeException, match="ImageDecoder"):
        run_bytes(models[0], data)


def test_png_equals_python_s(models: tuple[ort.InferenceSession, ...]) -> None:
    restored = np.random.default_rng(0).uniform(-0.1, 1.1, (1, 3, HEIGHT, WIDTH))
    restored.flat[:4] = np.array([0, 1, 0.5, 2.5]) / 255
    restored = restored.astype(np.float32)
    png = run_bytes(models[1], restored)
    assert png.tobytes().startswith(b"\x89PNG\r\n\x1a\n")
    np.testing.assert_array_equal(decoded(png.tobytes()), to_pictures(restored)[0])


def test_a_bundle_from_bytes_to_bytes(built: tuple[Path, dict[str, Any]]) -> None:
    bundle = load_bundle(built[0])
    names = bundle.manifest["image_bytes"]
    assert {names["pre"], names["post"]} <= set(bundle.manifest["files"])
    pre, post = (open_pre_post(bundle.path / names[key]) for key in ("pre", "post"))
    size = bundle.manifest["size"]
    face = resize(skimage.data.astronaut()[:256, 96:352], size, size)
    runner = Runner(bundle, variant=fastest_variant())
    png = run_bytes(post, runner(run_bytes(pre, encoded(".png", face[..., ::-1]))))
    np.testing.assert_array_equal(decoded(png.tobytes()), runner.restore_face(face))


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    """Builds are repeatable: nothing in a model counts what was made before it."""
    written = []
    for name in "ab":
        (tmp_path / name).mkdir()
        write_pre_post(tmp_path / name, ImageSize(width=WIDTH, height=HEIGHT))
        written.append([(tmp_path / name / model).read_bytes() for model in (PRE, POST)])
    assert written[0] == written[1]
