"""Where nothing is rotated, what makes codes is one op, but for graphs of standard operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from calibration.layers import quant_layers
from calibration.recipe import Recipe
from onnx_ops.scale_quantize import NAME
from quantface_export.integers import integers_sha256
from quantface_export.layer_table import read_layers
from quantface_export.parity import compare_stage
from quantface_export.session import fastest_variant

STANDARD = {"Mul", "Clip", "QuantizeLinear"}


class Block(nn.Module):
    """A convolution, and a linear layer on its pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(24, 40, 3, padding=1), nn.Linear(40, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(self.conv(x).flatten(2).transpose(1, 2))
        return y


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scale", [False, True])
def test_scaling_and_rounding_become_one_op(
    scale: bool, bits: int, lower: Callable[..., ir.Model], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    block, x = Block().eval().requires_grad_(False), torch.randn(1, 24, 9, 11)
    recipe = Recipe(
        name="test", weight_bits=4, activation_bits=bits, rank=2, rotate=False, scale=scale
    )
    graph, path = lower(block, x, recipe, tmp_path), tmp_path / "model.onnx"
    onnx.checker.check_model(path, full_check=True)
    kinds = Counter(node.op_type for node in graph.graph)
    # A QuantizeLinear that nothing stands before stays one.
    joined = [bits < 8 or layer.balance is not None for layer in quant_layers(block).values()]
    assert kinds[NAME] == sum(joined)
    assert STANDARD & set(kinds) == (set() if all(joined) else {"QuantizeLinear"})
    records = {record.name: record for record in read_layers(path)}
    for name, layer in quant_layers(block).items():
        assert records[name].top == layer.grid.top
        balanced = [] if layer.balance is None else layer.balance.d.numpy().reshape(-1)
        d = records[name].d
        np.testing.assert_allclose([] if d is None or d.size == 1 else d.reshape(-1), balanced)
    inputs = [x.numpy()]
    for variant in ("function", fastest_variant()):
        assert compare_stage(path, inputs, variant=variant, optimization="all").passed
    assert integers_sha256(path, inputs) == integers_sha256(path, inputs, fastest_variant())


def test_standard_operators_stay_in_portable_graphs(
    lower: Callable[..., ir.Model], tmp_path: Path
) -> None:
    recipe = Recipe(name="test", weight_bits=4, activation_bits=4, rank=2, rotate=False)
    block = Block().eval().requires_grad_(False)
    graph = lower(block, torch.randn(1, 24, 9, 11), recipe, tmp_path, profile="portable")
    kinds = Counter(node.op_type for node in graph.graph)
    assert kinds[NAME] == 0
    assert set(kinds) >= STANDARD
