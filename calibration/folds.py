"""Where a balance needs no online op because its producer can carry it exactly.

* ``norm``: a LayerNorm or GroupNorm whose affine feeds only the site: channel scales divide
  gamma and beta. A rotation mixes channels and can't hide in an affine.
* ``heads``: attention's output projection reads a weighted sum of value rows, head by head:
  scales and one rotation per head go into the value projection.
* ``geglu``: the second linear layer of a gated feed-forward reads ``value * gelu(gate)``:
  scales go into the value half of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from calibration.balance import Balance


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One exact fold.

    Attributes:
        kind: What carries the balance, see the module's docstring.
        producer: Path of the module whose parameters change.
        block: Channels that one rotation may span: a head's width, or 1 where only
            scales fold.
    """

    kind: Literal["norm", "heads", "geglu"]
    producer: str
    block: int = 1

    def apply(self, model: nn.Module, balance: Balance) -> None:
        """Change the producer's parameters in place so that it emits ``R D x``."""
        producer: Any = model.get_submodule(self.producer)
        if self.kind == "geglu":
            half = len(balance.d)
            for parameter in (producer.weight, producer.bias):
                parameter.data[:half] = balance.activation(parameter.data[:half], 0)
            return
        for parameter in (producer.weight, producer.bias):
            if parameter is not None:
                parameter.data = balance.activation(parameter.data, 0)


@torch.no_grad()
def find_folds(model: nn.Module) -> dict[str, Fold]:
    """Folds of the block types that diffusers builds UNets and VAEs from.

    Returns:
        Fold by the path of the first layer of the site it serves.
    """
    folds: dict[str, Fold] = {}
    for path, module in model.named_modules():
        at = f"{path}." if path else ""
        if isinstance(module, Attention):
            head = module.inner_dim // module.heads
            folds[f"{at}to_out.0"] = Fold(kind="heads", producer=f"{at}to_v", block=head)
            if module.group_norm is not None:
                folds[f"{at}to_q"] = Fold(kind="norm", producer=f"{at}group_norm")
        elif isinstance(module, BasicTransformerBlock):
            for norm, first in (("norm1", "attn1.to_q"), ("norm2", "attn2.to_q")):
                folds[f"{at}{first}"] = Fold(kind="norm", producer=f"{at}{norm}")
            if isinstance(module.ff.net[0], GEGLU):
                folds[f"{at}ff.net.0.proj"] = Fold(kind="norm", producer=f"{at}norm3")
        elif isinstance(module, FeedForward) and isinstance(module.net[0], GEGLU):
            folds[f"{at}net.2"] = Fold(kind="geglu", producer=f"{at}net.0.proj")
        elif isinstance(module, Transformer2DModel):
            folds[f"{at}proj_in"] = Fold(kind="norm", producer=f"{at}norm")
    return folds
