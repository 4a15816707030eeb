"""Draws of the body: skin, head, eyes, brows, nose, mouth."""

from __future__ import annotations

import numpy as np

from calibration.faces.draw import fit, jitter, rarely
from calibration.faces.params import Brows, Eyes, Head, Mouth, Nose, Skin

_IRISES = np.array(
    [
        (0.035, 0.016, 0.008),
        (0.080, 0.038, 0.016),
        (0.130, 0.085, 0.030),
        (0.090, 0.120, 0.060),
        (0.080, 0.130, 0.200),
        (0.150, 0.170, 0.180),
    ]
)


def draw_skin(rng: np.random.Generator, male: float, age: float, tone: float) -> Skin:
    """Draw tone, texture and age of the skin."""
    freckled = rng.random() < 0.2 * (1 - tone)
    return fit(
        Skin,
        tone=tone,
        warmth=rng.normal(0.1, 0.5),
        blush=rng.beta(2, 2),
        freckles=rng.uniform(0.3, 1) if freckled else 0.0,
        roughness=0.15 + 0.45 * age + 0.2 * male + rng.normal(0, 0.15),
        age=age,
        shine=rng.beta(2, 2.5),
    )


def draw_features(
    rng: np.random.Generator, male: float, tone: float
) -> tuple[Head, Eyes, Brows, Nose]:
    """Draw the shape of head, eyes, brows and nose."""
    g = rng.normal
    head = fit(
        Head,
        width=0.262 + g(0, 0.012),
        jaw=0.73 + 0.08 * male + g(0, 0.05),
        chin_width=0.30 + 0.08 * male + g(0, 0.05),
        chin=0.438 + 0.014 * male + g(0, 0.012),
        crown=0.40 + g(0, 0.015),
        cheeks=rng.beta(2, 2),
    )
    iris = _IRISES[int(np.clip(rng.exponential(1.6 * (1.15 - tone)), 0, 5))]
    made_up = rng.random() < 0.6 * (1 - male)
    eyes = fit(
        Eyes,
        spacing=0.125 + g(0, 0.005),
        width=0.059 + g(0, 0.004),
        opening=1.0 - 0.06 * male + g(0, 0.13),
        tilt=0.06 + g(0, 0.05),
        crease=rng.beta(2.5, 1.3),
        lashes=0.25 + 0.3 * (1 - male) + 0.3 * made_up + g(0, 0.1),
        shadow=rng.uniform(0.2, 0.9) if made_up else rng.uniform(0, 0.2),
        gaze_x=g(0, 0.3),
        gaze_y=g(0, 0.2),
        iris=jitter(rng, iris, 0.2),
    )
    brows = fit(
        Brows,
        height=0.083 - 0.010 * male + g(0, 0.007),
        arch=0.55 - 0.35 * male + g(0, 0.18),
        thickness=0.30 + 0.4 * male + g(0, 0.15),
        density=rng.beta(3, 2),
        slant=g(0, 0.35),
    )
    nose = fit(
        Nose,
        length=0.168 + g(0, 0.009),
        width=0.044 + 0.004 * male + 0.009 * tone + g(0, 0.003),
        bridge=0.6 - 0.3 * tone + g(0, 0.2),
        tip=rng.beta(2, 2),
    )
    return head, eyes, brows, nose


def draw_mouth(rng: np.random.Generator, male: float, tone: float) -> Mouth:
    """Draw the mouth and its expression; about every other person smiles."""
    smile = rng.uniform(0.3, 1.0) if rng.random() < 0.55 else rng.normal(0.05, 0.12)
    toothy = smile > 0.35 and rng.random() < 0.7
    opening = rng.uniform(0.3, 0.85) if toothy else rarely(rng, 0.2) * rng.uniform(0.1, 0.4)
    painted = rng.random() < 0.55 * (1 - male)
    return fit(
        Mouth,
        height=0.268 + rng.normal(0, 0.007),
        width=0.091 + rng.normal(0, 0.006),
        upper=0.45 - 0.15 * male + 0.3 * tone + rng.normal(0, 0.15),
        lower=0.45 + 0.25 * tone + rng.normal(0, 0.15),
        smile=smile,
        opening=opening,
        lipstick=rng.uniform(0.2, 1) if painted else 0.0,
        lip_colour=jitter(rng, np.array([0.36, 0.05, 0.07]), 0.4),
    )
