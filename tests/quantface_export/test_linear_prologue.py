"""The rounding before a linear layer joins the LayerNorm or GEGLU it follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

from calibration.layers import quant_layers
from calibration.recipe import Recipe
from onnx_ops.linear_prologue import GEGLU, LAYER_NORM
from quantface_export.integers import integers_sha256
from quantface_export.layer_table import read_layers
from quantface_export.parity import compare_stage
from quantface_export.session import fastest_variant, open_session, run


class FeedForward(nn.Module):
    """A gated feed-forward behind a norm, and a layer that reads the norm's result too."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(24)
        self.gated, self.out, self.other = nn.Linear(24, 64), nn.Linear(32, 24), nn.Linear(24, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normal = self.norm(x)
        value, gate = self.gated(normal).chunk(2, -1)
        return self.out(value * nn.functional.gelu(gate)) + self.other(normal) + normal


def test_norms_and_gates_before_roundings_join_them(
    lower: Callable[..., ir.Model], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    block, x = FeedForward().eval().requires_grad_(False), torch.randn(1, 30, 24)
    for bits in (4, 8):
        recipe = Recipe(
            name="test", weight_bits=4, activation_bits=bits, rank=2, rotate=False, scale=False
        )
        lowered, folder = FeedForward().eval().requires_grad_(False), tmp_path / str(bits)
        lowered.load_state_dict(block.state_dict())
        folder.mkdir()
        graph, path = lower(lowered, x, recipe, folder), folder / "model.onnx"
        onnx.checker.check_model(path, full_check=True)
        kinds = Counter(node.op_type for node in graph.graph)
        assert kinds[LAYER_NORM] == kinds[GEGLU] == 1
        assert not {"LayerNormalization", "Gelu", "Split", "Clip", "QuantizeLinear"} & set(kinds)
        read = {x.name for node in graph.graph for x in node.inputs if x is not None}
        assert set(graph.graph.initializers) <= read  # ONNX Runtime warns of others
        records = {record.name: record for record in read_layers(path)}
        for name, layer in quant_layers(lowered).items():
            assert records[name].top == layer.grid.top
            assert records[name].d is None
        inputs = [x.numpy()]
        for variant in ("function", fastest_variant()):
            assert compare_stage(path, inputs, variant=variant, optimization="all").passed
            (y,) = run(open_session(path, variant=variant), *inputs)
            assert np.abs(y - lowered(x).numpy()).max() < 1e-3 * np.abs(y).max()
        assert integers_sha256(path, inputs) == integers_sha256(path, inputs, fastest_variant())


class Others(nn.Module):
    """What looks alike: a tanh Gelu, and halves that another node reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 48), nn.Linear(24, 48)
        self.out = nn.ModuleList(nn.Linear(24, 24) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.first(x).chunk(2, -1)
        a = self.out[0](value * nn.functional.gelu(gate, approximate="tanh"))
        value, gate = self.second(x).chunk(2, -1)
        return a + self.out[1](value * nn.functional.gelu(gate)) + gate


def test_what_looks_alike_stays(lower: Callable[..., ir.Model], tmp_path: Path) -> None:
    torch.manual_seed(0)
    block, x = Others().eval().requires_grad_(False), torch.randn(1, 30, 24)
    recipe = Recipe(
        name="test", weight_bits=4, activation_bits=4, rank=2, rotate=False, scale=False
    )
    kinds = Counter(node.op_type for node in lower(block, x, recipe, tmp_path).graph)
    assert kinds[GEGLU] == 0
    assert kinds["Gelu"] == kinds["Split"] == 2
