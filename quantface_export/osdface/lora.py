"""Merge a LoRA into the UNet: ``W + scale B A`` per adapted layer, ``scale = alpha / r``.

Names are turned into PEFT's by diffusers' own function, so that every style it reads is read:
``lora_A`` / ``lora_B``, ``lora.down`` / ``lora.up``, and the older ``processor.to_q_lora.down``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft
from torch import Tensor

from quantface_export.osdface.errors import CheckpointError
from quantface_export.osdface.keys import Shapes, refuse
from quantface_export.osdface.read import State

PREFIX = "unet."
METADATA = "lora_adapter_metadata"
HALF = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
ALPHA = re.compile(r"(?P<module>.+?)(\.lora)?\.alpha")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraPair:
    """One adapted layer.

    Attributes:
        a: (r, C) of a linear layer, (r, C, kh, kw) of a convolution.
        b: (F, r), or (F, r, 1, 1).
        scale: What the product is multiplied by.
    """

    a: Tensor
    b: Tensor
    scale: float


def read_lora(
    state: State, metadata: Mapping[str, str], shapes: Shapes, source: Path
) -> dict[str, LoraPair]:
    """The pairs of a LoRA file by the key of the weight that they change.

    The rank is each pair's own. Alpha is what the file says, in ``.alpha`` keys or in
    diffusers' metadata, else the rank: that is 16 of 16 in OSDFace's, and what diffusers does.

    Args:
        state: The file's tensors.
        metadata: The file's text.
        shapes: The UNet's weights.
        source: The file.

    Raises:
        CheckpointError: A key is none of a LoRA, a pair is incomplete, its two ranks differ, or
            the UNet has no layer of that name or shape.
    """
    names = convert_unet_state_dict_to_peft({k.removeprefix(PREFIX): k for k in state})
    halves: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    problems = []
    for name, key in names.items():
        if found := HALF.fullmatch(name):
            halves.setdefault(found["module"], {})[found["half"]] = state[key]
        elif found := ALPHA.fullmatch(name):
            alphas[found["module"]] = float(state[key])
        else:
            problems.append(f"unexpected {key} {tuple(state[key].shape)}")
    for module, pair in halves.items():
        problem = _problem(pair, shapes.get(f"{module}.weight"))
        if problem is not None:
            problems.append(f"{module} {problem}")
    if not halves and not problems:
        problems.append("missing all, expected keys like unet.*.lora_A.weight")
    refuse(problems, f"{source} is not this UNet's LoRA: {{}} layers or keys differ")
    settings = _settings(metadata, source)
    return {
        f"{module}.weight": LoraPair(
            a=pair["A"], b=pair["B"], scale=_scale(module, len(pair["A"]), alphas, settings)
        )
        for module, pair in halves.items()
    }


@torch.no_grad()
def merged(weight: Tensor, pair: LoraPair) -> Tensor:
    """``W + scale B A`` in float32, of ``weight``'s shape; ``weight`` stays as it is."""
    result = weight.to(torch.float32, copy=True)
    b, a = pair.b.float().flatten(1), pair.a.float().flatten(1)
    result.view(len(result), -1).addmm_(b, a, alpha=pair.scale)
    return result


def _problem(pair: dict[str, Tensor], shape: torch.Size | None) -> str | None:
    if shape is None:
        return "is not a layer of the UNet"
    if len(pair) == 1:
        return f"has only lora_{next(iter(pair))} of a pair"
    a, b = pair["A"], pair["B"]
    if a.ndim < 2 or b.ndim < 2:
        return f"is A {tuple(a.shape)} and B {tuple(b.shape)}, expected matrices or convolutions"
    if len(a) != b.shape[1]:
        return f"has rank {len(a)} in A {tuple(a.shape)} and {b.shape[1]} in B {tuple(b.shape)}"
    delta = (len(b), *a.shape[1:])
    return None if delta == tuple(shape) else f"is {delta}, the UNet's is {tuple(shape)}"


def _settings(metadata: Mapping[str, str], source: Path) -> dict[str, Any]:
    """The LoRA's configuration where diffusers wrote it into the file; empty elsewhere."""
    text = metadata.get(METADATA)
    try:
        stored = {} if text is None else json.loads(text)
        return {k.removeprefix(PREFIX): v for k, v in stored.items() if k.startswith(PREFIX)}
    except (ValueError, AttributeError) as e:
        raise CheckpointError(f"{source} has unreadable {METADATA} ({e}); download it again") from e


def _scale(
    module: str, rank: int, alphas: Mapping[str, float], settings: Mapping[str, Any]
) -> float:
    alpha = alphas.get(module, settings.get("lora_alpha", rank))
    for pattern, value in settings.get("alpha_pattern", {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            alpha = value
    return float(alpha) / (rank**0.5 if settings.get("use_rslora") else rank)
