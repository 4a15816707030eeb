"""Which balance a site gets."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calibration.folds import Fold
from calibration.observe import Site
from calibration.quantize import ROTATION_COST, SitePlan, plan_site
from calibration.recipe import LayerBits, Recipe

CHANNELS = 32
FULL = Recipe(name="test", weight_bits=4, activation_bits=4, rank=0)
ALONE = [
    dataclasses.replace(FULL, rotate=rotate, scale=scale)
    for rotate, scale in ((False, False), (True, False), (False, True))
]


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def outliers() -> Tensor:
    """(P, C, 1) of heavy-tailed values in every channel: no scale evens them out."""
    return noise(256, CHANNELS, 1) ** 5


def sparse() -> Tensor:
    """One-sided, most values 0, as an activation function leaves them."""
    return F.relu(noise(256, CHANNELS, 1) - 1)


def plan(samples: Tensor, recipe: Recipe, fold: Fold | None = None) -> SitePlan:
    peak = samples.abs().amax((0, 2))
    site = Site("x", ["x"], peak, {"x": 1}, {"x": [samples]})
    bits = LayerBits(weight=4, activation=4, rank=recipe.rank)
    return plan_site(site, {"x": noise(64, CHANNELS, 1)}, recipe, bits, fold=fold, seed=0)


def test_outliers_are_rotated_away() -> None:
    assert plan(outliers(), FULL).balance.block == CHANNELS


def test_a_rotation_that_would_only_harm_is_left_out() -> None:
    assert plan(sparse(), FULL).balance.block == 1


@pytest.mark.parametrize("samples", [outliers(), sparse()], ids=["outliers", "sparse"])
@pytest.mark.parametrize("recipe", ALONE, ids=["neither", "rotation", "scaling"])
def test_both_parts_are_hardly_worse_than_less(samples: Tensor, recipe: Recipe) -> None:
    assert plan(samples, FULL).error <= ROTATION_COST * plan(samples, recipe).error


def test_a_rotation_spans_what_its_producer_can_carry() -> None:
    heads = Fold(kind="heads", producer="v", block=8)
    assert plan(outliers(), FULL, heads).balance.block == 8
    norm = Fold(kind="norm", producer="norm")
    assert plan(outliers(), FULL, norm).balance.block == 1
