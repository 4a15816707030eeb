"""From the float model to lowered stages: one after the other, or all at once to be trained."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from calibration.adapter import save_adapter
from calibration.layers import merge
from calibration.progress import SILENT, Progress
from calibration.recipe import Recipe
from quantface_export.allocate import allocate_recipe
from quantface_export.build_report import figure_4
from quantface_export.clock import Clock
from quantface_export.finished import FinishedStage, Together, WorkFolder
from quantface_export.manifest import layer_rows
from quantface_export.models import Source
from quantface_export.osdface.model import Osdface
from quantface_export.quantized import (
    QuantizedModel,
    QuantizedStage,
    lower_stage,
    quantize_stage,
    stage_inputs,
)
from quantface_export.reference import Golden, golden, run_stage, run_stages
from quantface_export.settings import BuildSettings
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT, STAGES
from quantface_export.student import TRAINED, perceptual_distance
from quantface_export.train import train, trains

OBSERVED_IMAGES = 16
"""Calibration images that activations are observed on; training uses all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedModel:
    """All stages, lowered.

    Attributes:
        together: What was decided for all stages at once.
        stages: What is left of each stage.
        goldens: The reference's tensors, for each set of golden images.
    """

    together: Together
    stages: dict[str, FinishedStage]
    goldens: list[Golden]


def quantize_stages(
    source: Source,
    recipe: Recipe,
    images: Tensor,
    settings: BuildSettings,
    *,
    golden_images: Sequence[Tensor],
    work: WorkFolder,
    clock: Clock,
    progress: Progress,
) -> FinishedModel:
    """Every stage from float to its graph in ``work``; what lies there already is taken.

    Args:
        source: The float model.
        recipe: What to do.
        images: (N, 3, s, s) calibration images in [-1, 1].
        settings: Seeds, training and profile.
        golden_images: Sets of images that the reference is run on, each (N, 3, h, w).
        work: Where finished stages are.
        clock: Takes the seconds of every stage.
        progress: Told of everything.
    """
    whole, together = None, Together(recipe=recipe, training=None, allocation=None)
    if trains(recipe, settings) or needs_allocation(recipe):
        kept = work.kept()
        if kept is None:
            with clock("model"):
                model = source.model()
            whole = quantize_model(model, recipe, images, settings, clock, progress)
            kept = Together(
                recipe=whole.recipe, training=whole.training, allocation=whole.allocation
            )
            work.keep(kept)
        together = kept
    values, stages = {"image": images}, dict[str, FinishedStage]()
    goldens = [golden(x) for x in golden_images]
    shapes = source.symbolic_shapes()
    for name in STAGES:
        found = work.finished(name)
        if found is not None:
            progress.step(f"{name}: finished before, taken from {work.path}")
        else:
            if whole is not None:
                stage = whole.stages[name]
            else:
                with clock(name):
                    stage = quantized_alone(name, source, values, recipe, settings, progress)
            folder = work.begin(name)
            with clock("lower"):
                progress.step(f"{name}: lowering to ONNX")
                example = [values[key][:1] for key in STAGE_INPUTS[name]]
                lower_stage(name, stage.module, example, folder, settings.profile, shapes)
            with clock("reference"):
                found = finish(name, stage, goldens, progress)
            work.finish(name, found)
        stages[name], output = found, STAGE_OUTPUT[name]
        values[output] = torch.from_numpy(found.output)
        for x, reference, exact in zip(goldens, found.reference, found.exact, strict=True):
            x.reference[output], x.exact[output] = map(torch.from_numpy, (reference, exact))
    return FinishedModel(together=together, stages=stages, goldens=goldens)


def quantized_alone(
    name: str,
    source: Source,
    values: dict[str, Tensor],
    recipe: Recipe,
    settings: BuildSettings,
    progress: Progress,
) -> QuantizedStage:
    """One stage, loaded and quantized with no other in memory."""
    progress.step(f"{name}: loading")
    stage = source.stage(name)
    inputs = stage_inputs(name, values)
    done = quantize_stage(name, stage, inputs, recipe, seed=settings.seed, progress=progress)
    merge(done.module)
    return done


def finish(
    name: str,
    stage: QuantizedStage,
    goldens: Sequence[Golden],
    progress: Progress,
) -> FinishedStage:
    """Run one stage as the reference of its graph, and keep what is still needed of it.

    Args:
        name: The stage's.
        stage: It is merged.
        goldens: What the fake-quantized stages before it gave.
        progress: Told of everything.
    """
    text = f"{name}: running the reference in"
    reference = [
        run_stage(name, stage.module, x.reference, progress, f"{text} float32") for x in goldens
    ]
    doubled = copy.deepcopy(stage.module).double()
    exact = [run_stage(name, doubled, x.exact, progress, f"{text} float64") for x in goldens]
    return FinishedStage(
        rows=layer_rows(name, stage),
        output=stage.output.numpy(),
        reference=[x.numpy() for x in reference],
        exact=[x.numpy() for x in exact],
        distribution=figure_4(name, stage),
    )


def needs_allocation(recipe: Recipe) -> bool:
    """Whether the recipe's budget has to be spent first."""
    return recipe.budget is not None and not recipe.site_bits


def quantize_model(
    model: Osdface,
    recipe: Recipe,
    images: Tensor,
    settings: BuildSettings,
    clock: Clock,
    progress: Progress = SILENT,
) -> QuantizedModel:
    """Observe, balance, allocate, train and merge; consumes ``model``, which is prepared.

    Args:
        model: The float model.
        recipe: What to do.
        images: (N, 3, s, s) calibration images in [-1, 1].
        settings: Seeds and training.
        clock: Takes the seconds of every stage.
        progress: Told of everything.
    """
    distance = perceptual_distance(model.vae_encoder.encoder, settings.lpips, settings.lpips_linear)
    with clock("model"):
        values = run_stages(model.stages(), images, progress, "running the float model")
    allocation = None
    if needs_allocation(recipe):
        with clock("allocate"):
            recipe, allocation = allocate_recipe(model, recipe, settings, progress)
    observed = {key: value[:OBSERVED_IMAGES] for key, value in values.items()}
    stages: dict[str, QuantizedStage] = {}
    for name, stage in model.stages().items():
        with clock(name):
            made = quantize_stage(
                name,
                stage,
                stage_inputs(name, observed),
                recipe,
                seed=settings.seed,
                trained=trains(recipe, settings),
                progress=progress,
            )
            stages[name] = dataclasses.replace(made, output=values[STAGE_OUTPUT[name]])
    modules, training = {name: stage.module for name, stage in stages.items()}, None
    if trains(recipe, settings):
        with clock("train"):
            training = train(modules, images, values["restored"], distance, settings, progress)
        if settings.adapter is not None:
            for name in TRAINED:
                save_adapter(stages[name].module, stages[name].plans, settings.adapter / name)
    for module in modules.values():
        merge(module)
    return QuantizedModel(
        recipe=recipe, stages=stages, values=values, training=training, allocation=allocation
    )


def lower_stages(
    modules: dict[str, nn.Module], values: dict[str, Tensor], folder: Path, progress: Progress
) -> None:
    """Write ``STAGE/model.onnx`` of every merged stage."""
    for name in progress.track(STAGES, "lowering to ONNX"):
        example = [values[key][:1] for key in STAGE_INPUTS[name]]
        lower_stage(name, modules[name], example, folder / name)
