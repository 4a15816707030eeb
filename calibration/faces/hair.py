"""Hair on the head, in front of the face and behind the neck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from calibration.faces.canvas import Array, Canvas, enlarge, ramp, smooth, tint
from calibration.faces.light import direction
from calibration.faces.noise import lattice, octaves, strands
from calibration.faces.params import FaceParams, Hair
from calibration.faces.shape import outline

_LONG = 0.12  # hair that reaches lower than this hangs beside and behind the face
_GREY = tint((0.34, 0.335, 0.33))
_SHAVED = 0.012  # hair of less volume than this shows no strands


@dataclass(frozen=True, slots=True, kw_only=True)
class HairLayer:
    """Colour (3, n, n) linear light, and cover (n, n) in 0..1."""

    colour: Array
    cover: Array


def front_hair(params: FaceParams, canvas: Canvas, rng: np.random.Generator) -> HairLayer:
    """Hair on top of the head and at the sides of the face, lit."""
    hair = params.hair
    shaved = hair.volume < _SHAVED
    outer = canvas.blur(canvas.fill(_outer_outline(params, rng)), 0.003 + 0.004 * hair.curl)
    soft = 0.022 if shaved else 0.006 + 0.010 * (1 - hair.fringe) * (hair.length < _LONG)
    window = canvas.blur(canvas.fill(_window_outline(params)), soft)
    product = cv2.multiply(outer, 255 - window, scale=1 / 255**2, dtype=cv2.CV_32F)
    mask = cast(Array, product)
    texture = _texture(params, canvas, rng, (2.2 * hair.part, -1.3 * params.head.crown))
    if shaved:
        grain = 0.88 + 0.07 * lattice(rng, canvas.n, 180)
        cover = ramp(mask) * grain
    else:
        cover = ramp(
            mask * (2 - hair.curl) - 0.5 * (1 - hair.curl) + 1.6 * mask * (1 - mask) * texture
        )
    colour = _lit(params, canvas, texture)
    return HairLayer(colour=colour, cover=np.clip(cover, 0, 1) * np.float32(hair.amount))


def strand_colour(hair: Hair) -> Array:
    """Mean albedo (3, 1, 1) of the hair with its grey, for brows and beard."""
    base = tint(hair.colour)
    return base + np.float32(0.8 * hair.grey) * (_GREY - base)


def back_hair_outline(params: FaceParams) -> Array:
    """Closed outline (k, 2) of the hair hanging behind the neck; empty for short hair."""
    hair, w = params.hair, params.head.width
    if hair.length < _LONG:
        return np.zeros((0, 2), np.float32)
    out, low = w + 0.75 * hair.volume, hair.length
    right = [(0.9 * w, -0.15), (out, 0.05), (1.04 * out, 0.7 * low), (0.96 * out, low)]
    points = np.array([(-x, y) for x, y in right] + right[::-1], np.float32)
    return smooth(points)


def back_hair(params: FaceParams, canvas: Canvas, rng: np.random.Generator, crown: Array) -> Array:
    """(3, n, n) colour of the hair behind; it lies in the head's shade."""
    half = canvas.resized(canvas.n // 2)
    texture = _texture(params, half, rng, (float(crown[0]), float(crown[1])))
    return enlarge(_lit(params, half, texture) * np.float32(0.5), canvas.n)


def _outer_outline(params: FaceParams, rng: np.random.Generator) -> Array:
    """Closed outline of everything the hair could cover: skull plus volume, and hanging sides."""
    hair, head = params.hair, params.head
    curve = outline(head)
    right = curve[: len(curve) // 2]
    right = right[right[:, 1] < min(hair.length, 0.0) - 0.01][::4]
    height = np.clip(-right[:, 1] / head.crown, 0, 1)
    lift = hair.volume * (0.70 + 0.30 * ramp(height * 1.6))
    away = right - np.array([0, -0.08])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    sides = []
    w, low = head.width, hair.length
    for sign in (1, -1):
        bumps = np.interp(np.arange(len(right)), np.arange(0, 40, 2.5), rng.normal(size=16))
        from_crown = np.clip(right[:, 0] / head.width, 0, 1)
        rough = 1 + from_crown * ((0.10 + 0.22 * hair.curl) * bumps + 1.5 * sign * hair.part)
        points = right + away * (lift * np.clip(rough, 0.3, 1.8))[:, None]
        if low > _LONG:
            flare = (
                w + hair.volume * np.array([0.85, 1.15, 1.25, 0.95]) + 0.008 * rng.normal(size=4)
            )
            hang = np.stack([flare, np.array([0.06, 0.4 * low, 0.75 * low, low])], axis=-1)
        else:
            hang = np.array([(w + 0.4 * hair.volume, 0.4 * low - 0.01), (0.97 * w, low)])
        side = np.concatenate([points, hang]) * [sign, 1]
        sides.append(side if sign > 0 else side[:0:-1])
    return smooth(np.concatenate(sides), 5, closed=True)


def _window_outline(params: FaceParams) -> Array:
    """Closed outline of the face as the hair leaves it free; open towards the neck."""
    hair, head = params.hair, params.head
    w, line, low = head.width, -hair.hairline, hair.length
    inner, corner = hair.inner * w, 0.055 * hair.temple
    drop = hair.fringe * (hair.hairline - 0.085)
    if low > _LONG:
        sides = [(0.80 * inner, 0.95), (0.88 * inner, 0.6), (inner, 0.3), (inner, 0.12)]
    else:
        sides = [(1.3 * w, 0.9), (1.3 * w, low + 0.03), (0.985 * w, low), (0.955 * w, -0.02)]
    brow = min(inner, 0.92 * w)
    sides += [
        (brow, -0.07),
        (0.84 * w - 0.02 * hair.fringe, 0.52 * line - 0.6 * corner + 0.40 * drop),
        (0.55 * w, 0.86 * line - corner + 0.78 * drop),
    ]
    sweep = 0.045 * hair.fringe * np.sign(hair.part)
    right = [(x, y - (sweep if x < 0.9 * w and y < -0.05 else 0)) for x, y in sides]
    left = [(-x, y + (sweep if x < 0.9 * w and y < -0.05 else 0)) for x, y in sides]
    peak = (hair.part * 0.6, line + drop + 0.006 * (1 - hair.temple))
    return smooth(np.array([*right, peak, *left[::-1]]), 6, closed=True)


def _texture(
    params: FaceParams, canvas: Canvas, rng: np.random.Generator, crown: tuple[float, float]
) -> Array:
    """(n, n) noise in wide locks, locks and single hairs that run away from the crown."""
    hair, n = params.hair, canvas.n
    coarse = canvas.resized(64)
    x, y = coarse.x - crown[0], coarse.y - crown[1] + 0.05
    r = np.sqrt(x * x + y * y)
    swirl = 3.0 * hair.part * (1 + 2 * hair.fringe)
    angle = np.arctan2(x, y + 0.10) + swirl * np.sqrt(r)
    wobble = 0.05 * hair.wave * np.sin(r * (14 + 10 * hair.wave) + 2 * np.sin(4 * angle))
    across = angle * 0.45 + wobble + 0.010 * lattice(rng, coarse.n, 9)
    across, along = enlarge(np.stack([across, r]), n)
    total = strands(rng, across, along, 120)
    if hair.curl > 0.05:
        curls = 0.6 * octaves(rng, n, (40, 80, 150), 0.8)
        total += hair.curl * (curls - total)
    return total


def _lit(params: FaceParams, canvas: Canvas, texture: Array) -> Array:
    """Albedo, strand contrast, roundness of the head and the bands of sheen on it."""
    hair, head, light = params.hair, params.head, params.light
    lx, ly, lz = direction(light)
    coarse = canvas.resized(64)
    x = coarse.x / (1.15 * (head.width + hair.volume))
    y = (coarse.y + 0.02) / (1.1 * (head.crown + hair.volume))
    up = np.minimum(y, 0.0)
    z = np.sqrt(np.clip(1 - x * x - up * up, 0.02, 1))
    side = np.clip(0.30 + 0.8 * (x * lx + np.minimum(y, 0.1) * ly + z * lz), 0.06, 1.2)
    shade = (light.fill * 0.40 + (1.1 - 0.4 * light.fill) * side) * (0.55 + 0.45 * z)
    band = np.exp(-(((y - 0.62 * ly - 0.12 + 0.05 * np.cos(5 * x)) / 0.17) ** 2))
    band *= np.clip(0.5 + 0.8 * x * lx, 0, None) * z * (1 - 0.75 * hair.curl)
    shade, band = enlarge(np.stack([shade, band]), canvas.n)
    shade *= 1.35 * np.exp((0.42 - 0.20 * hair.curl) * texture)
    band *= 0.75 * np.clip(0.7 + 0.8 * texture, 0, None)
    base = tint(hair.colour)
    lit = shade * base
    if hair.grey > 0.02:
        grey = np.clip(1.3 * hair.grey - 0.15 + 0.22 * (1 - 0.8 * hair.curl) * texture, 0, 1) * min(
            3 * hair.grey, 1
        )
        lit += (grey * shade) * (_GREY - base)
    lit += band * (0.03 + 0.5 * base)
    return lit
