"""Load and store nano's weights (float16 on disk, float32 in memory)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from quantface_export.osdface.config import NANO
from quantface_export.osdface.model import Osdface

WEIGHTS = Path(__file__).with_name("nano.safetensors")


def load_nano(path: Path = WEIGHTS) -> Osdface:
    """Nano in evaluation mode, float32."""
    model = Osdface(NANO)
    model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return model.eval().requires_grad_(False)


def save_nano(model: Osdface, path: Path = WEIGHTS) -> None:
    """Write nano's parameters as float16."""
    state = {
        k: v.detach().to("cpu", torch.float16).contiguous() for k, v in model.state_dict().items()
    }
    save_file(state, path)
