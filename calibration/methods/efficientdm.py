"""EfficientDM: a low-rank update is rounded together with the weight, and distilled.

Y. He et al., "EfficientDM: Efficient Quantization-Aware Fine-Tuning of Low-Bit Diffusion
Models", ICLR 2024. The quantization-aware low-rank adapter (QALoRA) has no branch at run
time: ``Q(W + B A)`` is what is stored. Weight scales and activation grids learn as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calibration.layers import quant_layers
from calibration.learned import learn_grids
from calibration.lowrank import product
from calibration.methods.method import Method, StageData
from calibration.quantizer import quantize_weight, weight_limits
from calibration.recipe import Recipe
from calibration.weights import Weight, WeightForm, trained_codes

LORA_RANK = 16


class QaLora(WeightForm):
    """``codes = clamp(round((W + B A) / s))`` with trained A, B and s."""

    backbone: Tensor

    def __init__(self, w: Tensor, bits: int, rank: int) -> None:
        super().__init__()
        self.limits = weight_limits(bits)
        _, scale = quantize_weight(w, bits)
        self.register_buffer("backbone", w)
        self.log_scale = nn.Parameter(scale.log())
        self.lora_A = nn.Parameter(torch.randn(rank, *w.shape[1:]) / w[0].numel() ** 0.5)
        self.lora_B = nn.Parameter(torch.zeros(len(w), rank))

    def forward(self) -> Weight:
        w = self.backbone + product(self.lora_A, self.lora_B)
        scale = self.log_scale.exp()
        codes = trained_codes(w, scale, self.limits)
        return Weight(codes, scale, None, None)


def form(w: Tensor, bits: int, _: int) -> WeightForm:
    """An adapter of rank 16, or as much as the layer has."""
    return QaLora(w, bits, min(LORA_RANK, w.shape[1], len(w)))


def recipe(weight_bits: int, activation_bits: int) -> Recipe:
    """No balance and no branch."""
    return Recipe(
        name=f"efficientdm-w{weight_bits}a{activation_bits}",
        method="efficientdm",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rank=0,
        rotate=False,
        scale=False,
    )


def refine(stage: nn.Module, _: StageData) -> None:
    """Let the activation grids learn."""
    learn_grids(quant_layers(stage).values())


METHOD = Method(
    name="efficientdm",
    paper="He et al., ICLR 2024",
    departures=(
        "one activation grid per layer: a one-step model has no steps to tell grids apart by",
        "distilled on the restored image, with the loss of QD-LoRA, not on the predicted noise",
    ),
    recipe=recipe,
    form=form,
    refine=refine,
    distilled=True,
)
