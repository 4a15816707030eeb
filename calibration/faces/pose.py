"""Turning the head: points forward, pictures backward.

With z0 the depth between the eyes, a point (x, y, z) of the face appears at
    a = x cos(yaw) + (z - z0) sin(yaw),   b = y cos(pitch) + (z - z0) sin(pitch),
then turned by roll, scaled, and placed with the eyes' midpoint at (0.5, EYE_LEVEL).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.faces.canvas import Array, Canvas, resize, sample
from calibration.faces.params import Pose

EYE_LEVEL = 0.43
_COARSE = 64  # the inverse map is solved on a 64 x 64 grid
_STEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A pose with the depth that it turns.

    Attributes:
        pose: The angles, size and offset.
        z: (m, m) depth over the face canvas.
        top: y of the face canvas' upper edge.
    """

    pose: Pose
    z: Array
    top: float

    def depth_at(self, points: Array) -> Array:
        """Depth (k,) of face-space points (k, 2)."""
        at = Canvas(n=self.z.shape[0], top=self.top).pixels(points)[None]
        return sample(self.z, at[..., 0], at[..., 1], cv2.INTER_LINEAR)[0]

    def forward(self, points: NDArray[np.floating], z: Array | float | None = None) -> Array:
        """Picture positions (k, 2) in -0.5..0.5 by -EYE_LEVEL..1 - EYE_LEVEL.

        Args:
            points: (k, 2) in face space.
            z: Depth of the points; None puts them on the face.
        """
        pose = self.pose
        at = np.asarray(points, np.float32)
        relative = (self.depth_at(at) if z is None else z) - self._origin()
        a = at[:, 0] * math.cos(pose.yaw) + relative * math.sin(pose.yaw)
        b = at[:, 1] * math.cos(pose.pitch) + relative * math.sin(pose.pitch)
        c, s = math.cos(pose.roll) * pose.scale, math.sin(pose.roll) * pose.scale
        moved = np.stack([c * a - s * b + pose.dx, s * a + c * b + pose.dy], axis=-1)
        return moved.astype(np.float32)

    def inverse_map(self, n: int) -> tuple[Array, Array]:
        """Face-canvas pixel (column, row) seen by each pixel of the n x n picture.

        Solves the equations above for x and y by damped fixed-point iteration on a coarse grid.
        """
        pose, grid = self.pose, Canvas(n=_COARSE, top=-EYE_LEVEL)
        px, py = (grid.x - pose.dx) / pose.scale, (grid.y - pose.dy) / pose.scale
        c, s = math.cos(pose.roll), math.sin(pose.roll)
        a, b = cast(Array, c * px + s * py), cast(Array, c * py - s * px)
        x, y = a, b
        m, z0 = self.z.shape[0], self._origin()
        for _ in range(_STEPS):
            column, row = (x + 0.5) * m - 0.5, (y - self.top) * m - 0.5
            z = sample(self.z, column, row, cv2.INTER_CUBIC) - z0
            x = cast(Array, 0.1 * x + 0.9 * (a - z * math.sin(pose.yaw)) / math.cos(pose.yaw))
            y = cast(Array, 0.1 * y + 0.9 * (b - z * math.sin(pose.pitch)) / math.cos(pose.pitch))
        column = resize((x + 0.5) * n - 0.5, n, cv2.INTER_CUBIC)
        return column, resize((y - self.top) * n - 0.5, n, cv2.INTER_CUBIC)

    def _origin(self) -> float:
        m = self.z.shape[0]
        return float(self.z[round(-self.top * m), m // 2])
