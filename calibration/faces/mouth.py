"""Lips, and the teeth between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np

from calibration.faces.canvas import Array, Canvas, ramp, tint
from calibration.faces.noise import lattice
from calibration.faces.params import FaceParams, Mouth
from calibration.faces.shape import lips, mouth_width
from calibration.faces.skin import base_colour

_TEETH = tint((0.74, 0.69, 0.59))
_GUMS = tint((0.30, 0.09, 0.08))
_DARK = tint((0.020, 0.006, 0.005))
_EDGES = np.array([0.0, 0.145, 0.265, 0.375, 0.465, 0.55, 0.63, 0.72], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Pixels around the mouth in its own coordinates.

    Attributes:
        s: (h, w), -1 and 1 at the corners.
        t: (h, w), down in the same unit, 0 where closed lips meet.
        top: (w,) t of the upper lip's upper edge.
        inner_top: (w,) t of the upper lip's lower edge.
        inner_bottom: (w,) t of the lower lip's upper edge.
        bottom: (w,) t of the lower lip's lower edge.
        edge: Width of a pixel.
    """

    s: Array
    t: Array
    top: Array
    inner_top: Array
    inner_bottom: Array
    bottom: Array
    edge: float


def paint_mouth(
    picture: Array, params: FaceParams, canvas: Canvas, lit: Array, rng: np.random.Generator
) -> None:
    """Paint the lips and the inside of the mouth over the lit skin, in place.

    Args:
        picture: (3, n, n) linear-light colours.
        params: The face.
        canvas: Raster of the picture.
        lit: (3, n, n) diffuse irradiance.
        rng: Lines on the lips.
    """
    mouth, w = params.mouth, mouth_width(params.mouth)
    rows, columns = canvas.window((0.0, mouth.height + 0.15 * w), (1.25 * w, 1.15 * w))
    skin, light = picture[:, rows, columns], lit[:, rows, columns]
    at = _frame(mouth, canvas, rows, columns)
    inside = np.minimum(at.t - at.top, at.bottom - at.t)
    cover = ramp(inside / (3.2 * at.edge) + 0.42) * ramp((1.02 - np.abs(at.s)) / 0.10)
    lip = _lip_colour(params) * light * _lip_shade(params, at)
    lines = lattice(rng, 64, 40)[0]
    streak = np.interp(at.s[0], np.linspace(-1, 1, 64), lines).astype(np.float32)
    lip = lip * (1 + 0.05 * streak)[None, :]
    skin += (cover * (0.82 + 0.18 * mouth.lipstick)) * (lip - skin)
    skin += cover * _gloss(params, at)
    opening = ramp(np.minimum(at.t - at.inner_top, at.inner_bottom - at.t) / at.edge + 0.5)
    opening *= mouth.opening > 0.03
    cavity = _inside(mouth, at)
    cavity *= 0.35 + 0.65 * light.mean(axis=(1, 2), keepdims=True)
    skin += opening * (cavity - skin)
    skin *= 1 - _line(mouth, at) * tint((0.90, 1.0, 1.0))


def _frame(mouth: Mouth, canvas: Canvas, rows: slice, columns: slice) -> _Frame:
    w = mouth_width(mouth)
    s = canvas.x[:, columns] / w + 0 * canvas.y[rows]
    t = (canvas.y[rows] - mouth.height) / w + 0 * s
    top, inner_top, inner_bottom, bottom = lips(mouth, np.clip(s[0], -1, 1))
    return _Frame(
        s=s,
        t=t,
        top=top,
        inner_top=inner_top,
        inner_bottom=inner_bottom,
        bottom=bottom,
        edge=1.2 / (canvas.n * w),
    )


def _lip_colour(params: FaceParams) -> Array:
    base = base_colour(params.skin.tone, params.skin.warmth)
    bare = base * tint((0.72, 0.46, 0.50))
    paint = tint(params.mouth.lip_colour)
    return cast(Array, bare + 0.85 * params.mouth.lipstick * (paint - bare))


def _lip_shade(params: FaceParams, at: _Frame) -> Array:
    """(h, w): the upper lip faces down and is darker, the lower lip rounds off."""
    upper = np.clip((at.t - at.top) / np.maximum(at.inner_top - at.top, 1e-3), 0, 1)
    lower = np.clip((at.t - at.inner_bottom) / np.maximum(at.bottom - at.inner_bottom, 1e-3), 0, 1)
    on_upper = at.t < at.inner_top
    high = math.sin(params.light.elevation)
    shade_upper = 1.0 - 0.12 * high - 0.32 * upper**2
    shade_lower = 0.72 + 0.42 * np.sin(np.pi * np.clip(0.12 + 0.75 * lower, 0, 1)) - 0.2 * lower**3
    shade = np.where(on_upper, shade_upper, shade_lower)
    return shade * (1 - 0.10 * at.s * at.s)


def _gloss(params: FaceParams, at: _Frame) -> Array:
    lower = (at.t - at.inner_bottom) / np.maximum(at.bottom - at.inner_bottom, 1e-3)
    x = at.s - 0.25 * math.sin(params.light.azimuth)
    shape = np.exp(-(((lower - 0.38) / 0.18) ** 2) - (x / 0.4) ** 2)
    return (0.035 + 0.07 * params.mouth.lipstick + 0.03 * params.skin.shine) * shape


def _inside(mouth: Mouth, at: _Frame) -> Array:
    """(3, h, w) teeth against the dark of the mouth."""
    s, t, inner_top = at.s, at.t, at.inner_top
    reach = 0.30 - 0.06 * s * s
    gum = 0.02 * mouth.smile
    across = np.abs(s)
    spacing = np.min(np.abs(across[0, :, None] - _EDGES), axis=-1)
    index = np.searchsorted(_EDGES, across[0])
    ends = np.array([0.0, 0.0, 0.022, 0.0, 0.014, 0.02, 0.03, 0.04, 0.05], np.float32)[index]
    tooth_end = inner_top + gum + reach - ends
    gap = 1 - 0.26 * np.exp(-((spacing / 0.016) ** 2)) * ramp((t - inner_top) / 0.08)
    round_off = 1 - 0.25 * ramp((t - tooth_end + 0.06) / 0.06)
    buccal = np.clip(1 - 0.72 * across**2.6, 0.05, 1)
    lip_shade = 1 - 0.28 * np.exp(-np.clip(t - inner_top, 0, None) / 0.06)
    teeth = _TEETH * (gap * round_off * buccal * lip_shade)
    on = ramp((tooth_end - t) / at.edge + 0.5)
    depth = ramp((t - tooth_end) / 0.5)
    cavity = _DARK + depth * (_GUMS * 0.55 - _DARK) * np.clip(1 - across**2, 0, 1)
    return cavity + on * (teeth - cavity)


def _line(mouth: Mouth, at: _Frame) -> Array:
    """Darkening (h, w) by the line between the lips and the corners of the mouth."""
    s, t, inner_top = at.s, at.t, at.inner_top
    width = 0.020 + 0.6 * at.edge
    window = ramp((1.04 - np.abs(s)) / 0.12)
    closed = 1 - 0.6 * min(mouth.opening / 0.2, 1.0)
    line = np.exp(-0.5 * ((t - inner_top) / width) ** 2) * window * closed
    corner_t = 0.5 * (inner_top[0] + at.inner_bottom[0])
    corner = np.exp(-(((np.abs(s) - 0.98) / 0.10) ** 2) - ((t - corner_t) / 0.07) ** 2)
    return cast(Array, np.clip(0.74 * line + 0.42 * corner, 0, 0.9))
