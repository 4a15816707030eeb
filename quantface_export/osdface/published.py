"""Keys and shapes of the published files, part by part, derived from the model's own.

Two assumptions, because nothing public lists them: the LoRA adapts the layers that one-step
diffusion models commonly adapt (`ADAPTED`); and of the tensors in ``associate_2.ckpt`` that
OSDFace ignores, a few stand for all.
"""

from __future__ import annotations

from collections.abc import Iterator

from quantface_export.osdface.checkpoint import part_shapes
from quantface_export.osdface.config import ModelConfig
from quantface_export.osdface.keys import OLD_ATTENTION, VRE_PREFIX

Shape = tuple[int, ...]

RANK = 16

ADAPTED = (
    "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out",
    "conv1", "conv2", "conv_shortcut", "conv", "conv_out",
)  # fmt: skip
"""Layers of the UNet with a LoRA, by the end of their names; ``conv`` resamples."""


def published_shapes(config: ModelConfig) -> dict[str, dict[str, Shape]]:
    """Keys and shapes of every part, under the names of the published files."""
    own = {
        part: {key: tuple(shape) for key, shape in shapes.items()}
        for part, shapes in part_shapes(config).items()
    }
    return {
        "unet": own["unet"],
        "vae": {_old_attention(key): shape for key, shape in own["vae"].items()},
        "lora": dict(_lora(own["unet"])),
        "prompt": {k: (*s, 1) if len(s) == 2 else s for k, s in own["prompt"].items()},
        "vre": dict(_two_norms(own["vre"])) | _ignored(config),
    }


def _old_attention(key: str) -> str:
    """Today's name in a VAE's attention as the hub's file has it."""
    for old, new in OLD_ATTENTION.items():
        key = key.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
    return key


def _lora(unet: dict[str, Shape]) -> Iterator[tuple[str, Shape]]:
    for key, (out, *rest) in unet.items():
        module = key.removesuffix(".weight")
        if len(rest) > 0 and any(f".{module}".endswith(f".{name}") for name in ADAPTED):
            yield f"unet.{module}.lora_A.weight", (RANK, *rest)
            yield f"unet.{module}.lora_B.weight", (out, RANK, *(1 for _ in rest[1:]))


def _two_norms(vre: dict[str, Shape]) -> Iterator[tuple[str, Shape]]:
    """Every attention's norm twice, as the published embedder has it."""
    for key, shape in vre.items():
        block, _, name = key.rpartition(".norm.")
        for norm in ("norm1", "norm2") if ".attn" in block else ():
            yield f"{VRE_PREFIX}{block}.{norm}.{name}", shape
        if ".attn" not in block:
            yield VRE_PREFIX + key, shape


def _ignored(config: ModelConfig) -> dict[str, Shape]:
    """A few of the tensors of the published file that OSDFace does not read."""
    vre = config.vre
    width = vre.channels * vre.multipliers[-1]
    return {
        f"{VRE_PREFIX}post_quant_conv.weight": (vre.latent, vre.latent, 1, 1),
        f"{VRE_PREFIX}post_quant_conv.bias": (vre.latent,),
        f"{VRE_PREFIX}decoder.conv_in.weight": (width, vre.latent, 3, 3),
        f"{VRE_PREFIX}decoder.conv_in.bias": (width,),
        "vqvae.quantize.embedding.weight": (vre.codes, vre.latent),
    }
