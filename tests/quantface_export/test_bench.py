"""The benchmark runs the real thing; nothing here asserts on time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from onnx_ops import prologue
from onnx_ops.library import library_path
from quantface_export.bench import run, table
from quantface_export.bench.run import FLOAT, INT8, OURS, ROWS, bench, ratios, shares
from quantface_export.bench.unrotated import rotation_share, without_rotations
from quantface_export.bench.worker import Order
from quantface_export.console import console
from quantface_export.errors import QuantfaceError
from quantface_export.finished import WorkError
from quantface_export.osdface.config import MODELS, ModelConfig
from quantface_export.session import Variant
from quantface_export.settings import BuildSettings
from quantface_export.stages import STAGES

TWO: dict[str, Any] = {
    "rows": [FLOAT, INT8],
    "random_weights": False,
    "bundle": None,
    "threads": 1,
    "rounds": 1,
    "repeats": 1,
    "profile": False,
}


def settings(folder: Path, weights: Path | None, model: str = "tiny") -> BuildSettings:
    return BuildSettings(
        model=model, recipe="w4a4", calib=None, calib_count=1, seed=0, out=folder, weights=weights
    )


def order(
    models: Path, folder: Path, variant: Variant = "function", profile: bool = False
) -> Order:
    image = folder / "image.npy"
    np.save(image, np.zeros((1, 3, 128, 128), np.float32))
    return Order(
        models=str(models),
        image=str(image),
        variant=variant,
        threads=1,
        repeats=1,
        profile=profile,
    )


def test_peers(
    tmp_path: Path, published: Path, tiny: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, tiny.name, tiny)
    alone = bench(settings(tmp_path, published), **TWO | {"rows": [FLOAT]})
    result = bench(settings(tmp_path, published), **TWO)
    assert alone["rows"][0]["disk_bytes"] == result["rows"][0]["disk_bytes"]
    assert [row["name"] for row in result["rows"]] == [FLOAT, INT8]
    for row in result["rows"]:
        assert [stage["name"] for stage in row["stages"]] == list(STAGES)
        assert row["seconds_median"] > 0
        assert row["peak_rss_bytes"] > 10e6
    models = tmp_path / f"tiny-{tiny.size}"
    nodes = {
        name: [n.op_type for n in onnx.load(models / name / "unet" / "model.onnx").graph.node]
        for name in (FLOAT, INT8)
    }
    assert "QuantizeLinear" not in nodes[FLOAT]
    assert nodes[INT8].count("QuantizeLinear") > nodes[FLOAT].count("Conv")
    kept = (models / INT8 / "unet" / "model.onnx").stat().st_mtime_ns
    bench(settings(tmp_path, published), **TWO | {"rows": [FLOAT]})
    assert (models / INT8 / "unet" / "model.onnx").stat().st_mtime_ns == kept
    with pytest.raises(WorkError, match="another"):
        bench(replace(settings(tmp_path, published), seed=1), **TWO)
    console.print(table.speed(result))


@pytest.mark.skipif(library_path() is None, reason="the native kernels were not built")
def test_profile_of_a_bundle(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    kinds = run.one_turn(order(built[0], tmp_path, variant="native", profile=True))
    rotations = {"HadamardQuantize", prologue.NAME}
    ours = {"QuantizedConvLowRank", "QuantizedLinearLowRank", "GroupNormSilu"}
    assert rotations | ours <= set(kinds["rotated"])
    assert {"QuantizeLinear", "Clip"} | ours <= set(kinds["unrotated"])
    assert not rotations & set(kinds["unrotated"])
    theirs = {"Hadamard", "QLinearConv", "MatMulIntegerToFloat", "InstanceNormalization"}
    assert not theirs & set(kinds["rotated"])


def test_a_stage_without_its_rotations(built: tuple[Path, dict[str, Any]]) -> None:
    model = built[0] / "vae_decoder" / "model.onnx"
    before, after = onnx.load(model), without_rotations(model)
    kinds = [Counter(node.op_type for node in m.graph.node) for m in (before, after)]
    rotations = kinds[0]["HadamardQuantize"] + kinds[0][prologue.NAME]
    assert rotations > 0
    assert not {"HadamardQuantize", prologue.NAME} & set(kinds[1])
    assert kinds[1]["QuantizeLinear"] == kinds[0]["QuantizeLinear"] + rotations
    tops = {a.i for n in before.graph.node for a in n.attribute if a.name == "qmax"}
    clips = [node.input[2] for node in after.graph.node if node.op_type == "Clip"]
    values = {
        i.name: onnx.numpy_helper.to_array(i) for i in after.graph.initializer if i.name in clips
    }
    assert {int(values[name]) for name in clips if name.endswith("/qmax")} == tops


def test_share_of_rotations() -> None:
    rotated = {prologue.NAME: 200, "HadamardQuantize": 50, "Clip": 10, "QuantizedConv": 740}
    assert rotation_share(
        rotated, {"GroupNormSilu": 150, "QuantizeLinear": 60, "Clip": 20, "QuantizedConv": 900}
    ) == pytest.approx(0.03)


def test_worker_needs_no_torch(built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import runpy; runpy.run_module('quantface_export.bench.worker', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(asdict(order(built[0], tmp_path))),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [s["name"] for s in json.loads(done.stdout)["stages"]] == list(STAGES)


def test_ratios() -> None:
    rows = [
        {"name": name, "seconds_median": s, "peak_rss_bytes": 100 * s, "disk_bytes": 10 * s}
        for name, s in zip(ROWS, (8.0, 4.0, 2.0, 3.0), strict=True)
    ]
    assert ratios(rows) == {
        "vs_fp32": 4.0,
        "vs_ort_int8": 2.0,
        "function_vs_fp32": 8 / 3,
        "peak_rss": 0.25,
        "disk": 0.25,
    }
    assert ratios(rows[:2]) == {}


def test_shares_of_op_kinds() -> None:
    found = shares({"QLinearConv": 600, "Mul": 300, **{f"Op{i}": 10 for i in range(10)}})
    assert [k["op"] for k in found["kinds"][:2]] == ["QLinearConv", "Mul"]
    assert len(found["kinds"]) == 10
    assert found["not_integer"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ["fp32", "int3"]}, "unknown row 'int3'; expected some of fp32"),
        ({"profile": True}, f"--profile is of {OURS}"),
    ],
)
def test_bad_requests(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(QuantfaceError, match=message):
        bench(settings(tmp_path, None, "nano"), **TWO | changes)


def test_a_model_that_can_not_run(tmp_path: Path) -> None:
    with pytest.raises(QuantfaceError, match=r"can't be run: .*vre/model\.onnx"):
        run.one_turn(order(tmp_path, tmp_path))
