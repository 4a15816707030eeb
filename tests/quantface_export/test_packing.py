"""Weights take the bits on disk that they are counted with, and come back as they were."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from onnx_ops.variants import join_planes, split_planes
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
    assert 8 * sum(t.nbytes for t in tensors if t is not None) == stored * codes.numel()


def test_an_odd_number_of_filters_has_no_planes() -> None:
    weight = SimpleNamespace(codes=torch.zeros((3, 8), dtype=torch.int8))
    layer: Any = SimpleNamespace(name="x", form=None, weight_bits=6, weight=weight)
    (value,) = packed_codes(Builder(), layer)
    assert value.const_value is not None
    assert value.const_value.dtype.name == "INT8"


def test_planes_are_numbers_of_four_bits_that_join() -> None:
    """Every pair of weights that may share a number of the low plane."""
    each = np.arange(-32, 32, dtype=np.int8)
    weight = np.stack([np.repeat(each, 64), np.tile(each, 64)])
    high, low = split_planes(weight)
    assert (high.min(), high.max(), low.min(), low.max()) == (-8, 7, 0, 15)
    assert np.array_equal(join_planes(high, low), weight)


@pytest.mark.parametrize("weight", [np.zeros((3, 4), np.int8), np.full((2, 4), 32, np.int8)])
def test_what_has_no_planes(weight: np.ndarray[Any, np.dtype[np.int8]]) -> None:
    with pytest.raises(ValueError, match="an even number of filters and weights in"):
        split_planes(weight)
