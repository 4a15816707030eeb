"""Random weights that behave like a trained network's.

Every tensor is drawn from its own generator, seeded by the seed and the tensor's name, so that
neither the order of drawing nor the machine changes it. The rules, so that a signal keeps its
variance through some hundred layers instead of vanishing or exploding:

* Matrices and kernels are normal with variance ``gain^2 / fan_in``. The gain is 1; 1.68 behind
  SiLU, which leaves 0.355 of the variance; and a half in the last layer of every residual
  branch, so that each adds a quarter of the stream's variance. Queries and keys have 1.4, so
  that attention prefers some tokens without choosing one. Output channels differ in scale by
  a factor of about exp(+-0.2), the reason for one quantization scale per channel.
* Norms scale by normal values around 1, deviation 0.2, except one channel in 64, which scales
  by 5: the outlier channels that quantization of trained diffusion models meets.
* Biases and norm offsets are normal with deviation 0.1.
* The encoder's latents have a deviation near ``1 / 0.18215``, as Stable Diffusion's have, so
  that what the UNet reads is near 1; the decoder's first layer takes that back.
* Codes are normal and then scaled to one length. Among such codes the nearest depends on
  direction alone, so positions choose different ones.
* A LoRA's product is some percent of the weight that it changes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quantface_export.osdface.config import VAE_SCALING

AFTER_SILU = 1.68
BRANCH = 0.5
ATTENTION = 1.4
LORA_UP = 0.02
OUTLIER, OUTLIER_EVERY = 5.0, 64

GAINS: dict[str, float] = {
    r"unet/.*(\.conv2|\.to_out\.0|\.ff\.net\.2|\.proj_out|\.time_emb_proj)": BRANCH,
    r"unet/(conv_out|time_embedding\.linear_2|.*\.conv1)": AFTER_SILU,
    r"vae/.*(\.conv2|\.to_out\.0|\.proj_attn)": BRANCH,
    r"vae/.*\.conv1": AFTER_SILU,
    r"vae/encoder\.conv_out": AFTER_SILU / VAE_SCALING,
    r"vae/decoder\.conv_in": VAE_SCALING,
    r"vae/decoder\.conv_out": AFTER_SILU / 2,
    r"vre/.*(\.conv2|\.proj_out)": BRANCH,
    r"vre/.*\.(conv1|conv_out)": AFTER_SILU,
    r"prompt/conv2": 2 * AFTER_SILU,
    r".*\.(to_q|to_k|q|k|query|key)": ATTENTION,
}
"""Gain by part and layer, the first that matches; 1 for the rest."""


def draw(part: str, key: str, shape: Sequence[int], seed: int) -> NDArray[np.float32]:
    """One tensor.

    Args:
        part: ``unet``, ``vae``, ``vre``, ``prompt`` or ``lora``.
        key: The tensor's name in its file, without prefixes of the file.
        shape: Its shape.
        seed: Of the whole checkpoint.
    """
    digest = hashlib.sha256(f"{seed}:{part}/{key}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
    normal = generator.standard_normal(tuple(shape), dtype=np.float32)
    if len(shape) == 1:
        return _vector(key, normal)
    if key.endswith("embedding.weight"):
        return normal * np.float32(shape[1] ** 0.5) / np.linalg.norm(normal, axis=1, keepdims=True)
    if part == "lora":
        fan_in = np.prod(shape[1:])
        return normal * np.float32(LORA_UP if "lora_B" in key else fan_in**-0.5)
    rows = np.exp(0.2 * generator.standard_normal(shape[0], dtype=np.float32))
    scale = gain(part, key) / np.prod(shape[1:]) ** 0.5
    normal *= (rows * np.float32(scale)).reshape(-1, *(1 for _ in shape[1:]))
    return normal


def gain(part: str, key: str) -> float:
    """Standard deviation of a layer's output for independent inputs of variance 1."""
    layer = f"{part}/{key.removesuffix('.weight')}"
    return next((g for pattern, g in GAINS.items() if re.fullmatch(pattern, layer)), 1.0)


def _vector(key: str, normal: NDArray[np.float32]) -> NDArray[np.float32]:
    if "norm" not in key or not key.endswith(".weight"):
        return np.float32(0.1) * normal
    weight = 1 + np.float32(0.2) * normal
    outliers = np.argsort(normal)[::-1][: max(1, len(normal) // OUTLIER_EVERY)]
    weight[outliers] = OUTLIER
    return weight
