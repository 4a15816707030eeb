"""Write a checkpoint of OSDFace's published format with random weights.

Names, keys, shapes and layout are the published ones (`published`), so that whatever reads the
real files is tested on these, and runs without them. `random_weights` says how weights are drawn.
Safetensors are written tensor by tensor; the pickles, 130 MB at full size, are held whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from numpy.typing import NDArray

from calibration.progress import SILENT, Progress
from quantface_export.errors import QuantfaceError
from quantface_export.osdface.config import BETA_END, BETA_START, TRAIN_STEPS, ModelConfig
from quantface_export.osdface.keys import VRE_PREFIX
from quantface_export.osdface.locate import LORA, PROMPT, SD_FOLDER, STEM, VRE
from quantface_export.osdface.published import Shape, published_shapes
from quantface_export.osdface.random_weights import draw
from quantface_export.resources import require_disk

DTYPES: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "fp16": np.dtype("<f2")}
SAFETENSORS_NAMES = {"fp32": "F32", "fp16": "F16"}

SPARE_BYTES = 16 * 2**20
"""Headers, configurations and pickles' own bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixtureSettings:
    """What a random checkpoint depends on.

    Attributes:
        seed: Of every weight.
        dtype: Of Stable Diffusion's weights, fp32 or fp16; OSDFace's own are fp32.
        shard: Bytes at which Stable Diffusion's files are split; None keeps one each.
    """

    seed: int = 0
    dtype: str = "fp32"
    shard: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise QuantfaceError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")


def write_fixtures(
    config: ModelConfig, folder: Path, settings: FixtureSettings, progress: Progress = SILENT
) -> dict[str, Any]:
    """Write the whole checkpoint of ``config`` into a new folder.

    Returns:
        The JSON of the ``fixtures`` command.

    Raises:
        QuantfaceError: The folder is not empty or can't be written, or its disk is too small;
            nothing is left behind then.
    """
    shapes = published_shapes(config)
    require_disk(folder, needed_bytes(shapes, settings), f"a random {config.name} checkpoint")
    with _new_folder(folder) as work:
        writer = _Writer(settings=settings, progress=progress)
        writer.diffusion(config, shapes, work / SD_FOLDER)
        writer.safetensors(work / LORA, "lora", shapes["lora"], "fp32")
        writer.pickles(shapes, work)
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        "folder": str(folder),
        "seed": settings.seed,
        "tensors": {part: len(tensors) for part, tensors in shapes.items()},
        "bytes": sum(p.stat().st_size for p in files),
        "files": {p.relative_to(folder).as_posix(): p.stat().st_size for p in files},
    }


def needed_bytes(shapes: dict[str, dict[str, Shape]], settings: FixtureSettings) -> int:
    """Bytes of disk that the checkpoint takes, at most."""
    return SPARE_BYTES + sum(
        int(np.prod(shape)) * DTYPES[settings.dtype if part in ("unet", "vae") else "fp32"].itemsize
        for part, tensors in shapes.items()
        for shape in tensors.values()
    )


def shards(tensors: dict[str, Shape], itemsize: int, limit: int | None) -> list[dict[str, Shape]]:
    """Tensors in files of at most ``limit`` bytes; a tensor beyond that has a file of its own."""
    files: list[dict[str, Shape]] = [{}]
    filled = 0
    for key, shape in tensors.items():
        size = int(np.prod(shape)) * itemsize
        if limit is not None and files[-1] and filled + size > limit:
            files.append({})
            filled = 0
        files[-1][key] = shape
        filled += size
    return files


def write_safetensors(
    path: Path, tensors: dict[str, Shape], dtype: str, values: Iterable[NDArray[np.float32]]
) -> None:
    """Write a safetensors file one tensor at a time: length, JSON header, then the numbers.

    Args:
        path: The file.
        tensors: Keys and shapes.
        dtype: fp32 or fp16.
        values: One array per key, in that order.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, shape in tensors.items():
        end = offset + int(np.prod(shape)) * DTYPES[dtype].itemsize
        header[key] = {
            "dtype": SAFETENSORS_NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in values:
            file.write(value.astype(DTYPES[dtype], copy=False).data)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    settings: FixtureSettings
    progress: Progress

    def diffusion(
        self, config: ModelConfig, shapes: dict[str, dict[str, Shape]], folder: Path
    ) -> None:
        """Stable Diffusion in diffusers' layout: configurations and weights."""
        with torch.device("meta"):
            models = {
                "unet": UNet2DConditionModel(**config.unet),
                "vae": AutoencoderKL(**config.vae),
            }
        scheduler = PNDMScheduler(TRAIN_STEPS, BETA_START, BETA_END, beta_schedule="scaled_linear")
        scheduler.save_config(folder / "scheduler")
        index = {"_class_name": "StableDiffusionPipeline", "scheduler": _component(scheduler)}
        for part, model in models.items():
            model.save_config(folder / part)
            index[part] = _component(model)
            self._weights(folder / part, part, shapes[part])
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")

    def _weights(self, folder: Path, part: str, tensors: dict[str, Shape]) -> None:
        dtype = self.settings.dtype
        stem = STEM if dtype == "fp32" else f"{STEM}.{dtype}"
        files = shards(tensors, DTYPES[dtype].itemsize, self.settings.shard)
        if len(files) == 1:
            self.safetensors(folder / f"{stem}.safetensors", part, tensors, dtype)
            return
        weight_map: dict[str, str] = {}
        for i, held in enumerate(files):
            name = f"{stem}-{i + 1:05d}-of-{len(files):05d}.safetensors"
            self.safetensors(folder / name, part, held, dtype)
            weight_map |= dict.fromkeys(held, name)
        size = sum(int(np.prod(s)) for s in tensors.values()) * DTYPES[dtype].itemsize
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")

    def safetensors(self, path: Path, part: str, tensors: dict[str, Shape], dtype: str) -> None:
        """One safetensors file of drawn weights."""
        keys = self.progress.track(list(tensors), f"writing {part}/{path.name}")
        write_safetensors(path, tensors, dtype, (self._draw(part, k, tensors[k]) for k in keys))

    def pickles(self, shapes: dict[str, dict[str, Shape]], folder: Path) -> None:
        """OSDFace's two pickles."""
        self.progress.step(f"writing {PROMPT} and {VRE}")
        prompt, vre = (
            {k: torch.from_numpy(self._draw(part, k, s)) for k, s in shapes[part].items()}
            for part in ("prompt", "vre")
        )
        torch.save(prompt, folder / PROMPT)
        torch.save({"state_dict": vre, "epoch": 0, "global_step": 0}, folder / VRE)

    def _draw(self, part: str, key: str, shape: Shape) -> NDArray[np.float32]:
        return draw(part, key.removeprefix(VRE_PREFIX), shape, self.settings.seed)


def _component(model: Any) -> list[str]:
    return ["diffusers", type(model).__name__]


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that becomes it if the block succeeds."""
    target = target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise QuantfaceError(f"{target} exists and is not an empty folder; choose another")
    work = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        work.mkdir(parents=True)
        yield work
        if target.exists():
            target.rmdir()
        work.rename(target)
    except (OSError, RuntimeError) as e:  # torch raises the latter where a pickle's disk is full
        reason = getattr(e, "strerror", None) or str(e).partition("\n")[0]
        raise QuantfaceError(f"{target} can't be written ({reason}); choose another") from e
    finally:
        shutil.rmtree(work, ignore_errors=True)
