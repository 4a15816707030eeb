"""From parameters to a picture and its landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.faces.beard import beard_cover, beard_texture
from calibration.faces.brows import paint_brows
from calibration.faces.canvas import Array, Canvas, Row, blobs, enlarge, sample
from calibration.faces.eyes import paint_eyes
from calibration.faces.glasses import paint_glasses
from calibration.faces.hair import (
    HairLayer,
    back_hair,
    back_hair_outline,
    front_hair,
    strand_colour,
)
from calibration.faces.landmarks import landmarks
from calibration.faces.light import direction, illuminate
from calibration.faces.mouth import paint_mouth
from calibration.faces.params import FaceParams
from calibration.faces.pose import EYE_LEVEL, Projection
from calibration.faces.relief import depth, turning_depth
from calibration.faces.scene import backdrop, paint_body
from calibration.faces.shape import outline
from calibration.faces.skin import albedo, grain

_SMALLEST = 256  # pixels per side of the working raster
_OVERSAMPLING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A rendered face.

    Attributes:
        image: (size, size, 3) uint8 sRGB.
        landmarks: (70, 2) float32 x, y in pixels, 0 at the centre of the first pixel; the order is
            that of `calibration.faces.landmarks`.
    """

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]


def render(params: FaceParams, size: int = 128) -> Face:
    """Draw one face.

    Args:
        params: The face.
        size: Pixels per side, at least 16. Faces of two sizes differ by resampling only.

    Raises:
        ValueError: size is below 16.
    """
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, got {size}")
    n = max(_SMALLEST, _OVERSAMPLING * size)
    rng = np.random.default_rng(params.texture)
    canvas, frame = Canvas(n=n), Canvas(n=n, top=-EYE_LEVEL)
    turning = turning_depth(params, canvas.resized(64))
    to = Projection(pose=params.pose, z=turning, top=canvas.top)
    front = _head(params, canvas, rng)
    column, row = to.inverse_map(n)
    head = np.stack([sample(plane, column, row, cv2.INTER_LINEAR) for plane in front])
    picture = _surroundings(params, frame, to, rng, head[3])
    picture *= 1 - head[3]
    picture += head[:3]
    paint_glasses(picture, params, frame, to)
    picture = np.dstack(
        [cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in picture]
    )
    points = frame.resized(size).pixels(to.forward(landmarks(params)))
    return Face(image=_develop(picture, params), landmarks=points)


def _head(params: FaceParams, canvas: Canvas, rng: np.random.Generator) -> Array:
    """(4, n, n) the unturned head: linear-light colour times cover, and cover."""
    n, half = canvas.n, canvas.resized(canvas.n // 2)
    light = illuminate(params.light, depth(params, half))
    bare = albedo(params, half, rng) * light.diffuse
    bare += _shine(params, half) * light.sheen
    _shade_ears(bare, params, half)
    picture = enlarge(bare, n)
    picture *= grain(params, canvas, rng)
    lit = enlarge(light.diffuse, n)
    paint_brows(picture, params, canvas, rng)
    paint_mouth(picture, params, canvas, lit, rng)
    paint_eyes(picture, params, canvas, lit, rng)
    head = canvas.fill(outline(params.head), *_ears(params))
    cover = head.astype(np.float32) * np.float32(1 / 255)
    if params.beard.style != "none":
        beard = beard_cover(params, canvas, rng)
        colour = strand_colour(params.hair) * 0.85 + 0.004
        texture = beard_texture(canvas, rng)
        picture += beard * (colour * texture * (0.25 + 0.75 * lit) - picture)
        if params.beard.style == "full":
            cover = np.maximum(cover, beard)
    if params.hair.amount > 0:
        cover = _comb(picture, cover, front_hair(params, canvas, rng), params, canvas)
    return np.concatenate([picture * cover, cover[None]])


def _shine(params: FaceParams, canvas: Canvas) -> Array:
    """(n, n) strength of the skin's sheen: forehead, nose and cheekbones shine most."""
    zones: list[Row] = [
        (0.8, 0, -0.17, 0.10, 0.06),
        (1.2, 0, 0.10, 0.025, 0.09),
        (0.5, 0, 0.37, 0.04, 0.03),
    ]
    zones += [(0.6, s * 0.15, 0.08, 0.05, 0.04) for s in (-1, 1)]
    gain = 0.02 + 0.15 * params.skin.shine
    return (gain * (0.35 + blobs(canvas, np.array(zones)))).astype(np.float32)


def _ears(params: FaceParams) -> list[Array]:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    x = params.head.width - 0.002 + 0.026 * np.cos(angle) * (1 - 0.3 * np.sin(angle))
    y = 0.035 + 0.075 * np.sin(angle)
    return [np.stack([side * x, y], axis=-1).astype(np.float32) for side in (-1, 1)]


def _shade_ears(picture: Array, params: FaceParams, canvas: Canvas) -> None:
    """Darken the fold inside each ear."""
    w = params.head.width
    fold = [(0.45, s * (w + 0.006), 0.02, 0.007, 0.035) for s in (-1, 1)]
    fold += [(0.25, s * (w - 0.004), 0.05, 0.010, 0.05) for s in (-1, 1)]
    picture *= 1 - blobs(canvas, np.array(fold))


def _comb(
    picture: Array, cover: Array, hair: HairLayer, params: FaceParams, canvas: Canvas
) -> Array:
    """Lay the hair and its shadow on the head, in place; the cover of both together."""
    lx, ly, _ = direction(params.light)
    cast = _cast(hair.cover, 1.1, -0.025 * lx, 0.008 - 0.03 * ly)
    picture *= 1 - 0.42 * min(params.hair.volume / 0.03, 1.0) * cast
    both = hair.cover + cover - hair.cover * cover
    share = hair.cover / np.maximum(both, 1e-4)
    picture += share * (hair.colour - picture)
    return both


def _cast(cover: Array, blur: float, dx: float, dy: float) -> Array:
    """(n, n) soft shadow of a layer, moved by dx, dy crop sides; blur in 64ths of a side."""
    n = cover.shape[0]
    small = cv2.GaussianBlur(
        cv2.resize(cover, (64, 64), interpolation=cv2.INTER_AREA), (0, 0), blur
    )
    shift = np.array([[64 / n, 0, -64 * dx], [0, 64 / n, -64 * dy]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(small, shift, (n, n), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return cast(Array, moved)


def _surroundings(
    params: FaceParams, frame: Canvas, to: Projection, rng: np.random.Generator, head: Array
) -> Array:
    """(3, n, n) the backdrop, the hair behind the neck and the body in the shadow of the head."""
    picture = backdrop(params, frame, rng)
    behind = back_hair_outline(params)
    if len(behind) and params.hair.amount > 0:
        crown = to.forward(np.array([[params.hair.part, -params.head.crown]], np.float32), 0.0)[0]
        mask = frame.blur(frame.fill(to.forward(behind, 0.0)), 0.004).astype(np.float32) / 255
        picture += mask * (back_hair(params, frame, rng, crown) - picture)
    lx, ly, _ = direction(params.light)
    shadow = _cast(head, 1.6, -0.04 * lx, 0.035 - 0.05 * ly)
    paint_body(picture, params, frame, to, shadow=1 - 0.62 * shadow, rng=rng)
    return picture


def _develop(picture: Array, params: FaceParams) -> NDArray[np.uint8]:
    """Camera: white balance, exposure, soft shoulder over 0.7, gamma, contrast."""
    balance = 1 + np.array([0.07, 0.0, -0.10], np.float32) * params.light.warmth
    x = np.clip(picture * (balance * params.light.exposure), 0, None)
    high = x > 0.7
    x[high] = 1 - 0.3 * np.exp((0.7 - x[high]) / 0.3)
    y = cast(Array, cv2.pow(x, 1 / 2.2))
    y = y + params.light.contrast * y * (1 - y) * (2 * y - 1)
    return np.round(255 * y).astype(np.uint8)
