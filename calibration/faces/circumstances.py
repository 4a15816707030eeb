"""Draws of the moment of the picture: pose, light, backdrop, clothes."""

from __future__ import annotations

import numpy as np

from calibration.faces.draw import as_colour, fit, pick, rarely
from calibration.faces.params import Light, Pose, Scene


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw a nearly frontal pose."""
    return fit(
        Pose,
        yaw=rng.normal(0, 0.16),
        pitch=rng.normal(0, 0.06),
        roll=rng.normal(0, 0.05),
        scale=rng.normal(1.0, 0.04),
        dx=rng.normal(0, 0.012),
        dy=rng.normal(0.005, 0.012),
    )


def draw_light(rng: np.random.Generator, tone: float) -> Light:
    """Draw the light; darker skin is exposed longer."""
    return fit(
        Light,
        azimuth=rng.choice([-1, 1]) * rng.uniform(0.05, 1.15),
        elevation=rng.uniform(0.15, 0.95),
        fill=rng.beta(1.8, 2.2),
        softness=rng.beta(2, 1.5),
        warmth=rng.normal(0, 0.4),
        exposure=(0.92 + 0.40 * tone) * float(np.exp(rng.normal(0, 0.13))),
        rim=rng.uniform(0.1, 0.8) if rng.random() < 0.2 else 0.0,
        contrast=rng.beta(2, 2) * 0.8,
    )


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw backdrop and clothes."""
    kind = pick(
        rng, ["gradient", "cloudy", "blobs", "stripes", "foliage"], [0.3, 0.2, 0.25, 0.1, 0.15]
    )
    level = rng.beta(1, 1.6, 2) * 0.75 + 0.01
    tint = np.exp(rng.normal(0, 0.13, (2, 3)))
    if kind == "foliage":
        tint = np.array([[0.75, 1.1, 0.35], [0.5, 0.8, 0.25]]) * np.exp(rng.normal(0, 0.1, (2, 3)))
    near, far = np.clip(level[:, None] * tint, 0.003, 1)
    cloth = rng.beta(1, 2.2) * 0.75 * np.exp(rng.normal(0, 0.4, 3))
    return fit(
        Scene,
        backdrop=str(kind),
        near=as_colour(near),
        far=as_colour(far),
        detail=rng.beta(2, 2),
        collar=(
            pick(rng, ["crew", "v", "shirt", "turtleneck", "bare"], [0.35, 0.2, 0.25, 0.1, 0.1])
        ),
        cloth=as_colour(np.clip(cloth, 0.004, 0.85)),
        stripes=rarely(rng, 0.2) * rng.uniform(0.5, 1),
    )
