"""The line: model -> observe -> balance -> allocate -> train -> merge -> lower -> bundle -> verify.

Allocation and training are uniform bits and the SVD branch for now; each stage of the line
is a function of values.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.dataset import from_folder, generated
from calibration.layers import quant_layers
from calibration.observe import Site, observe
from calibration.quantize import SitePlan, observe_outputs, quantize
from calibration.recipe import RECIPES, Recipe
from quantface_export.build_report import Faces, report
from quantface_export.bundle import GOLDEN, REPORT, load_bundle, new_bundle, write_manifest
from quantface_export.contract import require_fusion
from quantface_export.errors import QuantfaceError
from quantface_export.lower.expand import expand
from quantface_export.lower.export import export_markers
from quantface_export.models import load_model, parameters
from quantface_export.osdface.plan import EDGES, FLOAT_LAYERS
from quantface_export.osdface.prepare import prepare
from quantface_export.reference import golden, run_stages
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT
from quantface_export.verify import verify

Image = NDArray[np.uint8]
Step = Callable[[str], None]

GOLDEN_IMAGES = 4
FOLDED_INTO = {
    "norm": "folded into norm",
    "heads": "folded into value rows",
    "geglu": "folded into gate",
}
VERSIONED = ("torch", "onnx", "onnxruntime", "diffusers", "numpy")


class VerificationError(QuantfaceError):
    """The bundle that was built does not equal its reference."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedStage:
    """One stage after quantization, with what led there."""

    module: nn.Module
    sites: dict[str, Site]
    plans: dict[str, SitePlan]


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
        manifest = _manifest(settings, recipe, model.config.size, quantized, floor, counts)
        write_manifest(folder, manifest)
        verified = verify(load_bundle(folder), step)
        if not verified["passed"]:
            raise VerificationError(_failure(verified))
        sizes = _sizes(folder, counts)
        step("writing the report")
        report(
            folder / REPORT,
            manifest=manifest,
            command=_command(settings),
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
        "bytes": _total(sizes),
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


def stage_inputs(name: str, values: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
    """Arguments of a stage, one tuple per image."""
    columns = [values[key].split(1) for key in STAGE_INPUTS[name]]
    return list(zip(*columns, strict=True))


def quantize_stage(
    name: str,
    stage: nn.Module,
    inputs: Sequence[tuple[Tensor, ...]],
    recipe: Recipe,
    seed: int,
    step: Step,
) -> QuantizedStage:
    """Observe, balance and round one stage; consumes ``stage``."""
    step(f"{name}: observing activations")
    try:
        sites = observe(stage, inputs, seed=seed, skip=FLOAT_LAYERS.get(name, ()))
    except ValueError as e:
        raise QuantfaceError(f"{name}: {e}") from e
    step(f"{name}: balancing and rounding {sum(len(s.layers) for s in sites.values())} layers")
    plans = quantize(stage, sites, recipe, edges=EDGES[name], seed=seed)
    step(f"{name}: observing outputs")
    observe_outputs(stage, inputs)
    return QuantizedStage(module=stage, sites=sites, plans=plans)


def lower_stage(name: str, module: nn.Module, example: Sequence[Tensor], folder: Path) -> None:
    """Export, expand, save and check the fusion contract."""
    graph = export_markers(module, example, STAGE_INPUTS[name], STAGE_OUTPUT[name])
    expand(graph, quant_layers(module))
    folder.mkdir()
    ir.save(graph, folder / "model.onnx", external_data="model.onnx.data")
    require_fusion(name, folder / "model.onnx")


def _manifest(
    settings: BuildSettings,
    recipe: Recipe,
    size: int,
    quantized: dict[str, QuantizedStage],
    floor: float,
    counts: dict[str, int],
) -> dict[str, Any]:
    """Everything that is needed to understand and to repeat the build."""
    return {
        "model": settings.model,
        "size": size,
        "recipe": {f: getattr(recipe, f) for f in recipe.__slots__},
        "seed": settings.seed,
        "calibration": {
            "images": settings.calib_count,
            "source": "generated" if settings.calib is None else "folder",
        },
        "noise_floor_psnr_db": floor,
        "parameters": counts,
        "op_library": "optional: quantface::Hadamard has a function body in every model",
        "versions": {"quantface-export": version("quantface-export")}
        | {name: version(name) for name in VERSIONED},
        "layers": [row for name, q in quantized.items() for row in layer_rows(name, q)],
    }


def layer_rows(stage: str, quantized: QuantizedStage) -> list[dict[str, Any]]:
    """Bits, transform and error of every quantized layer of a stage."""
    rows = []
    for layer in quant_layers(quantized.module).values():
        plan = quantized.plans[layer.site]
        folded = None if plan.fold is None else FOLDED_INTO[plan.fold.kind]
        rows.append(
            {
                "stage": stage,
                "name": layer.name,
                "site": layer.site,
                "kind": layer.kind,
                "weight_bits": layer.weight_bits,
                "activation_bits": layer.x_grid.bits,
                "rank": 0 if layer.down is None else len(layer.down),
                "alpha": plan.alpha,
                "rotation": plan.balance.block if plan.balance.block > 1 else None,
                "transform": "online" if plan.online else folded or "none",
                "producer": None if plan.fold is None else plan.fold.producer,
                "sqnr_db": -10 * float(np.log10(max(plan.error, 1e-12))),
            }
        )
    return rows


def _sizes(folder: Path, counts: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Bytes in float32 and in the bundle, per stage."""
    return {
        name: (4 * count, sum(p.stat().st_size for p in (folder / name).iterdir()))
        for name, count in counts.items()
    }


def _total(sizes: dict[str, tuple[int, int]]) -> dict[str, float]:
    fp32, bundle = (sum(column) for column in zip(*sizes.values(), strict=True))
    return {"bundle": bundle, "fp32": fp32, "ratio": bundle / fp32}


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


def _command(settings: BuildSettings) -> str:
    """The command line that makes the same bundle."""
    calib = "" if settings.calib is None else f" --calib {settings.calib}"
    return (
        f"quantface-export build --model {settings.model} --recipe {settings.recipe}{calib} "
        f"--calib-count {settings.calib_count} --seed {settings.seed}"
    )
