"""What nano is trained for: restored pixels, its autoencoder, its codebook, its sharpness."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from quantface_export.osdface.config import NANO, VAE_SCALING
from quantface_export.osdface.model import Osdface

VRE_SHRINK = 1 << (len(NANO.vre.multipliers) - 1)
AUTOENCODER_WEIGHT = 0.3
CODEBOOK_WEIGHT = 0.3
KL_WEIGHT = 1e-6
CRITIC_WEIGHT = 0.02
FEATURE_WEIGHT = 0.3


class CodeDecoder(nn.Module):
    """Quantized VRE latents to an image; only needed while the codebook is learned."""

    def __init__(self) -> None:
        super().__init__()
        widths = (NANO.vre.latent, 64, 48, 32)
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise(widths):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.SiLU(), nn.Upsample(scale_factor=2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        """(N, latent, s/8, s/8) to (N, 3, s, s) in about [-1, 1]."""
        return self.layers(z)


class Critic(nn.Module):
    """Tells clean from restored patches; its features also say how far two images differ."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 48, 96, 192)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in pairwise(widths)
        )
        self.out = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(N, 3, s, s) to scores (N, 1, s/8, s/8), high for clean, and the features."""
        features = []
        for layer in self.layers:
            image = F.leaky_relu(layer(image), 0.2)
            features.append(image)
        return self.out(image), features


def pixel_loss(image: Tensor, target: Tensor) -> Tensor:
    """L1 on the image and on its gradients at three scales; both in [-1, 1]."""
    error = image.float() - target
    loss = error.abs().mean()
    for _ in range(3):
        loss = loss + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        error = F.avg_pool2d(error, 2)
    return loss


def kl_loss(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence per image from N(0, 1 / VAE_SCALING^2): scaled latents are of unit size."""
    squared = (mean**2 + log_variance.exp()) * VAE_SCALING**2
    return 0.5 * (squared - 1 - log_variance - 2 * math.log(VAE_SCALING)).sum((1, 2, 3)).mean()


def model_loss(
    model: Osdface,
    decoder: CodeDecoder,
    degraded: Tensor,
    clean: Tensor,
    rebuilt: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """One pass through all stages.

    Args:
        model: Nano.
        decoder: Draws the clean image from the VRE's codes.
        degraded: (N, 3, s, s) in [-1, 1].
        clean: Like ``degraded``.
        rebuilt: Share of the clean images that the autoencoder learns from, above 0.

    Returns:
        The sum of the three losses, and the restored images in about [-1, 1].
    """
    codes, codebook = _codebook(model, decoder, degraded, clean)
    prompt = model.vre.embedding_change(codes)
    vae = model.vae_encoder
    count = len(clean)
    target = clean[: math.ceil(count * rebuilt)]
    moments = vae.quant_conv(vae.encoder(torch.cat([degraded, target]))).float()
    means, log_variances = moments.chunk(2, dim=1)
    mean_degraded, mean, log_variance = means[:count], means[count:], log_variances[count:]
    log_variance = log_variance.clamp(-30, 20)
    sampled = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    x0 = model.unet(mean_degraded * VAE_SCALING, prompt)
    z = torch.cat([x0.float() / VAE_SCALING, sampled])
    images = model.vae_decoder.decoder(model.vae_decoder.post_quant_conv(z))
    restored, drawn = images.float().tensor_split([count])
    autoencoder = pixel_loss(drawn, target) + KL_WEIGHT * kl_loss(mean, log_variance)
    loss = pixel_loss(restored, clean) + AUTOENCODER_WEIGHT * autoencoder
    return loss + CODEBOOK_WEIGHT * codebook, restored


def _codebook(
    model: Osdface, decoder: CodeDecoder, degraded: Tensor, clean: Tensor
) -> tuple[Tensor, Tensor]:
    """The VRE's codes (N, 77, latent), and the VQ-VAE loss that teaches them the clean image."""
    vre = model.vre.vre
    z = vre.latents(model.vre.normalized(degraded)).float()
    with torch.autocast(z.device.type, enabled=False):
        codes = vre.quantize.prompt(z.detach())
        _, index = vre.quantize.nearest(z.detach())
        q = vre.quantize.embedding(index)
    side = clean.shape[-1] // VRE_SHRINK
    tie = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
    grid = (z + (q - z).detach()).transpose(1, 2).unflatten(2, (side, side))
    return codes, pixel_loss(decoder(grid), clean) + tie


@torch.no_grad()
def revive_codes(model: Osdface, degraded: Tensor) -> None:
    """Move codes that no position uses onto latents of this batch."""
    z = model.vre.vre.latents(model.vre.normalized(degraded)).float().flatten(0, 1)
    _, index = model.vre.vre.quantize.nearest(z[None])
    embedding = model.vre.vre.quantize.embedding.weight
    dead = torch.bincount(index.flatten(), minlength=len(embedding)) == 0
    embedding[dead] = z[torch.randint(len(z), (int(dead.sum()),), device=z.device)]


def sharpness_loss(critic: Critic, restored: Tensor, clean: Tensor) -> Tensor:
    """Makes restored patches score like clean ones and share their features (hinge GAN)."""
    score, features = critic(restored)
    with torch.no_grad():
        _, wanted = critic(clean)
    distance = sum(F.l1_loss(a.float(), b.float()) for a, b in zip(features, wanted, strict=True))
    return FEATURE_WEIGHT * distance - CRITIC_WEIGHT * score.float().mean()


def critic_loss(critic: Critic, restored: Tensor, clean: Tensor) -> Tensor:
    """Hinge loss of the critic itself."""
    fake, real = critic(restored.detach())[0].float(), critic(clean)[0].float()
    return F.relu(1 + fake).mean() + F.relu(1 - real).mean()
