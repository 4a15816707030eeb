"""OSDFace as four stages that each take and return tensors, and their composition.

``vre -> prompt``, ``vae_encoder -> z``, ``unet -> x0``, ``vae_decoder -> image``: the split
that ONNX face restorers use. The scalar arithmetic between stages lives inside them, so
that a device only passes tensors along.
"""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from quantface_export.osdface.config import (
    BETA_END,
    BETA_START,
    TIMESTEP,
    TRAIN_STEPS,
    VAE_SCALING,
    ModelConfig,
)
from quantface_export.osdface.vre import PromptProjection, Vre
from quantface_export.stages import STAGES


def alpha_bar(timestep: int = TIMESTEP) -> float:
    """Cumulative product of ``1 - beta`` up to ``timestep`` (paper eq. 1), betas scaled linear."""
    betas = np.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS) ** 2
    return float(np.prod(1 - betas[: timestep + 1]))


class VreStage(nn.Module):
    """image (N, 3, s, s) in [-1, 1] -> prompt (N, 77, width)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.size, self.any_size = config.size, False
        self.vre = Vre(config.vre, config.size)
        self.embedding_change = PromptProjection(config.vre.latent, config.prompt)

    @staticmethod
    def normalized(image: Tensor) -> Tensor:
        """Normalize once more by (x - 0.5) / 0.5.

        The second normalization of an image that is in [-1, 1] already is what OSDFace was
        trained with.
        """
        return (image - 0.5) / 0.5

    def latents(self, image: Tensor) -> Tensor:
        """(N, 3, s, s) in [-1, 1] at the model's size to the latents (N, positions, latent)."""
        return self.vre.latents(self.normalized(image))

    def forward(self, image: Tensor) -> Tensor:
        if self.any_size or image.shape[-2:] != (self.size, self.size):
            image = F.interpolate(image, size=(self.size, self.size), mode="bilinear")
        return self.embedding_change(self.vre(self.normalized(image)))


class EncoderStage(nn.Module):
    """image (N, 3, s, s) in [-1, 1] -> z, the scaled mean of the VAE's posterior."""

    def __init__(self, encoder: nn.Module, quant_conv: nn.Module) -> None:
        super().__init__()
        self.encoder, self.quant_conv = encoder, quant_conv

    def forward(self, image: Tensor) -> Tensor:
        mean, _ = self.quant_conv(self.encoder(image)).chunk(2, dim=1)
        return mean * VAE_SCALING


class UnetStage(nn.Module):
    """(z, prompt) -> x0 = (z - sqrt(1 - a) eps) / sqrt(a) (paper eq. 3)."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        a = alpha_bar()
        self.z_gain, self.eps_gain = a**-0.5, ((1 - a) / a) ** 0.5

    def forward(self, z: Tensor, prompt: Tensor) -> Tensor:
        eps = self.unet(z, TIMESTEP, prompt, return_dict=False)[0]
        return z * self.z_gain - eps * self.eps_gain


class DecoderStage(nn.Module):
    """x0 -> image (N, 3, s, s) in [0, 1]."""

    def __init__(self, decoder: nn.Module, post_quant_conv: nn.Module) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv = decoder, post_quant_conv

    def forward(self, x0: Tensor) -> Tensor:
        image = self.decoder(self.post_quant_conv(x0 / VAE_SCALING))
        return image.clamp(-1, 1) * 0.5 + 0.5


class Osdface(nn.Module):
    """The whole restorer: image (N, 3, s, s) in [-1, 1] -> restored image in [0, 1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        vae = AutoencoderKL(**config.vae)
        self.vre = VreStage(config)
        self.vae_encoder = EncoderStage(vae.encoder, vae.quant_conv)
        self.unet = UnetStage(UNet2DConditionModel(**config.unet))
        self.vae_decoder = DecoderStage(vae.decoder, vae.post_quant_conv)

    def forward(self, image: Tensor) -> Tensor:
        x0 = self.unet(self.vae_encoder(image), self.vre(image))
        return self.vae_decoder(x0)

    def stages(self) -> dict[str, nn.Module]:
        """The four stages by name, in running order."""
        return {name: getattr(self, name) for name in STAGES}
