"""Stable Diffusion in one file, under latent diffusion's names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from quantface_export.osdface.checkpoint import Checkpoint
from quantface_export.osdface.config import ModelConfig
from quantface_export.osdface.errors import CheckpointError
from quantface_export.osdface.locate import SD_FOLDER, WEIGHTS, WeightFiles, find_weights
from quantface_export.stages import STAGES

State = dict[str, Tensor]
UNET = "model.diffusion_model."
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    # of a UNet with two levels and one layer per block
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "query": "q",
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",
}
LEVELS = 3


def original_unet(state: State) -> State:
    """A two-level UNet of diffusers under latent diffusion's names."""
    renamed = {}
    for key, tensor in state.items():
        outer = max((name for name in OUTER if key.startswith(f"{name}.")), key=len)
        rest = key.removeprefix(outer)
        if ".resnets." in key:
            for new, old in RESNET.items():
                rest = rest.replace(f".{new}.", f".{old}.")
        renamed[UNET + OUTER[outer] + rest] = tensor
    return renamed


def vae_name(key: str) -> str:
    """Latent diffusion's name of a key."""
    changes = {
        "mid_block.attentions.0": "mid.attn_1",
        "mid_block.resnets.0": "mid.block_1",
        "mid_block.resnets.1": "mid.block_2",
        "conv_shortcut": "nin_shortcut",
        "conv_norm_out": "norm_out",
    }
    for i in range(LEVELS):
        changes[f"down_blocks.{i}.downsamplers.0"] = f"down.{i}.downsample"
        changes[f"down_blocks.{i}.resnets"] = f"down.{i}.block"
        changes[f"up_blocks.{i}.upsamplers.0"] = f"up.{LEVELS - 1 - i}.upsample"
        changes[f"up_blocks.{i}.resnets"] = f"up.{LEVELS - 1 - i}.block"
    if ".attentions." in key:
        changes |= {f".{new}.": f".{old}." for new, old in VAE_ATTENTION.items()}
    for new, old in changes.items():
        key = key.replace(new, old)
    return f"first_stage_model.{key}"


def original_vae(state: State) -> State:
    """A VAE of diffusers under latent diffusion's names, attention as 1x1 convolutions."""
    return {
        vae_name(k): v[:, :, None, None] if ".attentions." in k and v.ndim == 2 else v
        for k, v in state.items()
    }


@pytest.fixture(scope="module")
def original(published: Path) -> State:
    sd = published / SD_FOLDER
    return (
        original_unet(load_file(sd / "unet" / WEIGHTS))
        | original_vae(load_file(sd / "vae" / WEIGHTS))
        | {"cond_stage_model.model.positional_embedding": torch.ones(3), "betas": torch.ones(2)}
    )


def with_averages(state: State) -> State:
    """Averaged weights as ``model``, plain ones spoilt, as in a file that has both."""
    averages = {"model_ema." + "".join(k.split(".")[1:]): v for k, v in state.items() if UNET in k}
    return {k: torch.zeros_like(v) if UNET in k else v for k, v in state.items()} | averages


@pytest.mark.parametrize(("suffix", "change"), [(".safetensors", dict), (".ckpt", with_averages)])
def test_a_single_file_is_the_folder(
    published: Path,
    tiny: ModelConfig,
    original: State,
    tmp_path: Path,
    suffix: str,
    change: Callable[[State], State],
) -> None:
    path, state = tmp_path / f"model{suffix}", change(original)
    if suffix == ".ckpt":
        torch.save({"state_dict": state, "global_step": 1}, path)
    else:
        save_file(state, path)
    single = Checkpoint(tiny, find_weights(None, path, published)).model()
    folder = Checkpoint(tiny, find_weights(published)).model().state_dict()
    assert {n for n, _ in single.named_children()} == set(STAGES)
    state = single.state_dict()
    assert state.keys() == folder.keys()
    assert all(torch.equal(v, folder[k]) for k, v in state.items())


def test_its_unet_is_what_diffusers_reads_from_it(
    published: Path, tiny: ModelConfig, original: State, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(original, path)
    theirs = UNet2DConditionModel.from_single_file(
        str(path), config=str(published / SD_FOLDER), subfolder="unet", local_files_only=True
    ).state_dict()
    ours = Checkpoint(tiny, find_weights(None, path, published)).stage("unet").state_dict()
    key = "time_embedding.linear_2.weight"  # no LoRA there
    assert torch.equal(ours[f"unet.{key}"], theirs[key])
    assert {f"unet.{k}" for k in theirs} == set(ours)


TO_K = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        (TO_K, (8, 768), "looks like Stable Diffusion 1.x"),
        ("input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", (8, 2048), "looks like SDXL"),
        ("input_blocks.0.0.weight", (8, 9, 3, 3), "looks like an inpainting model"),
        ("joint_blocks.0.x_block.attn.qkv.weight", (4, 4), "diffusion transformer"),
        ("input_blocks.0.0.weight", (9, 4, 3, 3), r"1 keys differ.*\(9, 4, 3, 3\), expected"),
    ],
)
def test_another_single_file_is_recognized(
    published: Path,
    tiny: ModelConfig,
    original: State,
    tmp_path: Path,
    key: str,
    shape: tuple[int, ...],
    message: str,
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(original | {UNET + key: torch.ones(shape)}, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint(tiny, find_weights(None, path, published))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [{}, {"a": torch.ones(1)}, {f"{UNET}a": torch.ones(1)}])
def test_a_file_of_nothing_known_is_refused(
    published: Path, tiny: ModelConfig, tmp_path: Path, state: State
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    with pytest.raises(CheckpointError, match="missing"):
        Checkpoint(tiny, WeightFiles(diffusion=path, osdface=published))
