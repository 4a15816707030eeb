"""Small random draws that the sampling of faces is made of."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibration.faces.params import Bounded, Colour

_T = TypeVar("_T", bound=Bounded)


def fit(cls: type[_T], **values: Any) -> _T:
    """Build cls with its bounded fields clipped into their bounds."""
    for item in fields(cls):
        if item.name in values and "bounds" in item.metadata:
            low, high = item.metadata["bounds"]
            values[item.name] = min(max(float(values[item.name]), low), high)
    return cls(**values)


def rarely(rng: np.random.Generator, share: float) -> float:
    """Return 1.0 with probability ``share``, else 0.0."""
    return float(rng.random() < share)


def pick(rng: np.random.Generator, names: list[str], shares: list[float]) -> str:
    """One of the names; the shares sum to 1. Ten times as fast as ``rng.choice``."""
    at = rng.random()
    for name, share in zip(names, shares, strict=True):
        at -= share
        if at < 0:
            return name
    return names[-1]


def jitter(rng: np.random.Generator, colour: NDArray[np.floating], spread: float) -> Colour:
    """The colour with a log-normal change of brightness and half as much of each channel."""
    return as_colour(
        np.clip(colour * np.exp(rng.normal(0, spread, 3) * 0.5 + rng.normal(0, spread)), 0, 1)
    )


def as_colour(colour: NDArray[np.floating]) -> Colour:
    """Three numbers as a tuple."""
    r, g, b = (float(c) for c in colour)
    return r, g, b
