"""What ``verify`` found, as sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantface_export.report.wording import decibels, number, percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One condition of the verdict.

    Attributes:
        name: What is compared.
        meaning: What the condition is, and why it is that.
        found: What was measured.
        passed: Whether it holds.
        missing: Layers to name.
    """

    name: str
    meaning: str
    found: str
    passed: bool
    missing: tuple[str, ...] = ()


def read_gates(verify: Mapping[str, Any]) -> list[Gate]:
    """The gates that a verification's JSON has figures for."""
    read = (("stages", _layers), ("end_to_end", _end_to_end), ("fusion", _fusion))
    return [gate(verify[key]) for key, gate in read if verify.get(key)]


def _layers(stages: list[Mapping[str, Any]]) -> Gate:
    failed = sorted({stage["name"] for stage in stages if not stage["passed"]})
    share = max(stage["mismatch_fraction"] for stage in stages)
    step = max(stage["lsb_max"] for stage in stages)
    found = f"At most {percent(share)} of a stage's integers differ, by at most {number(step)}."
    if share == 0:
        found = "All integers are equal."
    if failed:
        found += f" Failed in {', '.join(failed)}."
    return Gate(
        name="Layer by layer",
        meaning=(
            "Each layer of the reference is fed with what ONNX Runtime fed to its own; "
            "at most 0.01 % of a stage's integers may differ, by at most 1."
        ),
        found=found,
        passed=not failed,
    )


def _end_to_end(result: Mapping[str, Any]) -> Gate:
    floor = result.get("noise_floor_psnr_db")
    needed = result.get("needed_psnr_db")
    if needed is None:
        needed = max(40.0, floor - 20 * math.log10(2)) if floor is not None else 40.0
    found = _image_words(result["psnr_db"])
    if floor is not None and math.isfinite(floor):
        found += f" The reference against its own float64 self: {decibels(floor)} (noise floor)."
    if math.isfinite(needed):
        found += f" Needed: {decibels(needed)}."
    if result.get("max_abs") is not None:
        found += f" Largest difference {number(result['max_abs'])}, white being 1;"
        found += f" {percent(result.get('within_1_255'))} of the values are within 1/255."
    return Gate(
        name="End to end",
        meaning=(
            "The restored picture may differ from the reference's by at most twice what the "
            "reference differs from itself when its float parts are computed in float64, and "
            "must reach 40 dB PSNR in any case."
        ),
        found=found,
        passed=bool(result.get("passed", result["psnr_db"] >= needed)),
    )


def _image_words(psnr: float) -> str:
    if psnr == math.inf:
        return "The pictures are identical."
    return f"Picture against the reference's: {decibels(psnr)} PSNR."


def _fusion(result: Mapping[str, Any]) -> Gate:
    missing = tuple(result.get("missing") or ())
    return Gate(
        name="Integer kernels",
        meaning=(
            "Every layer planned as integer arithmetic must be one in the graph that ONNX "
            "Runtime really runs; a layer left in float would be slower than before."
        ),
        found=f"{result['fused']} of {result['planned']} planned layers run as integers.",
        passed=not missing and result["fused"] >= result["planned"],
        missing=missing,
    )
