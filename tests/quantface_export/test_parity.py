"""Layer by layer, whatever the groups that fit in memory; and the hash that machines compare."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from calibration.layers import quant_layers
from calibration.observe import observe
from calibration.quantize import observe_outputs, quantize
from calibration.recipe import Recipe
from onnx_ops.quantized_linear import linear_branch
from quantface_export import integers, layer_table, parity, session
from quantface_export.lower.expand import expand
from quantface_export.lower.export import export_markers
from quantface_export.session import Variant, fastest_variant


@pytest.fixture(scope="module")
def lowered(
    lower: Callable[..., ir.Model], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, torch.Tensor]:
    """A stage of three convolutions and an input of it."""
    folder = tmp_path_factory.mktemp("lowered")
    torch.manual_seed(0)
    stage = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(8, 4, 1),
    ).requires_grad_(False)
    x = torch.randn(1, 4, 9, 9)
    recipe = Recipe(name="test", weight_bits=4, activation_bits=4, rank=2)
    lower(stage, x, recipe, folder)
    return folder / "model.onnx", x


def test_groups_give_what_one_run_gives(
    lowered: tuple[Path, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = lowered

    def compared() -> parity.StageParity:
        return parity.compare_stage(model, [x.numpy()], variant="function", optimization="off")

    whole, runs = compared(), []
    monkeypatch.setattr(layer_table, "GROUP_BYTES", 1)
    probed = parity._probed
    monkeypatch.setattr(parity, "_probed", lambda *args: runs.append(len(args[1])) or probed(*args))
    parts = compared()
    assert runs == [1, 1, 1]
    assert parts.layers == whole.layers
    assert [layer.integers for layer in whole.layers] == [4 * 81 + 8 * 81, 16 * 81, 12 * 81]
    assert np.array_equal(parts.output, whole.output)


def test_the_hash_is_of_the_reference_s_integers(
    lowered: tuple[Path, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every machine should give: the reference's layers on the same drawn codes."""
    model, x = lowered
    digest = hashlib.sha256()
    for record, channels in zip(layer_table.read_layers(model), (4, 8, 8), strict=True):
        result = record.result(integers._drawn(record, (1, channels, 9, 9)))
        digest.update(record.name.encode() + result.astype("<i4").tobytes())
    assert integers.integers_sha256(model, [x.numpy()]) == digest.hexdigest()
    monkeypatch.setattr(layer_table, "GROUP_BYTES", 1)
    assert integers.integers_sha256(model, [x.numpy()], fastest_variant()) == digest.hexdigest()


def test_another_weight_gives_another_hash(
    lowered: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    path, x = lowered
    model = onnx.load(path)
    weight = max(
        (t for t in model.graph.initializer if "weight" in t.name), key=onnx.TensorProto.ByteSize
    )
    weight.raw_data = bytes([weight.raw_data[0] ^ 1]) + weight.raw_data[1:]
    onnx.save(model, tmp_path / "model.onnx")
    hashes = [integers.integers_sha256(m, [x.numpy()]) for m in (path, tmp_path / "model.onnx")]
    assert hashes[0] != hashes[1]


def test_the_bundle_s_files_are_left_alone(lowered: tuple[Path, torch.Tensor]) -> None:
    """Not even linked to: onnx refuses to read external data that has several links meanwhile."""
    model, x = lowered
    files = sorted(model.parent.iterdir())
    before = [file.stat().st_ctime_ns for file in files]
    assert model.with_name("model.onnx.data") in files
    parity.compare_stage(model, [x.numpy()], variant="function", optimization="off")
    integers.integers_sha256(model, [x.numpy()])
    assert [file.stat().st_ctime_ns for file in files] == before
    assert sorted(model.parent.iterdir()) == files


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """Three linear layers of 6 bits; the branch of the second is millions of steps of its sums."""
    folder = tmp_path_factory.mktemp("linear")
    torch.manual_seed(0)
    stage = nn.Sequential(
        nn.Linear(96, 64), nn.SiLU(), nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 8)
    ).requires_grad_(False)
    x = torch.randn(1, 50, 96)
    recipe = Recipe(name="test", weight_bits=6, activation_bits=6, rank=2)
    sites = observe(stage, [(x,)], seed=0)
    bits = {key: recipe.bits("test", key, False) for key in sites}
    quantize(stage, sites, recipe, bits=bits, seed=0)
    up = quant_layers(stage)["2"].weight.up
    assert up is not None
    up.mul_(3e4)
    observe_outputs(stage, [(x,)])
    graph = export_markers(stage, (x,), ["x"], "y")
    expand(graph, quant_layers(stage))
    ir.save(graph, folder / "model.onnx", external_data="model.onnx.data")
    return folder / "model.onnx", x


@pytest.mark.parametrize("variant", ["function", fastest_variant()])
@pytest.mark.parametrize("optimization", ["off", "all"])
def test_a_large_branch_excuses_no_integer(
    linear: tuple[Path, torch.Tensor],
    variant: Variant,
    optimization: session.Optimization,
    tmp_path: Path,
) -> None:
    """float32 rounds the branch by many steps; the integers are compared without it, exactly."""
    path, x = linear
    record = layer_table.read_layers(path)[1]
    values = parity._probed(path, [record], [x.numpy()], variant, optimization)
    branch = linear_branch(values[record.x], *(record.branch or ()))
    assert np.abs(branch / record.step).max() * 2.0**-24 > 1
    found = parity.compare_stage(path, [x.numpy()], variant=variant, optimization=optimization)
    assert found.passed
    assert found.lsb_max <= 1

    model = onnx.load(path)
    low = next(t for t in model.graph.initializer if t.name == "2/weight_low")
    low.raw_data = bytes([low.raw_data[0] ^ 1]) + low.raw_data[1:]  # one weight, one step
    onnx.save(model, tmp_path / "model.onnx")
    whole = parity._probed(tmp_path / "model.onnx", [record], [x.numpy()], variant, optimization)
    changed = record.integers(whole[record.x], whole[record.whole])
    assert np.any(changed != record.result(whole[record.codes]))


def test_a_wrong_branch_is_seen(linear: tuple[Path, torch.Tensor]) -> None:
    path, x = linear
    record = layer_table.read_layers(path)[1]
    values = parity._probed(path, [record], [x.numpy()], "function", "off")
    wrong = values[record.out] * np.float32(1 + 1e-4)
    right = record.branch_error(values[record.x], values[record.out], values[record.whole])
    assert not right.any()
    assert record.branch_error(values[record.x], wrong, values[record.whole]).max() > 1
