"""The part of the restorer that learns from its pictures, and what it learns from."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from calibration.perceptual import PerceptualDistance, encoder_distance, load_lpips
from quantface_export.errors import QuantfaceError

TRAINED = ("vae_encoder", "unet", "vae_decoder")
"""Stages that a gradient of the restored image reaches."""


class Student(nn.Module):
    """(image in [-1, 1], prompt) to the restored image in [0, 1].

    The visual embedder is not in it: its codebook is an argmin, through which no gradient
    passes, so its layers keep the branch from the SVD and its prompts are constants.
    """

    def __init__(self, stages: dict[str, nn.Module]) -> None:
        super().__init__()
        self.vae_encoder, self.unet, self.vae_decoder = (stages[name] for name in TRAINED)

    def forward(self, image: Tensor, prompt: Tensor) -> Tensor:
        return self.vae_decoder(self.unet(self.vae_encoder(image), prompt))


@torch.no_grad()
def prompts(vre: nn.Module, images: Tensor) -> Tensor:
    """(N, 77, width) prompts of the quantized visual embedder."""
    return torch.cat([vre(image) for image in images.split(1)])


def perceptual_distance(
    encoder: nn.Module, lpips: Path | None, lpips_linear: Path | None
) -> PerceptualDistance:
    """LPIPS if its files are given, otherwise its form on the float VAE encoder's features.

    Args:
        encoder: The float model's VAE encoder, copied.
        lpips: torchvision's AlexNet or VGG-16 file.
        lpips_linear: LPIPS' linear weights.

    Raises:
        QuantfaceError: Only one of the files, or a file that is something else.
    """
    if lpips is None and lpips_linear is None:
        return encoder_distance(copy.deepcopy(encoder).requires_grad_(False))
    if lpips is None or lpips_linear is None:
        raise QuantfaceError("LPIPS needs both --lpips and --lpips-linear; give both or neither")
    try:
        return load_lpips(lpips, lpips_linear)
    except (ValueError, OSError, RuntimeError) as e:
        raise QuantfaceError(f"LPIPS can't be loaded: {e}") from e
