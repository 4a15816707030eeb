"""Pictures between bytes and the numbers that the stages take and give. Never imports torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_input(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, s, s, 3) uint8 RGB to (N, 3, s, s) float32 in [-1, 1]."""
    scaled = pictures.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 1))


def to_pictures(restored: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(N, 3, s, s) float32 in [0, 1] to (N, s, s, 3) uint8 RGB."""
    scaled = np.rint(np.clip(restored, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(scaled, 1, -1))
