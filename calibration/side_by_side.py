"""Work in several threads at once, each with its share of torch's own threads.

Torch gains little from a second thread on maps as small as those of the embedded model; two runs
side by side keep two cores busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 2
"""Each needs the memory of a whole run."""


def side_by_side(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``map(function, items)``, up to ``WORKERS`` calls at once, in the order of ``items``.

    Gradients are off in every call.
    """
    threads = torch.get_num_threads()
    workers = min(WORKERS, threads)
    torch.set_num_threads(threads // workers)
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(torch.no_grad()(function), items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
