"""A square raster over part of face space, and drawing on it with sub-pixel accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.faces.params import Colour

Array = NDArray[np.float32]
Mask = NDArray[np.uint8]
Row = tuple[float, float, float, float, float]
_Plane = TypeVar("_Plane", bound=NDArray[Any])
_Floats = TypeVar("_Floats", bound=NDArray[np.floating])

_SHIFT = 5  # drawing coordinates carry 1/32 pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """n x n pixels covering one crop side: x in -0.5..0.5, y in top..top + 1.

    Attributes:
        n: Pixels per side.
        top: y of the upper edge; the eyes are at y = 0.
    """

    n: int
    top: float = -0.48

    @property
    def x(self) -> Array:
        """(1, n) abscissa of the pixel centres."""
        return _axis(self.n, -0.5)[None, :]

    @property
    def y(self) -> Array:
        """(n, 1) ordinate of the pixel centres."""
        return _axis(self.n, self.top)[:, None]

    def resized(self, n: int) -> Canvas:
        """The same region with n pixels per side."""
        return Canvas(n=n, top=self.top)

    def pixels(self, points: NDArray[np.floating]) -> Array:
        """Pixel coordinates (..., 2) of face-space points (..., 2)."""
        origin = np.array([-0.5, self.top], np.float32)
        return ((np.asarray(points, np.float32) - origin) * self.n - 0.5).astype(np.float32)

    def window(self, centre: tuple[float, float], half: tuple[float, float]) -> tuple[slice, slice]:
        """Rows and columns of the box centre +- half, clipped to the canvas."""
        x0, y0 = self.pixels(np.array([centre[0] - half[0], centre[1] - half[1]]))
        x1, y1 = self.pixels(np.array([centre[0] + half[0], centre[1] + half[1]]))
        rows = slice(max(int(y0), 0), min(int(y1) + 2, self.n))
        return rows, slice(max(int(x0), 0), min(int(x1) + 2, self.n))

    def fill(self, *outlines: NDArray[np.floating]) -> Mask:
        """(n, n) coverage 0..255 of the closed outlines, each (k, 2)."""
        mask = np.zeros((self.n, self.n), np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self._fixed(outline)], 255, cv2.LINE_AA, _SHIFT)
        return mask

    def stroke(
        self, lines: NDArray[np.floating] | list[Array], width: float, closed: bool = False
    ) -> Mask:
        """(n, n) coverage 0..255 of poly-lines (each (k, 2)) of one width in crop sides."""
        mask = np.zeros((self.n, self.n), np.uint8)
        thickness = max(1, round(width * self.n))
        fixed = (
            list(self._fixed(lines))
            if isinstance(lines, np.ndarray)
            else [self._fixed(line) for line in lines]
        )
        cv2.polylines(mask, fixed, closed, 255, thickness, cv2.LINE_AA, _SHIFT)
        return mask

    def blur(self, image: _Plane, sigma: float) -> _Plane:
        """Gaussian blur of an (h, w) image, sigma in crop sides; wide ones at half resolution."""
        pixels, (h, w) = sigma * self.n, image.shape
        if pixels < 2.2:
            return cast(_Plane, cv2.GaussianBlur(image, (0, 0), max(pixels, 1e-3)))
        half = cv2.resize(image, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
        half = cv2.GaussianBlur(half, (0, 0), pixels / 2)
        return cast(_Plane, cv2.resize(half, (w, h), interpolation=cv2.INTER_LINEAR))

    def _fixed(self, points: NDArray[np.floating]) -> NDArray[np.int32]:
        return np.round(self.pixels(points) * (1 << _SHIFT)).astype(np.int32)


def blobs(canvas: Canvas, table: NDArray[np.floating]) -> Array:
    """Sum of axis-aligned Gaussians, f(x, y) = sum_k a_k exp(-dx^2 / 2 p_k^2 - dy^2 / 2 q_k^2).

    Args:
        canvas: Where to sample f.
        table: (k, 5) rows of a, x, y, p, q.

    Returns:
        (n, n) float32.
    """
    amp, cx, cy, sx, sy = np.asarray(table, np.float32).T
    across = np.exp(-0.5 * ((canvas.x - cx[:, None]) / sx[:, None]) ** 2)
    down = np.exp(-0.5 * ((canvas.y - cy) / sy) ** 2)
    # not @: the BLAS threads cost more than a product of this size
    return cast(Array, cv2.gemm(down * amp, across, 1.0, np.empty(0), 0.0))


def tint(colour: Colour | NDArray[np.floating]) -> Array:
    """A colour (3,) as (3, 1, 1), to spread over planes (3, h, w)."""
    return np.asarray(colour, np.float32).reshape(3, 1, 1)


def resize(plane: Array, n: int, interpolation: int = cv2.INTER_LINEAR) -> Array:
    """A plane (m, m) resampled to (n, n)."""
    return cast(Array, cv2.resize(plane, (n, n), interpolation=interpolation))


def sample(plane: Array, column: Array, row: Array, interpolation: int) -> Array:
    """Values of a plane at pixel positions; beyond the border the border's values continue."""
    border = cv2.BORDER_REPLICATE
    return cast(Array, cv2.remap(plane, column, row, interpolation, borderMode=border))


def enlarge(planes: Array, n: int) -> Array:
    """Planes (k, m, m) resampled linearly to (k, n, n)."""
    result = np.empty((len(planes), n, n), np.float32)
    for plane, target in zip(planes, result, strict=True):
        cv2.resize(plane, (n, n), dst=target, interpolation=cv2.INTER_LINEAR)
    return result


def mirrored(rows: list[Row]) -> list[Row]:
    """The rows of a `blobs` table together with their left-right mirror images."""
    return rows + [(a, -x, y, p, q) for a, x, y, p, q in rows]


def smooth(points: NDArray[np.floating], per_segment: int = 6, closed: bool = False) -> Array:
    """Catmull-Rom curve through points (k, 2)."""
    p = np.asarray(points, np.float32)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = (_axis(per_segment, -0.5 / per_segment))[None, :, None]  # 0, 1 / n, 2 / n, ...
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-2:-1]])


def ramp(x: _Floats) -> _Floats:
    """Smooth step: 0 below 0, 3 x^2 - 2 x^3 in between, 1 above 1."""
    x = cast(_Floats, np.clip(x, 0, 1))
    return cast(_Floats, x * x * (3 - 2 * x))


@lru_cache(maxsize=16)
def _axis(n: int, start: float) -> Array:
    axis = ((np.arange(n) + 0.5) / n + start).astype(np.float32)
    axis.flags.writeable = False
    return axis
