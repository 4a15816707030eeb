"""A rotation joins the GroupNormSilu before it, and everything else still finds its values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

from calibration.layers import quant_layers
from calibration.recipe import Recipe
from onnx_ops.prologue import NAME
from quantface_export.integers import integers_sha256
from quantface_export.layer_table import read_layers
from quantface_export.parity import compare_stage
from quantface_export.session import fastest_variant, open_session, run


class Block(nn.Module):
    """Two convolutions behind norms, and the way around them."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(4, 16) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.shortcut = nn.Conv2d(16, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(nn.functional.silu(norm(y)))
        return self.shortcut(x) + y


def test_norms_before_rotations_join_them(lower: Callable[..., ir.Model], tmp_path: Path) -> None:
    torch.manual_seed(0)
    block = Block().eval().requires_grad_(False)
    spread = torch.logspace(-1, 1, 16)[torch.randperm(16)].reshape(1, 16, 1, 1)
    x = torch.randn(1, 16, 12, 10) * spread
    recipe = Recipe(name="test", weight_bits=4, activation_bits=4, rank=2)
    graph, path = lower(block, x, recipe, tmp_path), tmp_path / "model.onnx"
    layers = quant_layers(block)
    onnx.checker.check_model(path, full_check=True)

    rotated = {n for n, layer in layers.items() if layer.balance and layer.balance.block > 1}
    kinds = [node.op_type for node in graph.graph]
    assert kinds.count(NAME) == len(rotated & {"convs.0", "convs.1"}) > 0
    assert kinds.count("HadamardQuantize") == len(rotated & {"shortcut"})
    records = {record.name: record for record in read_layers(path)}
    for name, layer in layers.items():
        assert layer.balance is not None
        assert records[name].rotated == (name in rotated)
        assert np.array_equal(np.ravel(records[name].d), layer.balance.d.numpy())
        assert records[name].top == layer.grid.top

    inputs = [x.numpy()]
    for variant in ("function", fastest_variant()):
        assert compare_stage(path, inputs, variant=variant, optimization="all").passed
        (y,) = run(open_session(path, variant=variant), *inputs)
        assert np.abs(y - block(x).numpy()).max() < 1e-3 * np.abs(y).max()
    assert integers_sha256(path, inputs) == integers_sha256(path, inputs, fastest_variant())
