"""Random checkpoints: repeatable, whole or absent, and alive when they run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from typer.testing import CliRunner

from calibration.dataset import generated
from quantface_export.cli import app
from quantface_export.errors import QuantfaceError
from quantface_export.models import find_source
from quantface_export.osdface import fixtures
from quantface_export.osdface.checkpoint import Checkpoint
from quantface_export.osdface.config import NANO, OSDFACE, ModelConfig
from quantface_export.osdface.fixtures import FixtureSettings, needed_bytes, write_fixtures
from quantface_export.osdface.locate import LORA, SD_FOLDER, STEM, find_weights
from quantface_export.osdface.prepare import prepare
from quantface_export.osdface.published import published_shapes
from quantface_export.osdface.random_weights import LEADING, OUTLIER, draw
from quantface_export.reference import run_stages, to_tensors
from quantface_export.resources import ResourceError
from quantface_export.settings import BuildSettings


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_a_seed_gives_the_same_bytes(published: Path, tiny: ModelConfig, tmp_path: Path) -> None:
    write_fixtures(tiny, tmp_path / "same", FixtureSettings(seed=3))
    write_fixtures(tiny, tmp_path / "other", FixtureSettings(seed=4))
    first, same, other = (hashes(p) for p in (published, tmp_path / "same", tmp_path / "other"))
    assert first == same
    assert other.keys() == first.keys()
    changed = {name for name in first if other[name] != first[name]}
    assert changed == {name for name in first if not name.endswith(".json")}


def test_drawing_does_not_change_between_versions() -> None:
    drawn = draw("unet", "conv_in.weight", (2, 1), 0)
    assert drawn.dtype == np.float32
    # exp() may differ in its last bit between versions; the normal values may not
    np.testing.assert_allclose(drawn[:, 0], [-0.57895219, -0.68879926], rtol=1e-6)


@pytest.mark.parametrize("shard", [None, 100_000])
def test_half_precision_and_shards_load(
    tiny: ModelConfig, tmp_path: Path, shard: int | None
) -> None:
    write_fixtures(tiny, tmp_path / "w", FixtureSettings(seed=3, dtype="fp16", shard=shard))
    unet = tmp_path / "w" / SD_FOLDER / "unet"
    names = {p.name for p in unet.glob("*.safetensors")}
    if shard is None:
        assert names == {f"{STEM}.fp16.safetensors"}
    else:
        index = json.loads((unet / f"{STEM}.fp16.safetensors.index.json").read_text())
        assert set(index["weight_map"].values()) == names
        assert len(names) > 1
        assert all((unet / name).stat().st_size < shard + 50_000 for name in names)
    Checkpoint(tiny, find_weights(tmp_path / "w")).model()


def test_full_size_has_the_published_counts() -> None:
    shapes = published_shapes(OSDFACE)
    counts = {part: sum(int(np.prod(s)) for s in t.values()) for part, t in shapes.items()}
    assert counts["unet"] == 865_910_724
    assert counts["vae"] == 83_653_863
    vre = [k for k in shapes["vre"] if k.startswith(("vqvae_LQ.enc", "vqvae_LQ.quant"))]
    assert len(vre) == 173
    assert shapes["prompt"]["conv1.weight"] == (256, 512, 1)
    assert shapes["vae"]["encoder.mid_block.attentions.0.proj_attn.weight"] == (512, 512)
    conv = "unet.down_blocks.0.resnets.0.conv1.lora"
    assert shapes["lora"][f"{conv}_A.weight"] == (16, 320, 3, 3)
    assert shapes["lora"][f"{conv}_B.weight"] == (320, 16, 1, 1)
    assert needed_bytes(shapes, FixtureSettings()) == pytest.approx(3.99e9, rel=0.01)


def test_the_lora_reaches_every_kind_of_layer(published: Path) -> None:
    with safe_open(published / LORA, framework="pt") as file:
        modules = {key.rsplit(".lora_", 1)[0] for key in file.keys()}  # noqa: SIM118
    for end in ("attn2.to_k", "to_out.0", "ff.net.0.proj", "conv1", "downsamplers.0.conv"):
        assert any(module.endswith(end) for module in modules)
    assert not any("conv_in" in module or "time_emb" in module for module in modules)


def test_a_disk_that_is_too_small_is_refused_first(
    tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        ResourceError, match=r"tiny checkpoint needs [\d,]+ bytes of disk, .* 1,000"
    ):
        write_fixtures(tiny, tmp_path / "deep" / "w", FixtureSettings())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("No space left\nat")])
def test_nothing_half_written_stays(
    tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(fixtures.torch, "save", fail)
    with pytest.raises(QuantfaceError, match=r"w can't be written \(No space left\); choose"):
        write_fixtures(tiny, tmp_path / "w", FixtureSettings())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_left_alone(tiny: ModelConfig, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(QuantfaceError, match="not an empty folder"):
        write_fixtures(tiny, tmp_path, FixtureSettings())
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(QuantfaceError, match="dtype must be one of fp32, fp16, got 'int8'"):
        FixtureSettings(dtype="int8")


class Spread:
    """Standard deviation of every layer's output."""

    def __init__(self, stages: dict[str, nn.Module]) -> None:
        self.found: dict[str, float] = {}
        for stage, module in stages.items():
            for name, layer in module.named_modules():
                if isinstance(layer, nn.Conv2d | nn.Linear | nn.GroupNorm | nn.LayerNorm):
                    layer.register_forward_hook(self._keep(f"{stage}/{name}"))

    def _keep(self, name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def keep(_: nn.Module, __: Any, output: torch.Tensor) -> None:
            self.found[name] = float(output.std())

        return keep


@pytest.fixture(scope="module")
def nano_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("nano") / "w"
    write_fixtures(NANO, folder, FixtureSettings(seed=1))
    yield folder


@torch.inference_mode()
def test_the_model_is_alive(nano_files: Path) -> None:
    model = Checkpoint(NANO, find_weights(nano_files)).model()
    stages = model.stages()
    spread = Spread(stages)
    images = to_tensors(generated(2, NANO.size, 0)[0])
    values = run_stages(stages, images)
    assert len(spread.found) > 150
    assert all(1e-2 < std < 1e2 for std in spread.found.values())  # NaN compares false
    restored = values["restored"]
    assert restored.std() > 0.05
    assert (restored[0] - restored[1]).abs().mean() > 0.02
    assert ((restored == 0) | (restored == 1)).float().mean() < 0.5
    x0 = values["x0"]
    for z, prompt in (
        (values["z"], values["prompt"].flip(0)),
        (values["z"].flip(0), values["prompt"]),
    ):
        assert (stages["unet"](z, prompt) - x0).std() > 0.05 * x0.std()
    vre: Any = model.vre
    _, codes = vre.vre.quantize.nearest(vre.vre.latents(vre.normalized(images)))
    assert all(len(set(row.tolist())) > 16 for row in codes)


def test_a_build_takes_these_files(nano_files: Path) -> None:
    settings = BuildSettings(
        model="nano", recipe="w4a4", calib=None, calib_count=1, seed=0, out=Path("x")
    )
    given = replace(settings, sd=nano_files / SD_FOLDER, osdface=nano_files)
    assert " --sd SD --osdface OSDFACE " in given.command
    embedded, theirs = (find_source(s).model().state_dict() for s in (settings, given))
    checkpoint = Checkpoint(NANO, find_weights(nano_files)).model()
    prepare(checkpoint)
    own = checkpoint.state_dict()
    assert embedded.keys() == theirs.keys() == own.keys()
    assert all(torch.equal(v, own[k]) for k, v in theirs.items())
    assert not torch.equal(embedded["unet.unet.conv_in.weight"], own["unet.unet.conv_in.weight"])


def test_outlier_channels() -> None:
    weight = draw("unet", "down_blocks.0.resnets.0.norm1.weight", (320,), 0)
    usual = weight[weight < OUTLIER]
    assert sorted(weight)[-6:-4] == [pytest.approx(usual.max()), OUTLIER]
    assert usual.std() == pytest.approx(0.2, rel=0.2)


@pytest.mark.parametrize("key", ["down_blocks.0.resnets.0.conv1.weight", "conv_out.weight"])
def test_few_directions_carry_a_layer(key: str) -> None:
    values = np.linalg.svd(draw("unet", key, (64, 64, 3, 3), 0).reshape(64, -1), compute_uv=False)
    energy = np.cumsum(values**2) / np.sum(values**2)
    assert energy[LEADING - 4] < 0.99
    assert energy[LEADING - 1] > 0.997


def test_the_command_line(nano_files: Path, tmp_path: Path) -> None:
    folder, target = tmp_path / "w", tmp_path / "f.json"
    done = CliRunner().invoke(
        app, ["fixtures", "nano", str(folder), "--seed", "1", "--json", str(target)]
    )
    assert done.exit_code == 0, done.output
    assert hashes(folder) == hashes(nano_files)
    assert json.loads(target.read_text())["files"].keys() == hashes(nano_files).keys()
