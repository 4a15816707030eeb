"""Models by name, ready to be quantized."""

from __future__ import annotations

from quantface_export.errors import QuantfaceError
from quantface_export.nano.weights import load_nano
from quantface_export.osdface.checkpoint import Checkpoint
from quantface_export.osdface.config import MODELS, NANO, ModelConfig
from quantface_export.osdface.locate import find_weights
from quantface_export.osdface.model import Osdface
from quantface_export.settings import BuildSettings


def load_model(settings: BuildSettings) -> Osdface:
    """The model in evaluation mode, float32: nano's embedded weights, or the files given.

    Raises:
        QuantfaceError: Unknown name, or files that are missing, unreadable or another model's.
    """
    config = find_config(settings.model)
    given = (settings.weights, settings.sd, settings.osdface)
    if config == NANO and all(path is None for path in given):
        return load_nano()
    return Checkpoint(config, find_weights(*given)).model()


def find_config(name: str) -> ModelConfig:
    """The model of that name.

    Raises:
        QuantfaceError: There is none.
    """
    if name not in MODELS:
        raise QuantfaceError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}")
    return MODELS[name]


def parameters(model: Osdface) -> dict[str, int]:
    """Parameter count per stage."""
    return {n: sum(p.numel() for p in s.parameters()) for n, s in model.stages().items()}
