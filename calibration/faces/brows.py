"""Eyebrows."""

from __future__ import annotations

import cv2
import numpy as np

from calibration.faces.canvas import Array, Canvas
from calibration.faces.hair import strand_colour
from calibration.faces.params import FaceParams
from calibration.faces.shape import brow_half_thickness, brow_line
from calibration.faces.skin import base_colour


def paint_brows(
    picture: Array, params: FaceParams, canvas: Canvas, rng: np.random.Generator
) -> None:
    """Paint the eyebrows, hairs over a soft body, on the lit skin (3, n, n), in place."""
    brows, eyes = params.brows, params.eyes
    s = np.linspace(0, 1, 12)
    middle, half = brow_line(brows, eyes, s), brow_half_thickness(brows, s)
    body = np.concatenate(
        [middle - [0, 1] * half[:, None], (middle + [0, 1] * half[:, None])[::-1]]
    )
    flip = np.array([-1, 1], np.float32)
    soft = canvas.blur(canvas.fill(body, body * flip), 0.0065)
    count = int(40 + 70 * brows.density)
    at = np.sort(rng.uniform(0, 1, count))
    across = rng.uniform(-1, 1, count)
    root = brow_line(brows, eyes, at)
    root[:, 1] += across * brow_half_thickness(brows, at)
    lean = np.clip(0.25 + 1.25 * at - 0.35 * across, 0, 1.5)  # upwards inside, along outside
    length = rng.uniform(0.012, 0.022, count) * (0.8 + 0.4 * brows.thickness)
    tips = (
        root + np.stack([np.sin(lean), -np.cos(lean) * (0.6 + 0.4 * across)], -1) * length[:, None]
    )
    hairs = np.stack([root, tips], axis=1)
    drawn = canvas.stroke(np.concatenate([hairs, hairs * flip]), 0.003)
    drawn = canvas.blur(drawn, 0.0022)
    gain = (0.35 + 0.65 * brows.density) / 255
    cover = cv2.addWeighted(soft, 0.50 * gain, drawn, 0.62 * gain, 0.0, dtype=cv2.CV_32F)
    rows, _ = canvas.window((0.0, -0.08), (0.5, 0.09))
    skin = base_colour(params.skin.tone, params.skin.warmth)
    darker = np.minimum((0.75 * strand_colour(params.hair) + 0.006) / skin, 1.2)
    picture[:, rows] *= 1 - np.minimum(cover[rows], 0.95) * (1 - darker)
