"""Two calls at once: in order, without gradients, and torch's threads are given back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Barrier

import pytest
import torch

from calibration.side_by_side import WORKERS, side_by_side


@pytest.fixture(autouse=True, params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_keep_their_order_and_no_gradient_is_kept(threads: int) -> None:
    at_once = Barrier(min(threads, WORKERS), timeout=60)
    w = torch.ones(3, requires_grad=True)

    def call(i: int) -> tuple[int, int, bool]:
        at_once.wait()  # passes only if as many calls run at once
        return i, torch.get_num_threads(), (w * i).requires_grad

    share = threads // min(threads, WORKERS)
    assert list(side_by_side(call, range(6))) == [(i, share, False) for i in range(6)]
    assert torch.get_num_threads() == threads


def test_what_has_not_begun_is_given_up_after_an_error(threads: int) -> None:
    begun: list[int] = []

    def call(i: int) -> int:
        begun.append(i)
        if i == 1:
            raise ValueError("broken")
        if i > 1:
            time.sleep(0.05)
        return i

    results = side_by_side(call, range(1000))
    assert next(results) == 0
    with pytest.raises(ValueError, match="broken"):
        next(results)
    assert torch.get_num_threads() == threads
    assert len(begun) < 1000
