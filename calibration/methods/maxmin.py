"""MaxMin: every grid spans the full range that was seen.

B. Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, in its post-training form.
"""

from __future__ import annotations

from calibration.methods.method import Method
from calibration.quantize import minmax_form
from calibration.recipe import Recipe


def recipe(weight_bits: int, activation_bits: int) -> Recipe:
    """No balance, no branch, no search."""
    return Recipe(
        name=f"maxmin-w{weight_bits}a{activation_bits}",
        method="maxmin",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rank=0,
        rotate=False,
        scale=False,
        observer="minmax",
        weight_search=False,
    )


METHOD = Method(
    name="maxmin",
    paper="Jacob et al., CVPR 2018",
    departures=(
        "post-training: the paper's quantization-aware training is left out, as QuantFace does",
        "weights are symmetric with one scale per output channel, as everywhere here",
    ),
    recipe=recipe,
    form=minmax_form,
)
