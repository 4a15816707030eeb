"""Curves of the face in face space: outline of the head, lids, brows, lips.

Eyes use local coordinates s (outwards, -1 inner corner .. 1 outer corner) and t (down), in units
of the eye's half width; the mouth uses s (to the right) and t (down) in units of its half width.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibration.faces.canvas import Array, smooth
from calibration.faces.params import Brows, Eyes, Head, Mouth


@lru_cache(maxsize=4)
def outline(head: Head) -> Array:
    """Closed outline (k, 2), from the crown down the right side, round the chin and up again."""
    w, chin, crown = head.width, head.chin, head.crown
    jaw, tip = head.jaw, head.chin_width
    side = np.array(
        [
            (0.31, -0.975 * crown),
            (0.60, -0.875 * crown),
            (0.82, -0.69 * crown),
            (0.945, -0.43 * crown),
            (0.99, -0.04),
            (1.0, 0.06),
            (0.5 + 0.5 * jaw + 0.03 * head.cheeks, 0.38 * chin),
            (jaw, 0.60 * chin),
            (0.52 * jaw + 0.48 * tip + 0.03, 0.80 * chin),
            (tip, 0.93 * chin),
            (0.42 * tip, 0.993 * chin),
        ]
    ) * [w, 1.0]
    points = np.concatenate([[(0.0, -crown)], side, [(0.0, chin)], side[::-1] * [-1, 1]])
    curve = smooth(points, 8, closed=True)
    curve.flags.writeable = False
    return curve


def half_width(head: Head, y: Array) -> Array:
    """Half width of the head at heights y; 0 above the crown and below the chin."""
    curve = outline(head)
    right = curve[: len(curve) // 2 + 1]
    order = np.argsort(right[:, 1])
    return np.interp(y, right[order, 1], right[order, 0], left=0, right=0).astype(np.float32)


def upper_lid(eyes: Eyes, s: Array) -> Array:
    """Height t of the upper lid's edge at s."""
    arch = np.clip(1 - s * s, 0, None) ** 0.72
    return (-0.40 * eyes.opening * arch * (1 - 0.16 * s) - eyes.tilt * s).astype(np.float32)


def lower_lid(eyes: Eyes, s: Array) -> Array:
    """Height t of the lower lid's edge at s."""
    arch = np.clip(1 - s * s, 0, None) ** 0.85
    return (0.26 * eyes.opening**0.6 * arch * (1 + 0.2 * s) - eyes.tilt * s).astype(np.float32)


def iris_centre(eyes: Eyes, side: int) -> tuple[float, float]:
    """(s, t) of the pupil; side is -1 for the eye on the picture's left, 1 for the right."""
    return 0.22 * eyes.gaze_x * side, -0.06 + 0.10 * eyes.gaze_y * eyes.opening


def eye_points(eyes: Eyes, side: int, s: NDArray[np.floating], t: NDArray[np.floating]) -> Array:
    """Face-space points (..., 2) of eye coordinates s, t."""
    return np.stack([side * (eyes.spacing + eyes.width * s), eyes.width * t], axis=-1)


def brow_line(brows: Brows, eyes: Eyes, s: NDArray[np.floating]) -> Array:
    """Middle of the brow on the picture's right at s in 0 (inner end) .. 1 (outer end); (k, 2)."""
    x = eyes.spacing - 1.12 * eyes.width + 2.35 * eyes.width * s
    bend = np.sin(np.pi * np.clip(s, 0, 1.1) ** 1.35)
    y = -brows.height - (0.008 + 0.022 * brows.arch) * bend + 0.012 * s**2
    y = y + 0.016 * brows.slant * (1 - s) ** 2
    return np.stack([x, y], axis=-1).astype(np.float32)


def brow_half_thickness(brows: Brows, s: NDArray[np.floating]) -> Array:
    """Half thickness of the brow at s."""
    profile = np.clip(s * 4 + 0.35, 0, 1) ** 0.7 * np.clip(1.08 - s, 0, 1) ** 0.55
    return ((0.0055 + 0.0075 * brows.thickness) * profile).astype(np.float32)


def lip_line(mouth: Mouth, s: Array) -> Array:
    """Height t of the line where closed lips meet."""
    rise = -0.30 * mouth.smile * (s * s - 0.25)
    return (rise + 0.025 * np.cos(3 * np.pi * s) * (1 - s * s)).astype(np.float32)


def mouth_width(mouth: Mouth) -> float:
    """Half width of the mouth with its expression."""
    return mouth.width * (1 + 0.30 * max(mouth.smile, 0) - 0.10 * mouth.opening)


def lips(mouth: Mouth, s: Array) -> tuple[Array, Array, Array, Array]:
    """Heights t of the edges at s in -1..1: upper lip top, bottom; lower lip top, bottom."""
    meet = lip_line(mouth, s)
    arch = np.clip(1 - s * s, 0, None)
    gap = 0.58 * mouth.opening * arch**0.6
    stretch = 1 - 0.3 * max(mouth.smile, 0)
    bow = 1 - 0.22 * np.exp(-((s / 0.13) ** 2))
    top = (0.15 + 0.20 * mouth.upper) * stretch * arch**0.9 * bow
    below = (0.20 + 0.24 * mouth.lower) * stretch * arch**0.75
    inner_top, inner_bottom = meet - 0.36 * gap, meet + 0.64 * gap
    curves = inner_top - top, inner_top, inner_bottom, inner_bottom + below
    a, b, c, d = (curve.astype(np.float32) for curve in curves)
    return a, b, c, d
