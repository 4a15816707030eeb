"""Facial hair: stubble, moustache, goatee, full beard."""

from __future__ import annotations

import cv2
import numpy as np

from calibration.faces.canvas import Array, Canvas, ramp, smooth
from calibration.faces.noise import lattice, strands
from calibration.faces.params import FaceParams
from calibration.faces.shape import half_width, lips, mouth_width


def beard_cover(params: FaceParams, canvas: Canvas, rng: np.random.Generator) -> Array:
    """(n, n) cover 0..1 of the facial hair; it may reach a little beyond the chin."""
    style, density = params.beard.style, params.beard.density
    region = canvas.fill(*_regions(params))
    bare = canvas.fill(_lip_outline(params))
    soft = canvas.blur(region, 0.014 if style == "stubble" else 0.009)
    area = cv2.subtract(soft, canvas.blur(bare, 0.003)) * np.float32(1 / 255)
    across = canvas.x * (1 + 0.5 * canvas.y) + 0.006 * lattice(rng, canvas.n, 12)
    hairs = strands(rng, across.astype(np.float32), canvas.y + 0 * canvas.x, 130)
    dots = lattice(rng, canvas.n, 200)
    if style == "stubble":
        return area * np.clip(0.16 + 0.24 * density + 0.055 * dots, 0, 0.7)
    cover = ramp(area * (1.1 + 0.5 * density) - 0.22 + 0.12 * hairs * (1.2 - area) + 0.05 * dots)
    return (cover * (0.62 + 0.33 * density)).astype(np.float32)


def beard_texture(canvas: Canvas, rng: np.random.Generator) -> Array:
    """(n, n) brightness of the hairs, about 1."""
    hairs = strands(rng, canvas.x + 0.3 * canvas.x * canvas.y, canvas.y + 0 * canvas.x, 120)
    return np.exp(0.28 * hairs + 0.15 * lattice(rng, canvas.n, 90)).astype(np.float32)


def _regions(params: FaceParams) -> list[Array]:
    head, mouth, nose = params.head, params.mouth, params.nose
    style, width = params.beard.style, mouth_width(mouth)
    under_nose, chin = nose.length + 0.036, head.chin
    top = np.array(
        [
            (-width - 0.02, mouth.height + 0.025),
            (-width - 0.008, mouth.height - 0.030),
            (-0.5 * width, under_nose + 0.006),
            (0.0, under_nose + 0.004),
            (0.5 * width, under_nose + 0.006),
            (width + 0.008, mouth.height - 0.030),
            (width + 0.02, mouth.height + 0.025),
        ]
    )
    if style == "moustache":
        line = np.array(
            [(0.9 * width, mouth.height), (0, mouth.height), (-0.9 * width, mouth.height)]
        )
        return [smooth(np.concatenate([top, line - np.array([0, 0.012])]))]
    if style == "goatee":
        low = np.array([(0.85 * width, 0.9 * chin), (0, chin + 0.012), (-0.85 * width, 0.9 * chin)])
        return [smooth(np.concatenate([top, low]))]
    reach = 0.012 if style == "stubble" else 0.022
    y = np.array([0.02, 0.12, 0.22, 0.30, 0.37, 0.42], np.float32) * chin / 0.45
    jaw = np.stack([half_width(head, y) + reach * y / chin, y + reach * y / chin], axis=-1)
    cheek = np.array([(0.80, 0.12), (0.68, 0.175), (0.52, 0.205)]) * [head.width, 1.0]
    right = np.concatenate([jaw[::-1], [(0.93 * head.width, 0.03)], cheek])
    upper = top[1:-1][::-1]
    left = right[::-1] * [-1, 1]
    return [smooth(np.concatenate([[(0.0, chin + reach)], right, upper, left]), 5)]


def _lip_outline(params: FaceParams) -> Array:
    s = np.linspace(-1, 1, 15, dtype=np.float32)
    top, _, _, bottom = lips(params.mouth, s)
    width = mouth_width(params.mouth)
    right = np.stack([s * width, params.mouth.height + (top - 0.03) * width], axis=-1)
    back = np.stack([s * width, params.mouth.height + (bottom + 0.02) * width], axis=-1)
    return np.concatenate([right, back[::-1]])
