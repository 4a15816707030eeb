"""The line: model -> observe -> balance -> allocate -> train -> merge -> lower -> bundle -> verify.

Allocation and training are uniform bits and the SVD branch for now; each stage of the line
is a function of values.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.dataset import from_folder, generated
from calibration.recipe import RECIPES, Recipe
from quantface_export.build_report import Faces, report
from quantface_export.bundle import GOLDEN, REPORT, load_bundle, new_bundle, write_manifest
from quantface_export.errors import QuantfaceError
from quantface_export.manifest import make_manifest, stage_sizes, total_bytes
from quantface_export.models import load_model, parameters
from quantface_export.osdface.prepare import prepare
from quantface_export.quantized import (
    QuantizedStage,
    Step,
    lower_stage,
    quantize_stage,
    stage_inputs,
)
from quantface_export.reference import golden, run_stages
from quantface_export.settings import BuildSettings
from quantface_export.verify import verify

Image = NDArray[np.uint8]

GOLDEN_IMAGES = 4


class VerificationError(QuantfaceError):
    """The bundle that was built does not equal its reference."""


def build(settings: BuildSettings, step: Step = lambda _: None) -> dict[str, Any]:
    """Build, verify and place a bundle.

    Returns:
        The JSON of the ``build`` command.

    Raises:
        QuantfaceError: Bad settings, a layer that did not fuse, or failed parity; an earlier
            bundle at ``settings.out`` is untouched then.
    """
    began = time.monotonic()
    recipe = _recipe(settings.recipe)
    model = load_model(settings.model)
    counts = parameters(model)
    images, clean = calibration_images(settings, model.config.size)
    tensors = to_tensors(images)
    prepare(model)
    step("running the float model")
    float_values = run_stages(model.stages(), tensors)
    quantized: dict[str, QuantizedStage] = {}
    seconds: dict[str, float] = {}
    with new_bundle(settings.out) as folder:
        for name, stage in model.stages().items():
            started = time.monotonic()
            inputs = stage_inputs(name, float_values)
            quantized[name] = quantize_stage(name, stage, inputs, recipe, settings.seed, step)
            step(f"{name}: lowering to ONNX")
            lower_stage(name, quantized[name].module, inputs[0], folder / name)
            seconds[name] = time.monotonic() - started
        step("running the reference in float32 and float64")
        modules = {name: q.module for name, q in quantized.items()}
        reference, floor = golden(modules, tensors[:GOLDEN_IMAGES])
        (folder / GOLDEN).parent.mkdir()
        np.savez(folder / GOLDEN, **reference)  # type: ignore[arg-type]
        manifest = make_manifest(settings, recipe, model.config.size, quantized, floor, counts)
        write_manifest(folder, manifest)
        verified = verify(load_bundle(folder), step)
        if not verified["passed"]:
            raise VerificationError(_failure(verified))
        sizes = stage_sizes(folder, counts)
        step("writing the report")
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
                fp32=float_values["restored"].numpy(),
                quantized=reference["restored"],
            ),
            sizes=sizes,
            verified=verified,
        )
    return {
        "bundle": str(settings.out),
        "recipe": recipe.name,
        "seconds": time.monotonic() - began,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "stages": [{"name": name, "seconds": s} for name, s in seconds.items()],
        "bytes": total_bytes(sizes),
        "verify": verified,
    }


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise QuantfaceError(f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]


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


def to_tensors(images: Sequence[Image]) -> Tensor:
    """(N, 3, s, s) float32 in [-1, 1]."""
    stacked = np.moveaxis(np.stack(images), -1, 1).astype(np.float32)
    return torch.from_numpy(stacked / np.float32(127.5) - np.float32(1))


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
