"""The line as one function.

model -> observe -> balance -> allocate -> train -> merge -> lower -> bundle -> run -> verify
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.adapter import save_adapter
from calibration.dataset import from_folder, generated
from calibration.layers import merge
from calibration.progress import SILENT, Progress
from calibration.recipe import Recipe
from quantface_export.allocate import allocate_recipe
from quantface_export.build_report import Faces, report
from quantface_export.bundle import GOLDEN, REPORT, load_bundle, new_bundle, write_manifest
from quantface_export.clock import Clock
from quantface_export.errors import QuantfaceError
from quantface_export.manifest import make_manifest, stage_sizes, total_bytes
from quantface_export.models import load_model, parameters
from quantface_export.osdface.model import Osdface
from quantface_export.osdface.prepare import prepare
from quantface_export.quantized import (
    QuantizedModel,
    QuantizedStage,
    lower_stage,
    quantize_stage,
    stage_inputs,
)
from quantface_export.recipes import load_recipe
from quantface_export.reference import golden, run_stages, to_tensors
from quantface_export.settings import BuildSettings
from quantface_export.stages import STAGE_INPUTS, STAGES
from quantface_export.student import TRAINED, perceptual_distance
from quantface_export.train import train, trains
from quantface_export.verify import verify

Image = NDArray[np.uint8]

GOLDEN_IMAGES = 4

OBSERVED_IMAGES = 16
"""Calibration images that activations are observed on; training uses all."""


class VerificationError(QuantfaceError):
    """The bundle that was built does not equal its reference."""


def build(settings: BuildSettings, progress: Progress = SILENT) -> dict[str, Any]:
    """Build, verify and place a bundle.

    Returns:
        The JSON of the ``build`` command.

    Raises:
        QuantfaceError: Bad settings, a layer that did not fuse, or failed parity; an earlier
            bundle at ``settings.out`` is untouched then.
    """
    clock, recipe = Clock(), load_recipe(settings.recipe)
    model = load_model(settings)
    counts = parameters(model)
    images, clean = calibration_images(settings, model.config.size)
    tensors = to_tensors(images)
    prepare(model)
    with new_bundle(settings.out) as folder:
        done = quantize_model(model, recipe, tensors, settings, clock, progress)
        quantized, modules, values = done.stages, done.modules, done.values
        with clock("lower"):
            lower_stages(modules, values, folder, progress)
        with clock("reference"):
            reference, floor = golden(modules, tensors[:GOLDEN_IMAGES], progress)
            (folder / GOLDEN).parent.mkdir()
            np.savez(folder / GOLDEN, **reference)  # type: ignore[arg-type]
        manifest = make_manifest(settings, done, model.config.size, floor, counts)
        write_manifest(folder, manifest)
        with clock("verify"):
            verified = verify(load_bundle(folder), progress)
        if not verified["passed"]:
            raise VerificationError(_failure(verified))
        sizes = stage_sizes(folder, counts)
        progress.step("writing the report")
        report(
            folder / REPORT,
            manifest=manifest,
            command=settings.command,
            unet=modules["unet"],
            sites=quantized["unet"].sites,
            plans=quantized["unet"].plans,
            faces=Faces(
                before=images,
                clean=clean,
                fp32=values["restored"].numpy(),
                quantized=reference["restored"],
            ),
            sizes=sizes,
            verified=verified,
        )
    return {
        "bundle": str(settings.out),
        "recipe": recipe.name,
        "seconds": clock.total,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "stages": [{"name": name, "seconds": clock.seconds[name]} for name in STAGES],
        "phases": [{"name": name, "seconds": s} for name, s in clock.seconds.items()],
        "bytes": total_bytes(sizes),
        "training": done.training,
        "verify": verified,
    }


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
    if recipe.budget is not None and not recipe.site_bits:
        with clock("allocate"):
            recipe, allocation = allocate_recipe(model, recipe, settings, progress)
    observed = {key: value[:OBSERVED_IMAGES] for key, value in values.items()}
    stages: dict[str, QuantizedStage] = {}
    for name, stage in model.stages().items():
        with clock(name):
            stages[name] = quantize_stage(
                name,
                stage,
                stage_inputs(name, observed),
                recipe,
                seed=settings.seed,
                trained=trains(recipe, settings),
                progress=progress,
            )
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


def calibration_images(
    settings: BuildSettings, size: int
) -> tuple[list[Image], list[Image] | None]:
    """Calibration images and, where they are generated, their clean originals."""
    if settings.calib_count < 1:
        raise QuantfaceError(f"--calib-count must be at least 1, got {settings.calib_count}")
    if settings.calib is None:
        return generated(settings.calib_count, size, settings.seed)
    try:
        return from_folder(settings.calib, settings.calib_count, size), None
    except ValueError as e:
        raise QuantfaceError(str(e)) from e


def _failure(verified: dict[str, Any]) -> str:
    bad = [s for s in verified["stages"] if not s["passed"]]
    if bad:
        s = bad[0]
        return (
            f"parity failed in {s['name']} ({s['variant']}, optimizations {s['optimization']}): "
            f"{s['mismatch_fraction']:.2e} of the integers differ, by up to {s['lsb_max']}, worst "
            f"layer {s['worst_layer']}; at most 1e-4 by 1 were expected; nothing was written"
        )
    e = verified["end_to_end"]
    return (
        f"end-to-end parity failed: {e['psnr_db']:.1f} dB against the reference, expected at least "
        f"{e['needed_psnr_db']:.1f} dB; nothing was written"
    )
