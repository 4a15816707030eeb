"""Albedo of the skin: tone, flushed and shaded zones, pores, freckles, wrinkles, nostrils."""

from __future__ import annotations

import cv2
import numpy as np

from calibration.faces.canvas import Array, Canvas, blobs, enlarge, mirrored, resize, smooth, tint
from calibration.faces.noise import lattice, octaves, patch
from calibration.faces.params import FaceParams
from calibration.faces.shape import eye_points, lower_lid, mouth_width

_TONES = np.array(  # sRGB, from lightest to darkest
    [
        (240, 207, 190),
        (231, 190, 167),
        (218, 172, 142),
        (194, 142, 108),
        (158, 110, 80),
        (118, 78, 55),
        (82, 54, 40),
    ],
    np.float32,
)


def base_colour(tone: float, warmth: float) -> Array:
    """Linear-light albedo (3, 1, 1) of a tone in 0..1; warmth -1 is pinker, 1 more yellow."""
    linear = (_TONES / 255) ** 2.2
    at = np.linspace(0, 1, len(linear))
    colour = np.array([np.interp(tone, at, linear[:, k]) for k in range(3)])
    shift = np.array([0.02, 0.05, -0.12]) * warmth
    return tint(colour * (1 + shift))


def albedo(params: FaceParams, canvas: Canvas, rng: np.random.Generator) -> Array:
    """(3, n, n) linear-light colour of the bare skin with its folds, everywhere on the canvas."""
    n, skin = canvas.n, params.skin
    coarse = canvas.resized(n // 2)
    blush = 0.30 + 0.5 * skin.blush
    red = blobs(coarse, _red_zones(params)) * blush
    red += 0.10 * octaves(rng, coarse.n, (4, 9, 18)) * (0.5 + skin.roughness)
    dark = blobs(coarse, _dark_zones(params))
    dark += 0.045 * (0.4 + skin.roughness) * octaves(rng, coarse.n, (6, 14, 30))
    fair = 1 - 0.75 * skin.tone
    shift = red * tint((-0.04, -0.27, -0.21)) * (0.4 + 0.6 * fair)
    shift -= dark * tint((0.75, 0.95, 0.95))
    colour = enlarge(np.exp(shift) * base_colour(skin.tone, skin.warmth), n)
    return colour * (1 - _marks(params, canvas))


def grain(params: FaceParams, canvas: Canvas, rng: np.random.Generator) -> Array:
    """(n, n) fine structure of the skin, about 1: pores, unevenness, freckles."""
    n, skin = canvas.n, params.skin
    fine = 0.6 * lattice(rng, n, 250) + 0.8 * lattice(rng, n, 120) + 0.7 * lattice(rng, n, 50)
    detail = 1 + (0.010 + 0.026 * skin.roughness) * fine
    if skin.freckles > 0.05:
        detail *= 1 - _freckles(params, canvas, rng)
    return detail


def _freckles(params: FaceParams, canvas: Canvas, rng: np.random.Generator) -> Array:
    spots = np.clip(patch(rng, 110, 110) - 1.35, 0, 1.2)
    spots = resize(spots, canvas.n, cv2.INTER_CUBIC)
    small = canvas.resized(64)
    zone = blobs(
        small, np.array(mirrored([(0.8, 0.10, 0.10, 0.07, 0.05), (0.5, 0, 0.08, 0.1, 0.1)]))
    )
    zone = resize(zone, canvas.n)
    return np.clip(0.5 * params.skin.freckles * spots * zone, 0, 0.6)


def _red_zones(params: FaceParams) -> Array:
    tip, lip = params.nose.length, params.mouth.height
    middle = [
        (0.9, 0, tip, 0.04, 0.03),
        (0.5, 0, params.head.chin - 0.06, 0.06, 0.03),
        (-0.4, 0, -0.22, 0.16, 0.08),
        (0.4, 0, lip, 0.12, 0.03),
    ]
    side = [
        (1.1, 0.145, 0.135, 0.055, 0.045),
        (0.7, params.eyes.spacing, -0.005, 0.05, 0.03),
        (0.9, params.head.width + 0.02, 0.04, 0.03, 0.06),
        (0.5, params.nose.width, tip + 0.01, 0.015, 0.02),
    ]
    return np.array(middle + mirrored(side), np.float32)


def _dark_zones(params: FaceParams) -> Array:
    eyes, age, tip, wing = params.eyes, params.skin.age, params.nose.length, params.nose.width
    e, low = eyes.spacing, params.mouth.height
    middle = [
        (0.16, 0, tip + 0.036, 0.6 * wing, 0.008),
        (0.10, 0, low + 0.066, 0.045, 0.010),
    ]
    side = [
        (0.10 + 0.16 * age, e - 0.012, 0.036, 0.035, 0.012),
        (0.13 + 0.40 * eyes.shadow, e, -0.024, 0.045, 0.014),
        (0.16, e - 1.05 * eyes.width, -0.004, 0.014, 0.018),
        (0.16, 1.1 * wing, tip + 0.008, 0.008, 0.018),
        (0.10 * age, 0.16, 0.24, 0.04, 0.06),
    ]
    return np.array(middle + mirrored(side), np.float32)


def _marks(params: FaceParams, canvas: Canvas) -> Array:
    """Darkening by folds and wrinkles (blurred strokes) and by the nostrils."""
    skin, mouth, nose, eyes = params.skin, params.mouth, params.nose, params.eyes
    tip, wing, smile = nose.length, nose.width, max(mouth.smile, 0.0)
    width = mouth_width(mouth)
    fold = [
        (1.15 * wing, tip - 0.004),
        (wing + 0.030, tip + 0.035),
        (width + 0.022, mouth.height - 0.028),
    ]
    fold.append((width + 0.026, mouth.height + 0.01))
    groups: list[tuple[float, float, float, list[Array]]] = [
        (0.10 + 0.16 * smile + 0.26 * skin.age, 0.008, 0.006, _both(fold)),
    ]
    s = np.linspace(-0.95, 0.55, 8, dtype=np.float32)
    bag = eye_points(eyes, 1, s, lower_lid(eyes, s) + 0.34 + 0.08 * np.cos(s))
    groups.append((0.10 + 0.24 * skin.age + 0.10 * smile, 0.006, 0.004, _both(bag)))
    outer = eyes.spacing + eyes.width
    if skin.age > 0.4:
        older = skin.age - 0.4
        feet = [
            [(outer + 0.012, y), (outer + 0.045, y + d)]
            for y, d in ((-0.012, -0.016), (0.002, 0.002), (0.014, 0.02))
        ]
        lines = [line for foot in feet for line in _both(foot)]
        for k, y in enumerate((-0.15, -0.18, -0.21)):
            half = 0.13 - 0.015 * k
            x = np.linspace(-half, half, 9)
            lines.append(np.stack([x, y + 0.006 * np.cos(9 * x + k)], axis=-1).astype(np.float32))
        lines += _both([(0.016, -0.075), (0.012, -0.05)])
        groups.append((0.55 * older + 0.1 * smile * older, 0.005, 0.0035, lines))
    total = np.zeros((canvas.n, canvas.n), np.float32)
    for strength, stroke, blur, lines in groups:
        mask = canvas.blur(canvas.stroke(lines, stroke), blur)
        total += mask.astype(np.float32) * (strength / 255)
    side = np.array([(0.30, 0.020), (0.58, 0.012), (0.78, 0.022), (0.52, 0.029)]) * [wing, 1.0]
    holes = _both(smooth(side + np.array([0, tip]), closed=True))
    nostrils = canvas.blur(canvas.fill(*holes), 0.0035).astype(np.float32) * (0.72 / 255)
    crease = [(0.98 * wing, tip - 0.018), (1.12 * wing, tip), (1.0 * wing, tip + 0.02)]
    wings = canvas.blur(canvas.stroke(_both(smooth(np.array(crease))), 0.006), 0.005)
    total += wings.astype(np.float32) * (0.30 / 255)
    return np.clip(np.maximum(total, nostrils), 0, 0.9)


def _both(points: object) -> list[Array]:
    """A curve on the picture's right and its mirror image."""
    right = np.asarray(points, np.float32)
    return [right, right * np.array([-1, 1], np.float32)]
