"""Models by name, whole or stage by stage, as they are quantized."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.export import Dim

from quantface_export.errors import QuantfaceError
from quantface_export.image_size import ImageSize, read_size
from quantface_export.lower.export import SymbolicShapes
from quantface_export.nano.weights import WEIGHTS, load_nano
from quantface_export.osdface.checkpoint import Checkpoint, skeleton
from quantface_export.osdface.config import MODELS, NANO, ModelConfig
from quantface_export.osdface.locate import find_weights
from quantface_export.osdface.model import Osdface
from quantface_export.osdface.prepare import prepare, prepare_stage
from quantface_export.settings import BuildSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A float model that is loaded, and prepared for a device, when it is asked for.

    Attributes:
        config: Its shapes.
        checkpoint: Its files; None for the embedded nano.
        dynamic: Whether its graphs take any possible size.
    """

    config: ModelConfig
    checkpoint: Checkpoint | None
    dynamic: bool = False

    def stage(self, name: str) -> nn.Module:
        """One stage, in evaluation mode and float32; the others take no memory."""
        if self.checkpoint is None:
            stage = load_nano().stages()[name]
        else:
            stage = self.checkpoint.stage(name)
        prepare_stage(name, stage, any_size=self.dynamic)
        return stage

    def model(self) -> Osdface:
        """All four stages."""
        model = load_nano() if self.checkpoint is None else self.checkpoint.model()
        prepare(model, any_size=self.dynamic)
        return model

    def symbolic_shapes(self) -> SymbolicShapes | None:
        """Shapes of the stages' inputs, images in ``rows`` and ``columns`` of the step.

        None if they are fixed.
        """
        if not self.dynamic:
            return None
        sides = possible_sides(self.config)
        ends = {"min": sides.start // sides.step, "max": sides[-1] // sides.step}
        axes = {axis: Dim(name, **ends) for axis, name in ((2, "rows"), (3, "columns"))}
        latent = sides.step >> len(self.config.vae["block_out_channels"]) - 1
        steps = {"image": sides.step, "z": latent, "x0": latent}
        sized = {x: {axis: n * dim for axis, dim in axes.items()} for x, n in steps.items()}
        return sized | {"prompt": {}}

    @property
    def parameters(self) -> dict[str, int]:
        """Parameter count per stage, as published."""
        return parameters(skeleton(self.config))

    @property
    def files(self) -> list[Path]:
        """Where the weights come from."""
        return [WEIGHTS] if self.checkpoint is None else self.checkpoint.files.all()


def find_source(settings: BuildSettings) -> Source:
    """The model that a build is asked to quantize; no weights are read yet.

    Raises:
        QuantfaceError: Unknown name, or files that are missing, unreadable or another model's.
    """
    config = find_config(settings.model)
    given = (settings.weights, settings.sd, settings.osdface)
    embedded = config == NANO and all(path is None for path in given)
    return Source(
        config=config,
        checkpoint=None if embedded else Checkpoint(config, find_weights(*given)),
        dynamic=settings.dynamic,
    )


def find_config(name: str) -> ModelConfig:
    """The model of that name.

    Raises:
        QuantfaceError: There is none.
    """
    if name not in MODELS:
        raise QuantfaceError(f"unknown model {name!r}; expected one of {', '.join(MODELS)}")
    return MODELS[name]


def image_size(config: ModelConfig, size: str | None) -> ImageSize:
    """The size that is asked for, a side or ``WIDTHxHEIGHT``, or the model's own.

    Raises:
        QuantfaceError: A side that :func:`possible_sides` does not have.
    """
    found = ImageSize(width=config.size, height=config.size) if size is None else read_size(size)
    sides = possible_sides(config)
    for side in (found.width, found.height):
        if side not in sides:
            raise QuantfaceError(
                f"--size must be a multiple of {sides.step} from {sides.start} to {sides[-1]} for "
                f"{config.name}, got {size}"
            )
    return found


def possible_sides(config: ModelConfig) -> range:
    """Sides that VAE and UNet can halve evenly: from half to twice the model's own.

    In steps of what they shrink an image by, 64 for OSDFace.
    """
    levels = [len(part["block_out_channels"]) - 1 for part in (config.vae, config.unet)]
    return range(config.size // 2, config.size * 2 + 1, 1 << sum(levels))


def parameters(model: Osdface) -> dict[str, int]:
    """Parameter count per stage."""
    return {n: sum(p.numel() for p in s.parameters()) for n, s in model.stages().items()}
