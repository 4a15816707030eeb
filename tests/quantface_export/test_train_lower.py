"""A layer that was trained with QD-LoRA and merged is the layer that ONNX Runtime runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from calibration.layers import merge, quant_layers
from calibration.methods.quantface import form
from calibration.observe import observe
from calibration.quantize import observe_outputs, quantize
from calibration.recipe import Recipe
from quantface_export.contract import read_fusion
from quantface_export.layer_table import read_layers
from quantface_export.lower.expand import expand
from quantface_export.lower.export import export_markers
from quantface_export.parity import compare_stage
from quantface_export.session import open_session, run

LAYERS = {
    "conv": (lambda: nn.Conv2d(24, 40, 3, padding=1), (1, 24, 9, 10)),
    "linear": (lambda: nn.Linear(40, 96), (1, 11, 40)),
}


class One(nn.Module):
    """A single layer after a float op, so that it stands like a layer inside a network."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(nn.functional.silu(x))


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("kind", LAYERS)
def test_trained_equals_merged_equals_lowered(tmp_path: Path, kind: str, bits: int) -> None:
    torch.manual_seed(7)
    make, shape = LAYERS[kind]
    model, x = One(make()).eval().requires_grad_(False), 3 * torch.randn(*shape)
    target, sites = model(x), observe(model, [(x,)], seed=0)
    settings = Recipe(name="test", weight_bits=bits, activation_bits=bits)
    widths = {key: settings.bits("test", key, edge=False) for key in sites}
    quantize(model, sites, settings, bits=widths, seed=5, form=form)
    observe_outputs(model, [(x,)])
    layer = quant_layers(model)["layer"]
    start = layer.weight.codes.clone()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        ((model(x) - target) ** 2).mean().backward()
        optimizer.step()
    assert not torch.equal(layer.weight.codes, start), "training moved no code"
    with torch.no_grad():
        trained = model(x)
    merge(model)
    with torch.no_grad():
        assert torch.equal(model(x), trained)

    graph, path = export_markers(model, (x,), ["x"], "y"), tmp_path / "model.onnx"
    expand(graph, quant_layers(model))
    ir.save(graph, path, external_data="model.onnx.data")
    assert read_fusion(path).missing == ()
    (record,) = read_layers(path)
    assert np.array_equal(record.weight, layer.weight.codes.numpy())
    step = float(
        layer.y_grid.scale if layer.y_grid else layer.accumulator_scale(layer.weight).max()
    )
    for optimization in ("off", "all"):
        parity = compare_stage(path, [x.numpy()], variant="function", optimization=optimization)
        assert parity.lsb_max <= 1
        assert parity.layers[0].mismatches <= 1
        (y,) = run(open_session(path, optimization=optimization), x.numpy())
        error, top = np.abs(y - trained.numpy()), trained.abs().max().item()
        assert error.max() <= 8.01 * step + 1e-4 * top  # one code that ties otherwise
        assert np.median(error) <= 1e-5 * top
