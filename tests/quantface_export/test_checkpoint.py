"""OSDFace's file formats, on files of exactly those names and keys with random values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from quantface_export.osdface.checkpoint import (
    LORA,
    PROMPT,
    VRE,
    VRE_PREFIX,
    WEIGHTS,
    CheckpointError,
    load_osdface,
)
from quantface_export.osdface.config import NANO
from quantface_export.osdface.model import Osdface

RANK = 16
ADAPTED = (
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.resnets.0.conv1",
)


@pytest.fixture(params=["lora_A/lora_B", "lora.down/lora.up"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder with all files, written by diffusers and torch themselves."""
    torch.manual_seed(0)
    UNet2DConditionModel(**NANO.unet).save_pretrained(tmp_path / "unet")
    AutoencoderKL(**NANO.vae).save_pretrained(tmp_path / "vae")
    model = Osdface(NANO)
    unet = load_file(tmp_path / "unet" / WEIGHTS)
    down, up = request.param.split("/")
    lora = {}
    for name in ADAPTED:
        f, c, *taps = unet[f"{name}.weight"].shape
        lora[f"unet.{name}.{down}.weight"] = torch.randn(RANK, c, *taps) * 0.1
        lora[f"unet.{name}.{up}.weight"] = torch.randn(f, RANK, *(1 for _ in taps)) * 0.1
    save_file(lora, tmp_path / LORA)
    prompt = model.vre.embedding_change.state_dict()
    torch.save(
        {k: v[..., None] if v.ndim == 2 else v for k, v in prompt.items()}, tmp_path / PROMPT
    )
    vre = {VRE_PREFIX + k: v for k, v in model.vre.vre.state_dict().items()}
    others = {f"{VRE_PREFIX}decoder.conv_in.weight": torch.ones(3), "loss_LQ.x": torch.ones(1)}
    torch.save({"state_dict": vre | others, "epoch": 3}, tmp_path / VRE)
    return tmp_path


def test_every_weight_arrives(files: Path) -> None:
    model = load_osdface(NANO, files, files)
    unet, lora = load_file(files / "unet" / WEIGHTS), load_file(files / LORA)
    halves = sorted(lora)
    for name in ADAPTED:
        a, b = (lora[k].flatten(1) for k in halves if name in k)
        merged = unet[f"{name}.weight"] + (b @ a).reshape(unet[f"{name}.weight"].shape)
        assert torch.allclose(model.unet.unet.get_submodule(name).weight, merged, atol=1e-6)
    untouched = "conv_out.weight"
    assert torch.equal(model.unet.unet.state_dict()[untouched], unet[untouched])
    stored = torch.load(files / VRE, weights_only=True)["state_dict"]
    key = "encoder.mid.attn_1.q.weight"
    assert torch.equal(model.vre.vre.state_dict()[key], stored[VRE_PREFIX + key])


@pytest.mark.parametrize("name", ["unet/" + WEIGHTS, "vae/" + WEIGHTS, LORA, PROMPT, VRE])
def test_a_missing_or_truncated_file_is_named(files: Path, name: str) -> None:
    data = (files / name).read_bytes()
    (files / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=Path(name).name):
        load_osdface(NANO, files, files)
    (files / name).unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        load_osdface(NANO, files, files)


def test_another_model_is_refused_with_its_keys(files: Path) -> None:
    UNet2DConditionModel(**NANO.unet | {"cross_attention_dim": 64}).save_pretrained(files / "unet")
    with pytest.raises(CheckpointError, match=r"of another model: \d+ keys differ: .*expected"):
        load_osdface(NANO, files, files)


class Payload:
    """What a hostile pickle holds."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("run",))


def test_a_pickle_with_code_is_not_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Payload()}, files / VRE)
    with pytest.raises(CheckpointError, match="for safety"):
        load_osdface(NANO, files, files)
    assert "run" not in capsys.readouterr().out


def test_lora_of_another_unet_is_refused(files: Path) -> None:
    save_file(
        {
            "unet.nowhere.lora_A.weight": torch.ones(1, 2),
            "unet.nowhere.lora_B.weight": torch.ones(2, 1),
        },
        files / LORA,
    )
    with pytest.raises(CheckpointError, match="does not have"):
        load_osdface(NANO, files, files)
