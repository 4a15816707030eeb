"""Does what ONNX Runtime computes equal the reference? Two gates. Never imports torch.

Layer by layer (:mod:`quantface_export.parity`): integers are equal up to 0.01 % off by one.
End to end: the image differs from the reference's by at most twice what the reference
differs from itself when its float parts are computed in float64 (the noise floor), and by
at least 40 dB PSNR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.progress import SILENT, Progress
from onnx_ops.library import library_path
from quantface_export.bundle import GOLDEN, Bundle
from quantface_export.contract import read_fusion
from quantface_export.parity import compare_stage
from quantface_export.runner import Runner
from quantface_export.session import Optimization, Variant
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT, STAGES

CASES: tuple[tuple[Variant, Optimization], ...] = (
    ("function", "off"),
    ("function", "all"),
    ("python", "off"),
    ("python", "all"),
)
"""Variants and optimization levels that every stage is run under."""

NATIVE: tuple[Variant, Optimization] = ("native", "all")
"""What ``restore`` runs where the native kernels were built; every stage is run so there too."""

QUICK_CASES: tuple[tuple[Variant, Optimization], ...] = (("function", "all"),)
"""What apps run: stock ONNX Runtime at its defaults."""

MIN_PSNR_DB = 40.0
NOISE_FACTOR = 2.0

Array = NDArray[np.float32]


def psnr_db(a: Array, b: Array) -> float:
    """PSNR of images in [0, 1]; infinite if equal."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def sqnr_db(reference: Array, value: Array) -> float:
    """Signal to noise ratio of ``value`` against ``reference``; infinite if equal."""
    noise = float(np.sum((value.astype(np.float64) - reference) ** 2))
    signal = float(np.sum(reference.astype(np.float64) ** 2))
    return math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-30) / noise)


def verify(bundle: Bundle, progress: Progress = SILENT, *, quick: bool = False) -> dict[str, Any]:
    """Hold a bundle to its stored reference.

    Args:
        bundle: A loaded bundle.
        progress: Told of each stage, setting and image.
        quick: Only under ``QUICK_CASES``, not with other settings and kernels as well.

    Returns:
        The JSON of the command: ``passed``, ``unstable``, ``stages``, ``end_to_end``, ``fusion``.
    """
    golden = {k: v for k, v in np.load(bundle.path / GOLDEN).items()}
    native = () if library_path() is None else (NATIVE,)
    cases = QUICK_CASES if quick else (*CASES, *native)
    fusion = _fusion(bundle, ["function", *(variant for variant, _ in native if not quick)])
    runs = [(name, *case) for name in STAGES for case in cases]
    stages = [_stage(bundle, golden, *run) for run in progress.track(runs, "verifying layers")]
    optimizations = sorted({optimization for _, optimization in cases}, reverse=True)
    end_to_end = _end_to_end(bundle, golden, optimizations, progress)
    passed = all(s["passed"] for s in stages) and end_to_end["passed"] and not fusion["missing"]
    found = {"passed": passed, "stages": stages, "end_to_end": end_to_end, "fusion": fusion}
    return found | {"unstable": only_unstable(found)}


def only_unstable(verified: dict[str, Any]) -> bool:
    """Whether all that failed is the 40 dB, which the reference itself does not keep.

    Every layer is right then, and the picture is as close as the noise floor allows.
    """
    e = verified["end_to_end"]
    layers = all(s["passed"] for s in verified["stages"]) and not verified["fusion"]["missing"]
    allowed = e["noise_floor_psnr_db"] - 20 * math.log10(NOISE_FACTOR)
    return layers and not e["passed"] and e["psnr_db"] >= allowed


def _stage(
    bundle: Bundle,
    golden: dict[str, Array],
    name: str,
    variant: Variant,
    optimization: Optimization,
) -> dict[str, Any]:
    inputs = [golden[key][:1] for key in STAGE_INPUTS[name]]
    reference = golden[STAGE_OUTPUT[name]][:1]
    parity = compare_stage(bundle.stage(name), inputs, variant=variant, optimization=optimization)
    return {
        "name": name,
        "variant": variant,
        "optimization": optimization,
        "max_abs": float(np.abs(parity.output - reference).max()),
        "sqnr_db": sqnr_db(reference, parity.output),
        "mismatch_fraction": parity.mismatch_fraction,
        "lsb_max": parity.lsb_max,
        "worst_layer": parity.worst_layer,
        "passed": parity.passed,
    }


def _end_to_end(
    bundle: Bundle,
    golden: dict[str, Array],
    optimizations: Sequence[Optimization],
    progress: Progress,
) -> dict[str, Any]:
    """The worst case over the runtime settings that users have."""
    floor = float(bundle.manifest["noise_floor_psnr_db"])
    needed = max(MIN_PSNR_DB, floor - 20 * math.log10(NOISE_FACTOR))
    cases: list[dict[str, Any]] = []
    for optimization in optimizations:
        runner = Runner(bundle, optimization=optimization)
        images = progress.track(
            golden["image"], f"verifying pictures, optimizations {optimization}"
        )
        restored = np.concatenate([runner(image[None]) for image in images])
        difference = np.abs(restored - golden["restored"])
        cases.append(
            {
                "optimization": optimization,
                "psnr_db": psnr_db(golden["restored"], restored),
                "max_abs": float(difference.max()),
                "within_1_255": float(np.mean(difference <= 1 / 255)),
            }
        )
    worst = min(cases, key=lambda case: case["psnr_db"])
    return {
        **{k: worst[k] for k in ("psnr_db", "max_abs", "within_1_255")},
        "noise_floor_psnr_db": floor,
        "needed_psnr_db": needed,
        "cases": cases,
        "passed": worst["psnr_db"] >= needed,
    }


def _fusion(bundle: Bundle, variants: Sequence[Variant]) -> dict[str, Any]:
    """Layers that are integers under every variant."""
    found = {(v, name): read_fusion(bundle.stage(name), v) for v in variants for name in STAGES}
    missing = [f"{name}: {layer}" for (_, name), f in found.items() for layer in f.missing]
    planned = sum(f.planned for (v, _), f in found.items() if v == variants[0])
    missing = list(dict.fromkeys(missing))
    return {"planned": planned, "fused": planned - len(missing), "missing": missing}
