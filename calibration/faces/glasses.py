"""Spectacles, drawn in the picture over the posed head."""

from __future__ import annotations

import numpy as np

from calibration.faces.canvas import Array, Canvas, smooth, tint
from calibration.faces.light import direction
from calibration.faces.params import FaceParams
from calibration.faces.pose import Projection

_FRONT = 0.035  # the lenses stand this far before the point between the eyes
_ASPECT = {"round": 0.92, "oval": 0.68, "rectangle": 0.62, "sun": 0.80}
_POWER = {"round": 2.0, "oval": 2.2, "rectangle": 4.5, "sun": 3.0}


def paint_glasses(picture: Array, params: FaceParams, canvas: Canvas, to: Projection) -> None:
    """Paint the shadow, the lenses and the frame, in place.

    Args:
        picture: (3, n, n) linear-light picture with the posed head.
        params: The face; nothing is drawn for style "none".
        canvas: Raster of the picture.
        to: The pose.
    """
    glasses = params.glasses
    if glasses.style == "none":
        return
    rims, wires, arms = _outlines(params, to)
    width = 0.005 + 0.013 * glasses.rim
    frame = canvas.stroke(rims, width, closed=True)
    frame = np.maximum(frame, canvas.stroke(wires, max(width, 0.008)))
    frame = np.maximum(frame, canvas.stroke(arms, width))
    lx, ly, _ = direction(params.light)
    shift = (round(-0.018 * lx * canvas.n), round((-0.020 * ly + 0.006) * canvas.n))
    cast = np.roll(canvas.blur(frame, 0.006), shift, axis=(1, 0)).astype(np.float32)
    picture *= 1 - cast * (0.35 / 255)
    lens = canvas.fill(*rims).astype(np.float32) / 255
    dark = 0.93 if glasses.style == "sun" else 0.45 * glasses.tint
    passed = 1 - dark * tint((1.0, 0.97, 0.93))
    picture *= 1 - lens * (1 - passed)
    slant = canvas.x - 0.6 * canvas.y
    streaks = np.exp(-(((slant - 0.16) / 0.03) ** 2)) + np.exp(-(((slant + 0.10) / 0.04) ** 2))
    fall = np.clip(0.55 - 2.2 * (canvas.y - 0.0), 0, 1)
    picture += lens * ((0.12 * streaks + 0.05 * fall) * glasses.glare)
    solid = canvas.blur(frame, 0.0012).astype(np.float32) / 255
    relief = canvas.blur(frame, 0.003).astype(np.float32) / 255
    edge = np.clip(relief - np.roll(relief, max(1, canvas.n // 128), axis=0), 0, 1)
    colour = tint(glasses.colour) * 0.8 + (0.22 * edge)
    picture += solid * (colour - picture)


def _outlines(params: FaceParams, to: Projection) -> tuple[list[Array], list[Array], list[Array]]:
    """Rims (closed), bridge, and temples in picture coordinates."""
    glasses, style = params.glasses, params.glasses.style
    half, power = glasses.size, 2 / _POWER[style]
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    x = np.sign(c) * np.abs(c) ** power * half
    y = np.sign(s) * np.abs(s) ** power * half * _ASPECT[style]
    x = x * (1 - 0.08 * s)
    centre = max(params.eyes.spacing + 0.004, half + 0.014)
    z = float(to.depth_at(np.array([[0.0, 0.03]], np.float32))[0]) + _FRONT
    rims, arms = [], []
    for side in (-1, 1):
        rim = np.stack([side * (centre + x), y + 0.012], axis=-1)
        bowed = z - 0.5 * (np.abs(rim[:, 0]) / 0.25) ** 2 * 0.07
        rims.append(to.forward(rim, bowed.astype(np.float32)))
        edge = params.head.width + 0.008
        arm = np.array([(centre + 0.98 * half, -0.012), (edge, -0.018)]) * [side, 1]
        arms.append(to.forward(arm, np.array([z - 0.05, 0.02], np.float32)))
    gap = centre - half
    bridge = smooth(np.array([(-gap - 0.003, 0.0), (0, -0.016), (gap + 0.003, 0.0)]))
    return rims, [to.forward(bridge, z)], arms
