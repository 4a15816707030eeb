"""Writing a picture whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import subprocess

import numpy as np
import pytest

from quantface_export.photo.errors import ImageError
from quantface_export.photo.image import read_image
from quantface_export.photo.write import write_image

NOISE = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "tolerance"), [("a.png", 0), ("a.JPG", 4), ("a.jpeg", 4), ("a.webp", 4)]
)
def test_round_trip(tmp_path, astronaut, name, tolerance):
    write_image(tmp_path / name, astronaut)
    back = read_image(tmp_path / name).astype(int)
    assert np.abs(back - astronaut).mean() <= tolerance
    assert os.listdir(tmp_path) == [name]


def test_permissions_follow_the_umask(tmp_path):
    write_image(tmp_path / "a.png", NOISE)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o666 & ~mask


def _limit_file_size(tmp_path, monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    return tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _small_disk(tmp_path, monkeypatch):
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    return tmp_path, lambda: subprocess.run(["umount", str(tmp_path)], check=True)


def _no_space_at_sync(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    return tmp_path, monkeypatch.undo


@pytest.mark.parametrize("full_disk", [_limit_file_size, _small_disk, _no_space_at_sync])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, full_disk):
    folder = tmp_path / "disk"
    folder.mkdir()
    folder, restore = full_disk(folder, monkeypatch)
    try:
        (folder / "a.png").write_bytes(b"former")
        with pytest.raises(ImageError, match=r"a\.png cannot be written: .* free some space"):
            write_image(folder / "a.png", NOISE)
        assert [file.name for file in folder.iterdir()] == ["a.png"]
        assert (folder / "a.png").read_bytes() == b"former"
    finally:
        restore()


@pytest.mark.parametrize("link", ["same", "hard", "symbolic"])
def test_an_input_is_never_overwritten(tmp_path, link):
    source, out = tmp_path / "in.png", tmp_path / "out.png"
    write_image(source, NOISE)
    if link == "same":
        out = tmp_path / "." / "in.png"
    elif link == "hard":
        out.hardlink_to(source)
    else:
        out.symlink_to(source)
    with pytest.raises(ImageError, match="is an input and is not overwritten"):
        write_image(out, 255 - NOISE, inputs=[source])
    assert np.array_equal(read_image(source), NOISE)


def test_refusals(tmp_path):
    with pytest.raises(ImageError, match=r"extension '\.bmp'; expected one of \.png, \.jpg"):
        write_image(tmp_path / "a.bmp", NOISE)
    with pytest.raises(ImageError, match=r"cannot be written: No such file"):
        write_image(tmp_path / "missing" / "a.png", NOISE)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match="is a folder"):
        write_image(tmp_path / "folder.png", NOISE)
    with pytest.raises(ImageError, match=r"cannot hold 17000x2 pixels; write a \.png"):
        write_image(tmp_path / "a.webp", np.zeros((2, 17_000, 3), np.uint8))
    with pytest.raises(ValueError, match=r"expected \(h, w, 3\) uint8, got \(4, 4\) float64"):
        write_image(tmp_path / "a.png", np.zeros((4, 4)))
    assert [file.name for file in tmp_path.iterdir()] == ["folder.png"]
