"""QD-LoRA end to end: settings of the build to a trained model."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from calibration.distill import Distillation, distill
from calibration.methods import METHODS
from calibration.perceptual import PerceptualDistance
from calibration.progress import SILENT, Progress
from calibration.recipe import Recipe
from quantface_export.errors import QuantfaceError
from quantface_export.settings import BuildSettings
from quantface_export.student import Student, prompts


def trains(recipe: Recipe, settings: BuildSettings) -> bool:
    """Whether this build distills end to end."""
    return METHODS[recipe.method].distilled and settings.train_steps > 0


def train(
    modules: dict[str, nn.Module],
    images: Tensor,
    target: Tensor,
    distance: PerceptualDistance,
    settings: BuildSettings,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Distill the quantized stages, in place.

    Args:
        modules: Quantized stages with trainable forms, by name.
        images: (N, 3, s, s) calibration images in [-1, 1].
        target: (N, 3, s, s) the float model's images in [0, 1].
        distance: Perceptual part of the loss.
        settings: Steps, rate and the file of the training state.
        progress: Told of every step.

    Returns:
        What the manifest and the report say of the run.

    Raises:
        QuantfaceError: The training state belongs to another run, or the loss left the
            finite numbers.
        SystemExit: In every process but the first, where `accelerate launch` runs several.
    """
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    device = accelerator.device
    schedule = Distillation(steps=settings.train_steps, rate=settings.train_rate)
    student = Student(modules).to(device)
    inputs = images, prompts(modules["vre"], images)
    try:
        losses = distill(
            student,
            inputs,
            target,
            distance.to(device),
            schedule,
            seed=settings.seed,
            checkpoint=settings.checkpoint,
            accelerator=accelerator,
            progress=progress if accelerator.is_main_process else SILENT,
        )
    except ValueError as e:  # another run's state, or a loss that is not finite
        raise QuantfaceError(str(e)) from e
    finally:
        accelerator.end_training()  # a process group left open can abort the process at its exit
    if not accelerator.is_main_process:
        sys.exit()  # all processes hold the same model now; one goes on with it
    student.cpu()
    return {"distance": distance.name, **asdict(schedule), "losses": losses}
