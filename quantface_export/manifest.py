"""What a bundle says of itself: ``quantface.json`` before the file hashes."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.folded import FoldedWeight
from calibration.layers import quant_layers
from calibration.recipe import Recipe
from quantface_export.bundle import sha256
from quantface_export.image_size import ImageSize
from quantface_export.pre_post import MANIFEST_ENTRY
from quantface_export.quantized import QuantizedStage
from quantface_export.settings import BuildSettings

VERSIONED = ("torch", "onnx", "onnxruntime", "diffusers", "numpy")
FOLDED_INTO = {
    "norm": "folded into norm",
    "heads": "folded into value rows",
    "geglu": "folded into gate",
}


def make_manifest(
    settings: BuildSettings,
    recipe: Recipe,
    *,
    files: list[Path],
    images: NDArray[np.uint8],
    layers: list[dict[str, Any]],
    size: ImageSize,
    sides: range | None,
    floor: float,
    other_sizes: dict[str, float],
    counts: dict[str, int],
    training: dict[str, Any] | None,
    allocation: dict[str, Any] | None,
    integers: dict[str, str],
    download: list[dict[str, Any]],
) -> dict[str, Any]:
    """Everything that is needed to understand and to repeat the build.

    It is the same for every run with the same inputs: without dates, durations and paths.

    Args:
        settings: What was asked for.
        recipe: What was done.
        files: The model's.
        images: (N, h, w, 3) that it was calibrated on.
        layers: Rows of :func:`layer_rows`, of all stages.
        size: Of the images.
        sides: Widths and heights that the graphs take; None for those of ``size`` alone.
        floor: Noise floor, dB.
        other_sizes: Noise floors at other sizes that the bundle has goldens of.
        counts: Parameters of each stage.
        training: What it says of itself; None where there was none.
        allocation: The same.
        integers: Hash of each stage's integers (:mod:`quantface_export.integers`).
        download: In which order an app gets the files (:mod:`quantface_export.phone.download`).
    """
    return {
        "model": settings.model,
        "size": size.width if size.square else None,
        "width": size.width,
        "height": size.height,
        "sides": None
        if sides is None
        else {"step": sides.step, "least": sides.start, "most": sides[-1]},
        "recipe": {f: getattr(recipe, f) for f in recipe.__slots__},
        "profile": settings.profile,
        "seed": settings.seed,
        "calibration": {
            "images": settings.calib_count,
            "source": "generated" if settings.calib is None else "folder",
        },
        "training": training,
        "allocation": allocation,
        "noise_floor_psnr_db": floor,
        "other_sizes": other_sizes,
        "integers_sha256": integers,
        "download": download,
        "parameters": counts,
        "image_bytes": MANIFEST_ENTRY if settings.with_pre_post else None,
        "op_library": "optional: every op of the domain quantface has a function body in its model",
        "reproduce": {
            "command": settings.command,
            "weights": [{"name": file.name, "sha256": sha256(file)} for file in files],
            "images_sha256": hashlib.sha256(images.tobytes()).hexdigest(),
        },
        "versions": {"quantface-export": version("quantface-export")}
        | {name: version(name) for name in VERSIONED}
        | {"python": platform.python_version()},
        "layers": layers,
    }


def layer_rows(stage: str, quantized: QuantizedStage) -> list[dict[str, Any]]:
    """Bits, transform and error of every quantized layer of a stage."""
    rows = []
    for layer in quant_layers(quantized.module).values():
        form = layer.form
        down = (form.inner if isinstance(form, FoldedWeight) else form)().down
        plan = quantized.plans[layer.site]
        producer = None if plan.fold is None else FOLDED_INTO[plan.fold.kind]
        rows.append(
            {
                "stage": stage,
                "name": layer.name,
                "site": layer.site,
                "kind": layer.kind,
                "weight_bits": layer.weight_bits,
                "activation_bits": layer.x_grid.bits,
                "rank": 0 if down is None else len(down),
                "folded": isinstance(form, FoldedWeight),
                "alpha": plan.alpha,
                "rotation": plan.balance.block if plan.balance.block > 1 else None,
                "transform": "online" if plan.online else producer or "none",
                "producer": None if plan.fold is None else plan.fold.producer,
                "sqnr_db": -10 * float(np.log10(max(plan.error, 1e-12))),
            }
        )
    return rows


def stage_sizes(folder: Path, counts: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Bytes in float32 and in the bundle, per stage."""
    return {
        name: (4 * count, sum(p.stat().st_size for p in (folder / name).iterdir()))
        for name, count in counts.items()
    }


def total_bytes(sizes: dict[str, tuple[int, int]]) -> dict[str, float]:
    """Bytes of all stages in the bundle and in float32, and their ratio."""
    fp32, bundle = (sum(column) for column in zip(*sizes.values(), strict=True))
    return {"bundle": bundle, "fp32": fp32, "ratio": bundle / fp32}
