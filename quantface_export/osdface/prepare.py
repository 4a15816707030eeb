"""Fold away what is constant or linear on a device. Every fold is exact in real arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from quantface_export.osdface.config import TIMESTEP
from quantface_export.osdface.model import Osdface


class _NoTime(nn.Module):
    """Stands where a time module was; passes nothing on."""

    def forward(self, t: Tensor, *_: object) -> None:
        return None


class _AnyTime(nn.Module):
    """Stands where the sinusoidal features were; the value is never used."""

    def forward(self, t: Tensor) -> Tensor:
        return t


@torch.no_grad()
def fold_timestep(unet: UNet2DConditionModel) -> None:
    """Fold the time embedding at t = 399 into the convolutions and drop its layers, in place.

    The timestep never changes, so each residual block adds a constant per channel,
    ``time_emb_proj(silu(emb(399)))``, to its first convolution's output: a bias.
    """
    features = unet.time_proj(torch.tensor([TIMESTEP]))
    embedding = unet.time_embedding(features.to(unet.dtype))
    for block in unet.modules():
        if isinstance(block, ResnetBlock2D) and block.time_emb_proj is not None:
            block.conv1.bias += block.time_emb_proj(block.nonlinearity(embedding))[0]
            block.time_emb_proj = None
    unet.time_proj, unet.time_embedding = _AnyTime(), _NoTime()


@torch.no_grad()
def fold_pointwise(conv: nn.Conv2d, after: nn.Conv2d) -> None:
    """Fold the 1x1 convolution ``after`` into ``conv`` before it, in place.

    ``A (W x + b) + c = (A W) x + (A b + c)``.
    """
    assert conv.bias is not None
    assert after.bias is not None
    a = after.weight[:, :, 0, 0]
    conv.weight = nn.Parameter(torch.einsum("fg,gchw->fchw", a, conv.weight), requires_grad=False)
    conv.bias = nn.Parameter(a @ conv.bias + after.bias, requires_grad=False)


def prepare_stage(name: str, stage: Any, *, any_size: bool = False) -> None:
    """Make a stage what a device runs: no time layers, no ``quant_conv``. In place.

    With ``any_size`` the visual embedder resizes every image, so that no shape decides.
    """
    if name == "vre":
        stage.any_size = any_size
    if name == "unet":
        fold_timestep(stage.unet)
    if name == "vae_encoder":
        fold_pointwise(stage.encoder.conv_out, stage.quant_conv)
        stage.quant_conv = nn.Identity()


def prepare(model: Osdface, *, any_size: bool = False) -> None:
    """:func:`prepare_stage` for all stages of ``model``."""
    for name, stage in model.stages().items():
        prepare_stage(name, stage, any_size=any_size)
