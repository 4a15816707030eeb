"""The C++ runner: image bytes in, PNG bytes out, the same as Python's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import skimage.data

from onnx_ops.library import library_path
from quantface_export.bundle import load_bundle
from quantface_export.photo.crop import resize
from quantface_export.runner import Runner
from quantface_export.session import fastest_variant
from quantface_export.verify import MIN_PSNR_DB, psnr_db

RUNNER = Path(__file__).resolve().parents[2] / "build" / "runner" / "quantface-restore"
RUNTIME = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.1*"), None)
OLD_RUNTIME = next((RUNNER.parents[1] / "ort" / "1.20.1").rglob("libonnxruntime.so.*"), None)
OPS = () if library_path() is None else ("--ops", library_path())

pytestmark = [
    pytest.mark.skipif(not RUNNER.exists(), reason="`make runner` has not been run"),
    pytest.mark.skipif(RUNTIME is None, reason="this onnxruntime wheel has no library to link"),
]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RUNNER, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def bundle(built: tuple[Path, dict[str, Any]]) -> Path:
    return built[0]


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """(128, 128, 3) RGB."""
    return resize(skimage.data.astronaut()[:256, 96:352], 128, 128)


@pytest.fixture(scope="module")
def python(bundle: Path) -> Runner:
    """The same bundle in Python; its sessions stay open from test to test."""
    return Runner(load_bundle(bundle), variant=fastest_variant())


def restored(bundle: Path, folder: Path, image: np.ndarray, name: str, *options: object) -> Any:
    """What the runner makes of an image file, and what is in that file."""
    source, target = folder / name, folder / "restored.png"
    assert cv2.imwrite(str(source), image[..., ::-1])
    done = run("--runtime", RUNTIME, *options, bundle, source, target)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    return cv2.imread(str(target))[..., ::-1], cv2.imread(str(source))[..., ::-1]


@pytest.mark.parametrize("name", ["face.png", "face.jpg", "gray.png", "gray.jpg"])
def test_it_restores_what_python_restores(
    bundle: Path, python: Runner, tmp_path: Path, face: np.ndarray, name: str
) -> None:
    picture = face[..., 1:2] if name.startswith("gray") else face
    result, read = restored(bundle, tmp_path, picture, name, *OPS)
    np.testing.assert_array_equal(result, python.restore_face(read))


def test_ops_registered_by_symbol(
    bundle: Path, python: Runner, tmp_path: Path, face: np.ndarray
) -> None:
    """As where an app links the library: it is in the process, and only a name is given."""
    if library_path() is None:
        pytest.skip("no C++ compiler")
    cv2.imwrite(str(tmp_path / "face.png"), face[..., ::-1])
    files = bundle, tmp_path / "face.png", tmp_path / "out.png"
    command = [RUNNER, "--runtime", RUNTIME, "--ops-symbol", "RegisterQuantfaceOps", *files]
    loaded = {**os.environ, "LD_PRELOAD": str(library_path())}
    done = subprocess.run(command, env=loaded, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = cv2.imread(str(tmp_path / "out.png"))[..., ::-1]
    np.testing.assert_array_equal(result, python.restore_face(face))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "RegisterQuantfaceOps can't be called" in done.stderr


def test_it_restores_on_function_bodies(bundle: Path, tmp_path: Path, face: np.ndarray) -> None:
    result, _ = restored(bundle, tmp_path, face, "face.png", "--threads", 1)
    np.testing.assert_array_equal(result, Runner(load_bundle(bundle)).restore_face(face))


@pytest.mark.parametrize("side", [96, 300])
def test_another_size_is_resized_as_python_does(
    bundle: Path, python: Runner, tmp_path: Path, side: int
) -> None:
    photo = resize(skimage.data.astronaut()[:256, 96:352], side, side)
    result, _ = restored(bundle, tmp_path, photo, "photo.png", *OPS)
    expected = python.restore_face(resize(photo, 128, 128))
    # Levels of the input may differ by one, and codes of 4 bits spread that.
    assert psnr_db(expected / np.float32(255), result / np.float32(255)) > MIN_PSNR_DB


def test_transparency_is_laid_on_white(
    bundle: Path, python: Runner, tmp_path: Path, face: np.ndarray
) -> None:
    picture = np.dstack([face[..., ::-1], np.full((128, 128), 255, np.uint8)])
    picture[:64, :, 3] = 0
    cv2.imwrite(str(tmp_path / "half.png"), picture)
    done = run("--runtime", RUNTIME, *OPS, bundle, tmp_path / "half.png", tmp_path / "out.png")
    assert done.returncode == 0, done.stderr
    white = np.vstack([np.full_like(face[:64], 255), face[64:]])
    result = cv2.imread(str(tmp_path / "out.png"))[..., ::-1]
    np.testing.assert_array_equal(result, python.restore_face(white))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda png, jpg: b"", "is neither a JPEG nor a PNG; convert it first"),
        (lambda png, jpg: b"\0\0\0\x18ftypmp42" + png, "is neither a JPEG nor a PNG"),
        (lambda png, jpg: png[: len(png) // 2], "is a damaged PNG"),
        (lambda png, jpg: jpg[: len(jpg) // 2], "is a damaged JPEG"),
        (lambda png, jpg: jpg[:3], "has 0x0 pixels"),
        (lambda png, jpg: png[:16] + b"\0\1\0\0" + png[20:], "is a damaged PNG"),
    ],
    ids=["empty", "video", "half a PNG", "half a JPEG", "three bytes", "a header byte changed"],
)
def test_a_file_that_is_no_picture(
    bundle: Path, tmp_path: Path, face: np.ndarray, make: Any, message: str
) -> None:
    png, jpg = (cv2.imencode(suffix, face)[1].tobytes() for suffix in (".png", ".jpg"))
    file = tmp_path / "file"
    file.write_bytes(make(png, jpg))
    done = run("--runtime", RUNTIME, bundle, file, tmp_path / "out.png")
    assert done.returncode == 1
    assert done.stderr.startswith(f"quantface-restore: {file} {message}")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((8, 8), "has 8x8 pixels; expected 16 to 16384 a side"),
        ((16385, 16), "has 16385x16 pixels; expected"),
        ((200, 100), "has 200x100 pixels and the bundle restores face crops of 128x128"),
    ],
)
def test_a_picture_of_the_wrong_size(
    bundle: Path, tmp_path: Path, size: tuple[int, int], message: str
) -> None:
    width, height = size
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((height, width, 3), np.uint8))
    done = run("--runtime", RUNTIME, bundle, tmp_path / "p.png", tmp_path / "out.png")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bundle_that_can_not_be_used(copied: Path, tmp_path: Path, face: np.ndarray) -> None:
    picture, out = tmp_path / "face.png", tmp_path / "out.png"
    cv2.imwrite(str(picture), face)
    done = run("--runtime", RUNTIME, tmp_path / "none", picture, out)
    assert "none is not a bundle: it has no quantface.json" in done.stderr
    model = copied / "unet" / "model.onnx"
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    done = run("--runtime", RUNTIME, copied, picture, out)
    assert done.returncode == 1
    assert f"{model} can't be loaded; copy the bundle again: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected BUNDLE FACE OUT.png, got 0 names"),
        (("a", "b", "c", "--ops"), "--ops needs a value"),
        (("--speed", "9", "a", "b", "c"), "unknown option --speed"),
        (("--threads", "many", "a", "b", "c"), "--threads must be a number from 0 to 1024"),
        (("a", "none.png", "c"), "none.png can't be read: No such file"),
    ],
)
def test_a_command_line_that_does_not_fit(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"quantface-restore: {message}")


def test_libraries_that_are_none(tmp_path: Path, bundle: Path, face: np.ndarray) -> None:
    picture, out, text = tmp_path / "face.png", tmp_path / "out.png", tmp_path / "text.so"
    cv2.imwrite(str(picture), face)
    text.write_text("no library")
    done = run("--runtime", text, bundle, picture, out)
    assert "ONNX Runtime can't be opened" in done.stderr and "--runtime" in done.stderr
    done = run("--runtime", RUNTIME, "--ops", text, bundle, picture, out)
    assert f"{text} can't be registered" in done.stderr
    library = library_path()
    if library is not None:
        done = run("--runtime", library, bundle, picture, out)
        assert "is not an ONNX Runtime" in done.stderr


@pytest.mark.skipif(OLD_RUNTIME is None, reason="`make runtimes` has not been run")
def test_a_runtime_that_is_too_old(bundle: Path, face: np.ndarray, tmp_path: Path) -> None:
    picture = tmp_path / "face.png"
    cv2.imwrite(str(picture), face)
    done = run("--runtime", OLD_RUNTIME, bundle, picture, tmp_path / "out.png")
    assert done.returncode == 1
    assert "is ONNX Runtime 1.20.1; expected 1.23 or newer" in done.stderr


def test_help_names_every_option() -> None:
    done = run("--help")
    assert done.returncode == 0
    for option in ("--runtime", "--ops", "--ops-symbol", "--threads"):
        assert option in done.stdout
