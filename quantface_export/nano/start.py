"""Where a short training run starts: a linear autoencoder that draws true colours.

From random weights the autoencoder spends most of an hour drawing luminance alone: every GroupNorm
removes the means of its groups, and random layers scramble what is left. Here the stages begin as
linear maps instead, and training adds the rest.

* Every residual branch and every attention ends in zeros. What is left is the trunk: ``conv_in``,
  shortcuts, resampling, ``conv_norm_out`` and ``conv_out``.
* A signal x travels as two channels, x and -x, beside a constant one in the same normalization
  group. The group's mean then depends on no picture and its variance little, and since
  ``silu(x) - silu(-x) = x``, norm, SiLU and ``conv_out`` together can be linear as well.
* A shortcut passes channel k to the channels equal to k modulo the two widths' common divisor;
  downsampling averages, upsampling interpolates linearly.

So the encoder pools colours over 4x4 pixels, the decoder draws them, and the UNet's eps is the
share of z that leaves x0 = z. The trunk then has to learn slowly (`Schedule.trunk`): Adam's first
steps move all of its weights by the learning rate, which shifts every signal at once.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from quantface_export.osdface.config import VAE_SCALING
from quantface_export.osdface.model import Osdface, UnetStage

CONSTANT = 2.0
"""The constant channels; signals are of about unit RMS."""

RANDOM = 0.02
"""Share of PyTorch's random weights that stays on the trunk, so that copies of a signal differ."""

LOG_VARIANCE = -4.0
"""Of the unscaled latents: noise of 0.14 on latents of 5.5."""

VAE_UNIT, UNET_UNIT = 3, 5
"""Channels from one constant to the next: 1 and 2 signals of two channels each, then the constant.

Whole units make up each normalization group, 3 * 2^k channels in the VAE and 5 * 2^k in the UNet.
"""

_LUMA = (0.299, 0.587, 0.114)
_LUMA_RMS, _CHROMA_RMS, _GRADIENT_RMS = 0.5, 0.15, 0.1  # of pictures in [-1, 1]
_TRUNK = {
    "conv_in",
    "conv_shortcut",
    "downsamplers",
    "upsamplers",
    "conv_norm_out",
    "conv_out",
    "quant_conv",
    "post_quant_conv",
}


@torch.no_grad()
def begin_linear(model: Osdface) -> None:
    """Turn fresh random weights of nano into the linear start; the VRE keeps its own."""
    for stage in (model.vae_encoder, model.vae_decoder, model.unet):
        for layer in stage.modules():
            _pass_through(layer)
    _begin_encoder(model.vae_encoder.encoder, model.vae_encoder.quant_conv)
    _begin_decoder(model.vae_decoder.decoder, model.vae_decoder.post_quant_conv)
    _begin_unet(model.unet)


def trunk(model: Osdface) -> list[nn.Parameter]:
    """The parameters that the linear start sets to something else than zero."""
    return [
        parameter
        for stage in (model.vae_encoder, model.vae_decoder, model.unet)
        for name, parameter in stage.named_parameters()
        if not _TRUNK.isdisjoint(name.split("."))
    ]


def carriers(width: int, unit: int, signals: int) -> tuple[Tensor, Tensor]:
    """Which channel carries what; signals take turns.

    Args:
        width: Number of channels.
        unit: Channels from one constant to the next, odd.
        signals: Number of signals.

    Returns:
        (width, signals) with 1 and -1 where a channel carries a signal, and (width,) with 1 where
        a channel is constant.
    """
    embedding, constant = torch.zeros(width, signals), torch.zeros(width)
    for channel in range(width):
        block, place = divmod(channel, unit)
        if place == unit - 1:
            constant[channel] = 1
        else:
            signal = (block * (unit // 2) + place // 2) % signals
            embedding[channel, signal] = 1 if place % 2 == 0 else -1
    return embedding, constant


def colour_matrix() -> Tensor:
    """(3, 3): from RGB to Y, B - Y and R - Y, each of about unit RMS."""
    luma = torch.tensor(_LUMA)
    red, _, blue = torch.eye(3)
    return torch.stack([luma / _LUMA_RMS, (blue - luma) / _CHROMA_RMS, (red - luma) / _CHROMA_RMS])


def _set(layer: nn.Conv2d, weight: Tensor, bias: Tensor | float = 0.0) -> None:
    """Add a weight (out, in, k, k) and a bias to a share of the layer's random ones."""
    layer.weight.mul_(RANDOM).add_(weight)
    if layer.bias is not None:
        layer.bias.mul_(RANDOM).add_(bias)


def _set_zero(layer: nn.Conv2d | nn.Linear) -> None:
    for parameter in layer.parameters():
        parameter.zero_()


def _at_centre(matrix: Tensor) -> Tensor:
    """(out, in) as a kernel (out, in, 3, 3) that mixes channels only."""
    kernel = torch.zeros(*matrix.shape, 3, 3)
    kernel[:, :, 1, 1] = matrix
    return kernel


def _passing(c_in: int, c_out: int) -> Tensor:
    """(c_out, c_in): the mean of the channels equal to the own modulo the common divisor."""
    common = math.gcd(c_in, c_out)
    return torch.eye(common).repeat(c_out // common, c_in // common) * (common / c_in)


def _pass_through(layer: Any) -> None:
    """End a residual branch in zeros; make a shortcut or resampling pass what comes in."""
    if isinstance(layer, ResnetBlock2D):
        _set_zero(layer.conv2)
        if layer.conv_shortcut is not None:
            passing = _passing(layer.in_channels, layer.out_channels)
            _set(layer.conv_shortcut, passing[:, :, None, None])
    elif isinstance(layer, Attention) and layer.residual_connection:
        _set_zero(layer.to_out[0])
    elif isinstance(layer, Transformer2DModel):
        _set_zero(layer.proj_out)
    elif isinstance(layer, Downsample2D | Upsample2D):
        _set(layer.conv, torch.eye(layer.channels)[:, :, None, None] * _low_pass(layer))


def _low_pass(layer: Any) -> Tensor:
    """(3, 3): the mean of 2x2 pixels for padding on one side, else (1, 2, 1) / 4 both ways.

    On repeated pixels the latter is bilinear interpolation.
    """
    one_sided = isinstance(layer, Downsample2D) and layer.padding == 0
    line = torch.tensor([1.0, 1.0, 0.0] if one_sided else [1.0, 2.0, 1.0])
    return torch.outer(line, line) / line.sum() ** 2


def _read(norm: nn.GroupNorm, conv: nn.Conv2d, unit: int, matrix: Tensor) -> None:
    """Make GroupNorm, SiLU and convolution apply a matrix (out, signals) to the trunk's signals.

    In units of u channels with constant c, signals of unit RMS have the mean c / u and the
    variance (u - 1) / u + c^2 (u - 1) / u^2; the norm's affine part undoes both.
    """
    embedding, _ = carriers(norm.num_channels, unit, matrix.shape[1])
    norm.weight.fill_(math.sqrt((unit - 1) / unit * (1 + CONSTANT**2 / unit)))
    norm.bias.fill_(CONSTANT / unit)
    copies = embedding.abs().sum(0) / 2
    _set(conv, _at_centre(matrix @ (embedding / copies).T))


def _begin_encoder(encoder: Any, quant_conv: Any) -> None:
    """The latents: pooled Y, B - Y, R - Y and Y's horizontal gradient, over `VAE_SCALING`."""
    latents = quant_conv.in_channels // 2
    kernels = torch.zeros(latents, 3, 3, 3)
    kernels[:3, :, 1, 1] = colour_matrix()
    gradient = torch.tensor([-1.0, 0.0, 1.0]) / _GRADIENT_RMS
    kernels[3, :, 1] = torch.outer(torch.tensor(_LUMA), gradient)
    embedding, constant = carriers(encoder.conv_in.out_channels, VAE_UNIT, latents)
    weight = torch.einsum("ks,schw->kchw", embedding, kernels)
    _set(encoder.conv_in, weight, CONSTANT * constant)
    mean = torch.eye(2 * latents, latents)
    _read(encoder.conv_norm_out, encoder.conv_out, VAE_UNIT, mean)
    is_mean = mean.sum(1)
    scale = torch.diag(is_mean / VAE_SCALING + 1 - is_mean)
    _set(quant_conv, scale[:, :, None, None], LOG_VARIANCE * (1 - is_mean))


def _begin_decoder(decoder: Any, post_quant_conv: Any) -> None:
    """The colours of the first three latents; the fourth goes along unread."""
    latents = post_quant_conv.in_channels
    unscale = torch.eye(latents)[:, :, None, None] * VAE_SCALING
    post_quant_conv.weight.mul_(RANDOM * VAE_SCALING).add_(unscale)
    nn.init.zeros_(post_quant_conv.bias)
    embedding, constant = carriers(decoder.conv_in.out_channels, VAE_UNIT, latents)
    _set(decoder.conv_in, _at_centre(embedding), CONSTANT * constant)
    colours = torch.zeros(3, latents)
    colours[:, :3] = torch.linalg.inv(colour_matrix())
    _read(decoder.conv_norm_out, decoder.conv_out, VAE_UNIT, colours)


def _begin_unet(stage: UnetStage) -> None:
    """Eps = z (z_gain - 1) / eps_gain, over the skip from ``conv_in`` to the last block."""
    unet: Any = stage.unet
    latents, width = unet.conv_in.in_channels, unet.conv_in.out_channels
    embedding, constant = carriers(width, UNET_UNIT, latents)
    _set(unet.conv_in, _at_centre(embedding), CONSTANT * constant)
    last = unet.up_blocks[-1].resnets[-1]
    hidden = last.in_channels - width
    only_skip = torch.cat([torch.zeros(width, hidden), torch.eye(width)], dim=1)
    passed = _passing(last.in_channels, width)
    last.conv_shortcut.weight.add_((only_skip - passed)[:, :, None, None])
    share = (stage.z_gain - 1) / stage.eps_gain
    _read(unet.conv_norm_out, unet.conv_out, UNET_UNIT, share * torch.eye(latents))
