"""The time embedding is a constant, because the timestep is: fold it into biases.

Each residual block adds ``time_emb_proj(silu(emb(399)))`` to its first convolution's output,
one constant per channel. That is a bias.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from quantface_export.osdface.config import TIMESTEP


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

    Exact: ``conv1(x) + p`` with constant ``p`` becomes ``conv1`` with ``bias + p``.
    """
    features = unet.time_proj(torch.tensor([TIMESTEP]))
    embedding = unet.time_embedding(features.to(unet.dtype))
    for block in unet.modules():
        if isinstance(block, ResnetBlock2D) and block.time_emb_proj is not None:
            block.conv1.bias += block.time_emb_proj(block.nonlinearity(embedding))[0]
            block.time_emb_proj = None
    unet.time_proj, unet.time_embedding = _AnyTime(), _NoTime()
