"""The command: one method quantized, lowered, run in ONNX Runtime and judged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from calibration.methods import METHODS
from quantface_export.compare.run import ablation_recipes, recipe_of
from quantface_export.errors import QuantfaceError

FIGURES = ("psnr_db", "ssim", "perceptual", "frechet", "lmd")


def test_compare_one_method(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = command(
        "compare", "--methods", "svdquant", "--images", 3, "--seed", 7, "--calib-count", 3,
        "--no-ablation", "--out", tmp_path / "c", "--json", tmp_path / "c.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "c.json").read_text())
    assert (result["seed"], result["n"]) == (7, 3)
    (row,) = result["rows"]
    assert (row["method"], row["bits"], row["act_bits_mean"]) == ("svdquant", "4/4", 4.0)
    assert set(row) >= {*FIGURES, "vs_fp32", "ci95", "bytes", "seconds"}
    for key in FIGURES:
        low, high = row["ci95"][key]
        assert low <= high
    assert row["vs_fp32"]["psnr_db"] > 35 > row["psnr_db"] > 15
    assert 5e6 < row["bytes"] < 12e6
    assert "svdquant" in (tmp_path / "c" / "compare.md").read_text()
    assert (tmp_path / "c" / "compare.png").stat().st_size > 10_000


def test_ablation_steps_differ_in_one_thing_each() -> None:
    steps = ablation_recipes()
    base, both = steps["base"], steps["+ rotation-scaling"]
    assert (base.rotate, base.scale, base.rank) == (False, False, 0)
    assert (both.rotate, both.scale, both.rank) == (True, True, 0)
    assert METHODS[both.method].distilled is False
    full = steps["+ QD-LoRA"]
    assert (full.rank, METHODS[full.method].distilled, full.budget) == (16, True, None)
    assert steps["+ MP"].budget == 3.98


def test_unknown_bits_and_methods() -> None:
    with pytest.raises(QuantfaceError, match="bits must be W/A"):
        recipe_of("maxmin", "4-4")
    with pytest.raises(QuantfaceError, match="unknown method 'x'"):
        recipe_of("x", "4/4")
