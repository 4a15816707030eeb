"""Procedural faces with known landmarks, for training and calibration without a photo collection.

>>> face(seed=3).image.shape
(128, 128, 3)
"""

from __future__ import annotations

import numpy as np

from calibration.faces.landmarks import COUNT, GROUPS
from calibration.faces.params import FaceParams
from calibration.faces.render import Face, render
from calibration.faces.sampling import sample_params

__all__ = ["COUNT", "GROUPS", "Face", "FaceParams", "face", "render", "sample_params"]


def face(seed: int, size: int = 128) -> Face:
    """The face of a seed: the same person and scene at every size.

    Raises:
        ValueError: seed is negative or size is below 16.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    return render(sample_params(np.random.default_rng(seed)), size)
