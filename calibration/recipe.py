"""Recipes: how many bits where, and which of the paper's parts are on."""

from __future__ import annotations

from dataclasses import dataclass

EDGE_BITS = 8
"""Width of each stage's first and last layer, weights and activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of one quantization run.

    Attributes:
        name: Name on the command line and in the manifest.
        weight_bits: Width of the weight grid, 2..8 (paper: W).
        activation_bits: Width of the activation grid, 2..8 (paper: A).
        rank: Rank of the low-rank branch; 0 leaves it out (section 3.3).
        rotate: Randomized Hadamard rotation along channels (section 3.2).
        scale: Per-channel scaling, eq. 8.
        observer: How activation ranges are chosen: ``minmax``, ``percentile`` or ``mse``.
    """

    name: str
    weight_bits: int
    activation_bits: int
    rank: int = 16
    rotate: bool = True
    scale: bool = True
    observer: str = "mse"

    def __post_init__(self) -> None:
        for field in ("weight_bits", "activation_bits"):
            if not 2 <= getattr(self, field) <= 8:
                raise ValueError(f"{field} must be in 2..8, got {getattr(self, field)}")
        if self.rank < 0:
            raise ValueError(f"rank must be 0 or more, got {self.rank}")

    def layer_rank(self, c_in: int, c_out: int) -> int:
        """Rank of one layer's branch: never more than the layer itself can have."""
        return min(self.rank, c_in, c_out)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="w4a4", weight_bits=4, activation_bits=4),
        Recipe(name="w4a6", weight_bits=4, activation_bits=6),
        Recipe(name="w6a6", weight_bits=6, activation_bits=6),
    )
}
