"""Budget against quality: what the allocation predicts, and what is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from calibration.allocation import Limit, allocate
from calibration.layers import merge
from calibration.progress import SILENT, Progress
from calibration.recipe import Recipe
from quantface_export.allocate import SiteTable, allocated, measured, require_budget
from quantface_export.console import make_folder
from quantface_export.features import features_name
from quantface_export.models import find_source, image_size
from quantface_export.pipeline import calibration_images
from quantface_export.quantized import quantize_stage, stage_inputs
from quantface_export.recipes import load_recipe, write_recipe
from quantface_export.reference import run_stages, to_tensors
from quantface_export.settings import BuildSettings
from quantface_export.student import perceptual_distance

BUDGETS = (3.0, 3.5, 3.98, 4.5, 5.0, 6.0)


def allocate_command(
    settings: BuildSettings,
    budget: float,
    *,
    limits: Sequence[Limit] = (),
    pareto: bool,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Sweep, solve, write the recipe file, and draw the budgets if ``pareto``.

    Returns:
        The JSON of the ``allocate`` command.
    """
    require_budget(budget)
    recipe = dataclasses.replace(load_recipe(settings.recipe), budget=budget)
    make_folder(settings.out.parent)
    model = find_source(settings).model()
    tables = measured(model, recipe, settings, progress)
    mixed, summary = allocated(tables, recipe, limits)
    write_recipe(settings.out, dataclasses.replace(mixed, name=f"{recipe.name}-mp"))
    summary["frechet_features"] = features_name(settings.inception)
    if pareto:
        images, _ = calibration_images(settings, image_size(model.config, None))
        points = measure_budgets(tables, recipe, to_tensors(images), settings, progress)
        draw_pareto(points, settings.out.with_suffix(".png"), recipe.name)
        summary["pareto"] = points
    return summary


def measure_budgets(
    tables: Sequence[SiteTable],
    recipe: Recipe,
    images: torch.Tensor,
    settings: BuildSettings,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Predicted error and measured perceptual distance to float for several budgets.

    The models are not trained, so that only the widths differ.
    """
    source = find_source(settings)
    model = source.model()
    distance = perceptual_distance(model.vae_encoder.encoder, settings.lpips, settings.lpips_linear)
    values = run_stages(model.stages(), images, progress, "running the float model")
    items, points = [table.item() for table in tables], []
    for i, budget in enumerate(BUDGETS):
        found = allocate(items, budget)
        progress.step(f"measuring a budget of {budget:g} bits, {i + 1} of {len(BUDGETS)}")
        mixed = dataclasses.replace(recipe, site_bits=found.bits)
        student = source.model()
        for name, stage in student.stages().items():
            quantize_stage(name, stage, stage_inputs(name, values), mixed, seed=settings.seed)
            merge(stage)
        with torch.inference_mode():
            restored = run_stages(student.stages(), images)["restored"]
            found_distance = distance(restored * 2 - 1, values["restored"] * 2 - 1).mean()
        points.append(
            {
                "budget": budget,
                "mean_bits": found.mean_bits,
                "predicted": found.error,
                "measured": float(found_distance),
                "gap": found.gap,
            }
        )
    return points


def draw_pareto(points: Sequence[dict[str, Any]], path: Path, name: str) -> None:
    """Two curves over the budget: predicted error and measured distance."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    bits = [p["mean_bits"] for p in points]
    (a,) = left.plot(bits, [p["predicted"] for p in points], "o-", color="#3465a4")
    (b,) = right.plot(bits, [p["measured"] for p in points], "s--", color="#cc5500")
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter(NullFormatter())
    left.set_xlabel("activation bits, mean weighted by multiply-accumulates")
    left.set_ylabel("predicted: weighted quantization error", color=a.get_color())
    right.set_ylabel("measured: perceptual distance to float", color=b.get_color())
    right.set_ylim(bottom=0)
    left.set_title(f"{name}: budget against quality, untrained")
    left.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
