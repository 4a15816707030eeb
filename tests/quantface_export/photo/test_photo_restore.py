"""Restoring photographs and batches of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from skimage import data

from quantface_export.errors import QuantfaceError
from quantface_export.photo.batch import restore_files
from quantface_export.photo.crop import frame, mask
from quantface_export.photo.errors import NoFaceError
from quantface_export.photo.image import read_image
from quantface_export.photo.report import Report
from quantface_export.photo.restore import restore_photo
from quantface_export.photo.write import write_image

SIZE = 256


def identity(face):
    assert face.shape == (SIZE, SIZE, 3)
    return face


def negative(face):
    return 255 - face


def test_identity_hardly_changes_a_photograph(astronaut):
    result = restore_photo(astronaut, identity, SIZE)
    assert result.faces == len(result.boxes) == 1
    changed = (result.image != astronaut).any(axis=2)
    crop = frame(result.boxes[0])
    inside = np.zeros((512, 512), bool)
    inside[crop.y : crop.y + crop.side, crop.x : crop.x + crop.side] = mask(crop.side, 0.3) > 0
    assert not changed[~inside].any()
    # Enlarged and shrunk again, the face is that of the photograph within a few levels.
    assert np.abs(result.image.astype(int) - astronaut)[inside].mean() < 2


def test_every_face_of_a_photograph_is_restored(crowd):
    photo, faces = crowd
    result = restore_photo(photo, negative, SIZE)
    assert result.faces == len(faces)
    for face in faces:
        x, y = map(round, face.centre)
        patch = np.s_[y - 10 : y + 10, x - 10 : x + 10]
        assert np.abs(result.image[patch].astype(int) - (255 - photo[patch])).mean() < 12


def test_no_face_says_what_to_do():
    with pytest.raises(NoFaceError, match=r"--aligned .* --detector"):
        restore_photo(data.coffee(), identity, SIZE)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 100), (256, 256)),
        ((100, 80), (256, 205)),
        ((80, 101), (203, 256)),
        ((600, 600), (600, 600)),
        ((301, 600), (301, 600)),
        ((600, 16), (600, 16)),
    ],
)
def test_aligned_keeps_the_aspect_and_never_shrinks(shape, expected):
    photo = np.full((*shape, 3), (10, 120, 240), np.uint8)
    result = restore_photo(photo, negative, SIZE, aligned=True)
    assert (result.faces, result.boxes) == (1, ())
    assert np.array_equal(result.image, np.full((*expected, 3), (245, 135, 15)))


def test_aligned_is_in_register(astronaut):
    photo = astronaut[:200, 100:400]
    image = restore_photo(photo, lambda face: face, 300, aligned=True).image
    assert np.array_equal(image, photo)


def test_a_model_that_returns_something_else_is_refused(astronaut):
    with pytest.raises(ValueError, match=r"returned \(1, 1, 3\) uint8, expected \(256, 256, 3\)"):
        restore_photo(astronaut, lambda face: face[:1, :1], SIZE)


@pytest.fixture
def album(tmp_path, astronaut, encode):
    """A folder with two portraits of one stem, a still life, a broken and other files."""
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(encode(astronaut, ".jpg", 3)[:-20_000])
    (folder / "b.JPG").write_bytes(encode(astronaut, ".jpg"))
    (folder / "b.webp").write_bytes(encode(astronaut, ".webp"))
    (folder / "c.png").write_bytes(encode(data.coffee(), ".png"))
    (folder / "notes.txt").write_text("not a photograph")
    (folder / "._b.jpg").write_bytes(b"left by another computer")
    (folder / "deeper").mkdir()
    return folder


def test_a_broken_file_does_not_stop_the_rest(tmp_path, album):
    report = restore_files([album], tmp_path / "out", negative, SIZE)
    assert [os.path.basename(o["output"]) for o in report.outputs] == ["b.png", "b-2.png"]
    assert [o["faces"] for o in report.outputs] == [1, 1]
    broken, empty = report.failed
    assert "a.jpg is a damaged or incomplete JPEG" in broken["error"]
    assert "c.png has no face" in empty["error"]
    assert (broken["code"], empty["code"], report.exit_code) == (1, 3, 1)
    assert sorted(os.listdir(tmp_path / "out")) == ["b-2.png", "b.png"]
    json.dumps([report.outputs, report.failed])


def test_outputs_beside_the_inputs_get_names_of_their_own(tmp_path, astronaut):
    write_image(tmp_path / "a.png", astronaut)
    report = restore_files([tmp_path / "a.png"], tmp_path, negative, SIZE, aligned=True)
    assert report.exit_code == 0
    assert sorted(os.listdir(tmp_path)) == ["a-restored.png", "a.png"]
    assert np.array_equal(read_image(tmp_path / "a.png"), astronaut)


def test_one_file_to_one_file(tmp_path, astronaut):
    write_image(tmp_path / "a.png", astronaut)
    out = tmp_path / "new" / "b.jpg"
    report = restore_files([tmp_path / "a.png"], out, negative, SIZE, aligned=True)
    assert report.outputs[0]["output"] == str(out)
    assert read_image(out).shape == (512, 512, 3)


def test_a_file_named_twice_is_restored_once(tmp_path, album):
    again = album / ".." / "album" / "b.JPG"
    report = restore_files([album / "b.JPG", again], tmp_path / "out", identity, SIZE, aligned=True)
    assert len(report.outputs) == 1


def test_only_photographs_without_a_face_give_exit_code_3(tmp_path, album):
    report = restore_files([album / "c.png", album / "b.JPG"], tmp_path / "out", identity, SIZE)
    assert (len(report.outputs), len(report.failed), report.exit_code) == (1, 1, 3)
    assert Report().exit_code == 0


@pytest.mark.parametrize(
    ("inputs", "out", "message"),
    [
        ([], "out", "no input was given"),
        (["album/deeper"], "out", "deeper holds no image; expected files ending in"),
        (["album"], "out.png", "is one file, but 4 photographs go there; name a folder"),
        (["album/b.JPG"], "album/b.JPG", "is an input and is not overwritten"),
        (["album/b.JPG"], "album/notes.txt", "is a file; expected a folder"),
        (["album/b.JPG"], "album/notes.txt/x", "cannot be made: Not a directory"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(tmp_path, album, inputs, out, message):
    with pytest.raises(QuantfaceError, match=message):
        restore_files([tmp_path / i for i in inputs], tmp_path / out, identity, SIZE)


def test_a_missing_file_is_reported(tmp_path, album):
    report = restore_files([album / "x.jpg"], tmp_path / "out", identity, SIZE)
    assert "x.jpg does not exist" in report.failed[0]["error"]
    assert report.exit_code == 1


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_a_bar_is_drawn_for_several_files_on_a_terminal(tmp_path, album, terminal, count):
    code = (
        "import sys, pathlib; from quantface_export.photo.batch import restore_files\n"
        "inputs = [pathlib.Path(name) for name in sys.argv[2:]]\n"
        "restore_files(inputs, pathlib.Path(sys.argv[1]), lambda f: f, 64, aligned=True)"
    )
    inputs = [str(album / name) for name in ("b.JPG", "b.webp")[:count]]
    screen, stderr = os.openpty() if terminal else os.pipe()
    command = [sys.executable, "-c", code, str(tmp_path / "out"), *inputs]
    environment = {**os.environ, "TERM": "xterm"}  # on a dumb one nothing can be drawn over
    subprocess.run(command, stderr=stderr, check=True, env=environment)
    if not terminal:
        os.close(stderr)
    else:
        os.write(stderr, b"end")  # a terminal, unlike a pipe, has no end of file to read to
    drawn = os.read(screen, 100_000)
    assert (b"Restoring" in drawn) == (terminal and count > 1)


def test_neither_torch_nor_diffusers_is_imported():
    code = (
        "import sys, quantface_export.photo.batch, quantface_export.photo.comparison\n"
        "print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
