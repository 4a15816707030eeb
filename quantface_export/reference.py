"""The fake-quantized model's own answers: goldens for verification, and its noise floor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.progress import SILENT, Progress
from quantface_export.bundle import StoredGolden
from quantface_export.pixels import to_input
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT

FLOOR_CAP_DB = 200.0
"""Stands for a noise floor of nothing, so that the manifest holds a number."""


def to_tensors(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """(N, 3, s, s) float32 in [-1, 1]."""
    return torch.from_numpy(to_input(np.stack(images)))


@torch.no_grad()
def run_stages(
    stages: dict[str, nn.Module], images: Tensor, progress: Progress = SILENT, text: str = ""
) -> dict[str, Tensor]:
    """Every tensor between the stages, for a batch of images run one by one.

    Args:
        stages: The four stages by name.
        images: (N, 3, s, s) in [-1, 1], float32 or float64.
        progress: Told of each image.
        text: What it is told.

    Returns:
        ``image``, ``prompt``, ``z``, ``x0`` and ``restored``, each (N, ...).
    """
    rows = []
    for image in progress.track(images.split(1), text):
        values = {"image": image}
        for name, stage in stages.items():
            values[STAGE_OUTPUT[name]] = stage(*(values[key] for key in STAGE_INPUTS[name]))
        rows.append(values)
    return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}


@torch.no_grad()
def run_stage(
    name: str,
    stage: nn.Module,
    values: dict[str, Tensor],
    progress: Progress = SILENT,
    text: str = "",
) -> Tensor:
    """(N, ...) output of one stage for ``values``, run one by one."""
    columns = zip(*(values[key].split(1) for key in STAGE_INPUTS[name]), strict=True)
    count = len(values[STAGE_INPUTS[name][0]])
    return torch.cat([stage(*row) for row in progress.track(columns, text, count)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """What the fake-quantized stages give for some images, as far as they have run.

    Attributes:
        reference: Tensors between the stages by name, each (N, ...), float32.
        exact: The same with the stages' float parts in float64.
    """

    reference: dict[str, Tensor]
    exact: dict[str, Tensor]

    def stored(self, size: str) -> StoredGolden:
        """What a bundle keeps once all stages have run: without the float64 side, but its floor."""
        return StoredGolden(
            size=size,
            floor=noise_floor(self.reference["restored"], self.exact["restored"]),
            values={key: value.numpy() for key, value in self.reference.items()},
        )


def golden(images: Tensor) -> Golden:
    """Before any stage has run: the (N, 3, h, w) images alone."""
    return Golden(reference={"image": images}, exact={"image": images.double()})


def noise_floor(restored: Tensor, exact: Tensor) -> float:
    """How far float64 moves the reference's image: PSNR in dB of the one against the other.

    The integers are exact either way; what differs is which side of a tie a float lands on
    after norms, SiLU, softmax and rotations.
    """
    error = float(((restored.double() - exact) ** 2).mean())
    return FLOOR_CAP_DB if error == 0 else min(FLOOR_CAP_DB, -10 * math.log10(error))
