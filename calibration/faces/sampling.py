"""Random people: parameters drawn together so that they suit each other."""

from __future__ import annotations

import numpy as np

from calibration.faces.anatomy import draw_features, draw_mouth, draw_skin
from calibration.faces.circumstances import draw_light, draw_pose, draw_scene
from calibration.faces.draw import pick
from calibration.faces.params import Beard, FaceParams
from calibration.faces.styling import beard_shares, draw_glasses, draw_hair


def sample_params(rng: np.random.Generator) -> FaceParams:
    """Draw a face.

    Hidden traits (how masculine, how old, how dark) steer the shape, the hair, beard, make-up and
    wrinkles together; everything else is independent.
    """
    male = float(np.clip(rng.normal(0.5 + 0.32 * rng.choice([-1, 1]), 0.12), 0, 1))
    age, tone = float(rng.beta(1.5, 2.0)), float(rng.beta(1.1, 1.5))
    skin = draw_skin(rng, male, age, tone)
    head, eyes, brows, nose = draw_features(rng, male, tone)
    style = pick(rng, ["none", "stubble", "moustache", "goatee", "full"], beard_shares(male))
    return FaceParams(
        head=head,
        skin=skin,
        eyes=eyes,
        brows=brows,
        nose=nose,
        mouth=draw_mouth(rng, male, tone),
        hair=draw_hair(rng, male, age, tone),
        beard=Beard(style=style, density=float(rng.uniform(0.2, 1))),  # type: ignore[arg-type]
        glasses=draw_glasses(rng),
        pose=draw_pose(rng),
        light=draw_light(rng, tone),
        scene=draw_scene(rng),
        texture=int(rng.integers(2**31)),
    )
