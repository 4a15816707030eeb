"""OSDFace's published files as the four stages, one at a time or all together."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from quantface_export.osdface.config import VAE_SCALING, ModelConfig
from quantface_export.osdface.errors import CheckpointError
from quantface_export.osdface.keys import (
    prompt_state,
    require_keys,
    single_file_state,
    vae_state,
    vre_state,
)
from quantface_export.osdface.locate import WeightFiles, part_files
from quantface_export.osdface.lora import LoraPair, merged, read_lora
from quantface_export.osdface.model import Osdface
from quantface_export.osdface.read import State, read_metadata, read_state
from quantface_export.resources import require_memory

PARTS = {
    "vre": {"vre": "vre.", "prompt": "embedding_change."},
    "vae_encoder": {"vae": ""},
    "unet": {"unet": "unet."},
    "vae_decoder": {"vae": ""},
}
"""Which parts of a checkpoint a stage consists of, and under which prefix."""

BATCH = 32
"""Tensors that are copied from one mapping of the files."""

SETTINGS = {
    "vae/config.json": ("scaling_factor", VAE_SCALING, "another model's VAE"),
    "scheduler/scheduler_config.json": (
        "prediction_type",
        "epsilon",
        "Stable Diffusion 2.1 (768-v), which has the same shapes",
    ),
}
"""What tells models of the same shapes apart: file, key, expected value, what else it may be."""


def skeleton(config: ModelConfig) -> Osdface:
    """The model's names and shapes; its weights are on the meta device and take no memory."""
    with torch.device("meta"):
        return Osdface(config).eval().requires_grad_(False)


def part_shapes(config: ModelConfig) -> dict[str, dict[str, torch.Size]]:
    """Keys and shapes of ``vre``, ``prompt``, ``vae`` and ``unet`` under the modules' names."""
    shapes: dict[str, dict[str, torch.Size]] = {}
    for name, module in skeleton(config).stages().items():
        state = module.state_dict()
        for part, prefix in PARTS[name].items():
            shapes.setdefault(part, {}).update(
                (k.removeprefix(prefix), v.shape) for k, v in state.items() if k.startswith(prefix)
            )
    return shapes


class Checkpoint:
    """Files that were checked against a model, read stage by stage.

    Checking reads headers only. A loaded stage stays mapped from its files where they hold
    float32 and no LoRA changes it, so that its memory can be reclaimed; all else is a float32
    copy of that stage alone.

    Args:
        config: Expected names and shapes.
        files: Where the parts lie.

    Raises:
        CheckpointError: A file can't be read, or its keys, shapes or settings are another model's.
    """

    def __init__(self, config: ModelConfig, files: WeightFiles) -> None:
        self.config, self.files = config, files
        self._require_settings()
        shapes = part_shapes(config)
        for part, expected in shapes.items():
            require_keys(expected, self._read(part), self._source(part), config.name)
        self._unet_shapes = shapes["unet"]
        self._pairs()

    def stage(self, name: str) -> nn.Module:
        """One stage in evaluation mode, float32, the LoRA merged.

        Args:
            name: ``vre``, ``vae_encoder``, ``unet`` or ``vae_decoder``.

        Raises:
            ResourceError: Its float32 weights don't fit in memory.
            CheckpointError: A file can't be read any more.
        """
        module = skeleton(self.config).stages()[name]
        self._require_memory([module], name)
        self._fill(name, module)
        return module

    def model(self) -> Osdface:
        """All four stages in evaluation mode, float32.

        Raises:
            ResourceError: Their float32 weights don't fit in memory.
            CheckpointError: A file can't be read any more.
        """
        model = skeleton(self.config)
        self._require_memory(list(model.stages().values()), self.config.name)
        for name, module in model.stages().items():
            self._fill(name, module)
        return model

    def _fill(self, name: str, module: nn.Module) -> None:
        """Assign a stage's weights: mapped as they are where possible, else copied in batches.

        Each batch maps the files anew and lets go of them, so that the pages of the originals
        do not stay beside the copies.
        """
        pairs = self._pairs() if name == "unet" else {}
        stored = self._stored(name)
        state = {
            key: stored[key]
            for key in module.state_dict()
            if stored[key].dtype == torch.float32 and key not in pairs
        }
        copied = [key for key in module.state_dict() if key not in state]
        for start in range(0, len(copied), BATCH):
            stored = self._stored(name)
            for key in copied[start : start + BATCH]:
                state[key] = _copied(stored[key], pairs.get(key))
        module.load_state_dict(state, assign=True)
        module.requires_grad_(False)

    def _stored(self, name: str) -> State:
        """A stage's tensors as its files have them, under the stage's keys."""
        return {
            prefix + key: tensor
            for part, prefix in PARTS[name].items()
            for key, tensor in self._read(part).items()
        }

    def _read(self, part: str) -> State:
        """A part's tensors under the modules' names, mapped from disk."""
        diffusion = self.files.diffusion
        if part == "prompt":
            return prompt_state(read_state([self.files.prompt]))
        if part == "vre":
            return vre_state(read_state([self.files.vre]))
        if diffusion.is_file():
            unet, vae = single_file_state(read_state([diffusion]), self.config, diffusion)
            return unet if part == "unet" else vae
        state = read_state(part_files(diffusion / part))
        return vae_state(state) if part == "vae" else state

    def _source(self, part: str) -> Path:
        """What an error about a part names."""
        diffusion = self.files.diffusion
        own = {"prompt": self.files.prompt, "vre": self.files.vre}
        return own.get(part, diffusion if diffusion.is_file() else diffusion / part)

    def _pairs(self) -> dict[str, LoraPair]:
        """The LoRA, by the keys of the UNet stage."""
        path = self.files.lora
        pairs = read_lora(read_state([path]), read_metadata(path), self._unet_shapes, path)
        return {PARTS["unet"]["unet"] + key: pair for key, pair in pairs.items()}

    def _require_settings(self) -> None:
        for name, (key, expected, other) in SETTINGS.items():
            path = self.files.diffusion / name
            if not path.is_file():
                continue
            try:
                found = json.loads(path.read_text()).get(key, expected)
            except (ValueError, AttributeError) as e:
                raise CheckpointError(f"{path} can't be read ({e}); download it again") from e
            if found != expected:
                raise CheckpointError(
                    f"{path} has {key} {found}, expected {expected} as Stable Diffusion 2.1-base "
                    f"has; it looks like {other}"
                )

    @staticmethod
    def _require_memory(modules: list[nn.Module], what: str) -> None:
        floats = sum(p.numel() for module in modules for p in module.parameters())
        require_memory(floats * torch.float32.itemsize, f"loading {what}")


def load_osdface(config: ModelConfig, files: WeightFiles) -> Osdface:
    """The whole restorer of ``config`` with the weights of ``files``.

    Raises:
        CheckpointError: A file can't be read or is another model's.
        ResourceError: The weights don't fit in memory.
    """
    return Checkpoint(config, files).model()


def _copied(tensor: Tensor, pair: LoraPair | None) -> Tensor:
    return tensor.float() if pair is None else merged(tensor, pair)
