import sys

import numpy as np
import onnx
import onnx.helper as oh
import pytest

from calibration.faces import face
from quantface_export.compare.arcface import POINTS, TEMPLATE, aligned, similarity
from quantface_export.compare.optional import PYIQA, extra_metrics
from quantface_export.errors import QuantfaceError

CHANNELS = 3


@pytest.fixture(scope="module")
def pair():
    drawn = [face(1_000_000_000 + i) for i in range(2)]
    clean = np.stack([d.image for d in drawn]).transpose(0, 3, 1, 2) / 255
    return clean, np.stack([d.landmarks for d in drawn])


@pytest.fixture
def arcface(tmp_path):
    """A real ONNX file whose embedding is the mean of each channel, in [-1, 1]."""
    graph = oh.make_graph(
        [oh.make_node("ReduceMean", ["face"], ["embedding"], axes=[2, 3], keepdims=0)],
        "means",
        [oh.make_tensor_value_info("face", onnx.TensorProto.FLOAT, ["n", CHANNELS, 112, 112])],
        [oh.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["n", CHANNELS])],
    )
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "means.onnx")
    return tmp_path / "means.onnx"


def test_degrees_of_known_embeddings(arcface):
    """Grey pictures embed as multiples of (1, 1, 1), a red one as (1, -1, -1)."""
    landmarks = np.zeros((2, 70, 2), np.float32)
    landmarks[:, list(POINTS)] = TEMPLATE  # already aligned
    white = np.ones((2, 3, 112, 112))
    other = np.stack([np.full((3, 112, 112), 0.75), np.zeros((3, 112, 112))])
    other[1, 0] = 1
    found = extra_metrics(other, white, landmarks, names=["deg"], arcface=arcface)["deg"]
    expected = [0, np.degrees(np.arccos(-1 / 3))]
    np.testing.assert_allclose(found, expected, atol=1e-3)  # degrees; embeddings are float32


def test_degrees_of_faces(pair, arcface):
    clean, landmarks = pair
    names, gains = ["deg"], np.array([1, 0.9, 0.7])[:, None, None]
    same, tinted = (
        extra_metrics(images, clean, landmarks, names=names, arcface=arcface)["deg"]
        for images in (clean, clean * gains)
    )
    np.testing.assert_array_equal(same, 0)
    assert (tinted > 1).all()


def test_faces_are_aligned_by_their_five_points(pair):
    """A picture turned and shrunk with its landmarks gives the same aligned face."""
    from cv2 import warpAffine

    clean, landmarks = pair
    picture = clean[0].transpose(1, 2, 0).astype(np.float32)
    turn = np.array([[0.9, -0.2, 18.0], [0.2, 0.9, -6.0]])
    turned = warpAffine(picture, turn, (128, 128))
    points = landmarks[0] @ turn[:, :2].T + turn[:, 2]
    middle = np.s_[30:90, 30:82]
    straight, again = aligned(picture, landmarks[0])[middle], aligned(turned, points)[middle]
    assert np.abs(straight - again).mean() < 0.02
    assert np.abs(straight - again[:, ::-1]).mean() > 0.04


def test_generated_faces_fit_the_template(pair):
    """Points in another order, or of another part of the face, would lie far from it."""
    for landmarks in pair[1]:
        points = landmarks[list(POINTS)]
        matrix = similarity(points, TEMPLATE)
        moved = points @ matrix[:, :2].T + matrix[:, 2]
        assert np.linalg.norm(moved - TEMPLATE, axis=1).mean() < 4  # of 112 pixels
        assert matrix[0, 0] > 5 * abs(matrix[0, 1])  # upright


def test_similarity_recovers_a_transform():
    matrix = np.array([[0.6, -0.8, 3.0], [0.8, 0.6, -7.0]]) * [[1.5], [1.5]]
    moved = TEMPLATE @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(similarity(TEMPLATE, moved), matrix, atol=1e-10)


def test_similarity_never_mirrors():
    found = similarity(TEMPLATE, TEMPLATE * [-1, 1])
    assert np.linalg.det(found[:, :2]) >= 0


@pytest.mark.parametrize("name", sorted(PYIQA))
def test_without_pyiqa(name, pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)  # as if it were not installed
    with pytest.raises(QuantfaceError, match=f"^{name} needs pyiqa .*; run `pip install pyiqa`"):
        extra_metrics(pair[0], *pair, names=[name])


class Pyiqa:
    """Stands for pyiqa: brightness difference as full-reference, brightness as other metric."""

    @staticmethod
    def create_metric(name, device):
        if name == "musiq":
            raise ConnectionError("no route\nto host")
        return lambda image, *clean: image.mean() - sum(c.mean() for c in clean)


def test_with_pyiqa(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", Pyiqa)
    clean, landmarks = pair
    found = extra_metrics(clean * 0.5, clean, landmarks, names=["lpips", "niqe"])
    brightness = clean.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found["niqe"], brightness / 2, rtol=1e-5)
    np.testing.assert_allclose(found["lpips"], -brightness / 2, rtol=1e-5)


def test_without_weights(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", Pyiqa)
    with pytest.raises(QuantfaceError, match=r"weights of musiq \(no route to host\); run"):
        extra_metrics(pair[0], *pair, names=["musiq"])


def test_unknown_metric(pair):
    with pytest.raises(QuantfaceError, match="no metric 'fid'; choose from lpips, dists"):
        extra_metrics(pair[0], *pair, names=["fid"])


def test_arcface_not_given(pair):
    with pytest.raises(QuantfaceError, match="deg needs an ArcFace ONNX file"):
        extra_metrics(pair[0], *pair, names=["deg"])


def test_arcface_missing_or_broken(pair, tmp_path):
    missing, broken = tmp_path / "no.onnx", tmp_path / "text.onnx"
    broken.write_text("not a model")
    for path, message in ((missing, "does not exist"), (broken, "can't be opened")):
        with pytest.raises(QuantfaceError, match=message) as caught:
            extra_metrics(pair[0], *pair, names=["deg"], arcface=path)
        assert "\n" not in str(caught.value)


def test_arcface_of_another_shape(pair, tmp_path):
    value = [oh.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3, 64, 64]) for n in "ab"]
    graph = oh.make_graph([oh.make_node("Relu", ["a"], ["b"])], "relu", value[:1], value[1:])
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "small.onnx")
    with pytest.raises(QuantfaceError, match=r"takes \[\[1, 3, 64, 64\]\], expected one input"):
        extra_metrics(pair[0], *pair, names=["deg"], arcface=tmp_path / "small.onnx")
