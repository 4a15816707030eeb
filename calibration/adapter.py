"""The LoRA half of QD-LoRA as a PEFT adapter of the float model.

Inside a quantized layer the branch reads the balanced activation ``R D x``; the adapter reads
``x`` itself, so it holds ``A R D`` and fits the model before any balance was folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import nn

from calibration.folded import FoldedWeight
from calibration.layers import QuantLayer, quant_layers
from calibration.qdlora import QdLora
from calibration.quantize import SitePlan

PREFIX = "base_model.model."
WEIGHTS = "adapter_model.safetensors"


class WrongAdapterError(ValueError):
    """An adapter that does not fit the model."""


def trained(stage: nn.Module) -> dict[str, tuple[QuantLayer, QdLora]]:
    """Layers of a stage that hold a QD-LoRA form, and that form."""
    found = {}
    for name, layer in quant_layers(stage).items():
        form = layer.form.inner if isinstance(layer.form, FoldedWeight) else layer.form
        if isinstance(form, QdLora) and len(form.lora_A):
            found[name] = layer, form
    return found


@torch.no_grad()
def save_adapter(stage: nn.Module, plans: Mapping[str, SitePlan], folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``.

    Args:
        stage: A quantized stage that is not merged yet.
        plans: Its sites' decisions, for the balance of each layer.
        folder: Where to; made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layers, tensors = trained(stage), {}
    for name, (layer, form) in layers.items():
        a = plans[layer.site].balance.original(form.lora_A)
        b = form.lora_B[:, :, None, None] if layer.kind == "conv" else form.lora_B
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a.contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b.contiguous()
    ranks = {name: len(form.lora_A) for name, (_, form) in layers.items()}
    common = max(ranks.values(), default=1)
    patterns = {name: rank for name, rank in ranks.items() if rank != common}
    LoraConfig(
        r=common,
        lora_alpha=common,
        target_modules=sorted(layers),
        rank_pattern=patterns,
        alpha_pattern=patterns,
        bias="none",
    ).save_pretrained(str(folder))
    save_file(tensors, folder / WEIGHTS)


@torch.no_grad()
def load_adapter(stage: nn.Module, plans: Mapping[str, SitePlan], folder: Path) -> None:
    """Put a saved adapter into the LoRA half of a stage's QD-LoRA forms.

    Raises:
        WrongAdapterError: A layer is missing, unknown or of another shape; names it.
    """
    tensors, layers = load_file(folder / WEIGHTS), trained(stage)
    keys = {f"{PREFIX}{name}.lora_{side}.weight" for name in layers for side in "AB"}
    if odd := sorted(keys ^ set(tensors)):
        state = "missing" if odd[0] in keys else "unknown"
        raise WrongAdapterError(f"{folder}: {len(odd)} keys do not fit, first {odd[0]} ({state})")
    for name, (layer, form) in layers.items():
        a, b = (tensors[f"{PREFIX}{name}.lora_{side}.weight"] for side in "AB")
        if a.shape != form.lora_A.shape or b.flatten(1).shape != form.lora_B.shape:
            raise WrongAdapterError(
                f"{folder}: {name} has shapes {tuple(a.shape)} and {tuple(b.shape)}, expected "
                f"{tuple(form.lora_A.shape)} and {tuple(form.lora_B.shape)}"
            )
        form.lora_A.copy_(plans[layer.site].balance.weight(a))
        form.lora_B.copy_(b.flatten(1))
