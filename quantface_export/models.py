"""Models by name, ready to be quantized."""

from __future__ import annotations

from quantface_export.errors import QuantfaceError
from quantface_export.nano.weights import load_nano
from quantface_export.osdface.config import MODELS, ModelConfig
from quantface_export.osdface.model import Osdface


def find_config(name: str) -> ModelConfig:
    """Shapes of a model; its weights need not be at hand.

    Raises:
        QuantfaceError: Unknown name.
    """
    if name not in MODELS:
        raise QuantfaceError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}")
    return MODELS[name]


def load_model(name: str) -> Osdface:
    """The model in evaluation mode, float32.

    Raises:
        QuantfaceError: Unknown name, or a model whose weights are not at hand.
    """
    find_config(name)
    if name != "nano":
        raise QuantfaceError(f"{name} has no embedded weights; only nano can be built so far")
    return load_nano()


def parameters(model: Osdface) -> dict[str, int]:
    """Parameter count per stage."""
    return {n: sum(p.numel() for p in s.parameters()) for n, s in model.stages().items()}
