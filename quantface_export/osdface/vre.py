"""The visual representation embedder (VRE): an image becomes a prompt for the UNet.

Module names follow the keys of OSDFace's ``associate_2.ckpt`` (behind the prefix
``vqvae_LQ.``), so that the file loads without a key map.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantface_export.osdface.config import PROMPT_TOKENS, VreConfig

NORM_EPS = 1e-6


class ResBlock(nn.Module):
    """``x + conv2(silu(norm2(conv1(silu(norm1(x))))))``, with a 1x1 shortcut on width changes."""

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, c_in, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, c_out, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (x if self.nin_shortcut is None else self.nin_shortcut(x)) + h


class AttentionBlock(nn.Module):
    """Single-head self-attention over positions, all projections 1x1 convolutions."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).transpose(1, 2)[:, None] for conv in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.proj_out(h.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """Stride-2 convolution, padded on the right and bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Residual blocks of one resolution, each with attention or none, then a downsampling."""

    def __init__(
        self, c_in: int, c_out: int, config: VreConfig, *, attention: bool, downsample: bool
    ) -> None:
        super().__init__()
        widths = [c_in] + [c_out] * config.res_blocks
        self.block = nn.ModuleList(ResBlock(a, b, config.groups) for a, b in pairwise(widths))
        heads = range(config.res_blocks if attention else 0)
        self.attn = nn.ModuleList(AttentionBlock(c_out, config.groups) for _ in heads)
        self.downsample = Downsample(c_out) if downsample else None

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        return x if self.downsample is None else self.downsample(x)


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups)
        self.attn_1 = AttentionBlock(channels, groups)
        self.block_2 = ResBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """VQ-VAE encoder: (N, 3, s, s) in [-1, 1] to (N, latent, s', s'), s' = s / 2^(levels-1)."""

    def __init__(self, config: VreConfig, size: int) -> None:
        super().__init__()
        widths = [config.channels * m for m in config.multipliers]
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1)
        last = len(widths) - 1
        self.down = nn.ModuleList(
            Level(
                c_in,
                c_out,
                config,
                attention=size >> i == config.attention_side,
                downsample=i < last,
            )
            for i, (c_in, c_out) in enumerate(pairwise([config.channels, *widths]))
        )
        width = widths[-1]
        self.mid = Middle(width, config.groups)
        self.norm_out = nn.GroupNorm(config.groups, width, eps=NORM_EPS)
        self.conv_out = nn.Conv2d(width, config.latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        h = self.mid(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Codebook(nn.Module):
    """The learned dictionary; ``embedding.weight`` is (codes, latent)."""

    def __init__(self, config: VreConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.codes, config.latent)

    def nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distance to, and index of, the nearest code.

        Args:
            z: (N, positions, latent).

        Returns:
            (N, positions) distances and (N, positions) int64 indices.
        """
        e = self.embedding.weight
        distance = (z * z).sum(-1, keepdim=True) + (e * e).sum(-1) - 2 * z @ e.T
        return torch.min(distance, dim=-1)

    def prompt(self, z: Tensor) -> Tensor:
        """The codes of an image, best matches first and without repeats.

        Positions are sorted by their distance to the nearest code; codes are taken in
        that order, each once, until there are 77. Rows left over are zero.

        Args:
            z: (N, positions, latent).

        Returns:
            (N, 77, latent).
        """
        distance, index = self.nearest(z)
        codes = index.gather(1, distance.argsort(dim=1))
        same = codes[:, :, None] == codes[:, None, :]
        earlier = torch.ones_like(same[0]).tril(-1)
        first = ~(same & earlier).any(-1)
        row = torch.where(first, first.long().cumsum(1) - 1, PROMPT_TOKENS)
        slots = torch.arange(PROMPT_TOKENS, device=z.device)
        select = (row[:, None, :] == slots[None, :, None]).to(z.dtype)
        return select @ self.embedding(codes)


class Vre(nn.Module):
    """Encoder, 1x1 ``quant_conv`` and codebook of OSDFace's low-quality VQ-VAE."""

    def __init__(self, config: VreConfig, size: int) -> None:
        super().__init__()
        self.encoder = Encoder(config, size)
        self.quant_conv = nn.Conv2d(config.latent, config.latent, 1)
        self.quantize = Codebook(config)

    def latents(self, image: Tensor) -> Tensor:
        """(N, 3, s, s) in [-1, 1] to (N, positions, latent)."""
        return self.quant_conv(self.encoder(image)).flatten(2).transpose(1, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.quantize.prompt(self.latents(image))


class PromptProjection(nn.Module):
    """``silu(W2 silu(W1 p + b1) + b2)``: (N, 77, latent) to (N, 77, prompt width).

    The checkpoint's ``embedding_change_weights.pth`` stores both as 1x1 convolutions over
    tokens; a linear layer is the same map without two transposes.
    """

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Linear(latent, latent // 2)
        self.conv2 = nn.Linear(latent // 2, width)

    def forward(self, prompt: Tensor) -> Tensor:
        return F.silu(self.conv2(F.silu(self.conv1(prompt))))
