"""Zeros around an image become the convolution's own; anything else stays a Pad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from calibration.recipe import Recipe
from quantface_export.layer_table import read_layers
from quantface_export.parity import compare_stage
from quantface_export.session import fastest_variant, open_session, run


class Padded(nn.Module):
    """Two convolutions that read one padded image, and what else reads it."""

    def __init__(self, pad: tuple[int, ...], mode: str, value: float | None, shared: bool) -> None:
        super().__init__()
        self.pad, self.mode, self.value, self.shared = pad, mode, value, shared
        self.convs = nn.ModuleList(
            (nn.Conv2d(24, 16, 3, stride=2), nn.Conv2d(24, 16, 3, stride=2, padding=1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(nn.functional.silu(x), self.pad, self.mode, self.value)
        y: Tensor = self.convs[0](x) + self.convs[1](x)[:, :, 1:, 1:]
        return y + x.mean() if self.shared else y


@pytest.mark.parametrize("rotate", [True, False], ids=["rotated", "scaled"])
@pytest.mark.parametrize(
    ("pad", "mode", "value", "shared", "taken", "left"),
    [
        ((0, 1, 0, 1), "constant", 0.0, False, (0, 0, 1, 1), 0),  # a VAE encoder's
        ((1, 2, 3, 0), "constant", None, False, (3, 1, 0, 2), 0),
        ((0, 1, 0, 1), "constant", 0.0, True, (0, 0, 1, 1), 1),  # something else reads it too
        ((0, 1, 0, 1), "constant", 0.5, False, (0, 0, 0, 0), 1),
        ((1, 1, 1, 1), "reflect", None, False, (0, 0, 0, 0), 1),
        ((2, 2, -1, 2), "constant", 0.0, False, (0, 0, 0, 0), 1),
        ((0, 0, 0, 0, 2, 2), "constant", 0.0, False, (0, 0, 0, 0), 1),  # channels
    ],
    ids=["bottom right", "no value", "shared", "value", "reflect", "negative", "channels"],
)
def test_pads(
    pad: tuple[int, ...],
    mode: str,
    value: float | None,
    shared: bool,
    taken: tuple[int, ...],
    left: int,
    rotate: bool,
    lower: Callable[..., ir.Model],
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    channels = 24 - sum(pad[4:])
    model = Padded(pad, mode, value, shared).eval().requires_grad_(False)
    x = torch.randn(1, channels, 10, 12) * torch.logspace(-1, 1, channels).reshape(1, -1, 1, 1)
    recipe = Recipe(name="test", weight_bits=4, activation_bits=4, rank=2, rotate=rotate)
    graph, path = lower(model, x, recipe, tmp_path), tmp_path / "model.onnx"

    assert [node.op_type for node in graph.graph].count("Pad") == left
    records = {record.name: record for record in read_layers(path)}
    top, start, bottom, end = taken
    assert records["convs.0"].pads == taken
    assert records["convs.1"].pads == (top + 1, start + 1, bottom + 1, end + 1)
    parity = compare_stage(path, [x.numpy()], variant=fastest_variant(), optimization="all")
    assert parity.lsb_max <= 1
    assert all(layer.mismatches <= 1 for layer in parity.layers)
    (y,) = run(open_session(path, variant=fastest_variant(), optimization="all"), x.numpy())
    expected = model(x).numpy()
    assert np.median(np.abs(y - expected)) <= 1e-5 * np.abs(expected).max()
