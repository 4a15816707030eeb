"""QuantFace: rotation-scaling channel balancing (section 3.2) and QD-LoRA (section 3.3)."""

from __future__ import annotations

from torch import Tensor

from calibration.methods.method import Method
from calibration.qdlora import QdLora
from calibration.quantize import stored_form
from calibration.recipe import Recipe
from calibration.weights import WeightForm


def recipe(weight_bits: int, activation_bits: int) -> Recipe:
    """Everything of the paper but the bit-width allocation."""
    return Recipe(
        name=f"w{weight_bits}a{activation_bits}",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
    )


LORA_SHARE = 0.25
"""Share of the rank that the LoRA branch has: 4 of 16. The paper halves it, 8 and 8."""


def form(w: Tensor, bits: int, rank: int) -> WeightForm:
    """Both branches; together they have the rank of the recipe. At rank 0 nothing trains."""
    if rank == 0:
        return stored_form(w, bits, rank)
    lora = round(rank * LORA_SHARE)
    return QdLora(w, bits, svd_rank=rank - lora, lora_rank=lora)


METHOD = Method(
    name="quantface",
    paper="Li et al., QuantFace",
    departures=(
        "an activation that a rotation would cost 1.4 times its layers' error is only scaled",
        "ranks 12 and 4 instead of 8 and 8: in a short run the SVD branch is worth more",
        "the visual embedder, which no gradient reaches, keeps an SVD branch of full rank",
    ),
    recipe=recipe,
    form=form,
    distilled=True,
)
