"""Balancing is exact in real arithmetic, whatever the scales and signs."""

from __future__ import annotations

import pytest
import torch

from calibration.balance import Balance, channel_scale, rotate
from onnx_ops.hadamard import matrix, signs

ORDERS = (1, 2, 12, 20, 24, 40, 60, 64, 96, 120, 160)


@pytest.mark.parametrize("n", ORDERS)
@pytest.mark.parametrize("dim", [1, -1])
def test_rotate_is_the_dense_matrix(n: int, dim: int) -> None:
    x = torch.randn(2, n, 3, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    dense = torch.from_numpy(matrix(n)).double()
    expected = (x.movedim(dim, -1) @ dense.T).movedim(-1, dim)
    # the factors are float32: one rounding of 1/sqrt(m) and 1/sqrt(p) each
    bound = 4 * torch.finfo(torch.float32).eps * x.abs().amax() * n**0.5
    assert (rotate(x, dim) - expected).abs().max() <= bound


@pytest.mark.parametrize(("channels", "block"), [(40, 40), (40, 20), (40, 1), (96, 96), (64, 8)])
def test_balanced_layer_equals_the_layer(channels: int, block: int) -> None:
    generator = torch.Generator().manual_seed(channels + block)
    x = torch.randn(2, channels, 5, 4, dtype=torch.float64, generator=generator)
    w = torch.randn(7, channels, 3, 3, dtype=torch.float64, generator=generator)
    s = torch.rand(channels, generator=generator) + 0.1
    balance = Balance(d=torch.from_numpy(signs(channels, 3)) / s, block=block)
    plain = torch.nn.functional.conv2d(x, w)
    balanced = torch.nn.functional.conv2d(balance.activation(x, 1), balance.weight(w))
    bound = 64 * torch.finfo(torch.float32).eps * plain.abs().max()
    assert (plain - balanced).abs().max() <= bound


def test_rotation_spreads_an_outlier_channel() -> None:
    x = torch.randn(1, 80, 16, 16, generator=torch.Generator().manual_seed(0))
    x[:, 7] *= 50
    y = Balance(d=torch.from_numpy(signs(80, 0)), block=80).activation(x, 1)
    before, after = (v.abs().amax((0, 2, 3)) for v in (x, y))
    assert before.max() / before.median() > 30
    assert after.max() / after.median() < 3


def test_scale_is_equation_8_up_to_a_common_factor() -> None:
    x_peak, w_peak = torch.tensor([4.0, 1.0, 16.0]), torch.tensor([1.0, 2.0, 0.5])
    s = channel_scale(x_peak, w_peak, 0.25)
    expected = x_peak**0.25 / w_peak**0.75
    assert torch.allclose(s / s[0], expected / expected[0], rtol=1e-6, atol=0)
    assert s.log().mean().abs() < 1e-6
