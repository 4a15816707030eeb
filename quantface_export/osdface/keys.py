"""Names and shapes: from each file format to this project's modules, and what differs.

The facts about the formats:

* The hub's VAE of Stable Diffusion 2.1-base predates diffusers' ``Attention`` class: its two
  attentions are ``query``, ``key``, ``value`` and ``proj_attn``.
* OSDFace's visual embedder has two norms per attention, ``norm1`` and ``norm2``. Self-attention
  uses ``norm1``; ``norm2`` would see a second input that OSDFace never gives.
* A single file (``.safetensors``, ``.ckpt``) has latent diffusion's names, which diffusers maps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from torch import Tensor

from quantface_export.osdface.config import ModelConfig
from quantface_export.osdface.errors import CheckpointError
from quantface_export.osdface.read import State

Shapes = Mapping[str, torch.Size]

LISTED = 10
"""Differing keys that an error names; the rest is counted."""

VRE_PREFIX = "vqvae_LQ."
VRE_IGNORED = ("decoder.", "post_quant_conv.")

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""A VAE's attention in older diffusers files, and in diffusers today."""

CROSS_ATTENTION = {
    768: "Stable Diffusion 1.x",
    1280: "the SDXL refiner",
    2048: "SDXL",
}
"""Models by the width of their text, where it is not the 1024 of Stable Diffusion 2."""

CONV_IN = {
    7: "Stable Diffusion's upscaler",
    8: "InstructPix2Pix",
    9: "an inpainting model",
}
"""Models by the channels that their UNet reads, where they are not the 4 of a latent."""

TRANSFORMERS = ("joint_blocks.", "double_blocks.", "single_transformer_blocks.")


def vae_state(state: State) -> State:
    """A diffusers VAE under today's names."""
    old = re.compile(rf"(?<=\.attentions\.0\.)({'|'.join(OLD_ATTENTION)})(?=\.)")
    return {old.sub(lambda m: OLD_ATTENTION[m[1]], k): v for k, v in state.items()}


def vre_state(state: State) -> State:
    """The encoder, ``quant_conv`` and codebook of ``associate_2.ckpt``."""
    own = {k.removeprefix(VRE_PREFIX): v for k, v in state.items() if k.startswith(VRE_PREFIX)}
    attention = r"(\.attn(?:_1|\.\d+)\.)"
    return {
        re.sub(rf"{attention}norm1\.", r"\1norm.", k): v
        for k, v in own.items()
        if not k.startswith(VRE_IGNORED) and not re.search(rf"{attention}norm2\.", k)
    }


def prompt_state(state: State) -> State:
    """``embedding_change_weights.pth``, its 1x1 convolutions over tokens as matrices."""
    return {k: v[..., 0] if v.ndim == 3 and v.shape[-1] == 1 else v for k, v in state.items()}


def single_file_state(state: State, config: ModelConfig, source: Path) -> tuple[State, State]:
    """UNet and VAE of a single file, under diffusers' names.

    Averaged weights are taken where the file has both, as in diffusers' own folder.

    Raises:
        CheckpointError: It is another model's.
    """
    guess = looks_like(state)
    if guess is not None:
        raise CheckpointError(
            f"{source} looks like {guess}; expected Stable Diffusion 2.1-base (cross-attention of "
            f"width {config.prompt})"
        )
    try:
        unet = convert_ldm_unet_checkpoint(state, config.unet, extract_ema=True)
        vae = convert_ldm_vae_checkpoint(state, config.vae)
    except (KeyError, AttributeError, IndexError) as e:
        raise CheckpointError(
            f"{source} has none of Stable Diffusion's keys where they were expected ({e!r}); give "
            "the file of Stable Diffusion 2.1-base"
        ) from e
    return _present(unet), _present(vae)


def _present(state: Mapping[str, Tensor | None]) -> State:
    """What diffusers' mapping found; it fills in None for an average that is not there."""
    return {k: v for k, v in state.items() if v is not None}


def looks_like(state: State) -> str | None:
    """Which other model the keys and shapes of a UNet are of; None if nothing tells."""
    if any(part in key for key in state for part in TRANSFORMERS):
        return "a diffusion transformer (Stable Diffusion 3 or Flux)"
    for key, tensor in state.items():
        if key.endswith("attn2.to_k.weight") and tensor.shape[-1] in CROSS_ATTENTION:
            width = tensor.shape[-1]
            return f"{CROSS_ATTENTION[width]} (cross-attention of width {width})"
    for key, tensor in state.items():
        reads = key.endswith(("input_blocks.0.0.weight", "conv_in.weight"))
        if reads and tensor.ndim == 4 and tensor.shape[1] in CONV_IN:
            return f"{CONV_IN[tensor.shape[1]]} (reads {tensor.shape[1]} channels)"
    return None


def require_keys(expected: Shapes, state: State, source: Path, model: str) -> None:
    """Every key there, no other, each of its shape and of floating point.

    Raises:
        CheckpointError: The first ten differences and their count, and what it looks like.
    """
    missing = [f"missing {k} {tuple(s)}" for k, s in expected.items() if k not in state]
    unexpected = [f"unexpected {k} {tuple(v.shape)}" for k, v in state.items() if k not in expected]
    shared = [k for k in expected if k in state]
    other = [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(expected[k])}"
        for k in shared
        if state[k].shape != expected[k]
    ]
    other += [
        f"{k} is {state[k].dtype}, expected floating point"
        for k in shared
        if not state[k].is_floating_point()
    ]
    refuse(
        [*missing, *unexpected, *other],
        f"{source} is not {model}'s: {{}} keys differ ({len(missing)} missing, {len(unexpected)} "
        f"unexpected, {len(other)} of another shape or type)",
        looks_like(state),
    )


def refuse(problems: list[str], what: str, guess: str | None = None) -> None:
    """Raise if there are problems.

    Args:
        problems: One phrase each.
        what: Sentence before the list, ``{}`` stands for the count.
        guess: Another model that it may be.

    Raises:
        CheckpointError: In one line, the first ten.
    """
    if not problems:
        return
    rest = len(problems) - LISTED
    more = f"; and {rest} more" if rest > 0 else ""
    hint = "" if guess is None else f"; it looks like {guess}"
    raise CheckpointError(
        f"{what.format(len(problems))}: {'; '.join(problems[:LISTED])}{more}{hint}"
    )
