"""The four stages of a restorer and the tensors between them."""

from __future__ import annotations

STAGE_INPUTS: dict[str, tuple[str, ...]] = {
    "vre": ("image",),
    "vae_encoder": ("image",),
    "unet": ("z", "prompt"),
    "vae_decoder": ("x0",),
}
"""Names of each stage's inputs, in the order in which the stages run."""

STAGE_OUTPUT = {"vre": "prompt", "vae_encoder": "z", "unet": "x0", "vae_decoder": "restored"}
"""Name of each stage's one output."""

STAGES = tuple(STAGE_INPUTS)
