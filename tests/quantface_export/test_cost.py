"""The count: the paper's Table 2, layers computed by hand, and nothing allocated."""

from __future__ import annotations

import io
import json
import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from calibration.recipe import RECIPES, Recipe
from onnx_ops.function_body import body_factors
from quantface_export.cli import app
from quantface_export.cost.count import added_cost, exported_stage, float_count, paper_stage
from quantface_export.cost.run import PAPER, compared, cost, requested
from quantface_export.cost.table import breakdown, compression
from quantface_export.cost.walk import META, Stage, Walk, walk, walk_stage
from quantface_export.errors import QuantfaceError
from quantface_export.models import parameters
from quantface_export.nano.weights import load_nano
from quantface_export.osdface.config import NANO, OSDFACE

TABLE_2 = {"w4a4": (84.85, 82.91), "w4a6": (84.85, 80.10), "w6a6": (78.61, 76.66)}

C, F, SIDE, RANK = 16, 32, 8, 16
PIXELS, WEIGHTS, BRANCH = SIDE * SIDE, F * C, RANK * (C + F)
W4A6 = RECIPES["w4a6"]


@pytest.fixture(scope="module")
def walked() -> Walk:
    return walk(OSDFACE, 512)


@pytest.fixture(scope="module")
def osdface(walked: Walk) -> dict[str, Any]:
    return compared(walked, RECIPES.values(), PAPER)


@pytest.fixture(scope="module")
def nano() -> Walk:
    return walk(NANO, 128)


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    target = tmp_path_factory.mktemp("cost") / "c.json"
    recipes = ["--recipe", "w4a4,w6a6", "--recipe", "svdquant-w4a4"]
    args = ["cost", "--model", "nano", "--size", "64", *recipes, "--json", str(target)]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    return json.loads(target.read_text())


def rows(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["recipe"]: row for row in result["rows"]}


def pointwise(name: str) -> Stage:
    """A stage whose one layer, a 1x1 convolution without bias, has this name under ``unet``."""
    conv = nn.Conv2d(C, F, 1, bias=False, device=META)
    stage = nn.Sequential(OrderedDict(unet=nn.Sequential(OrderedDict({name: conv}))))
    return walk_stage(stage, torch.empty(1, C, SIDE, SIDE, device=META))[0]


def test_full_size_is_the_paper_s(osdface: dict[str, Any]) -> None:
    assert osdface["params"] == 979_128_427
    assert osdface["params"] == pytest.approx(978e6, rel=0.005)
    assert osdface["ops"] == pytest.approx(4264e9, rel=0.01)


@pytest.mark.parametrize("recipe", TABLE_2)
def test_compression_is_the_paper_s(osdface: dict[str, Any], recipe: str) -> None:
    row = rows(osdface)[recipe]
    params, ops = TABLE_2[recipe]
    assert row["params_reduction"] == pytest.approx(params, abs=1)
    assert row["ops_reduction"] == pytest.approx(ops, abs=1)
    assert (row["paper"]["params_reduction"], row["paper"]["ops_reduction"]) == (params, ops)
    assert row["params_reduction"] == pytest.approx(100 * (1 - row["params"] / osdface["params"]))
    assert row["ops_reduction"] == pytest.approx(100 * (1 - row["ops"] / osdface["ops"]))


def test_stages_add_up_to_the_totals(osdface: dict[str, Any]) -> None:
    kinds = osdface["stages"]
    assert sum(row["params"] for row in kinds) == osdface["params"]
    assert sum(row["ops"] for row in kinds if row["counted"]) == osdface["ops"]
    assert {row["stage"] for row in kinds if row["counted"]} == {
        "vae_encoder", "unet", "vae_decoder",
    }  # fmt: skip


def test_the_tables_fit_a_narrow_terminal(osdface: dict[str, Any]) -> None:
    narrow = Console(width=80, file=io.StringIO())
    result = {"model": "osdface", "size": 512, **osdface}
    for shown in (compression(result), breakdown(result)):
        narrow.print(shown)
    text = narrow.file.getvalue()
    assert "…" not in text
    for figure in ("4,264.0", "728.0", "-84.85 %", "-82.91 %", "(34.36)"):
        assert figure in text


def test_nothing_is_allocated_and_an_unmerged_lora_closes_the_gap(walked: Walk) -> None:
    for stages in (walked.published, walked.prepared):
        for stage in stages.values():
            tensors = [*stage.model.parameters(), *stage.model.buffers()]
            assert {tensor.device.type for tensor in tensors} == {"meta"}
    lora = sum(layer.branch(16)[1] for layer in walked.published["unet"].layers.values())
    assert float_count(walked.published).ops + lora == pytest.approx(4264e9, abs=0.5e9)


def test_a_convolution_by_hand() -> None:
    conv = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, device=META))
    stage, output = walk_stage(conv, torch.empty(1, 3, 16, 16, device=META))
    layer = stage.layers["0"]
    assert output.shape == (1, 8, 8, 8)
    assert (layer.kind, layer.weights, layer.bias, layer.inputs) == ("conv", 216, 8, 768)
    assert layer.ops == 2 * (8 * 8) * 8 * 3 * 9
    assert layer.branch(16) == (3 * (27 + 8), 2 * (8 * 8) * 3 * (27 + 8))
    assert layer.branch(0) == (0, 0)
    assert (stage.parameters, stage.products) == (224, 0)


def test_a_linear_layer_by_hand() -> None:
    linear = nn.Sequential(nn.Linear(20, 40, bias=False, device=META))
    stage, _ = walk_stage(linear, torch.empty(1, 7, 20, device=META))
    layer = stage.layers["0"]
    assert (layer.kind, layer.weights, layer.bias, layer.inputs) == ("linear", 800, 0, 140)
    assert layer.ops == 2 * 7 * 20 * 40
    assert layer.branch(16) == (16 * 60, 2 * 7 * 16 * 60)


def test_layers_of_one_tensor_share_a_site(nano: Walk) -> None:
    sites = nano.prepared["unet"].sites
    at = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    assert sites[f"{at}.to_q"].layers == [f"{at}.{n}" for n in ("to_q", "to_k", "to_v")]


def test_the_paper_s_form_by_hand() -> None:
    stage = pointwise("conv")
    count = paper_stage("unet", stage, added_cost("unet", stage, W4A6), W4A6)
    ops = 2 * PIXELS * WEIGHTS * math.sqrt(4 * 6) / 32
    rotation = 2 * (4 + 4) * C * PIXELS
    assert count.params == WEIGHTS / 8 + BRANCH
    assert count.ops == pytest.approx(ops + PIXELS * BRANCH + rotation)


def test_an_exported_layer_by_hand() -> None:
    count = exported_stage("unet", pointwise("conv"), W4A6)
    ops = 2 * PIXELS * WEIGHTS * math.sqrt(4 * 6) / 32
    rotation = 2 * (4 + 4) * C * PIXELS
    assert count.params == WEIGHTS / 8 + BRANCH / 2 + F + C
    assert count.ops == pytest.approx(ops + 2 * PIXELS * BRANCH + rotation)


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_edge_has_8_bits_and_nothing_else(recipe: str) -> None:
    count = exported_stage("unet", pointwise("conv_in"), RECIPES[recipe])
    assert count.params == WEIGHTS / 4 + F
    assert count.ops == 2 * PIXELS * WEIGHTS / 4


def test_without_branch_and_balance_only_bits_count() -> None:
    stage, recipe = pointwise("conv"), requested(["maxmin-w8a8"])[0]
    count = paper_stage("unet", stage, added_cost("unet", stage, recipe), recipe)
    assert (count.params, count.ops) == (WEIGHTS / 4, 2 * PIXELS * WEIGHTS / 4)


def test_a_budget_stands_for_widths_until_they_are_allocated() -> None:
    stage, widths = pointwise("conv"), {"unet/unet.conv": 6}
    open_, given = (
        Recipe(name="mp", weight_bits=4, activation_bits=4, rank=0, rotate=False, budget=3.98, **k)
        for k in ({}, {"site_bits": widths})
    )
    for recipe, bits in ((open_, 3.98), (given, 6)):
        ops = 2 * PIXELS * WEIGHTS * math.sqrt(4 * bits) / 32
        assert exported_stage("unet", stage, recipe).ops == pytest.approx(ops)


@pytest.mark.parametrize(
    ("n", "factors"),
    [(1, (1, 1)), (12, (12, 1)), (64, (8, 8)), (512, (16, 32)), (320, (20, 16)), (960, (60, 16)),
     (1280, (20, 64)), (2560, (40, 64)), (1920, (60, 32))],
)  # fmt: skip
def test_factors_of_the_function_body(n: int, factors: tuple[int, int]) -> None:
    assert body_factors(n) == factors


def test_nano_has_the_parameters_of_the_real_one(nano: Walk) -> None:
    real = parameters(load_nano())
    assert {name: stage.parameters for name, stage in nano.published.items()} == real


def test_operations_grow_with_the_image(command: dict[str, Any], nano: Walk) -> None:
    whole = compared(nano, [], {})
    assert command["params"] == whole["params"]
    for small, large in zip(command["stages"], whole["stages"], strict=True):
        if small["stage"] == "vre":
            assert small == large  # it resizes to its own size
        elif small["stage"] != "unet":
            grown = 16 if small["kind"] == "other" else 4  # attention's products: pixels squared
            assert large["ops"] == grown * small["ops"] > 0


def test_json_of_the_command(command: dict[str, Any]) -> None:
    assert {"model", "size", "params", "ops", "rows"} <= set(command)
    assert (command["model"], command["size"]) == ("nano", 64)
    assert list(rows(command)) == ["w4a4", "w6a6", "svdquant-w4a4"]
    keys = {"recipe", "params", "ops", "params_reduction", "ops_reduction", "paper"}
    for row in command["rows"]:
        assert keys <= set(row)
        assert row["paper"] is None
    rotated, plain = (rows(command)[name]["ops"] for name in ("w4a4", "svdquant-w4a4"))
    assert plain < rotated


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        ("dalle", None, "unknown model 'dalle'; expected one of osdface, nano"),
        ("osdface", 500, "multiple of 64 from 256 to 1024 for osdface, got 500"),
        ("osdface", 192, "from 256 to 1024 for osdface, got 192"),
        ("osdface", 1088, "got 1088"),
        ("nano", 72, "multiple of 16 from 64 to 256 for nano, got 72"),
        ("nano", 0, "got 0"),
    ],
)
def test_bad_input_is_one_line(model: str, size: int | None, message: str) -> None:
    with pytest.raises(QuantfaceError) as e:
        cost(model, size, [])
    assert message in str(e.value)
    assert "\n" not in str(e.value)


def test_unknown_recipes_are_refused() -> None:
    assert [recipe.name for recipe in requested([])] == list(RECIPES)
    with pytest.raises(QuantfaceError, match="unknown recipe 'w1a1'"):
        requested(["w4a4, w1a1"])
