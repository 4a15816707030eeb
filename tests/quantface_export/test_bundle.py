"""A bundle is whole or not there, and is not used unchecked."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quantface_export.bundle import (
    FORMAT_VERSION,
    MANIFEST,
    STAGES,
    BundleError,
    load_bundle,
    new_bundle,
    write_manifest,
)


def fill(folder: Path, content: bytes = b"weights") -> None:
    for stage in STAGES:
        (folder / stage).mkdir()
        (folder / stage / "model.onnx").write_bytes(content)
    write_manifest(folder, {"size": 128})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    with new_bundle(tmp_path / "bundle") as folder:
        fill(folder)
    return tmp_path / "bundle"


def test_what_was_written_loads(bundle: Path) -> None:
    assert load_bundle(bundle).side() == 128
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_a_changed_byte_is_found(bundle: Path) -> None:
    file = bundle / "unet" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"X")
    with pytest.raises(BundleError, match=r"unet/model.onnx has changed"):
        load_bundle(bundle)


def test_a_missing_file_is_found(bundle: Path) -> None:
    (bundle / "vre" / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"vre/model.onnx is missing"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m | {"format_version": FORMAT_VERSION + 1},
            f"format version {FORMAT_VERSION + 1}",
        ),
        (lambda m: m | {"files": {}}, "lists no model for vre"),
        (lambda m: {}, "can't be read"),
        (lambda m: [], "can't be read"),
    ],
)
def test_a_manifest_that_does_not_fit(bundle: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(change(manifest)))
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_damaged_manifest(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match="can't be read"):
        load_bundle(bundle)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"has no {MANIFEST}"):
        load_bundle(tmp_path)


def test_a_failed_build_leaves_the_earlier_bundle(bundle: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    with pytest.raises(RuntimeError), new_bundle(bundle) as folder:
        (folder / "half").write_text("written")
        raise RuntimeError
    assert (bundle / MANIFEST).read_bytes() == before
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_a_new_bundle_replaces_the_earlier_one(bundle: Path) -> None:
    with new_bundle(bundle) as folder:
        fill(folder, b"newer")
    assert (load_bundle(bundle).stage("vre")).read_bytes() == b"newer"
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(BundleError, match="is not a bundle"), new_bundle(tmp_path / "photos"):
        pass
    assert (tmp_path / "photos" / "holiday.jpg").exists()


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "is full"), (errno.EACCES, "can't be written")]
)
def test_a_disk_that_says_no(tmp_path: Path, code: int, message: str) -> None:
    with pytest.raises(BundleError, match=message), new_bundle(tmp_path / "b"):
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


def test_a_really_full_disk(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is full"), new_bundle(tmp_path / "b") as folder:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
        fill(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "quantface_export", "build", "--out", str(tmp_path / "b")],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.iterdir()) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "interrupted" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_build_go(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".b.partial-{dead.pid}").mkdir()
    with new_bundle(tmp_path / "b") as folder:
        fill(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
