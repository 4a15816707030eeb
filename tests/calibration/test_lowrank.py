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
