"""Convolutions in bands equal those in one piece."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from calibration import layers


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("columns", [1, 1000, 1 << 25])
def test_bands_of_a_float64_convolution(
    monkeypatch: pytest.MonkeyPatch, stride: int, padding: int, kernel: int, columns: int
) -> None:
    monkeypatch.setattr(layers, "COLUMNS", columns)
    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, 5, 13, 10, generator=generator, dtype=torch.float64)
    w = torch.randn(7, 5, kernel, kernel, generator=generator, dtype=torch.float64)
    pairs = (stride, stride), (padding, padding)
    whole = F.conv2d(x, w, None, *pairs)
    assert torch.allclose(layers.conv2d(x, w, *pairs), whole, rtol=1e-12, atol=1e-12)
