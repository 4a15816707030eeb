"""Draws of what people choose: hair, beard, glasses."""

from __future__ import annotations

import numpy as np

from calibration.faces.draw import fit, jitter, pick
from calibration.faces.params import Colour, Glasses, Hair

_HAIR_COLOURS = np.array(  # black to blond, red, white
    [
        (0.008, 0.006, 0.006),
        (0.020, 0.011, 0.007),
        (0.050, 0.026, 0.013),
        (0.110, 0.058, 0.027),
        (0.215, 0.135, 0.068),
        (0.360, 0.262, 0.150),
        (0.160, 0.050, 0.018),
    ]
)


def beard_shares(male: float) -> list[float]:
    """Shares of no beard, stubble, moustache, goatee and full beard."""
    grown = 0.55 if male > 0.55 else 0.0
    return [1 - grown, 0.42 * grown, 0.12 * grown, 0.16 * grown, 0.30 * grown]


def draw_hair_colour(rng: np.random.Generator, tone: float) -> Colour:
    """Draw a natural hair colour; dark skin goes with dark hair."""
    light = rng.beta(1.2, 1.1) * (1.1 - 1.05 * min(1.4 * tone, 1))
    if rng.random() < 0.07 * (1 - tone):
        return jitter(rng, _HAIR_COLOURS[6], 0.2)
    at = light * 5
    mixed = [np.interp(at, np.arange(6), _HAIR_COLOURS[:6, k]) for k in range(3)]
    return jitter(rng, np.array(mixed), 0.12)


def draw_hair(rng: np.random.Generator, male: float, age: float, tone: float) -> Hair:
    """Draw a hairstyle."""
    u = rng.uniform
    colour = draw_hair_colour(rng, tone)
    grey = float(np.clip(1.6 * (age - 0.55) + rng.normal(0, 0.15), 0, 1))
    curl = float(np.clip(rng.beta(1, 5) + (tone > 0.6) * u(0, 0.9), 0, 1))
    values: dict[str, float] = {
        "amount": 1.0,
        "volume": u(0.03, 0.06),
        "hairline": rng.normal(0.235, 0.015),
        "temple": u(0, 0.4) + 0.4 * male * age,
        "part": rng.normal(0, 0.07),
        "length": u(-0.03, 0.04),
        "inner": u(0.93, 1.0),
        "fringe": 0.0,
        "wave": rng.beta(1.5, 2),
    }
    if male > 0.5:
        kind = pick(rng, ["short", "buzz", "bald", "fringe", "long"], [0.5, 0.17, 0.1, 0.15, 0.08])
    else:
        kind = pick(rng, ["long", "bob", "tied", "short", "fringe"], [0.45, 0.2, 0.15, 0.08, 0.12])
    if kind == "buzz":
        values |= {"volume": u(0.002, 0.010), "amount": u(0.6, 0.9), "length": u(-0.04, 0.0)}
    elif kind == "bald":
        values |= {"volume": 0.0, "amount": rng.choice([0.0, u(0.1, 0.3)]), "hairline": 0.30}
    elif kind in ("long", "bob"):
        values |= {"length": u(0.45, 0.8) if kind == "long" else u(0.2, 0.42)}
        values |= {"volume": u(0.03, 0.08), "inner": u(0.72, 0.98)}
        values |= {"fringe": u(0.5, 1) if rng.random() < 0.35 else 0.0}
    elif kind == "tied":
        values |= {"volume": u(0.008, 0.02), "length": u(-0.04, 0.0)}
    elif kind == "fringe":
        values |= {"fringe": u(0.3, 0.95)}
    if curl > 0.5 and kind not in ("buzz", "bald", "tied"):
        values["volume"] += u(0.0, 0.06)
    return fit(Hair, colour=colour, grey=grey, curl=curl, **values)


def draw_glasses(rng: np.random.Generator) -> Glasses:
    """Draw glasses, for about a quarter of the people."""
    style = pick(
        rng, ["none", "round", "oval", "rectangle", "sun"], [0.76, 0.06, 0.06, 0.105, 0.015]
    )
    dark = rng.random() < 0.7
    colour = (
        rng.uniform(0.005, 0.03, 3) if dark else rng.uniform(0.05, 0.5) * rng.uniform(0.5, 1, 3)
    )
    return fit(
        Glasses,
        style=str(style),
        size=rng.normal(0.087, 0.006),
        rim=rng.beta(1.3, 2),
        tint=rng.beta(1, 8),
        glare=rng.beta(1, 2),
        colour=tuple(float(c) for c in colour),
    )
