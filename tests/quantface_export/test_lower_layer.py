"""One layer, all the way: the fake-quant reference, the graph and NumPy agree on integers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from calibration.layers import QuantLayer, quant_layers
from calibration.observe import observe
from calibration.quantize import observe_outputs, quantize
from calibration.recipe import Recipe
from onnx_ops.library import library_path
from quantface_export.contract import read_fusion
from quantface_export.layer_table import read_layers
from quantface_export.lower.expand import expand
from quantface_export.lower.export import export_markers
from quantface_export.parity import compare_stage
from quantface_export.session import open_session, run


class One(nn.Module):
    """A single layer after a float op, so that it stands like a layer inside a network."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.nn.functional.silu(x))


def recipe(bits: int, rank: int = 16) -> Recipe:
    return Recipe(name="test", weight_bits=bits, activation_bits=bits, rank=rank)


FOLDED = Recipe(name="folded", weight_bits=4, activation_bits=8, fold=True)
KINDS = pytest.mark.parametrize(
    "settings", [recipe(4), recipe(6), FOLDED], ids=["4", "6", "folded"]
)


def quantized(
    model: nn.Module, x: Tensor, settings: Recipe, edges: tuple[str, ...] = ()
) -> QuantLayer:
    model.eval().requires_grad_(False)
    sites = observe(model, [(x,)], seed=0)
    bits = {key: settings.bits("test", key, key in edges) for key in sites}
    quantize(model, sites, settings, bits=bits, seed=5)
    observe_outputs(model, [(x,)])
    return quant_layers(model)["layer"]


def lower(model: nn.Module, x: Tensor, folder: Path) -> Path:
    graph = export_markers(model, (x,), ["x"], "y")
    expand(graph, quant_layers(model))
    path = folder / "model.onnx"
    ir.save(graph, path, external_data="model.onnx.data")
    return path


CONVS = [
    # channels in, out, kernel, stride, padding
    (24, 40, 3, 1, 1),
    (40, 24, 3, 2, 0),
    (64, 8, 1, 1, 0),
    (120, 16, 3, 1, 1),
    (4, 6, 3, 1, 1),
    (1, 3, 3, 1, 1),
]


@KINDS
@pytest.mark.parametrize("shape", CONVS, ids=str)
def test_convolution(
    tmp_path: Path, shape: tuple[int, int, int, int, int], settings: Recipe
) -> None:
    torch.manual_seed(sum(shape))
    c_in, c_out, kernel, stride, padding = shape
    model = One(nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding))
    x = torch.randn(1, c_in, 9, 10) * torch.linspace(0.1, 4, c_in)[:, None, None]
    layer = quantized(model, x, settings)
    check(model, layer, x, tmp_path)


@KINDS
@pytest.mark.parametrize(("c_in", "c_out"), [(40, 96), (128, 20), (60, 60)])
def test_linear(tmp_path: Path, c_in: int, c_out: int, settings: Recipe) -> None:
    torch.manual_seed(c_in)
    model = One(nn.Linear(c_in, c_out))
    x = torch.randn(1, 11, c_in) * torch.linspace(0.1, 4, c_in)
    check(model, quantized(model, x, settings), x, tmp_path)


def test_edge_layer_has_8_bits_and_no_branch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = One(nn.Conv2d(64, 64, 3, padding=1)), torch.randn(1, 64, 8, 8) * 5
    layer = quantized(model, x, recipe(4), edges=("layer",))
    assert (layer.weight_bits, layer.x_grid.bits, layer.balance) == (8, 8, None)
    assert (layer.weight.down, layer.weight.up) == (None, None)
    check(model, layer, x, tmp_path)


def check(model: nn.Module, layer: QuantLayer, x: Tensor, folder: Path) -> None:
    path = lower(model, x, folder)
    assert b"stack_trace" not in path.read_bytes()
    assert str(Path(__file__).parent).encode() not in path.read_bytes()
    weight = layer.weight
    with torch.no_grad():
        reference = model(x).numpy()
        seen = layer.balanced(torch.nn.functional.silu(x))
        codes = layer.x_grid.codes(seen)
        integers = layer.accumulate(layer.x_grid.centred(seen), weight)
        if layer.y_grid is not None:
            integers = layer.requantize(integers, weight) + layer.y_grid.zero_point
    (record,) = read_layers(path)
    assert record.top == layer.x_grid.top
    assert np.array_equal(record.result(codes.numpy().astype(np.uint8)), integers.numpy())
    # one step of the grid moves the output by at most this
    step = float(layer.y_grid.scale if layer.y_grid else layer.accumulator_scale(weight).max() * 8)
    native = () if library_path() is None else (("native", "off"), ("native", "all"))
    for variant, optimization in (("function", "off"), ("function", "all"), *native):
        assert read_fusion(path, variant).missing == ()
        settings = {"variant": variant, "optimization": optimization}
        parity = compare_stage(path, [x.numpy()], **settings)
        assert parity.lsb_max <= 1
        assert parity.layers[0].mismatches <= 1
        (y,) = run(open_session(path, **settings), x.numpy())
        assert np.abs(y - reference).max() <= 1.01 * step + 1e-4 * np.abs(reference).max()
        assert np.median(np.abs(y - reference)) <= 1e-5 * np.abs(reference).max()


def test_branch_lowers_the_error() -> None:
    torch.manual_seed(1)
    plain = nn.Conv2d(64, 64, 3, padding=1)
    x = torch.randn(1, 64, 8, 8)
    target = One(plain)(x).detach()
    errors = []
    for rank in (0, 8, 16):
        model = One(nn.Conv2d(64, 64, 3, padding=1))
        model.layer.load_state_dict(plain.state_dict())
        quantized(model, x, dataclasses.replace(recipe(3, rank), rotate=False))
        errors.append(float(((model(x) - target) ** 2).mean()))
    assert errors[0] > errors[1] > errors[2]


def test_float64_run_keeps_the_integers() -> None:
    torch.manual_seed(2)
    model, x = One(nn.Conv2d(24, 24, 3, padding=1)), torch.randn(1, 24, 8, 8)
    layer = quantized(model, x, recipe(4))
    centred = layer.x_grid.centred(layer.balanced(torch.nn.functional.silu(x)))
    single = layer.requantize(layer.accumulate(centred, layer.weight), layer.weight)
    model.double()
    sums = layer.accumulate(centred.double(), layer.weight)
    assert torch.equal(layer.requantize(sums, layer.weight), single)


def test_missing_markers_are_named(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model, x = One(nn.Linear(8, 8)), torch.randn(1, 3, 8)
    layer = quantized(model, x, recipe(4))
    graph = export_markers(model, (x,), ["x"], "y")
    with pytest.raises(ValueError, match="layer layer"):
        expand(graph, {"other": layer})


@pytest.mark.parametrize("layer", [nn.Conv2d(24, 40, 3, padding=1), nn.Linear(40, 24)], ids=str)
def test_scaling_without_rotation(tmp_path: Path, layer: nn.Module) -> None:
    """A channel scale that no producer can carry is a product in the graph."""
    torch.manual_seed(6)
    conv = isinstance(layer, nn.Conv2d)
    x = torch.randn(1, 24, 9, 10) if conv else torch.randn(1, 11, 40)
    spread = torch.linspace(0.05, 6, 24)[:, None, None] if conv else torch.linspace(0.05, 6, 40)
    settings = Recipe(name="test", weight_bits=4, activation_bits=4, rotate=False)
    model = One(layer)
    found = quantized(model, x * spread, settings)
    assert found.balance is not None
    assert found.balance.block == 1
    check(model, found, x * spread, tmp_path)
