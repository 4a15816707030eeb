"""How alike two faces are to a face recognizer: the angle between their ArcFace embeddings.

    deg = arccos(<e_a, e_b> / (|e_a| |e_b|)) in degrees

The metric 'Deg.' of face restoration (VQFR, Gu et al., ECCV 2022), with the embeddings of
Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from quantface_export.compare.metrics import Images, Values
from quantface_export.errors import QuantfaceError

SIDE = 112

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip
"""Where ArcFace expects the pupils, the tip of the nose and the corners of the mouth, pixels."""

POINTS = (68, 69, 30, 48, 54)
"""The same points among the 70 of `calibration.faces.landmarks`."""


class Arcface:
    """An ArcFace model: (1, 3, 112, 112) RGB as ``(x - 127.5) / 127.5`` to an embedding (1, d)."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        self.input = session.get_inputs()[0].name

    def embeddings(self, images: Images, landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, d) embeddings of unit length of images (N, 3, s, s) in [0, 1]."""
        found = []
        for image, points in zip(images, landmarks, strict=True):
            face = aligned(image.transpose(1, 2, 0), points) * 2 - 1
            batch = np.ascontiguousarray(face.transpose(2, 0, 1)[None], np.float32)
            found.append(np.ravel(self.session.run(None, {self.input: batch})[0]))
        rows = np.asarray(found, np.float64)
        return cast("NDArray[np.float64]", rows / np.linalg.norm(rows, axis=1, keepdims=True))

    def degrees(self, restored: Images, clean: Images, landmarks: NDArray[np.floating]) -> Values:
        """(N,) angles in degrees, both images of a pair aligned by the same landmarks."""
        a, b = (self.embeddings(images, landmarks) for images in (restored, clean))
        # Twice the arctangent of |a - b| / |a + b| is accurate for small angles as well.
        opposite, adjacent = (np.linalg.norm(x, axis=1) for x in (a - b, a + b))
        return np.asarray(np.degrees(2 * np.arctan2(opposite, adjacent)), np.float64)


def load_arcface(path: Path | None) -> Arcface:
    """Open an ArcFace ONNX file.

    Raises:
        QuantfaceError: No file is given, it is missing or unreadable, or takes other inputs.
    """
    if path is None:
        raise QuantfaceError("deg needs an ArcFace ONNX file; give its path, or leave deg out")
    if not path.is_file():
        raise QuantfaceError(
            f"the ArcFace file {path} does not exist; give another path, or leave deg out"
        )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # ONNX Runtime's exceptions have no public common class
        reason = " ".join(str(e).split())
        raise QuantfaceError(
            f"{path} can't be opened by ONNX Runtime ({reason}); an ArcFace ONNX file was expected"
        ) from e
    inputs = session.get_inputs()
    if len(inputs) != 1 or list(inputs[0].shape[1:]) != [3, SIDE, SIDE]:
        raise QuantfaceError(
            f"{path} takes {[list(i.shape) for i in inputs]}, expected one input "
            f"[1, 3, {SIDE}, {SIDE}]; give an ArcFace ONNX file"
        )
    return Arcface(session)


def aligned(image: NDArray[np.floating], landmarks: NDArray[np.floating]) -> NDArray[np.float32]:
    """Turn, scale and shift a face so that its five points fall on `TEMPLATE`.

    Args:
        image: (s, s, 3).
        landmarks: (70, 2) pixels.

    Returns:
        (112, 112, 3) float32.
    """
    matrix = similarity(landmarks[list(POINTS)], TEMPLATE)
    moved = cv2.warpAffine(image.astype(np.float32), matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return np.asarray(moved, np.float32)


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """The 2 x 3 matrix ``[[a, -b, x], [b, a, y]]`` that moves points to others best.

    Minimizes the sum of squared distances, which is linear least squares in a, b, x and y.

    Args:
        source: (K, 2) with K >= 2.
        target: (K, 2).
    """
    x, y = np.asarray(source, np.float64).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    system = np.concatenate(
        [np.column_stack([x, -y, one, zero]), np.column_stack([y, x, zero, one])]
    )
    (a, b, dx, dy), *_ = np.linalg.lstsq(system, np.concatenate(np.asarray(target).T), rcond=None)
    return np.array([[a, -b, dx], [b, a, dy]])
