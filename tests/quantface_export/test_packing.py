"""Weights take the bits on disk that they are counted with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quantface_export.lower.builder import Builder
from quantface_export.lower.packing import packed_codes


@pytest.mark.parametrize(("bits", "stored"), [(3, 4), (4, 4), (5, 6), (6, 6), (8, 8)])
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_bits_on_disk(bits: int, stored: int, kind: str) -> None:
    codes = torch.zeros((16, 8, 3, 3) if kind == "conv" else (16, 8), dtype=torch.int8)
    weight = SimpleNamespace(codes=codes)
    layer: Any = SimpleNamespace(name="x", form=None, kind=kind, weight_bits=bits, weight=weight)
    graph = Builder()
    packed_codes(graph, layer)
    tensors = [value.const_value for value in graph.initializers.values()]
    # what is left out are the shape and the numbers to shift by
    large = [t.nbytes for t in tensors if t is not None and t.size > codes.ndim]
    assert 8 * sum(large) == stored * codes.numel()
