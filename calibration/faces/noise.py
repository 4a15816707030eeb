"""Band-limited noise, the same at every resolution."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import cv2
import numpy as np

from calibration.faces.canvas import Array, resize

_BANK = 640


@lru_cache(maxsize=1)
def bank() -> Array:
    """(640, 640) standard normal samples; drawn once, cropped at random for each face."""
    return np.random.default_rng(20240229).standard_normal((_BANK, _BANK)).astype(np.float32)


def patch(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """A (rows, columns) crop of the bank at a random place, flipped at random."""
    a, b, c = rng.random(3)
    top, left = int(a * (_BANK - rows + 1)), int(b * (_BANK - columns + 1))
    crop = bank()[top : top + rows, left : left + columns]
    return np.ascontiguousarray(crop[:, ::-1] if c < 0.5 else crop)


def lattice(rng: np.random.Generator, n: int, cells: int) -> Array:
    """(n, n) noise with ``cells`` independent values per side, about unit variance."""
    values = patch(rng, cells, cells)
    if cells > n:
        return resize(values, n, cv2.INTER_AREA)
    if 8 * cells < n:  # cubic to eight samples a cell, the rest linear: as smooth, and faster
        return resize(resize(values, 8 * cells, cv2.INTER_CUBIC), n)
    return resize(values, n, cv2.INTER_CUBIC)


def octaves(rng: np.random.Generator, n: int, cells: tuple[int, ...], decay: float = 0.6) -> Array:
    """(n, n) sum of lattices, the k-th weighted decay^k."""
    total = lattice(rng, n, cells[0])
    for k, count in enumerate(cells[1:], start=1):
        total += decay**k * lattice(rng, n, count)
    return total


def strands(rng: np.random.Generator, across: Array, along: Array, fineness: float) -> Array:
    """Noise drawn out along a flow: fast in ``across``, slow in ``along``.

    Args:
        rng: Picks the texture.
        across: (n, n) float32 coordinate from strand to strand, in crop sides.
        along: (n, n) float32 coordinate down the strands, in crop sides.
        fineness: Single hairs per crop side, about 120.

    Returns:
        (n, n) float32, about unit variance.
    """
    texture = _lengthened(int(rng.integers(0, 8)))
    u = across * fineness + float(rng.uniform(180, 320))
    v = along * 24 + float(rng.uniform(32, 96))
    wrapped = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return cast(Array, wrapped)


@lru_cache(maxsize=8)
def _lengthened(which: int) -> Array:
    """(128, 512) noise of three widths: wide locks, locks and hairs; tiles."""
    rng = np.random.default_rng(77 + which)
    total = np.zeros((128, 512), np.float32)
    for width, length in ((1.0, 1.6), (3.2, 1.6), (9.0, 3.0)):
        values = np.tile(rng.standard_normal((128, 512)).astype(np.float32), (3, 3))
        soft = cv2.GaussianBlur(values, (0, 0), width / 2.5, sigmaY=length)[128:256, 512:1024]
        total += soft / soft.std()
    return np.ascontiguousarray(total / total.std())
