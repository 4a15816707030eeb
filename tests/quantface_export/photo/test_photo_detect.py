"""Finding faces where they are, and only there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from quantface_export.photo.box import Box, overlap, shared, suppress
from quantface_export.photo.detect import detect_faces, load_detector
from quantface_export.photo.errors import DetectorError

FACE = Box(x=173, y=61, side=104, score=1)  # what YuNet's landmarks give for the astronaut


def scaled(box, factor, x=0, y=0):
    side = round(factor * box.side)
    return Box(x=x + round(factor * box.x), y=y + round(factor * box.y), side=side, score=1)


@pytest.mark.parametrize("factor", [0.5, 1, 2, 4])
def test_finds_the_one_face_at_any_scale(astronaut, factor):
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    photo = cv2.resize(astronaut, None, fx=factor, fy=factor, interpolation=method)
    (box,) = detect_faces(photo)
    assert overlap(box, scaled(FACE, factor)) > 0.75


@pytest.mark.parametrize("damage", ["blur", "noise", "jpeg", "dark", "cast", "gray"])
def test_finds_a_degraded_face(astronaut, damage):
    rng = np.random.default_rng(0)
    photo = {
        "blur": lambda: cv2.GaussianBlur(astronaut, (0, 0), 4),
        "noise": lambda: np.clip(astronaut + rng.normal(0, 25, astronaut.shape), 0, 255),
        "jpeg": lambda: cv2.imdecode(
            cv2.imencode(".jpg", astronaut, [cv2.IMWRITE_JPEG_QUALITY, 5])[1], cv2.IMREAD_COLOR
        ),
        "dark": lambda: 0.4 * astronaut,
        "cast": lambda: np.clip(astronaut * [0.85, 1, 1.2], 0, 255),
        "gray": lambda: np.repeat(astronaut.mean(2, keepdims=True), 3, axis=2),
    }[damage]()
    (box,) = detect_faces(photo.astype(np.uint8))
    assert overlap(box, FACE) > 0.7


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_finds_no_face_in_colour_photographs_without_one(name):
    assert detect_faces(getattr(data, name)()) == []


@pytest.mark.parametrize("name", ["gravel", "page"])
def test_finds_no_face_in_gray_photographs_without_one(name):
    assert detect_faces(np.repeat(getattr(data, name)()[..., None], 3, axis=2)) == []


def test_finds_several_faces_largest_first(crowd):
    photo, faces = crowd
    boxes = detect_faces(photo)
    assert len(boxes) == len(faces)
    assert [box.area for box in boxes] == sorted((box.area for box in boxes), reverse=True)
    for face in faces:
        assert max(overlap(box, face) for box in boxes) > 0.7


def test_twelve_megapixels_take_hardly_longer_than_a_quarter(astronaut):
    seconds = []
    for side in (512, 3464):
        photo = cv2.resize(astronaut, (side, side), interpolation=cv2.INTER_LINEAR)
        begin = time.process_time()
        assert len(detect_faces(photo)) == 1
        seconds.append(time.process_time() - begin)
    assert seconds[1] < 2 * seconds[0]


@pytest.mark.parametrize("shape", [(16, 16), (16, 2000), (2000, 16), (100, 101)])
def test_any_shape_is_searched(shape):
    assert detect_faces(np.full((*shape, 3), 128, np.uint8)) == []


def test_suppress_keeps_the_best_of_nested_boxes():
    best = Box(x=0, y=0, side=10, score=2)
    inner = Box(x=2, y=2, side=5, score=1)
    apart = Box(x=9, y=0, side=20, score=1)
    assert (shared(best, inner), overlap(best, inner)) == (1, 0.25)
    assert suppress([inner, best, apart], limit=0.4) == [apart, best]


def test_detector_file_that_is_missing_or_something_else(tmp_path):
    with pytest.raises(DetectorError, match=r"none\.onnx does not exist; expected a YuNet"):
        load_detector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(DetectorError, match=r"text\.onnx is not a face detector; expected"):
        load_detector(tmp_path / "text.onnx")


def test_detector_file_with_another_network(tmp_path):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 64, 64])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 64, 64])
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "relu", [tensor], [out])
    opset = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset), tmp_path / "relu.onnx")
    with pytest.raises(DetectorError, match=r"relu\.onnx is not a face detector"):
        load_detector(tmp_path / "relu.onnx")


@pytest.mark.skipif("YUNET_ONNX" not in os.environ, reason="YUNET_ONNX names no YuNet file")
def test_yunet_frames_a_face_as_the_cascade_does(astronaut, crowd):
    detector = load_detector(Path(os.environ["YUNET_ONNX"]))
    (box,) = detect_faces(astronaut, detector)
    assert overlap(box, FACE) > 0.95
    photo, faces = crowd
    assert len(detect_faces(photo, detector)) == len(faces)
    assert detect_faces(data.coffee(), detector) == []
