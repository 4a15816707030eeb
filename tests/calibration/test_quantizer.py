"""Grids: rounding, zero, limits and the choice of ranges."""

from __future__ import annotations

import pytest
import torch

from calibration.quantizer import (
    ActivationGrid,
    grid_from_range,
    observe_grid,
    quantize_weight,
    weight_limits,
)
from onnx_ops.integer import SAFE_WEIGHT


def test_codes_round_half_to_even_and_clip() -> None:
    grid = ActivationGrid(scale=1.0, zero_point=2, bits=3)
    x = torch.tensor([-9.0, -0.5, 0.5, 1.5, 2.5, 99.0])
    assert grid.codes(x).tolist() == [0, 2, 2, 4, 4, 7]


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)])
def test_zero_is_a_code(bits: int, low: float, high: float) -> None:
    grid = grid_from_range(low, high, bits)
    assert 0 <= grid.zero_point <= grid.top == 2**bits - 1
    assert grid.codes(torch.zeros(1)).item() == grid.zero_point
    assert grid.scale > 0


def test_mse_beats_minmax_on_heavy_tails() -> None:
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(1)) ** 3

    def error(observer: str) -> float:
        g = observe_grid(x, 4, observer)
        return float(((g.scale * (g.codes(x) - g.zero_point) - x) ** 2).mean())

    assert error("mse") < 0.7 * error("minmax")
    assert error("mse") <= error("percentile") * 1.001 or error("percentile") < error("minmax")


def test_observer_names_and_finiteness() -> None:
    with pytest.raises(ValueError, match="minmax, percentile or mse"):
        observe_grid(torch.ones(3), 4, "entropy")
    with pytest.raises(ValueError, match="finite"):
        observe_grid(torch.tensor([1.0, float("inf")]), 4, "mse")


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_weight_codes_stay_in_the_grid(bits: int) -> None:
    w = torch.randn(5, 6, 3, 3, generator=torch.Generator().manual_seed(bits))
    w[2] = 0
    codes, scale = quantize_weight(w, bits)
    low, high = weight_limits(bits)
    assert codes.dtype == torch.int8
    assert codes.min() >= low
    assert codes.max() <= high
    error = (codes * scale[:, None, None, None] - w).abs()
    assert error[2].max() == 0
    if bits >= 6:
        assert (error.flatten(1).amax(1) <= 0.51 * scale * (1 << 8 - bits) + scale).all()


def test_no_pair_of_products_can_saturate_16_bits() -> None:
    assert 2 * 255 * SAFE_WEIGHT <= 2**15 - 1 < 2 * 255 * (SAFE_WEIGHT + 1)
    assert weight_limits(8) == (-SAFE_WEIGHT, SAFE_WEIGHT)
