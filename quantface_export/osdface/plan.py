"""What of OSDFace is quantized: which layers sit at the edges, and what stays in float."""

from __future__ import annotations

EDGES = {
    "vre": ("vre.encoder.conv_in", "embedding_change.conv2"),
    "vae_encoder": ("encoder.conv_in", "encoder.conv_out"),
    "unet": ("unet.conv_in", "unet.conv_out"),
    "vae_decoder": ("decoder.conv_in", "decoder.conv_out"),
}
"""First and last layer of each stage, at 8 bits: they read or write pixels, latents or the
prompt."""

FLOAT_LAYERS = {"vae_decoder": ("post_quant_conv",)}
"""Layers left in float: 4x4 weights, 16 multiplications a latent."""

FLOAT_PARTS = {
    "GroupNorm, LayerNorm, SiLU, GELU": "no multiply-accumulate; ranges vary per image",
    "softmax": "an exponential for each score; its shares are rounded to 14 bits",
    "residual adds, concatenations, up-sampling": "memory traffic; 8-bit grids would clip skips",
    "low-rank branches": "they carry what 4 bits can't (paper eq. 9)",
    "codebook search": "an argmin over distances; runs once on 256 positions",
    "the decoder's post_quant_conv": "4x4 weights; requantizing its output would cost more",
    "the encoder's quant_conv": "not in the graph: folded into the convolution before it",
    "time embedding": "not in the graph: a constant folded into biases",
}
"""What stays in float32, and why."""
