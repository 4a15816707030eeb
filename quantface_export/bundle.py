"""The bundle: a folder written whole or not at all, and checked before it is used.

Never imports torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantface_export.errors import QuantfaceError
from quantface_export.image_size import ImageSize
from quantface_export.stages import STAGE_INPUTS, STAGES

FORMAT_VERSION = 4
MANIFEST = "quantface.json"
GOLDEN = "golden/golden.npz"
OTHER_GOLDEN = "golden/{size}.npz"
REPORT = "report.html"


class BundleError(QuantfaceError):
    """A bundle that can't be used or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredGolden:
    """What the reference gave for images of one size.

    Attributes:
        size: ``512``, or ``320x256``, width first.
        floor: Its noise floor, dB.
        values: Tensors between the stages by name, each (N, ...).
    """

    size: str
    floor: float
    values: dict[str, NDArray[np.float32]]

    def first(self, images: int | None) -> StoredGolden:
        """The first ``images`` alone; None means all."""
        return replace(self, values={key: value[:images] for key, value in self.values.items()})

    def inputs(self, stage: str) -> list[NDArray[np.float32]]:
        """What a stage reads, of the first image."""
        return [self.values[key][:1] for key in STAGE_INPUTS[stage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A checked bundle: its folder and its manifest."""

    path: Path
    manifest: dict[str, Any]

    def side(self, wanted: int | None = None) -> int:
        """Side of the square images it restores, pixels.

        Args:
            wanted: Another than its own, for a bundle whose graphs take any.

        Raises:
            BundleError: They are not square, or it can't take the ``wanted`` ones.
        """
        if wanted is not None:
            self._require(wanted)
            return wanted
        if self.manifest["size"] is None:
            raise BundleError(
                f"{self.path} takes images of {self.manifest['width']}x{self.manifest['height']} "
                "pixels, and faces are cut as squares; build with one side as --size"
            )
        return int(self.manifest["size"])

    def _require(self, side: int) -> None:
        sides = self.manifest.get("sides")
        if sides is None:
            raise BundleError(
                f"{self.path} takes {self.manifest['width']}x{self.manifest['height']} pixels "
                f"alone, not {side}; build it with --dynamic, or leave --size out"
            )
        if side not in range(sides["least"], sides["most"] + 1, sides["step"]):
            raise BundleError(
                f"--size must be a multiple of {sides['step']} from {sides['least']} to "
                f"{sides['most']} for {self.path}, got {side}"
            )

    def stage(self, name: str) -> Path:
        """``model.onnx`` of a stage."""
        return self.path / name / "model.onnx"

    def goldens(self) -> list[StoredGolden]:
        """The reference's answers: for the images of the bundle's own size first."""
        about = self.manifest
        own = ImageSize(width=about["width"], height=about["height"])
        files = {GOLDEN: (str(own), about["noise_floor_psnr_db"])}
        for size, floor in about.get("other_sizes", {}).items():
            files[OTHER_GOLDEN.format(size=size)] = size, floor
        return [
            StoredGolden(size=size, floor=float(floor), values=dict(np.load(self.path / file)))
            for file, (size, floor) in files.items()
        ]


def sha256(path: Path) -> str:
    """Hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> list[Path]:
    """All files that the manifest vouches for; the report is for people and may be edited."""
    skipped = {folder / MANIFEST, folder / REPORT}
    return sorted(p for p in folder.rglob("*") if p.is_file() and p not in skipped)


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write ``quantface.json`` with the hash of every file that lies in ``folder``."""
    files = {
        p.relative_to(folder).as_posix(): {"sha256": sha256(p), "bytes": p.stat().st_size}
        for p in _files(folder)
    }
    text = json.dumps({"format_version": FORMAT_VERSION, **manifest, "files": files}, indent=1)
    (folder / MANIFEST).write_text(text + "\n")


def load_bundle(path: Path) -> Bundle:
    """Read a bundle's manifest and check every file's hash.

    Raises:
        BundleError: No bundle there, a manifest of a newer format or one that can't be
            read, or a file that is missing or changed.
    """
    source = path / MANIFEST
    if not source.is_file():
        raise BundleError(
            f"{path} is not a bundle: it has no {MANIFEST}; make one with `quantface-export build`"
        )
    try:
        manifest = json.loads(source.read_text())
        version, files = manifest["format_version"], manifest["files"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as e:
        raise BundleError(f"{source} can't be read as a manifest ({e!r}); build it again") from e
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version}, this program reads version {FORMAT_VERSION}; "
            "update quantface-export or build the bundle again"
        )
    for name, entry in files.items():
        file = path / name
        if not file.is_file():
            raise BundleError(f"{file} is missing; copy the bundle again or build it again")
        if sha256(file) != entry["sha256"]:
            raise BundleError(
                f"{file} has changed: its SHA-256 is not the manifest's {entry['sha256'][:12]}...; "
                "copy the bundle again or build it again"
            )
    missing = [stage for stage in STAGES if f"{stage}/model.onnx" not in files]
    if missing:
        raise BundleError(f"{source} lists no model for {', '.join(missing)}; build it again")
    return Bundle(path=path, manifest=manifest)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def new_bundle(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that takes its place if the block succeeds.

    An earlier bundle at ``target`` stays as it is until then. Leftovers of builds that were
    killed are removed.

    Raises:
        BundleError: ``target`` is something other than a bundle, its parent can't be
            written, or the disk is full.
    """
    target = target.absolute()
    empty = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not empty and not (target / MANIFEST).is_file():
        raise BundleError(f"{target} exists and is not a bundle; choose another --out")
    prefix = f".{target.name}.partial-"
    folder = target.with_name(f"{prefix}{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f"{prefix}*"):
            if not _alive(stale.name.removeprefix(prefix)):
                shutil.rmtree(stale, ignore_errors=True)
        folder.mkdir()
        yield folder
        _swap(folder, target)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BundleError(
                f"the disk of {target.parent} is full; free space and run again"
            ) from e
        if e.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EPERM):
            raise BundleError(
                f"{target.parent} can't be written ({e.strerror}); choose another --out"
            ) from e
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(folder: Path, target: Path) -> None:
    """Put ``folder`` where ``target`` is; the earlier bundle goes only once the new one stands."""
    old = folder.with_name(folder.name + "-old")
    if target.exists():
        target.rename(old)
    try:
        folder.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
