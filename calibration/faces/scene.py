"""What is behind and below the face: backdrop, neck, shoulders and clothes."""

from __future__ import annotations

import math

import cv2
import numpy as np

from calibration.faces.canvas import Array, Canvas, enlarge, ramp, smooth, tint
from calibration.faces.light import direction
from calibration.faces.noise import lattice, octaves, patch
from calibration.faces.params import FaceParams
from calibration.faces.pose import Projection
from calibration.faces.skin import base_colour

_BODY = 4  # the body is painted below this many eighths of the picture
_BEHIND = 0.04  # depth of the neck and shoulders: behind the face, turned with the head


def backdrop(params: FaceParams, canvas: Canvas, rng: np.random.Generator) -> Array:
    """(3, n, n) linear-light backdrop, out of focus."""
    scene, small = params.scene, canvas.resized(max(canvas.n // 4, 32))
    near, far = tint(scene.near), tint(scene.far)
    angle, n = rng.uniform(0, 2 * np.pi), small.n
    slope = 0.5 + 0.6 * (math.cos(angle) * small.x + math.sin(angle) * (small.y - 0.07))
    mix = slope + 0.15 * octaves(rng, n, (3, 5), 0.5) * scene.detail
    if scene.backdrop == "cloudy":
        mix = 0.5 + 0.28 * octaves(rng, n, (4, 8, 16, 30), 0.55)
    elif scene.backdrop == "stripes":
        bars = np.sort(rng.uniform(-0.5, 0.5, int(4 + 8 * scene.detail)))
        level = rng.uniform(-0.1, 1.1, len(bars) + 1)
        mix = level[np.searchsorted(bars, small.x + 0.15 * math.sin(angle) * small.y)]
    picture = far + ramp(mix).astype(np.float32) * (near - far)
    if scene.backdrop in ("blobs", "foliage"):
        picture = _spots(picture, small, params, rng)
    blur = 0.006 if scene.backdrop == "cloudy" else 0.014 + 0.03 * rng.random()
    picture = np.stack([small.blur(plane, blur) for plane in picture.astype(np.float32)])
    picture = enlarge(picture, canvas.n)
    grain = lattice(rng, canvas.n, 160) * 0.02 * scene.detail
    return np.clip(picture, 0.002, 2) * (1 + grain)


def _spots(picture: Array, small: Canvas, params: FaceParams, rng: np.random.Generator) -> Array:
    picture = np.ascontiguousarray(picture.transpose(1, 2, 0))
    foliage = params.scene.backdrop == "foliage"
    count = int(20 + 60 * params.scene.detail)
    centres = rng.integers(0, small.n, (count, 2))
    radii = small.n * rng.uniform(0.01, 0.05 if foliage else 0.10, count) + 1
    tints = np.exp(
        rng.normal(0, 0.10 if foliage else 0.16, (count, 3)) + rng.normal(0, 0.6, (count, 1))
    )
    for (x, y), radius, gain in zip(centres.tolist(), radii, tints, strict=True):
        colour = np.minimum(picture[y, x] * gain, 1.5).tolist()
        cv2.circle(picture, (x, y), int(radius), colour, -1)
    return picture.transpose(2, 0, 1)


def paint_body(
    picture: Array,
    params: FaceParams,
    canvas: Canvas,
    to: Projection,
    *,
    shadow: Array,
    rng: np.random.Generator,
) -> None:
    """Paint neck, shoulders and clothes over the backdrop, in place.

    Args:
        picture: (3, n, n) linear-light colours.
        params: The face.
        canvas: Raster of the picture.
        to: The pose.
        shadow: (n, n) factor by which the head dims what is below it.
        rng: Fabric and skin.
    """
    neck = canvas.blur(canvas.fill(to.forward(_neck(params), _BEHIND)), 0.003)
    cloth = canvas.blur(canvas.fill(to.forward(_cloth(params), _BEHIND)), 0.002)
    rows = slice(_BODY * canvas.n // 8, canvas.n)
    part, shade = picture[:, rows], shadow[rows]
    half = canvas.resized(canvas.n // 2)
    skin = _wide(_neck_colour(params, half, to, rng), rows) * shade
    part += (neck[rows] * np.float32(1 / 255)) * (skin - part)
    hem = canvas.blur(cloth[rows], 0.012) * (neck[rows] > 0)
    part *= 1 - hem * np.float32(0.35 / 255)
    fabric = _wide(_fabric(params, half, rng), rows) * shade
    part += (cloth[rows] * np.float32(1 / 255)) * (fabric - part)


def _wide(planes: Array, rows: slice) -> Array:
    """Planes (3, h, w) of the lower part of the picture at twice the resolution."""
    size = (2 * planes.shape[2], rows.stop - rows.start)
    return np.stack([cv2.resize(p, size, interpolation=cv2.INTER_LINEAR) for p in planes])


def _below(canvas: Canvas) -> Array:
    """(h, 1) ordinates of the rows where the body is painted."""
    return canvas.y[_BODY * canvas.n // 8 :]


def _neck_width(params: FaceParams) -> float:
    return params.head.width * (0.50 + 0.22 * params.head.jaw)


def _neck(params: FaceParams) -> Array:
    w, chin = _neck_width(params), params.head.chin
    right = [(0.98 * w, 0.15), (w, chin - 0.05), (1.02 * w, chin + 0.02), (1.35 * w, chin + 0.09)]
    right += [(2.3 * w, chin + 0.14), (0.75, chin + 0.24), (0.8, 0.9)]
    points = np.array([(-x, y) for x, y in right] + right[::-1], np.float32)
    return smooth(points)


def _cloth(params: FaceParams) -> Array:
    w, chin, collar = _neck_width(params), params.head.chin, params.scene.collar
    shoulder = [(1.6 * w, chin + 0.095), (2.4 * w, chin + 0.125), (0.8, chin + 0.22), (0.85, 1.0)]
    inner = {
        "crew": [(0.0, chin + 0.15), (0.6 * w, chin + 0.135), (1.15 * w, chin + 0.07)],
        "v": [(0.0, chin + 0.33), (0.6 * w, chin + 0.19), (1.2 * w, chin + 0.065)],
        "shirt": [(0.0, chin + 0.20), (0.55 * w, chin + 0.13), (1.04 * w, chin + 0.03)],
        "turtleneck": [(0.0, chin + 0.035), (0.6 * w, chin + 0.028), (1.04 * w, chin - 0.01)],
        "bare": [(0.0, chin + 0.45), (0.8 * w, chin + 0.40), (2.0 * w, chin + 0.20)],
    }[collar]
    right = inner + shoulder
    points = np.array(right + [(-x, y) for x, y in right[:0:-1]], np.float32)
    return smooth(points, 5, closed=True)


def _neck_colour(
    params: FaceParams, canvas: Canvas, to: Projection, rng: np.random.Generator
) -> Array:
    skin, light = params.skin, params.light
    lx, ly, lz = direction(light)
    axis = to.forward(np.array([[0.0, params.head.chin + 0.05]], np.float32), _BEHIND)[0]
    x = (canvas.x - axis[0]) / (1.25 * _neck_width(params) * params.pose.scale)
    below = _below(canvas) - axis[1]
    turn = np.clip(x, -1, 1) * (1 - 0.6 * ramp(below / 0.08))
    facing = turn * lx + np.sqrt(np.clip(1 - turn * turn, 0, 1)) * lz
    lit = light.fill * 0.42 + (1 - 0.45 * light.fill) * np.clip(facing + 0.2, 0.05, 1.2)
    high = float(np.clip(-ly, 0, 1))
    drop = below - 0.10 * high + 0.05 - 0.5 * np.abs(x - 0.4 * lx) ** 2 * 0.1
    lit *= 0.45 + 0.55 * ramp(drop / 0.09 + 0.5)
    tendon = np.exp(-(((np.abs(x) - 0.55 + 1.6 * below) / 0.10) ** 2)) * ramp(
        0.8 - 6 * np.abs(below)
    )
    lit *= 1 - 0.10 * tendon + 0.03 * lattice(rng, canvas.n, 20)[: len(below)]
    return (base_colour(skin.tone, skin.warmth) * 0.93 * lit).astype(np.float32)


def _fabric(params: FaceParams, canvas: Canvas, rng: np.random.Generator) -> Array:
    scene, n = params.scene, canvas.n
    lx, _, _ = direction(params.light)
    folds = cv2.resize(patch(rng, 6, 14), (n, n), interpolation=cv2.INTER_CUBIC)
    y = _below(canvas)
    folds = folds[: len(y)]
    shade = 0.80 + 0.35 * lx * canvas.x + 0.12 * folds + 0.035 * lattice(rng, n, 110)[: len(y)]
    if scene.stripes > 0.5:
        count = 14 + 50 * (scene.stripes - 0.5)
        wave = np.sin(2 * np.pi * count * (canvas.x * 0.25 + y + 0.015 * folds))
        shade = shade * (1 + 0.45 * ramp(wave + 0.5))
    edge = ramp((y - 0.40) / 0.15)
    return tint(scene.cloth) * (shade * (0.7 + 0.35 * edge))
