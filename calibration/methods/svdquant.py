"""SVDQuant: outliers move into the weights, and the weights' largest part into a branch.

M. Li et al., "SVDQuant: Absorbing Outliers by Low-Rank Component for 4-Bit Diffusion
Models", ICLR 2025. Smoothing (eq. 8 here) with the exponent searched per layer, then the
SVD's leading part at rank 16 in high precision, the rest rounded. No training.
"""

from __future__ import annotations

from calibration.methods.method import Method
from calibration.recipe import Recipe


def recipe(weight_bits: int, activation_bits: int) -> Recipe:
    """Scaling and the branch; no rotation."""
    return Recipe(
        name=f"svdquant-w{weight_bits}a{activation_bits}",
        method="svdquant",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rotate=False,
    )


METHOD = Method(
    name="svdquant",
    paper="Li et al., ICLR 2025",
    departures=(
        "per-tensor activations and per-channel weights, as everywhere here, not groups of 64",
        "no GPTQ on the rest of the weights: scales are searched for the least squared error",
    ),
    recipe=recipe,
)
