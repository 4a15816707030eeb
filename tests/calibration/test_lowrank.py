"""The branch is the best approximation of its rank."""

from __future__ import annotations

import pytest
import torch

from calibration.lowrank import product, svd_branch


@pytest.mark.parametrize("shape", [(24, 48, 3, 3), (320, 80), (80, 320), (16, 16, 1, 1)])
@pytest.mark.parametrize("rank", [1, 4])
def test_branch_reaches_the_svd_optimum(shape: tuple[int, ...], rank: int) -> None:
    w = torch.randn(*shape, generator=torch.Generator().manual_seed(rank))
    down, up = svd_branch(w, rank)
    assert down.shape == (rank, *shape[1:])
    assert up.shape == (shape[0], rank)
    optimum = float((torch.linalg.svdvals(w.flatten(1).double())[rank:] ** 2).sum())
    assert float(((w - product(down, up)) ** 2).sum()) == pytest.approx(optimum, rel=1e-4)


@pytest.mark.parametrize("shape", [(640, 640), (1280, 640), (640, 80, 3, 3)], ids=str)
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_truncated_branch_is_within_one_percent(shape: tuple[int, ...], decay: float) -> None:
    """From a flat spectrum, the hardest there is, to one like a trained weight's."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randn(shape[0], torch.Size(shape[1:]).numel(), generator=generator)
    u, values, v = torch.linalg.svd(flat, full_matrices=False)
    values = values * torch.arange(1, len(values) + 1) ** -decay
    w = (u * values @ v).reshape(shape)
    down, up = svd_branch(w, 16)
    optimum = float((values[16:].double() ** 2).sum())
    assert float(((w - product(down, up)) ** 2).sum()) < 1.01 * optimum
    again, _ = svd_branch(w, 16)
    assert torch.equal(down, again)
