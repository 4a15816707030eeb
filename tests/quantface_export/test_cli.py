"""The commands as a user meets them, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import skimage.data
from onnx import numpy_helper

from calibration.recipe import RECIPES
from onnx_ops.library import library_path
from quantface_export import cli
from quantface_export.bundle import MANIFEST, load_bundle, write_manifest
from quantface_export.cost.count import exported_stage, online_sites
from quantface_export.cost.walk import walk
from quantface_export.osdface.config import NANO
from quantface_export.osdface.plan import FLOAT_LAYERS
from quantface_export.photo.image import read_image
from quantface_export.photo.write import write_image

Built = tuple[Path, dict[str, Any]]
Command = Callable[..., subprocess.CompletedProcess[str]]

STAGE_KEYS = {
    "name", "variant", "optimization", "max_abs", "sqnr_db", "mismatch_fraction", "lsb_max",
    "worst_layer", "passed",
}  # fmt: skip


def test_build_says_what_it_did(built: Built) -> None:
    bundle, result = built
    assert {"bundle", "recipe", "seconds", "peak_rss_bytes", "stages", "bytes", "verify"} <= set(
        result
    )
    assert result["recipe"] == "w4a4"
    assert [s["name"] for s in result["stages"]] == ["vre", "vae_encoder", "unet", "vae_decoder"]
    assert 0 < result["bytes"]["ratio"] < 0.5
    assert (bundle / "report.html").stat().st_size > 10_000
    layers = json.loads((bundle / MANIFEST).read_text())["layers"]
    assert {layer["activation_bits"] for layer in layers} == {4, 8}
    assert len(layers) == result["verify"]["fusion"]["planned"]


def test_cost_counts_the_layers_that_were_built(built: Built) -> None:
    layers = json.loads((built[0] / MANIFEST).read_text())["layers"]
    for name, stage in walk(NANO, NANO.size).prepared.items():
        rows = [row for row in layers if row["stage"] == name]
        assert {row["name"] for row in rows} == set(stage.layers) - set(FLOAT_LAYERS.get(name, ()))
        assert all(row["name"] in stage.sites[row["site"]].layers for row in rows)
        online = {row["site"] for row in rows if row["transform"] == "online"}
        assert online <= set(online_sites(name, stage, RECIPES["w4a4"]))
        counted = 4 * exported_stage(name, stage, RECIPES["w4a4"]).params
        assert stored_bytes(built[0] / name / "model.onnx") == pytest.approx(counted, rel=0.02)


def stored_bytes(model: Path) -> int:
    """Bytes of a graph's tensors, without the mask by which the embedder finds repeated codes."""
    graph = onnx.load(model, load_external_data=False).graph
    external = [{e.key: e.value for e in t.external_data} for t in graph.initializer]
    return sum(
        int(e["length"]) if e else len(t.raw_data)
        for t, e in zip(graph.initializer, external, strict=True)
        if "ones_like" not in t.name
    )


def test_build_holds_both_gates(built: Built) -> None:
    verified = built[1]["verify"]
    assert verified["passed"]
    assert verified["fusion"]["missing"] == []
    assert verified["fusion"]["planned"] == verified["fusion"]["fused"] > 200
    assert len(verified["stages"]) == (16 if library_path() is None else 20)
    for stage in verified["stages"]:
        assert set(stage) >= STAGE_KEYS
        assert stage["mismatch_fraction"] <= 1e-4
        assert stage["lsb_max"] <= 1
    end = verified["end_to_end"]
    assert end["psnr_db"] >= max(40, end["noise_floor_psnr_db"] - 6.03)


def test_verify_repeats_it_without_torch(built: Built, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['diffusers'] = None\n"
        "from quantface_export.cli import main; main()"
    )
    target = tmp_path / "v.json"
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", str(built[0]), "--quick", "--json", str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = json.loads(target.read_text())
    assert again["fusion"] == built[1]["verify"]["fusion"]
    assert again["integers"] == built[1]["verify"]["integers"]
    assert again["integers"]["as_built"]
    assert again["end_to_end"]["psnr_db"] >= built[1]["verify"]["end_to_end"]["psnr_db"] - 0.01


def test_verify_fails_on_a_wrong_weight(command: Command, copied: Path) -> None:
    """A weight that differs from the reference's: hashes agree, the picture does not."""
    path = copied / "vae_decoder" / "model.onnx"
    model = onnx.load(path)
    (scale,) = (t for t in model.graph.initializer if t.name == "decoder.conv_out/weight_scale")
    scale.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.2), scale.name)
    )
    path.with_name("model.onnx.data").unlink()
    onnx.save(model, path)
    manifest = json.loads((copied / MANIFEST).read_text())
    write_manifest(
        copied, {k: v for k, v in manifest.items() if k not in ("files", "format_version")}
    )
    load_bundle(copied)
    done = command("verify", copied, "--quick")
    assert done.returncode == 1
    assert "FAILED" in done.stderr


def test_restore_a_photograph(command: Command, built: Built, tmp_path: Path) -> None:
    photo = skimage.data.astronaut()
    write_image(tmp_path / "in.png", photo)
    (tmp_path / "broken.png").write_bytes(b"not an image")
    done = command(
        "restore", tmp_path / "in.png", tmp_path / "broken.png", "--bundle", built[0],
        "--out", tmp_path / "out", "--json", tmp_path / "r.json",
    )  # fmt: skip
    assert done.returncode == 1
    result = json.loads((tmp_path / "r.json").read_text())
    (output,) = result["outputs"]
    assert output["faces"] == 1
    assert set(output) >= {"input", "output", "faces", "seconds"}
    assert [Path(f["input"]).name for f in result["failed"]] == ["broken.png"]
    restored = read_image(Path(output["output"]))
    changed = np.abs(restored.astype(int) - photo).sum(-1) > 0
    assert restored.shape == photo.shape
    assert 0.01 < changed.mean() < 0.6
    assert np.abs(restored.astype(int) - photo).mean() < 12


def test_restore_without_a_face_is_3(command: Command, built: Built, tmp_path: Path) -> None:
    write_image(tmp_path / "gray.png", np.full((200, 200, 3), 127, np.uint8))
    done = command(
        "restore", tmp_path / "gray.png", "--bundle", built[0], "--out", tmp_path / "out"
    )
    assert done.returncode == 3
    assert "--aligned" in done.stderr


@pytest.mark.parametrize(
    "name",
    ["build", "verify", "restore", "demo", "allocate", "bench", "compare", "cost", "fixtures"],
)
def test_help_has_an_example(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert done.returncode == 0
    assert f"quantface-export {name}" in " ".join(done.stdout.split())
    assert "--json" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["build", "--recipe", "w1a1"], "unknown recipe 'w1a1'; expected one of w4a4, w4a6, w6a6"),
        (["build", "--model", "dalle"], "unknown model 'dalle'"),
        (["build", "--model", "osdface"], "`quantface-export fixtures osdface DIR` writes random"),
        (["build", "--model", "osdface", "--weights", "/nonexistent"], "does not exist"),
        (["build", "--calib", "/nonexistent"], "does not exist"),
        (["build", "--calib-count", "0"], "at least 1"),
        (["compare", "--methods", "svd"], "unknown method 'svd'; expected one of maxmin"),
        (["compare", "--bits", "four"], "bits must be W/A such as 4/4, got 'four'"),
        (["allocate", "--budget", "2.5"], "the least feasible budget is 3"),
        (["cost", "--size", "500"], "--size must be a multiple of 64 from 256 to 1024"),
        (["verify", "/nonexistent"], "is not a bundle"),
        (["demo", "/nonexistent", "--page", "."], "is not a bundle"),
        (["restore", "x.png", "--bundle", "/nonexistent"], "is not a bundle"),
        (["build", "--no-such-option"], "No such option"),
    ],
)
def test_bad_input_gets_one_line(
    args: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: a dozen of their own would spend a minute on imports."""
    monkeypatch.setattr(sys, "argv", ["quantface-export", *args])
    monkeypatch.setattr(cli, "stop_on_signals", lambda: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code not in (0, None)
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
