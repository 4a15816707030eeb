"""A stage whose graph is written, and the folder that a killed build goes on from."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.recipe import Recipe
from quantface_export.errors import QuantfaceError
from quantface_export.report import PANELS, Distribution
from quantface_export.stages import STAGES

TENSORS, RECORD, BELONGS_TO = "tensors.npz", "record.json", "belongs-to.txt"
TOGETHER = "together.json"


class WorkError(QuantfaceError):
    """A work folder that belongs to another build."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedStage:
    """What later stages, manifest and report need of a stage.

    Attributes:
        rows: Its layers in the manifest.
        output: What the float stage gives for every calibration image.
        reference: What the fake-quantized stage gives for each set of golden images, float32.
        exact: The same with its float parts in float64.
        distribution: The report's figure, of the stage that it is taken from.
    """

    rows: list[dict[str, Any]]
    output: NDArray[np.float32]
    reference: list[NDArray[np.float32]]
    exact: list[NDArray[np.float64]]
    distribution: Distribution | None

    def save(self, folder: Path) -> None:
        """Write everything beside the stage's graph."""
        tensors: dict[str, NDArray[Any]] = {"output": self.output}
        for i, pair in enumerate(zip(self.reference, self.exact, strict=True)):
            tensors[f"reference_{i}"], tensors[f"exact_{i}"] = pair
        np.savez(folder / TENSORS, **tensors)  # type: ignore[arg-type]
        record: dict[str, Any] = {"rows": self.rows, "distribution": None}
        if self.distribution is not None:
            panels = {name: getattr(self.distribution, name).tolist() for name in PANELS}
            record["distribution"] = asdict(self.distribution) | panels
        (folder / RECORD).write_text(json.dumps(record))

    @staticmethod
    def load(folder: Path) -> FinishedStage:
        """What :meth:`save` wrote; exactly, as JSON keeps every float."""
        record = json.loads((folder / RECORD).read_text())
        if (figure := record["distribution"]) is not None:
            figure |= {name: np.array(figure[name], np.float32) for name in PANELS}
            record["distribution"] = Distribution(**figure)
        with np.load(folder / TENSORS) as tensors:
            sets = range(len(tensors) // 2)
            return FinishedStage(
                **record,
                output=tensors["output"],
                reference=[tensors[f"reference_{i}"] for i in sets],
                exact=[tensors[f"exact_{i}"] for i in sets],
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """What was decided for all stages at once.

    Attributes:
        recipe: What was done; with the widths that were allocated, if they were.
        training, allocation: What these say of themselves; None where there was none.
    """

    recipe: Recipe
    training: dict[str, Any] | None
    allocation: dict[str, Any] | None


class WorkFolder:
    """Finished stages of one build.

    Each stage is a folder with its graph and its :class:`FinishedStage`, complete or not there.

    Args:
        path: The folder; made if it is missing.
        belongs_to: Tells builds apart.

    Raises:
        WorkError: ``path`` holds another build's work.
    """

    def __init__(self, path: Path, belongs_to: str) -> None:
        self.path, mark = path, path / BELONGS_TO
        if mark.exists() and mark.read_text() != belongs_to:
            raise WorkError(
                f"{path} holds the unfinished build of another model, recipe, seed or image set; "
                "remove it or choose another --work"
            )
        if path.exists() and any(path.iterdir()) and not mark.exists():
            raise WorkError(f"{path} is no work folder; choose another --work")
        path.mkdir(parents=True, exist_ok=True)
        mark.write_text(belongs_to)

    def begin(self, name: str) -> Path:
        """An empty folder for a stage's graph."""
        folder = self.path / f"{name}.new"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def finish(self, name: str, stage: FinishedStage) -> None:
        """Keep what lies in the folder that :meth:`begin` gave."""
        folder = self.path / f"{name}.new"
        stage.save(folder)
        folder.rename(self.path / name)

    def finished(self, name: str) -> FinishedStage | None:
        """A stage that is finished."""
        folder = self.path / name
        return FinishedStage.load(folder) if folder.is_dir() else None

    def keep(self, together: Together) -> None:
        """Remember what was decided for all stages at once."""
        (self.path / TOGETHER).write_text(json.dumps(asdict(together)))

    def kept(self) -> Together | None:
        """What :meth:`keep` was told, if every stage made of it is finished."""
        file = self.path / TOGETHER
        if not file.exists() or not all((self.path / name).is_dir() for name in STAGES):
            return None
        record = json.loads(file.read_text())
        return Together(**record | {"recipe": Recipe(**record["recipe"])})

    def hand_over(self, name: str, folder: Path) -> None:
        """Copy a stage's graph to ``folder``; the work stays until all is done.

        No hard link: onnx refuses external data that has several.
        """
        folder.mkdir()
        for file in (self.path / name).glob("model.onnx*"):
            shutil.copyfile(file, folder / file.name)

    def remove(self) -> None:
        """Nothing of it is needed any more."""
        shutil.rmtree(self.path, ignore_errors=True)


def belongs_to(parts: Iterable[object], files: Iterable[Path], tensors: NDArray[Any]) -> str:
    """Tells builds apart: settings, the model's files by size and time, and the images."""
    digest = hashlib.sha256(repr(list(parts)).encode())
    for file in files:
        status = file.stat()
        digest.update(repr((str(file.absolute()), status.st_size, status.st_mtime_ns)).encode())
    digest.update(tensors.tobytes())
    return digest.hexdigest()
