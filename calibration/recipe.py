"""Recipes: how many bits where, and which of the paper's parts are on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EDGE_BITS = 8
"""Width of each stage's first and last layer, weights and activations."""

OBSERVERS = "minmax", "percentile", "mse"
"""How activation ranges can be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBits:
    """Widths of the layers of one site.

    Attributes:
        weight, activation: Bits, 2..8.
        rank: Rank of the branch, at most; 0 for none.
        edge: First or last layer of its stage: no balance, no branch, never trained.
    """

    weight: int
    activation: int
    rank: int
    edge: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of one quantization run.

    Attributes:
        name: Name on the command line and in the manifest.
        weight_bits: Width of the weight grid, 2..8 (paper: W).
        activation_bits: Width of the activation grid, 2..8 (paper: A).
        rank: Rank of the low-rank branch; 0 leaves it out (section 3.3).
        rotate: Randomized Hadamard rotation along channels (section 3.2), where it pays.
        scale: Per-channel scaling, eq. 8.
        observer: How activation ranges are chosen: ``minmax``, ``percentile`` or ``mse``.
        weight_search: Search weight scales for the least squared error.
        quantize_attention: Compute attention's products on integers (``calibration.attention``).
        fold: Fold the branch into 8-bit weights when a session starts (``calibration.folded``).
        method: Which method's weights and training, a key of ``calibration.methods``.
        budget: Average activation bits, weighted by multiply-accumulates, that are allocated
            where ``site_bits`` gives none; None for ``activation_bits`` everywhere.
        site_bits: Activation bits by ``stage/site``, where they differ (section 3.4).
    """

    name: str
    weight_bits: int
    activation_bits: int
    rank: int = 16
    rotate: bool = True
    scale: bool = True
    observer: str = "mse"
    weight_search: bool = True
    quantize_attention: bool = True
    fold: bool = False
    method: str = "quantface"
    budget: float | None = None
    site_bits: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        widths = {
            "weight_bits": self.weight_bits,
            "activation_bits": self.activation_bits,
            **self.site_bits,
        }
        for name, bits in widths.items():
            if not 2 <= bits <= 8:
                raise ValueError(f"{name} must be in 2..8, got {bits}")
        if self.observer not in OBSERVERS:
            raise ValueError(f"observer must be one of {OBSERVERS}, got {self.observer!r}")
        if self.rank < 0:
            raise ValueError(f"rank must be 0 or more, got {self.rank}")
        if self.fold and not (1 <= self.rank <= 64 and self.weight_bits <= 4):
            raise ValueError("fold needs a branch (rank 1..64) and weight_bits of at most 4")

    def bits(self, stage: str, site: str, edge: bool) -> LayerBits:
        """Widths of one site's layers."""
        if edge:
            return LayerBits(weight=EDGE_BITS, activation=EDGE_BITS, rank=0, edge=True)
        activation = self.site_bits.get(f"{stage}/{site}", self.activation_bits)
        return LayerBits(weight=self.weight_bits, activation=activation, rank=self.rank)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="w4a4", weight_bits=4, activation_bits=4),
        Recipe(name="w4a6", weight_bits=4, activation_bits=6),
        Recipe(name="w6a6", weight_bits=6, activation_bits=6),
        Recipe(name="w4a4-mp", weight_bits=4, activation_bits=4, budget=3.98),
        Recipe(name="w4a8-fold", weight_bits=4, activation_bits=8, fold=True),
    )
}
