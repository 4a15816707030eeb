"""Where the files of a checkpoint lie.

What users have (names fixed by the authors and by diffusers): Stable Diffusion 2.1-base as a
diffusers folder with ``unet/`` and ``vae/`` or as one file, and OSDFace's own three files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from quantface_export.osdface.errors import CheckpointError

LORA = "pytorch_lora_weights.safetensors"
PROMPT = "embedding_change_weights.pth"
VRE = "associate_2.ckpt"
OSDFACE_FILES = (LORA, PROMPT, VRE)

STEM = "diffusion_pytorch_model"
WEIGHTS = f"{STEM}.safetensors"
INDEX = f"{WEIGHTS}.index.json"
SD_FOLDER = "stable-diffusion-2-1-base"

PART_NAMES = (
    WEIGHTS,
    INDEX,
    f"{STEM}.fp16.safetensors",
    f"{STEM}.fp16.safetensors.index.json",
    f"{STEM}.safetensors.index.fp16.json",
    f"{STEM}.bin",
)
"""Names of a diffusers model's weights, the preferred ones first."""

SD_PLACES = (SD_FOLDER, "*", "*/snapshots/*")
"""Where the diffusers folder may be below ``--weights``; the last is the hub's cache."""

SD_SINGLE = ("v2-1_512-*.safetensors", "v2-1_512-*.ckpt")
"""How Stability AI names the model in one file."""

OSDFACE_PLACES = (".", "pretrained", "osdface", "OSDFace")
"""Where OSDFace's files may be below ``--weights``; the authors' code expects ``pretrained``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """What a checkpoint consists of.

    Attributes:
        diffusion: Folder with ``unet/`` and ``vae/`` in diffusers' layout, or a single file.
        osdface: Folder with OSDFace's own three files.
    """

    diffusion: Path
    osdface: Path

    @property
    def lora(self) -> Path:
        """The UNet's LoRA."""
        return self.osdface / LORA

    @property
    def prompt(self) -> Path:
        """The projection of codes to prompt rows."""
        return self.osdface / PROMPT

    @property
    def vre(self) -> Path:
        """The visual representation embedder."""
        return self.osdface / VRE

    def all(self) -> list[Path]:
        """Every file that holds weights."""
        parts = [self.diffusion]
        if not self.diffusion.is_file():
            parts = [f for part in ("unet", "vae") for f in part_files(self.diffusion / part)]
        return [*parts, self.lora, self.prompt, self.vre]


def find_weights(
    weights: Path | None, sd: Path | None = None, osdface: Path | None = None
) -> WeightFiles:
    """Resolve ``--weights``, ``--sd`` and ``--osdface``.

    Args:
        weights: Folder to look in for whatever the others do not give.
        sd: Diffusers folder or single file of Stable Diffusion 2.1-base.
        osdface: Folder with OSDFace's own files.

    Raises:
        CheckpointError: Something is not there; the message says what was looked for, and where.
    """
    if weights is None and (sd is None or osdface is None):
        lacking = " and ".join(
            name for name, path in (("--sd", sd), ("--osdface", osdface)) if path is None
        )
        raise CheckpointError(
            f"no weights are embedded for it: give --weights DIR (or {lacking}) with Stable "
            f"Diffusion 2.1-base (unet/ and vae/, or one file) and {', '.join(OSDFACE_FILES)}; "
            "`quantface-export fixtures osdface DIR` writes random ones of that format"
        )
    for path in (weights, sd, osdface):
        if path is not None and not path.exists():
            raise CheckpointError(f"{path} does not exist")
    return WeightFiles(diffusion=_find_sd(weights, sd), osdface=_find_osdface(weights, osdface))


def part_files(folder: Path) -> list[Path]:
    """The files that hold the weights of one diffusers model: one, or the shards of an index.

    Raises:
        CheckpointError: There are none, or the index or one of its shards can't be used.
    """
    for name in PART_NAMES:
        path = folder / name
        if path.is_file():
            return _shards(path) if path.suffix == ".json" else [path]
    raise CheckpointError(f"{folder} holds no weights; looked for {', '.join(PART_NAMES)}")


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise CheckpointError(
            f"{index} can't be read as an index ({e!r}); download it again"
        ) from e
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{len(missing)} of the {len(names)} shards that {index} lists do not exist: "
            f"{', '.join(missing[:10])}; download them"
        )
    return [index.parent / name for name in names]


def _is_diffusers(folder: Path) -> bool:
    return (folder / "unet").is_dir() and (folder / "vae").is_dir()


def _find_sd(weights: Path | None, sd: Path | None) -> Path:
    root = weights if sd is None else sd
    assert root is not None
    if _is_diffusers(root) or (sd is not None and root.is_file()):
        return root
    for place in SD_PLACES:
        found = sorted(p for p in root.glob(place) if _is_diffusers(p))
        if len(found) > 1:
            raise CheckpointError(
                f"{root} holds several diffusers folders ({', '.join(p.name for p in found)}); "
                "choose one with --sd"
            )
        if found:
            return found[0]
    for pattern in SD_SINGLE:
        for path in sorted(root.glob(pattern)):
            return path
    raise CheckpointError(
        f"no Stable Diffusion 2.1-base in {root}: looked for unet/ and vae/ in it and in its "
        f"folders, and for {' and '.join(SD_SINGLE)}; give its folder or file with --sd"
    )


def _find_osdface(weights: Path | None, osdface: Path | None) -> Path:
    root = weights if osdface is None else osdface
    assert root is not None
    lacking = {
        folder: [name for name in OSDFACE_FILES if not (folder / name).is_file()]
        for folder in (root / place for place in OSDFACE_PLACES)
    }
    best = min(lacking, key=lambda folder: len(lacking[folder]))
    if lacking[best]:
        raise CheckpointError(
            f"{', '.join(lacking[best])} does not exist in {best}; looked in it and in "
            f"{', '.join(OSDFACE_PLACES[1:])} below {root}; give OSDFace's folder with --osdface"
        )
    return best
