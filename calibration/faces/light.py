"""Light on the face's relief: wrapped diffuse, cast shadows, occlusion and skin sheen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from calibration.faces.canvas import Array, ramp, tint
from calibration.faces.params import Light
from calibration.faces.relief import slopes

_SHADOW_STEPS = 9
_REACH = 0.22  # how far a shadow is followed, in crop sides
_WRAP = tint((0.32, 0.20, 0.14))  # light bleeding through skin reddens the edge


@dataclass(frozen=True, slots=True, kw_only=True)
class Lighting:
    """What the light does at each point; float32.

    Attributes:
        diffuse: (3, n, n) irradiance, about 1 on the lit face.
        sheen: (n, n) mirror-like reflection, before the skin's shine.
    """

    diffuse: Array
    sheen: Array


def direction(light: Light) -> tuple[float, float, float]:
    """Unit vector towards the key light; y is down, so a high light has y < 0."""
    across = math.cos(light.elevation)
    x, z = across * math.sin(light.azimuth), across * math.cos(light.azimuth)
    return x, -math.sin(light.elevation), z


def key_colour(light: Light) -> Array:
    """Colour of the key light, (3, 1, 1)."""
    warm = tint((0.16, 0.0, -0.20)) * light.warmth
    return 1 + warm


def illuminate(light: Light, z: Array) -> Lighting:
    """Light a height field.

    E = fill (0.75 - 0.25 n_y) occlusion + (1 - fill / 2) shadow (n.l + wrap) / (1 + wrap),
    per colour channel, scaled to mean 1 over the raised part.

    Args:
        light: Direction and quality of the light.
        z: (m, m) depth.
    """
    zx, zy = slopes(z)
    norm = 1 / np.sqrt(zx * zx + zy * zy + 1)
    nx, ny, nz = -zx * norm, -zy * norm, norm
    lx, ly, lz = direction(light)
    cosine = nx * lx + ny * ly + nz * lz
    shadow = _shadow(z, (lx, ly, lz), 0.006 + 0.016 * light.softness)
    occlusion = np.clip(1 - 7 * np.clip(cv2.GaussianBlur(z, (0, 0), 4.5) - z, 0, None), 0.35, 1)
    ambient = light.fill * (0.75 - 0.25 * ny) * occlusion * (0.35 + 0.65 * nz)
    wrap = _WRAP + 0.10 * light.softness
    key = np.clip(cosine + wrap, 0, None) / (1 + wrap)
    key *= (shadow * (1 - 0.5 * light.fill)) * key_colour(light)
    total = key * 1.6 + ambient * (1 - 0.35 * (key_colour(light) - 1))
    if light.rim > 0:
        edge = ramp((np.abs(nx) - 0.55) / 0.4) * (nx * lx < 0)
        total += 0.9 * light.rim * edge
    centre = slice(z.shape[0] // 3, 2 * z.shape[0] // 3)
    total /= 0.32 + 0.82 * float(total[:, centre, centre].mean())
    length = math.hypot(lx, ly, lz + 1)
    hx, hy, hz = lx / length, ly / length, (lz + 1) / length
    facing = np.clip(nx * hx + ny * hy + nz * hz, 0, 1) ** 2
    facing *= facing
    lobe = facing * facing * facing  # exponent 12
    sheen = (0.55 * lobe + lobe**3) * (0.3 + 0.7 * shadow)
    return Lighting(diffuse=total.astype(np.float32), sheen=sheen.astype(np.float32))


def _shadow(z: Array, to_light: tuple[float, float, float], blur: float) -> Array:
    """1 in the light, towards 0.15 where the relief hides the light."""
    n = z.shape[0]
    small = cv2.resize(z, (n // 2, n // 2), interpolation=cv2.INTER_AREA)
    lx, ly, lz = to_light
    flat = max(math.hypot(lx, ly), 1e-3)
    rise = lz / flat
    hidden = np.zeros_like(small)
    for k in range(1, _SHADOW_STEPS + 1):
        reach = _REACH * (k / _SHADOW_STEPS) ** 1.5
        dx, dy = lx / flat * reach * n / 2, ly / flat * reach * n / 2
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        moved = cv2.warpAffine(
            small,
            shift,
            small.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        np.maximum(hidden, moved - small - reach * rise, out=hidden)
    lit = 1 - 0.85 * np.clip(hidden / 0.012, 0, 1)
    lit = cv2.GaussianBlur(lit, (0, 0), blur * n / 2)
    return cv2.resize(lit, (n, n), interpolation=cv2.INTER_LINEAR)
