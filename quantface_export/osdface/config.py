"""Shapes of the four stages: the published OSDFace and the embedded nano model.

Both go through the same code. Everything that differs is a number in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TIMESTEP = 399
"""The one diffusion step at which OSDFace runs."""

VAE_SCALING = 0.18215
"""Latents are multiplied by this before the UNet (Stable Diffusion's constant)."""

PROMPT_TOKENS = 77
"""Rows of the visual prompt, as many as Stable Diffusion's text prompt has."""

TRAIN_STEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012
"""The ``scaled_linear`` noise schedule of Stable Diffusion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VreConfig:
    """Visual representation embedder: a VQ-VAE encoder and its codebook.

    Attributes:
        channels: Width of the first level.
        multipliers: Width of each level in units of ``channels``.
        res_blocks: Residual blocks per level.
        attention_side: Levels whose feature map has this side carry attention.
        latent: Width of the codebook vectors.
        codes: Number of codebook vectors.
        groups: Groups of every GroupNorm.
    """

    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 2, 2, 4, 8)
    res_blocks: int = 2
    attention_side: int = 16
    latent: int = 512
    codes: int = 1024
    groups: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """All four stages of one one-step face restorer.

    Attributes:
        name: Name in manifests and on the command line.
        size: Side of the square input and output image, in pixels.
        prompt: Width of a prompt row, the UNet's cross-attention width.
        vre: Shape of the visual representation embedder.
        unet: Keyword arguments of ``diffusers.UNet2DConditionModel``.
        vae: Keyword arguments of ``diffusers.AutoencoderKL``.
    """

    name: str
    size: int
    prompt: int
    vre: VreConfig
    unet: dict[str, Any]
    vae: dict[str, Any]


def _unet(
    widths: tuple[int, ...], heads: tuple[int, ...], prompt: int, groups: int, side: int
) -> dict[str, Any]:
    """Stable Diffusion 2.1's UNet: attention on every level but the deepest."""
    deep = len(widths) - 1
    return {
        "sample_size": side,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D",) * deep + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * deep,
        "block_out_channels": widths,
        "layers_per_block": 2,
        "attention_head_dim": heads,
        "cross_attention_dim": prompt,
        "use_linear_projection": True,
        "norm_num_groups": groups,
    }


def _vae(widths: tuple[int, ...], layers: int, groups: int, size: int) -> dict[str, Any]:
    levels = len(widths)
    return {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "latent_channels": 4,
        "norm_num_groups": groups,
        "sample_size": size,
        "scaling_factor": VAE_SCALING,
    }


OSDFACE = ModelConfig(
    name="osdface",
    size=512,
    prompt=1024,
    vre=VreConfig(),
    unet=_unet((320, 640, 1280, 1280), (5, 10, 20, 20), prompt=1024, groups=32, side=64),
    vae=_vae((128, 256, 512, 512), layers=2, groups=32, size=512),
)
"""OSDFace as published: 978.7 M parameters, 512x512."""

NANO = ModelConfig(
    name="nano",
    size=128,
    prompt=128,
    vre=VreConfig(
        channels=32, multipliers=(1, 2, 2, 2), res_blocks=1, latent=64, codes=256, groups=8
    ),
    unet=_unet((40, 80, 80), (2, 4, 4), prompt=128, groups=8, side=32),
    vae=_vae((24, 48, 96), layers=1, groups=8, size=128),
)
"""The same blocks at small width, 128x128.

Its channel counts meet every Hadamard order of the full model: 12*2^k in the VAE
(24, 48, 96), 20*2^k and 60*2^k in the UNet (40, 80, 160 and 120), 2^k in the VRE.
"""

MODELS = {config.name: config for config in (OSDFACE, NANO)}
