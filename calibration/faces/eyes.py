"""Eyeballs, lids and lashes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.faces.canvas import Array, Canvas, ramp, tint
from calibration.faces.light import direction
from calibration.faces.noise import lattice
from calibration.faces.params import Eyes, FaceParams
from calibration.faces.shape import (
    iris_centre,
    lower_lid,
    upper_lid,
)

_SCLERA = tint((0.60, 0.56, 0.53))
_LASH = tint((0.015, 0.010, 0.008))
_RIM = tint((0.50, 0.24, 0.20))  # tear duct and water line
_IRIS = 0.41  # radius in half widths of the eye


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Pixels around one eye in its own coordinates; each (h, w).

    Attributes:
        s: Outwards, -1 at the inner corner, 1 at the outer.
        t: Down, in the same unit.
        up: t of the upper lid at s.
        low: t of the lower lid at s.
        edge: Width of a pixel.
        side: -1 for the eye on the picture's left, 1 for the right.
    """

    s: Array
    t: Array
    up: Array
    low: Array
    edge: float
    side: int


def paint_eyes(
    picture: Array, params: FaceParams, canvas: Canvas, lit: Array, rng: np.random.Generator
) -> None:
    """Paint both eyes over the lit skin, in place.

    Args:
        picture: (3, n, n) linear-light colours.
        params: The face.
        canvas: Raster of the picture.
        lit: (3, n, n) diffuse irradiance.
        rng: Iris fibres.
    """
    fibres = lattice(rng, 64, 24)
    for side in (-1, 1):
        e = params.eyes.width
        centre = side * params.eyes.spacing, -0.15 * e
        rows, columns = canvas.window(centre, (1.7 * e, 1.2 * e))
        light = lit[:, rows, columns].mean(axis=(1, 2), keepdims=True)
        at = _frame(params.eyes, canvas, side, rows, columns)
        _paint_eye(picture[:, rows, columns], params, at, light, fibres)


def _frame(eyes: Eyes, canvas: Canvas, side: int, rows: slice, columns: slice) -> _Frame:
    e = eyes.width
    s = side * (canvas.x[:, columns] - side * eyes.spacing) / e + 0 * canvas.y[rows]
    t = canvas.y[rows] / e + 0 * s
    edge = 1.1 / (canvas.n * e)
    up, low = upper_lid(eyes, np.clip(s, -1, 1)), lower_lid(eyes, np.clip(s, -1, 1))
    return _Frame(s=s, t=t, up=up, low=low, edge=edge, side=side)


def _paint_eye(skin: Array, params: FaceParams, at: _Frame, light: Array, fibres: Array) -> None:
    """Paint one eye over the lit skin (3, h, w), in place."""
    eyes, s, t, up, low, edge = params.eyes, at.s, at.t, at.up, at.low, at.edge
    inside = np.minimum(t - up, low - t)
    inside = np.minimum(inside, 1.05 - np.abs(s))
    opening = ramp(inside / edge + 0.5)

    skin *= _crease(eyes, at)
    ball = _eyeball(eyes, at, fibres) * (0.12 + 0.80 * light)
    ball += _highlight(params, at)
    skin += opening * (ball - skin)

    window = ramp((1.12 - np.abs(s)) / 0.2)
    thick = (0.030 + 0.035 * eyes.lashes) * (0.65 + 0.45 * np.clip(s, -1, 1)) + 0.4 * edge
    upper = np.exp(-0.5 * ((t - up + 0.4 * thick) / thick) ** 2) * window
    flick = np.exp(-0.5 * ((t - up + 0.10 - 0.06 * s) / 0.07) ** 2) * ramp((s + 0.2) / 1.2) * window
    lower = np.exp(-0.5 * ((t - low) / 0.045) ** 2) * window * ramp((s + 0.7) / 0.8)
    dark = 0.92 * upper + 0.55 * eyes.lashes * flick + (0.12 + 0.35 * eyes.lashes) * lower
    skin += np.clip(dark, 0, 0.94) * (_LASH - skin)


def _crease(eyes: Eyes, at: _Frame) -> Array:
    """Gain (h, w) by the fold of the upper lid and the light edge of the lower lid."""
    s, t, up, low = at.s, at.t, at.up, at.low
    window = ramp((1.25 - np.abs(s + 0.05)) / 0.45)
    fold = up - 0.17 - 0.05 * np.clip(1 - s * s, 0, 1)
    line = np.exp(-0.5 * ((t - fold) / 0.05) ** 2) * window
    lid = np.exp(-0.5 * ((t - (up + fold) / 2) / 0.07) ** 2) * window
    rest = np.exp(-0.5 * ((t - low - 0.10) / 0.06) ** 2) * window
    return 1 - 0.55 * eyes.crease * line - (0.05 + 0.15 * eyes.lashes) * lid + 0.07 * rest


def _eyeball(eyes: Eyes, at: _Frame, fibres: Array) -> Array:
    """(3, h, w) albedo of sclera, iris and pupil with the shade of the lid on them."""
    s, t = at.s, at.t
    cs, ct = iris_centre(eyes, at.side)
    x, y = s - cs, t - ct
    r = np.sqrt(x * x + y * y) / _IRIS
    angle = np.arctan2(y, x)
    column = np.clip((angle / np.pi + 1) * 31.5, 0, 63).astype(np.int32)
    fibre = fibres[np.clip(r * 8, 0, 10).astype(np.int32), column]
    iris = tint(eyes.iris)
    glow = 0.75 + 0.65 * np.exp(-(((r - 0.55) / 0.25) ** 2)) + 0.18 * fibre
    toward = 0.85 + 0.5 * np.clip(y / _IRIS, -1, 1)  # light is gathered on the far side
    colour = iris * (glow * toward * (1 - 0.75 * ramp((r - 0.72) / 0.28)))
    soft = at.edge / _IRIS
    pupil = ramp((0.40 - r) / soft + 0.5)
    colour = colour * (1 - pupil) + 0.004 * pupil
    white = _SCLERA * (1 - 0.50 * s * s - 0.10 * np.clip(t, 0, 1))
    veins = tint((0.02, 0.10, 0.10)) * (s * s)
    white = white - veins
    duct = ramp((-0.78 - s) / 0.16)
    white = white + duct * (_RIM - white)
    disc = ramp((1 - r) / (1.6 * soft) + 0.5)
    ball = white + disc * (colour - white)
    shade = 1 - 0.68 * np.exp(-np.clip(t - at.up, 0, None) / 0.16)
    return ball * shade


def _highlight(params: FaceParams, at: _Frame) -> Array:
    """Reflection of the key light on the cornea."""
    lx, ly, _ = direction(params.light)
    cs, ct = iris_centre(params.eyes, at.side)
    x, y = at.s - cs - 0.20 * lx * at.side, at.t - ct - 0.10 * min(ly, 0.0) + 0.15
    size = 0.055 + 0.05 * params.light.softness
    dot = ramp((size - np.sqrt(x * x + y * y)) / (1.5 * at.edge) + 0.5)
    broad = np.exp(-((x / 0.2) ** 2) - ((y / 0.14) ** 2))
    return (0.85 * dot + 0.035 * broad).astype(np.float32)
