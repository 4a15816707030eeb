"""Does what ONNX Runtime computes equal the reference? Three gates. Never imports torch.

Layer by layer (:mod:`quantface_export.parity`): integers are equal up to 0.01 % off by one.
End to end: the image differs from the reference's by at most twice what the reference
differs from itself when its float parts are computed in float64 (the noise floor), and by
at least 40 dB PSNR. Where rounding the picture to 8 bits costs more than that, no more is asked:
a reference in which no tie is near is 150 dB from itself, and one tie would be too much.
And between machines (:mod:`quantface_export.integers`): for the same codes the integer
kernels give the bytes that they gave where the bundle was built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.progress import SILENT, Progress
from onnx_ops.library import library_path
from quantface_export.bundle import Bundle, StoredGolden
from quantface_export.contract import read_fusion
from quantface_export.integers import integers_sha256
from quantface_export.parity import compare_stage
from quantface_export.runner import Runner
from quantface_export.session import Optimization, Variant
from quantface_export.stages import STAGE_OUTPUT, STAGES

Case = tuple[Variant, Optimization]

CASES: tuple[Case, ...] = (
    ("function", "off"),
    ("function", "all"),
    ("python", "off"),
    ("python", "all"),
)
"""Variants and optimization levels that every stage is run under."""

NATIVE: Case = ("native", "all")
"""What ``restore`` runs where the native kernels were built; every stage is run so there too."""

QUICK_CASES: tuple[Case, ...] = (("function", "all"),)
"""What apps run: stock ONNX Runtime at its defaults."""

MIN_PSNR_DB = 40.0

ROUNDING_DB = 20 * math.log10(255 * math.sqrt(12))
"""PSNR of rounding a picture to 8 bits, 58.9 dB: a difference that is no more is never seen."""

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


def all_cases() -> tuple[Case, ...]:
    """``CASES``, and ``NATIVE`` where the native kernels were built."""
    return CASES if library_path() is None else (*CASES, NATIVE)


def verify(
    bundle: Bundle,
    progress: Progress = SILENT,
    *,
    cases: Sequence[Case] | None = None,
    images: int | None = None,
) -> dict[str, Any]:
    """Hold a bundle to its stored reference.

    Args:
        bundle: A loaded bundle.
        progress: Told of each stage, setting and image.
        cases: Kernels and settings to run layers under; None means :func:`all_cases`.
        images: How many golden images are restored end to end; None means all.

    Returns:
        The JSON of the command: ``passed``, ``unstable``, ``stages``, ``end_to_end``, ``fusion``,
        ``integers``.
    """
    cases = all_cases() if cases is None else cases
    few = [case for case in QUICK_CASES if case in cases] or cases[:1]
    first, *others = (golden.first(images) for golden in bundle.goldens())
    fusion = _fusion(bundle, list(dict.fromkeys(v for v, _ in cases if v != "python")))
    integers = verify_integers(bundle)
    runs = [
        (golden, name, *case)
        for golden, tried in ((first, cases), *((other, few) for other in others))
        for name in STAGES
        for case in tried
    ]
    stages = [_stage(bundle, *run) for run in progress.track(runs, "verifying layers")]
    # Python's op is the function body again, so pictures go without it.
    settings = [case for case in cases if case[0] == "function"] or cases
    end_to_end = _end_to_end(bundle, [first, *others], settings, progress)
    found = {"stages": stages, "end_to_end": end_to_end, "fusion": fusion, "integers": integers}
    passed = _layers_right(found) and end_to_end["passed"]
    return {"passed": passed, **found, "unstable": only_unstable(found)}


def verify_integers(bundle: Bundle) -> dict[str, Any]:
    """Compare the integer kernels with those of the machine that built the bundle.

    Returns:
        ``sha256`` of ONNX Runtime's kernels and, where they were built, of the native ones, each by
        stage; ``as_built``, whether the manifest has the same, None for a bundle from before it had
        any; ``passed``, unless they differ.
    """
    golden, *_ = bundle.goldens()
    variants: tuple[Variant, ...] = ("function", "native")
    found = {
        variant: {
            name: integers_sha256(bundle.stage(name), golden.inputs(name), variant)
            for name in STAGES
        }
        for variant in variants[: 1 if library_path() is None else 2]
    }
    built = bundle.manifest.get("integers_sha256")
    as_built = None if built is None else all(stages == built for stages in found.values())
    return {"sha256": found, "as_built": as_built, "passed": as_built is not False}


def _layers_right(verified: dict[str, Any]) -> bool:
    layers = all(s["passed"] for s in verified["stages"])
    return layers and verified["integers"]["passed"] and not verified["fusion"]["missing"]


def only_unstable(verified: dict[str, Any]) -> bool:
    """Whether all that failed is the 40 dB, which the reference itself does not keep.

    Every layer is right then, and the picture is as close as the noise floor allows.
    """
    e = verified["end_to_end"]
    allowed = all(
        case["psnr_db"] >= case["noise_floor_psnr_db"] - 20 * math.log10(NOISE_FACTOR)
        for case in e["cases"]
    )
    return _layers_right(verified) and not e["passed"] and allowed


def needed_db(floor: float) -> float:
    """PSNR that the end-to-end gate asks for at a noise floor of ``floor`` dB."""
    return max(MIN_PSNR_DB, min(ROUNDING_DB, floor - 20 * math.log10(NOISE_FACTOR)))


def _stage(
    bundle: Bundle,
    golden: StoredGolden,
    name: str,
    variant: Variant,
    optimization: Optimization,
) -> dict[str, Any]:
    inputs = golden.inputs(name)
    reference = golden.values[STAGE_OUTPUT[name]][:1]
    parity = compare_stage(bundle.stage(name), inputs, variant=variant, optimization=optimization)
    return {
        "name": name,
        "size": golden.size,
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
    goldens: Sequence[StoredGolden],
    settings: Sequence[Case],
    progress: Progress,
) -> dict[str, Any]:
    """The worst case over the runtime settings that users have, and all sizes."""
    cases: list[dict[str, Any]] = []
    for variant, optimization in settings:
        runner = Runner(bundle, variant=variant, optimization=optimization)
        for golden in goldens:
            text = f"verifying pictures of {golden.size}, optimizations {optimization}"
            images = progress.track(golden.values["image"], text)
            restored = np.concatenate([runner(image[None]) for image in images])
            difference = np.abs(restored - golden.values["restored"])
            cases.append(
                {
                    "size": golden.size,
                    "variant": variant,
                    "optimization": optimization,
                    "psnr_db": psnr_db(golden.values["restored"], restored),
                    "max_abs": float(difference.max()),
                    "within_1_255": float(np.mean(difference <= 1 / 255)),
                    "noise_floor_psnr_db": golden.floor,
                    "needed_psnr_db": needed_db(golden.floor),
                }
            )
    worst = min(cases, key=lambda case: case["psnr_db"] - case["needed_psnr_db"])
    passed = worst["psnr_db"] >= worst["needed_psnr_db"]
    return {**worst, "cases": cases, "passed": passed}


def _fusion(bundle: Bundle, variants: Sequence[Variant]) -> dict[str, Any]:
    """Layers that are integers under every variant."""
    found = {(v, name): read_fusion(bundle.stage(name), v) for v in variants for name in STAGES}
    missing = [f"{name}: {layer}" for (_, name), f in found.items() for layer in f.missing]
    planned = sum(f.planned for (v, _), f in found.items() if v == variants[0])
    missing = list(dict.fromkeys(missing))
    return {"planned": planned, "fused": planned - len(missing), "missing": missing}
