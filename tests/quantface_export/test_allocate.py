"""The sweep and the error table on a real stage, and the command's JSON and recipe file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from calibration.dataset import generated
from calibration.progress import SILENT
from calibration.recipe import RECIPES
from calibration.sensitivity import Sweep, SweepCache
from quantface_export.allocate import Sensitivity, SiteTable, allocated
from quantface_export.features import load_features
from quantface_export.nano.weights import load_nano
from quantface_export.osdface.prepare import prepare
from quantface_export.quantized import quantize_stage, stage_inputs
from quantface_export.recipes import load_recipe, write_recipe
from quantface_export.reference import run_stages, to_tensors

STAGE = "vae_decoder"


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[SiteTable], Path]:
    model = load_nano()
    prepare(model)
    degraded, clean = (to_tensors(images) for images in generated(2, model.config.size, 5))
    values = run_stages(model.stages(), degraded)
    features = load_features(model.vre, pooled=False)
    with torch.no_grad():
        sensitivity = Sensitivity(
            model.stages(), values, features(clean), features, RECIPES["w4a4"], 5
        )
        cache = tmp_path_factory.mktemp("cache") / "sweep.jsonl"
        found = sensitivity.stage_tables(STAGE, Sweep(), SweepCache(cache), SILENT)
        return list(found), cache


def test_tables_of_a_stage(tables: tuple[list[SiteTable], Path]) -> None:
    found, cache = tables
    assert all(table.name.startswith(f"{STAGE}/") for table in found)
    assert all(2 <= table.needed <= 8 for table in found)
    assert len({table.needed for table in found}) > 1
    for table in found:
        errors = [table.error[b] for b in (3, 4, 5, 6)]
        assert errors == sorted(errors, reverse=True)
        assert table.macs > 0
    # one line for each width that was tried
    assert len(cache.read_text().splitlines()) == sum(min(table.needed, 7) - 1 for table in found)


def test_recipe_of_an_allocation_builds(
    tables: tuple[list[SiteTable], Path], tmp_path: Path
) -> None:
    mixed, summary = allocated(tables[0], RECIPES["w4a4-mp"])
    assert summary["mean_bits"] <= 3.98
    assert summary["gap"] < 0.01
    write_recipe(tmp_path / "r.json", mixed)
    again = load_recipe(str(tmp_path / "r.json"))
    assert again == mixed
    model = load_nano()
    prepare(model)
    images = to_tensors(generated(2, model.config.size, 5)[0])
    values = run_stages(model.stages(), images)
    stage = model.stages()[STAGE]
    done = quantize_stage(STAGE, stage, stage_inputs(STAGE, values), again, seed=5)
    for name, plan in done.plans.items():
        expected = mixed.site_bits.get(f"{STAGE}/{name}", 8)
        assert plan.grid.bits == expected
