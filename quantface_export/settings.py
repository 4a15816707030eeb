"""What one build depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What one build depends on.

    Attributes:
        model: Name of the model.
        recipe: Name of the recipe.
        calib: Folder of calibration images; None generates them.
        calib_count: How many calibration images.
        seed: Seeds calibration images, samples and rotations.
        out: Where the bundle goes.
    """

    model: str
    recipe: str
    calib: Path | None
    calib_count: int
    seed: int
    out: Path

    @property
    def command(self) -> str:
        """The command line that makes the same bundle."""
        calib = "" if self.calib is None else f" --calib {self.calib}"
        return (
            f"quantface-export build --model {self.model} --recipe {self.recipe}{calib} "
            f"--calib-count {self.calib_count} --seed {self.seed}"
        )
