"""Layers are compared in groups that fit in memory; the groups do not change what is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from calibration.layers import quant_layers
from calibration.observe import observe
from calibration.quantize import observe_outputs, quantize
from calibration.recipe import Recipe
from quantface_export import parity
from quantface_export.lower.expand import expand
from quantface_export.lower.export import export_markers


def test_groups_give_what_one_run_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    sites = observe(stage, [(x,)], seed=0)
    bits = {key: recipe.bits("test", key, False) for key in sites}
    quantize(stage, sites, recipe, bits=bits, seed=0)
    observe_outputs(stage, [(x,)])
    graph = export_markers(stage, (x,), ["x"], "y")
    expand(graph, quant_layers(stage))
    ir.save(graph, tmp_path / "model.onnx", external_data="model.onnx.data")

    def compared() -> parity.StageParity:
        return parity.compare_stage(
            tmp_path / "model.onnx", [x.numpy()], variant="function", optimization="off"
        )

    whole, runs = compared(), []
    monkeypatch.setattr(parity, "GROUP_BYTES", 1)
    probed = parity._probed
    monkeypatch.setattr(parity, "_probed", lambda *args: runs.append(len(args[1])) or probed(*args))
    parts = compared()
    assert runs == [1, 1, 1]
    assert parts.layers == whole.layers
    assert [layer.integers for layer in whole.layers] == [4 * 81 + 8 * 81, 16 * 81, 12 * 81]
    assert np.array_equal(parts.output, whole.output)
