"""QD-LoRA: two low-rank branches, one for quantization and one for distillation (section 3.3).

    y = x A B + x L1 L2 + Q(x) Q(R),    R = W - L1 L2                         (eq. 10)

``L1 L2`` starts as the SVD of ``W``; because the rest ``R`` is formed again in every step, this
branch can't leave the backbone. ``A`` starts Gaussian and ``B`` zero, as in LoRA, and are free
to follow the float model. Merged, both are one branch of rank r1 + r2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calibration.lowrank import product, svd_branch
from calibration.quantizer import quantize_weight, weight_limits
from calibration.rounding import ste_half
from calibration.weights import Weight, WeightForm, trained_codes


class QdLora(WeightForm):
    """The trainable weight of one layer.

    Attributes:
        backbone: (F, C, ...) the balanced float weight, frozen.
        svd_down, svd_up: ``L1 L2``: (r1, C, ...) and (F, r1).
        lora_A, lora_B: (r2, C, ...) and (F, r2), as PEFT names them.
    """

    backbone: Tensor
    scale: Tensor

    def __init__(self, w: Tensor, bits: int, svd_rank: int, lora_rank: int) -> None:
        super().__init__()
        self.limits = weight_limits(bits)
        down, up = svd_branch(w, svd_rank)
        _, scale = quantize_weight(w - product(down, up), bits)
        self.register_buffer("backbone", w)
        self.register_buffer("scale", scale)
        self.svd_down, self.svd_up = nn.Parameter(down), nn.Parameter(up)
        fan_in = w[0].numel()
        self.lora_A = nn.Parameter(torch.randn(lora_rank, *w.shape[1:]) / fan_in**0.5)
        self.lora_B = nn.Parameter(torch.zeros(len(w), lora_rank))

    def forward(self) -> Weight:
        down, up = ste_half(self.svd_down), ste_half(self.svd_up)
        rest = self.backbone - product(down, up)
        codes = trained_codes(rest, self.scale, self.limits)
        down = torch.cat([down, ste_half(self.lora_A)])
        up = torch.cat([up, ste_half(self.lora_B)], dim=1)
        return Weight(codes, self.scale, down, up)
