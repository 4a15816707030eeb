"""Observation finds who reads what, and samples real receptive fields."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from calibration.observe import observe


class Shared(nn.Module):
    """Two layers read one tensor, a third reads an equal but different one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 6, 3, padding=1, stride=s) for s in (1, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return self.a(x).sum() + self.b(x).sum() + self.c(x.clone()).sum()


def test_layers_of_one_tensor_share_a_site() -> None:
    sites = observe(Shared(), [(torch.randn(1, 4, 8, 8),), (torch.randn(1, 4, 8, 8),)], seed=0)
    assert {name: site.layers for name, site in sites.items()} == {"a": ["a", "b"], "c": ["c"]}


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 0), (1, 1, 0)])
def test_samples_are_receptive_fields(kernel: int, stride: int, padding: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, kernel, stride=stride, padding=padding, bias=False)
    x = torch.randn(2, 3, 9, 9)
    outputs = conv(x).detach().movedim(1, -1).reshape(-1, 5)
    fields = observe(nn.Sequential(conv), [(x,)], seed=1)["0"].samples("0").flatten(1)
    found = fields @ conv.weight.detach().flatten(1).T
    nearest = (found[:, None] - outputs).abs().amax(-1).amin(1)
    assert nearest.max() < 1e-5
    assert len(outputs.unique(dim=0)) > 10


def test_peak_is_per_channel_over_all_images() -> None:
    x = torch.zeros(1, 3, 4, 4)
    x[0, 1, 2, 2] = -7
    y = torch.zeros(1, 3, 4, 4)
    y[0, 2, 0, 0] = 5
    site = observe(nn.Sequential(nn.Conv2d(3, 1, 1)), [(x,), (y,)], seed=0)["0"]
    assert site.peak.tolist() == [0, 7, 5]


def test_a_layer_with_infinite_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"layer 0 .*not finite"):
        observe(nn.Sequential(nn.Linear(2, 2)), [(torch.tensor([[float("inf"), 0.0]]),)], seed=0)


def test_skipped_layers_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert list(observe(model, [(torch.ones(1, 2),)], seed=0, skip=("0",))) == ["1"]
