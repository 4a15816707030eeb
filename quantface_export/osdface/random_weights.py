"""Random weights that behave like a trained network's.

Every tensor is drawn from its own generator, seeded by the seed and the tensor's name, so that
neither the order of drawing nor the machine changes it. The rules, so that a signal keeps its
variance through some hundred layers instead of vanishing or exploding:

* Matrices and kernels have entries of variance ``gain^2 / fan_in``. The gain is 1; 1.68 behind
  SiLU, which leaves 0.355 of the variance; and 0.3 in the last layer of every residual branch,
  so that each adds a tenth of the stream's variance. Inside a transformer block, which is itself
  within such a branch, the gain is 0.5, and 1 behind the attention to the prompt: that averages
  over 77 tokens. Output channels differ in scale by a factor of about exp(+-0.2), the reason for
  one quantization scale per channel.
* Singular values fall, as trained networks' do: 12 directions carry all but 0.04 % of a layer's
  energy, less than its low-rank branch of rank 16 holds. What rounding to 4 bits disturbs is then
  the small rest. In fully random weights it is everything: each layer hands on as much noise as it
  was given, and rounding ties that fall to the other side change the picture (a noise floor of
  13 dB instead of more than 40).
* Convolutions of UNet and VAE mostly blur, channels mixed at random: neighbours are alike in
  trained decoders, and noise that is not alike from pixel to pixel dies out.
* Leading directions behind SiLU, and the embedder's first kernels, sum to zero, so that the mean
  of their input does not hide what differs from place to place.
* Norms scale by normal values around 1, deviation 0.2, except one channel in 64, which scales
  by 3: the outlier channels that quantization of trained diffusion models meets. The norm before
  a stage's last layer has none.
* Biases and norm offsets are normal with deviation 0.1.
* The encoder's latents have a deviation near ``1 / 0.18215``, as Stable Diffusion's have, so
  that what the UNet reads is near 1; the decoder's first layer takes that back.
* Codes are normal and then scaled to one length. Among such codes the nearest depends on
  direction alone, so positions choose different ones.
* A LoRA's product is a percent of the weight that it changes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quantface_export.osdface.config import VAE_SCALING

AFTER_SILU = 1.68
BRANCH, VRE_BRANCH, INNER, CROSS = 0.3, 0.7, 0.5, 1.0
CONTRAST = 0.25
LORA_UP = 0.003
OUTLIER, OUTLIER_EVERY = 3.0, 64
LEADING, REST = 12, 0.02
"""Directions that carry a layer, and the amplitude of everything else."""
ROUGH = 0.3
"""Amplitude of what a convolution does beside blurring."""
BLUR = 3 * np.outer(*2 * [np.array([0.25, 0.5, 0.25], np.float32)])
"""Sums to the square root of its size: a smooth input keeps its amplitude."""

GAINS: dict[str, float] = {
    r"unet/.*\.attn2\.to_out\.0": CROSS,
    r"unet/.*(\.to_out\.0|\.ff\.net\.2)": INNER,
    r"unet/.*(\.conv2|\.proj_out|\.time_emb_proj)": BRANCH,
    r"unet/(conv_out|time_embedding\.linear_2|.*\.conv1)": AFTER_SILU,
    r"vae/.*(\.conv2|\.to_out\.0|\.proj_attn)": BRANCH,
    r"vae/.*\.conv1": AFTER_SILU,
    r"vae/encoder\.conv_out": AFTER_SILU / VAE_SCALING,
    r"vae/decoder\.conv_in": VAE_SCALING,
    r"vae/decoder\.conv_out": AFTER_SILU * CONTRAST,
    r"vre/.*(\.conv2|\.proj_out)": VRE_BRANCH,
    r"vre/.*\.(conv1|conv_out)": AFTER_SILU,
    r"prompt/conv2": 2 * AFTER_SILU,
}
"""Gain by part and layer, the first that matches; 1 for the rest."""

CENTRED = AFTER_SILU, BRANCH
"""Gains of layers behind SiLU."""


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
    if min(shape[0], normal[0].size) > LEADING:
        blurs = part in ("unet", "vae") and shape[2:] == (3, 3)
        leading = _leading(shape, generator, blurs=blurs, centred=gain(part, key) in CENTRED)
        normal = np.float32(REST) * normal + np.float32((1 - REST**2) ** 0.5) * leading
    if f"{part}/{key}" == "vre/encoder.conv_in.weight":
        normal -= normal.mean((1, 2, 3), keepdims=True)
    rows = np.exp(0.2 * generator.standard_normal(shape[0], dtype=np.float32))
    scale = gain(part, key) / np.prod(shape[1:]) ** 0.5
    normal *= (rows * np.float32(scale)).reshape(-1, *(1 for _ in shape[1:]))
    return normal


def _leading(
    shape: Sequence[int], generator: np.random.Generator, *, blurs: bool, centred: bool
) -> NDArray[np.float32]:
    """A weight of rank ``LEADING``; smooth inputs of variance 1 give outputs of ``fan_in``."""
    left = generator.standard_normal((shape[0], LEADING), dtype=np.float32)
    right = generator.standard_normal((LEADING, *shape[1:]), dtype=np.float32)
    if blurs:
        channels = generator.standard_normal((LEADING, shape[1], 1, 1), dtype=np.float32)
        right = np.float32(ROUGH) * right + np.float32((1 - ROUGH**2) ** 0.5) * BLUR * channels
    right = right.reshape(LEADING, -1)
    if centred:
        right -= right.mean(1, keepdims=True)
    return (left @ right).reshape(shape) * np.float32(LEADING**-0.5)


def gain(part: str, key: str) -> float:
    """Standard deviation of a layer's output for independent inputs of variance 1."""
    layer = f"{part}/{key.removesuffix('.weight')}"
    return next((g for pattern, g in GAINS.items() if re.fullmatch(pattern, layer)), 1.0)


def _vector(key: str, normal: NDArray[np.float32]) -> NDArray[np.float32]:
    if "norm" not in key or not key.endswith(".weight"):
        return np.float32(0.1) * normal
    weight = 1 + np.float32(0.2) * normal
    if not key.endswith("norm_out.weight"):
        outliers = np.argsort(normal)[::-1][: max(1, len(normal) // OUTLIER_EVERY)]
        weight[outliers] = OUTLIER
    return weight
