"""The line as one function.

model -> observe -> balance -> allocate -> train -> merge -> lower -> bundle -> run -> verify
"""

from __future__ import annotations

import copy
import dataclasses
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.adapter import save_adapter
from calibration.dataset import from_folder, generated
from calibration.layers import merge
from calibration.progress import SILENT, Progress
from calibration.recipe import Recipe
from quantface_export.allocate import allocate_recipe
from quantface_export.build_report import Faces, figure_4, report
from quantface_export.bundle import GOLDEN, REPORT, load_bundle, new_bundle, write_manifest
from quantface_export.clock import Clock
from quantface_export.errors import QuantfaceError
from quantface_export.finished import FinishedStage, WorkFolder, belongs_to
from quantface_export.manifest import layer_rows, make_manifest, stage_sizes, total_bytes
from quantface_export.models import Source, find_source, image_size
from quantface_export.osdface.model import Osdface
from quantface_export.quantized import (
    QuantizedModel,
    QuantizedStage,
    lower_stage,
    quantize_stage,
    stage_inputs,
)
from quantface_export.recipes import load_recipe
from quantface_export.reference import noise_floor, run_stage, run_stages, to_tensors
from quantface_export.resources import require_disk
from quantface_export.settings import BuildSettings
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT, STAGES
from quantface_export.student import TRAINED, perceptual_distance
from quantface_export.train import train, trains
from quantface_export.verify import MIN_PSNR_DB, only_unstable, verify

Image = NDArray[np.uint8]

GOLDEN_IMAGES = 4

LARGE = 100_000_000
"""Models of so many parameters have one golden image, and the build verifies them quickly."""

DISK_BYTES = 2
"""Free disk that a build asks for, for each parameter: the bundle, and its models once more."""

OBSERVED_IMAGES = 16
"""Calibration images that activations are observed on; training uses all."""


class VerificationError(QuantfaceError):
    """The bundle that was built does not equal its reference."""


def build(settings: BuildSettings, progress: Progress = SILENT) -> dict[str, Any]:
    """Build, verify and place a bundle.

    Stage after stage is loaded, quantized, lowered and run as its own reference, and let go;
    only training and the allocation of bits need the whole model at once.

    Returns:
        The JSON of the ``build`` command.

    Raises:
        QuantfaceError: Bad settings, a layer that did not fuse, or failed parity; an earlier
            bundle at ``settings.out`` is untouched then.
    """
    clock, recipe, source = Clock(), load_recipe(settings.recipe), find_source(settings)
    counts = source.parameters
    require_disk(settings.out.parent, DISK_BYTES * sum(counts.values()), "the build")
    size = image_size(source.config, settings.size)
    images, clean = calibration_images(settings, size)
    with new_bundle(settings.out) as folder:
        key = belongs_to((settings.command, recipe), source.files, np.stack(images))
        work = WorkFolder(settings.work or folder / "work", key)
        done = quantize_stages(source, recipe, to_tensors(images), settings, work, clock, progress)
        for name in STAGES:
            work.hand_over(name, folder / name)
        (folder / GOLDEN).parent.mkdir()
        np.savez(folder / GOLDEN, **done.golden)  # type: ignore[arg-type]
        if settings.work is None:
            work.remove()
        manifest = make_manifest(
            settings,
            done.recipe,
            layers=[row for stage in done.stages.values() for row in stage.rows],
            size=size,
            floor=done.floor,
            counts=counts,
            training=done.training,
            allocation=done.allocation,
        )
        write_manifest(folder, manifest)
        with clock("verify"):
            quick = sum(counts.values()) >= LARGE
            verified = verify(load_bundle(folder), progress, quick=quick)
        kept = settings.keep_unstable and only_unstable(verified)
        if not (verified["passed"] or kept):
            raise VerificationError(_failure(verified))
        sizes = stage_sizes(folder, counts)
        progress.step("writing the report")
        report(
            folder / REPORT,
            manifest=manifest,
            command=settings.command,
            distribution=done.stages["unet"].distribution,
            faces=Faces(
                before=images,
                clean=clean,
                fp32=done.stages["vae_decoder"].output,
                quantized=done.golden["restored"],
            ),
            sizes=sizes,
            verified=verified,
        )
    work.remove()
    return {
        "bundle": str(settings.out),
        "recipe": recipe.name,
        "seconds": clock.total,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "stages": [{"name": name, "seconds": clock.seconds.get(name, 0.0)} for name in STAGES],
        "phases": [{"name": name, "seconds": s} for name, s in clock.seconds.items()],
        "bytes": total_bytes(sizes),
        "training": done.training,
        "verify": verified,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedModel:
    """All stages, lowered.

    Attributes:
        recipe: What was done; with the widths that were allocated, if they were.
        stages: What is left of each stage.
        golden: The reference's tensors for the golden images.
        floor: PSNR between the reference in float32 and in float64, dB.
        training, allocation: What these say of themselves; None where there was none.
    """

    recipe: Recipe
    stages: dict[str, FinishedStage]
    golden: dict[str, NDArray[np.float32]]
    floor: float
    training: dict[str, Any] | None
    allocation: dict[str, Any] | None


def quantize_stages(
    source: Source,
    recipe: Recipe,
    images: Tensor,
    settings: BuildSettings,
    work: WorkFolder,
    clock: Clock,
    progress: Progress,
) -> FinishedModel:
    """Every stage from float to its graph in ``work``; what lies there already is taken."""
    whole = None
    if trains(recipe, settings) or needs_allocation(recipe):
        with clock("model"):
            model = source.model()
        whole = quantize_model(model, recipe, images, settings, clock, progress)
    values, stages = {"image": images}, dict[str, FinishedStage]()
    large = sum(source.parameters.values()) >= LARGE
    reference = {"image": images[: 1 if large else GOLDEN_IMAGES]}
    exact = {"image": reference["image"].double()}
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
                lower_stage(name, stage.module, example, folder, settings.profile)
            with clock("reference"):
                found = finish(name, stage, reference, exact, progress)
            work.finish(name, found)
        stages[name], output = found, STAGE_OUTPUT[name]
        values[output], reference[output], exact[output] = (
            torch.from_numpy(x) for x in (found.output, found.reference, found.exact)
        )
    return FinishedModel(
        recipe=recipe if whole is None else whole.recipe,
        stages=stages,
        golden={key: value.numpy() for key, value in reference.items()},
        floor=noise_floor(reference["restored"], exact["restored"]),
        training=None if whole is None else whole.training,
        allocation=None if whole is None else whole.allocation,
    )


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
    reference: dict[str, Tensor],
    exact: dict[str, Tensor],
    progress: Progress,
) -> FinishedStage:
    """Run one stage as the reference of its graph, and keep what is still needed of it.

    Args:
        name: The stage's.
        stage: It is merged.
        reference: What the fake-quantized stages before it gave, for the golden images.
        exact: The same with their float parts in float64.
        progress: Told of everything.
    """
    text = f"{name}: running the reference in"
    output = run_stage(name, stage.module, reference, progress, f"{text} float32")
    doubled = copy.deepcopy(stage.module).double()
    exactly = run_stage(name, doubled, exact, progress, f"{text} float64")
    return FinishedStage(
        rows=layer_rows(name, stage),
        output=stage.output.numpy(),
        reference=output.numpy(),
        exact=exactly.numpy(),
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
    if only_unstable(verified):
        return (
            f"every layer is right, but rounding ties spread: the picture is {e['psnr_db']:.1f} dB "
            f"from the reference's, which is {e['noise_floor_psnr_db']:.1f} dB from itself in "
            f"float64, and {MIN_PSNR_DB:g} dB are expected; use more bits or training, or "
            "--keep-unstable to have the bundle; nothing was written"
        )
    return (
        f"end-to-end parity failed: {e['psnr_db']:.1f} dB against the reference, expected at least "
        f"{e['needed_psnr_db']:.1f} dB; nothing was written"
    )
