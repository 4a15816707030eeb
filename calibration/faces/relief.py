"""Depth of the face: the height field that is lit, and the smoother one that the pose turns."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from calibration.faces.canvas import Array, Canvas, blobs, mirrored, ramp
from calibration.faces.params import FaceParams
from calibration.faces.shape import half_width, mouth_width


def depth(params: FaceParams, canvas: Canvas) -> Array:
    """Depth z of the skin for shading, z = skull + sum of Gaussian features; (n, n).

    The skull's cross-section at height y is a superellipse of half width w(y),
    z = d(y) (1 - |x / w|^p)^(1/2) with p from 2.5 at the forehead to 1.7 at the jaw; it is carried
    a little beyond the outline so that the edge of the face still turns away from the viewer.
    """
    head = params.head
    w = 1.05 * half_width(head, canvas.y / 1.03) + 0.012
    d = 0.25 * np.minimum(w / head.width, 1.0) ** 0.55
    power = 2.5 - 0.8 * ramp((canvas.y - 0.02) / 0.36)
    inside = np.clip(1 - np.abs(canvas.x / w) ** power, 0, None)
    return d * inside**0.5 + blobs(canvas, features(params))


def features(params: FaceParams) -> Array:
    """Table (k, 5) of the bumps and hollows of the face, for `blobs`."""
    eyes, nose, mouth, skin = params.eyes, params.nose, params.mouth, params.skin
    tip, wing, bridge = nose.length, nose.width, 0.008 + 0.010 * nose.bridge
    lip, smile, e = mouth.height, max(mouth.smile, 0.0), eyes.spacing
    width, hollow = mouth_width(mouth), 0.5 + skin.age
    chin = params.head.chin
    middle = [
        (bridge * 0.6, 0, -0.02, 0.022, 0.035),
        (bridge, 0, 0.25 * tip, 0.024, 0.035),
        (bridge * 1.1, 0, 0.55 * tip, 0.030, 0.034),
        (0.017, 0, 0.80 * tip, 0.033, 0.026),
        (0.032 + 0.008 * nose.tip, 0, tip, 0.022 + 0.007 * nose.tip, 0.019),
        (-0.010, 0, tip + 0.045, 0.030, 0.012),
        (0.020, 0, lip - 0.005, 0.075, 0.060),
        (-0.003, 0, lip - 0.035, 0.006, 0.014),
        (0.007, 0, lip - 0.016, 0.5 * width, 0.009),
        (0.010, 0, lip + 0.026, 0.45 * width, 0.012),
        (-0.011, 0, lip + 0.062, 0.055, 0.014),
        (0.018, 0, chin - 0.065, 0.050, 0.032),
        (0.010, 0, -0.20, 0.14, 0.09),
        (0.004, 0, -0.075, 0.03, 0.02),
    ]
    side = [
        (0.017, 0.72 * wing, tip + 0.004, 0.30 * wing, 0.017),
        (-0.005, 1.15 * wing, tip - 0.005, 0.012, 0.020),
        (-0.018, e - 0.35 * eyes.width, -0.004, 0.036, 0.024),
        (-0.010, e + 0.5 * eyes.width, 0.0, 0.035, 0.026),
        (0.011, e, 0.0, 0.032, 0.020),
        (0.009, e - 0.02, -params.brows.height + 0.005, 0.065, 0.020),
        (0.016 + 0.010 * smile, 0.145, 0.115, 0.055, 0.045),
        (0.010 * smile * params.head.cheeks + 0.006, 0.125, 0.17, 0.04, 0.04),
        (-0.007 * hollow, 0.15, 0.235, 0.045, 0.055),
        (-0.003 * hollow - 0.004 * smile, 0.105, 0.205, 0.014, 0.030),
        (-0.004 - 0.003 * smile, width + 0.012, lip - 0.05 * smile, 0.012, 0.016),
        (0.002 * hollow, e - 0.01, 0.048, 0.04, 0.010),
        (-0.008, 0.22, -0.12, 0.04, 0.06),
    ]
    return np.array(middle + mirrored(side), np.float32)


def turning_depth(params: FaceParams, canvas: Canvas) -> Array:
    """Depth z used to move points when the head turns; (n, n).

    A paraboloid with the nose, brows and mouth on it: its slope stays below 2, so that turning by
    up to 0.5 rad keeps the picture one-to-one over the visible face.
    """
    w = params.head.width
    bowl = 0.24 * (1 - (canvas.x / (1.2 * w)) ** 2 - 0.35 * ((canvas.y - 0.05) / 0.45) ** 2)
    nose = params.nose
    table = [
        (0.022 + 0.008 * nose.bridge, 0, 0.55 * nose.length, 0.034, 0.050),
        (0.044, 0, nose.length, 0.036, 0.030),
        (0.014, 0, params.mouth.height, 0.09, 0.06),
        (0.014, 0, params.head.chin - 0.06, 0.06, 0.04),
        *mirrored([(-0.008, params.eyes.spacing, 0.0, 0.05, 0.03)]),
    ]
    return np.maximum(bowl, -0.04) + blobs(canvas, np.array(table))


def slopes(z: Array) -> tuple[Array, Array]:
    """dz/dx and dz/dy of a (n, n) height field that spans one crop side."""
    scale = z.shape[0] / 8
    across = cv2.Sobel(z, cv2.CV_32F, 1, 0, ksize=3, scale=scale)
    return cast(Array, across), cast(Array, cv2.Sobel(z, cv2.CV_32F, 0, 1, ksize=3, scale=scale))
