"""The fake-quantized model's own answers: goldens for verification, and its noise floor."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.progress import SILENT, Progress
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


def golden(
    stages: dict[str, nn.Module], images: Tensor, progress: Progress = SILENT
) -> tuple[dict[str, NDArray[np.float32]], float]:
    """The reference's tensors, and how far float64 moves its image.

    The integers are exact either way; what differs is which side of a tie a float lands on
    after norms, SiLU, softmax and rotations.

    Returns:
        The tensors of :func:`run_stages` in float32, and the noise floor: PSNR in dB
        between the restored images of the float32 and the float64 run.
    """
    values = run_stages(stages, images, progress, "running the reference in float32")
    exact = run_stages(
        {name: copy.deepcopy(stage).double() for name, stage in stages.items()},
        images.double(),
        progress,
        "running the reference in float64",
    )
    error = float(((values["restored"].double() - exact["restored"]) ** 2).mean())
    floor = FLOOR_CAP_DB if error == 0 else min(FLOOR_CAP_DB, -10 * math.log10(error))
    return {key: value.numpy() for key, value in values.items()}, floor
