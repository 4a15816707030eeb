"""The 70 named points of a face.

The first 68 follow the iBUG 300-W order (left and right are the picture's):
    0..16   jaw, from the left ear round the chin to the right ear
    17..21  left brow, outer to inner        22..26  right brow, inner to outer
    27..30  bridge of the nose down to tip   31..35  under the nose, left to right wing
    36..41  left eye: outer corner, two on the upper lid, inner corner, two on the lower lid
    42..47  right eye: inner corner, two on the upper lid, outer corner, two on the lower lid
    48..59  outer lips: left corner, five on top, right corner, five below (right to left)
    60..67  inner lips: left corner, three on top, right corner, three below (right to left)
and two are added:
    68, 69  left and right pupil
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.faces import shape
from calibration.faces.canvas import Array
from calibration.faces.params import FaceParams

COUNT = 70
GROUPS: dict[str, slice] = {
    "jaw": slice(0, 17),
    "left_brow": slice(17, 22),
    "right_brow": slice(22, 27),
    "nose_bridge": slice(27, 31),
    "nose_base": slice(31, 36),
    "left_eye": slice(36, 42),
    "right_eye": slice(42, 48),
    "outer_lips": slice(48, 60),
    "inner_lips": slice(60, 68),
    "pupils": slice(68, 70),
}


def landmarks(params: FaceParams) -> Array:
    """The points in face space, before the pose is applied; (70, 2)."""
    left_eye, left_pupil = _eye(params, -1)
    right_eye, right_pupil = _eye(params, 1)
    right_brow = shape.brow_line(params.brows, params.eyes, np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    parts: list[NDArray[np.floating]] = [
        _jaw(params),
        right_brow[::-1] * [-1, 1],
        right_brow,
        _nose(params),
        left_eye,
        right_eye[[3, 2, 1, 0, 5, 4]],
        _mouth(params),
        left_pupil,
        right_pupil,
    ]
    return np.concatenate(parts).astype(np.float32)


def _jaw(params: FaceParams) -> Array:
    curve = shape.outline(params.head)
    half = curve[: len(curve) // 2 + 1]  # crown, right side, chin
    half = half[half[:, 1] > -0.02]
    steps = np.linalg.norm(np.diff(half, axis=0), axis=1)
    length = np.concatenate([[0], np.cumsum(steps)])
    at = np.linspace(0, length[-1], 9)
    right = np.stack([np.interp(at, length, half[:, k]) for k in (0, 1)], axis=-1)
    return np.concatenate([right * [-1, 1], right[-2::-1]])


def _eye(params: FaceParams, side: int) -> tuple[Array, Array]:
    """Outer corner, upper lid outer and inner, inner corner, lower lid inner and outer; pupil."""
    s = np.array([1.0, 0.38, -0.38, -1.0, -0.38, 0.38], np.float32)
    upper, lower = (lid(params.eyes, s) for lid in (shape.upper_lid, shape.lower_lid))
    t = np.where(np.arange(6) < 4, upper, lower)
    pupil = np.array([shape.iris_centre(params.eyes, side)], np.float32)
    return (
        shape.eye_points(params.eyes, side, s, t),
        shape.eye_points(params.eyes, side, pupil[:, 0], pupil[:, 1]),
    )


def _nose(params: FaceParams) -> Array:
    nose = params.nose
    bridge = [(0.0, y) for y in np.linspace(0.0, nose.length, 4)]
    x = 0.5 * nose.width * np.arange(-2, 3)
    y = nose.length + 0.028 + np.array([-0.008, 0.0, 0.005, 0.0, -0.008])
    return np.concatenate([bridge, np.stack([x, y], axis=-1)])


def _mouth(params: FaceParams) -> Array:
    mouth = params.mouth
    outer = np.array([-1, -0.6, -0.24, 0, 0.24, 0.6, 1], np.float32)
    inner = np.array([-0.9, -0.4, 0, 0.4, 0.9], np.float32)
    top, _, _, bottom = shape.lips(mouth, outer)
    _, low, high, _ = shape.lips(mouth, inner)
    s = np.concatenate([outer, outer[-2:0:-1], inner, inner[-2:0:-1]])
    t = np.concatenate([top, bottom[-2:0:-1], low, high[-2:0:-1]])
    width = shape.mouth_width(mouth)
    return np.stack([s * width, mouth.height + t * width], axis=-1)
