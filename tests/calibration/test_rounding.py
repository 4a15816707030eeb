"""Straight-through rounding: the values of plain rounding, the gradients of none."""

from __future__ import annotations

import pytest
import torch

from calibration.rounding import ste_codes, ste_half, ste_requantized, ste_round

TIES = torch.tensor([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
EVEN = [-4.0, -2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 4.0]


def noise(seed: int, *shape: int) -> torch.Tensor:
    return 6 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("training", [False, True])
def test_ties_go_to_even(training: bool) -> None:
    x, one = TIES.clone().requires_grad_(training), torch.tensor(1.0)
    assert ste_round(x).tolist() == EVEN
    assert ste_codes(x, one, -8, 7).tolist() == EVEN
    assert ste_requantized(x, one, -8, 7).tolist() == EVEN
    # between 2048 and 4096, float16 has the even integers only
    odd = torch.tensor([2049.0, 2051.0, -2053.0], requires_grad=training)
    assert ste_half(odd).tolist() == [2048.0, 2052.0, -2052.0]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_those_of_plain_rounding(training: bool, dtype: torch.dtype) -> None:
    x, factor = noise(0, 64, 50).to(dtype), torch.tensor(0.37, dtype=dtype)
    trained = x.clone().requires_grad_(training)
    assert torch.equal(ste_round(trained), x.round())
    assert torch.equal(ste_half(trained), x.half().to(dtype))
    assert torch.equal(ste_codes(trained, factor, -5, 10), (x / factor).round().clamp(-5, 10))
    plain = (x * factor).round().clamp(-5, 10)
    assert torch.equal(ste_requantized(trained, factor, -5, 10), plain)
    learned = factor.clone().requires_grad_(training)
    assert torch.equal(ste_requantized(trained, learned, -5, 10), plain)


def test_the_gradient_of_codes_is_one_over_the_step_inside_and_zero_outside() -> None:
    # codes 3.5 and -2.6 round to 4 and -3, the limits: inside; 4.6 and -3.6 round beyond
    x = torch.tensor([0.0, 0.26, 1.75, -1.3, 2.3, -1.8], requires_grad=True)
    given = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    (grad,) = torch.autograd.grad(ste_codes(x, torch.tensor(0.5), -3, 4), x, given)
    assert grad.tolist() == [2.0, 4.0, 6.0, 8.0, 0.0, 0.0]


def test_the_gradient_of_requantized_is_the_multiplier_per_channel() -> None:
    x = torch.tensor([[1.0, 30.0], [1.0, -30.0]], requires_grad=True)
    multiplier = torch.tensor([[0.25], [0.5]])
    (grad,) = torch.autograd.grad(ste_requantized(x, multiplier, -4, 4).sum(), x)
    assert grad.tolist() == [[0.25, 0.0], [0.5, 0.0]]


def test_a_learned_multiplier_gets_the_inputs_it_scales() -> None:
    x = torch.tensor([[1.0, 30.0], [2.0, -30.0]], requires_grad=True)
    multiplier = torch.tensor([[0.25], [0.5]], requires_grad=True)
    y = ste_requantized(x, multiplier, -4, 4).sum()
    of_x, of_multiplier = torch.autograd.grad(y, (x, multiplier))
    assert of_x.tolist() == [[0.25, 0.0], [0.5, 0.0]]
    assert of_multiplier.tolist() == [[1.0], [2.0]]


def test_gradients_pass_round_and_half_unchanged() -> None:
    x, given = noise(1, 7).requires_grad_(), noise(2, 7)
    for rounding in (ste_round, ste_half):
        (grad,) = torch.autograd.grad(rounding(x), x, given)
        assert torch.equal(grad, given)
