"""The branch folded into 8-bit weights: same numbers trained, stored and used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from calibration.folded import FoldedWeight
from calibration.methods.quantface import form
from calibration.quantize import stored_form
from calibration.recipe import Recipe


def weight(*shape: int) -> Tensor:
    """Random, with a strong low-rank part and channels of different size."""
    generator = torch.Generator().manual_seed(sum(shape))
    w = torch.randn(shape, generator=generator)
    low = torch.randn(len(w), 3, generator=generator) @ torch.randn(
        3, w[0].numel(), generator=generator
    )
    return (w + low.reshape(shape)) * torch.linspace(0.1, 3, len(w)).reshape(
        [-1] + [1] * (w.ndim - 1)
    )


@pytest.mark.parametrize("shape", [(24, 40, 3, 3), (40, 96)], ids=str)
def test_folding_adds_no_more_than_its_own_rounding(shape: tuple[int, ...]) -> None:
    w = weight(*shape)
    plain, folded = stored_form(w, 4, 16), FoldedWeight(stored_form(w, 4, 16))
    rest, branch = plain().effective()
    assert branch is not None
    whole, none = folded().effective()
    assert none is None
    error = ((rest + branch - w) ** 2).mean()
    of_rounding = (folded().scale ** 2).mean() / 12
    assert ((whole - w) ** 2).mean() < error + 1.2 * of_rounding
    assert folded().codes.abs().amax(tuple(range(1, w.ndim))).eq(64).all()


@pytest.mark.parametrize("shape", [(24, 40, 3, 3), (40, 96)], ids=str)
def test_stored_form_computes_what_training_did(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    trained = FoldedWeight(form(weight(*shape), 4, 16))
    optimizer = torch.optim.Adam(trained.parameters(), 1e-2)
    start = trained().codes.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        codes, scale, _, _ = trained()
        loss = (codes.flatten(1) * scale[:, None] - 1).square().mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        learned, stored = trained(), trained.stored()()
    assert not torch.equal(learned.codes, start)
    assert torch.equal(learned.codes, stored.codes)
    assert torch.equal(learned.scale, stored.scale)


def test_needs_a_branch_and_4_bits() -> None:
    with pytest.raises(ValueError, match="fold needs a branch"):
        Recipe(name="x", weight_bits=4, activation_bits=8, rank=0, fold=True)
    with pytest.raises(ValueError, match="weight_bits of at most 4"):
        Recipe(name="x", weight_bits=6, activation_bits=8, fold=True)
