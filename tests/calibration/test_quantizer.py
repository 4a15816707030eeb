"""Grids: rounding, zero, limits and the choice of ranges."""

from __future__ import annotations

import pytest
import torch

from calibration.quantizer import (
    ActivationGrid,
    LearnedGrid,
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


GRIDS = [(-1.0, 3.0), (0.0, 2.0), (-4.0, 0.0), (-0.013, 0.0071), (-310.0, 95.0)]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("low", "high"), GRIDS)
def test_learned_grid_starts_where_its_grid_is(low: float, high: float, bits: int) -> None:
    grid = grid_from_range(low, high, bits)
    learned = LearnedGrid(grid)
    assert learned.step.item() == grid.scale
    assert learned.zero_point.item() == grid.zero_point
    x = torch.linspace(1.2 * low - 0.1 * high, 1.2 * high - 0.1 * low, 997)
    assert torch.equal(learned.codes(x), grid.codes(x))
    assert torch.equal(learned.centred(x), grid.centred(x))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("ends", [(-1.0, 3.0), (0.2, 2.0), (-4.0, -1.0), (-0.31, 0.77)])
def test_stored_grid_gives_the_learned_codes(ends: tuple[float, float], bits: int) -> None:
    grid = grid_from_range(-1, 1, bits)
    learned = LearnedGrid(grid)
    with torch.no_grad():
        learned.low.fill_(ends[0] / grid.scale)
        learned.high.fill_(ends[1] / grid.scale)
    stored = learned.stored()
    x = 2 * torch.randn(4096, generator=torch.Generator().manual_seed(bits))
    x[:1024] = (torch.arange(1024) % 64 - 32 + 0.5) * stored.scale  # ties
    assert torch.equal(stored.codes(x), learned.codes(x))
    assert torch.equal(stored.centred(x), learned.centred(x))
    assert torch.equal(stored.step, learned.step)
    assert 0 <= stored.zero_point <= stored.top


def test_ends_of_a_learned_grid_get_the_gradient_of_what_they_clip() -> None:
    learned = LearnedGrid(ActivationGrid(scale=0.25, zero_point=6, bits=4))

    def gradients(value: float) -> tuple[float, float]:
        x = torch.tensor(value, requires_grad=True)
        y = learned.centred(x) * learned.step
        of_x, of_low, of_high = torch.autograd.grad(y, (x, learned.low, learned.high))
        assert float(of_x) == float(-1.5 <= value <= 2.25)
        return float(of_low) / 0.25, float(of_high) / 0.25  # the ends count in steps

    # y = high above the grid and y = low below it
    assert gradients(99.0) == pytest.approx((0, 1), abs=1e-6)
    assert gradients(-99.0) == pytest.approx((1, 0), abs=1e-6)
    # inside, y = step * round(x / step) moves with the step by round(x / step) - x / step
    share = (4 - 1.1 / 0.25) / learned.top
    assert gradients(1.1) == pytest.approx((-share, share), abs=1e-6)
