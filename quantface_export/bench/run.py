"""Rows of the benchmark: models made once, then run in turns, each time in a fresh process."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.progress import SILENT, Progress
from onnx_ops import attention
from onnx_ops.library import library_path, why_missing
from quantface_export.bench.peers import (
    Values,
    export_float,
    float_output,
    prepare_for_ort,
    quantize_by_ort,
    whole_folder,
)
from quantface_export.bench.unrotated import rotation_share
from quantface_export.bench.worker import Order
from quantface_export.bundle import load_bundle
from quantface_export.errors import QuantfaceError
from quantface_export.finished import WorkFolder, belongs_to
from quantface_export.layer_table import FUSED_OPS
from quantface_export.models import Source, find_config, find_source, image_size
from quantface_export.osdface.fixtures import FixtureSettings, write_fixtures
from quantface_export.pipeline import build, calibration_images
from quantface_export.pixels import to_input
from quantface_export.resources import require_disk
from quantface_export.session import Variant, return_memory
from quantface_export.settings import BuildSettings
from quantface_export.stages import STAGE_OUTPUT, STAGES

FLOAT, INT8, OURS = "fp32", "ort-int8", "quantface-w4a4"
FALLBACK = f"{OURS}-function"

ROWS: dict[str, tuple[str, Variant]] = {
    FLOAT: (FLOAT, "function"),
    INT8: (INT8, "function"),
    OURS: (OURS, "native"),
    FALLBACK: (OURS, "function"),
}
"""Folder of the models and who computes the Hadamard ops, by row."""

INTEGER = frozenset(
    {*chain(*FUSED_OPS.values()), "QLinearMatMul", "HadamardQuantize", attention.QUANTIZED}
)
"""Op kinds whose work is integer math, or makes the integers; branches within them count too."""

PROFILED_RUNS = 5
"""Least timed runs of a profile, of which each node's fastest counts."""

DISK_BYTES = 14
"""Free disk for each parameter: random weights, float32 twice while int8 is made, and int8."""


def bench(
    settings: BuildSettings,
    *,
    rows: Sequence[str],
    random_weights: bool,
    bundle: Path | None,
    threads: int,
    rounds: int,
    repeats: int,
    profile: bool,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Time the four stages of each row, one process after the other.

    Args:
        settings: Model, weights, size and calibration; ``out`` is the folder of prepared models,
            which later runs take up again.
        rows: Some of :data:`ROWS`.
        random_weights: Make weights in the published format instead of reading some.
        bundle: A bundle to time; None builds one without training.
        threads: Of every session.
        rounds: Turns; the rows change places from one to the next.
        repeats: Timed runs of each stage in a turn.
        profile: Also time every node of our row, with its rotations and without.
        progress: Told of everything.

    Raises:
        QuantfaceError: Unknown row or model, no native library, no disk, or a folder of another
            model.
    """
    _check(rows, profile)
    folder = settings.out
    if random_weights:
        settings = dataclasses.replace(settings, weights=_random(settings, progress))
    source = find_source(settings)
    size = image_size(source.config, settings.size)
    images = to_input(np.stack(calibration_images(settings, size)[0]))
    key = belongs_to((settings.model, size), source.files, images)
    work = WorkFolder(folder / f"{settings.model}-{size}", key).path
    require_disk(work, DISK_BYTES * sum(source.parameters.values()), "the models to compare")
    kinds = {ROWS[row][0] for row in rows}
    _prepare_peers(source, images, work, INT8 in kinds, progress)
    models = {kind: work / kind for kind in kinds}
    if OURS in kinds:
        models[OURS] = _bundle(settings, bundle, work, progress)
    np.save(work / "image.npy", images[:1])
    orders = {
        row: Order(
            models=str(models[ROWS[row][0]]),
            image=str(work / "image.npy"),
            variant=ROWS[row][1],
            threads=threads,
            repeats=repeats,
        )
        for row in rows
    }
    turns = [[*rows[i % len(rows) :], *rows[: i % len(rows)]] for i in range(rounds)]
    seen: dict[str, list[dict[str, Any]]] = {row: [] for row in rows}
    for row in progress.track([row for turn in turns for row in turn], "running in turns"):
        seen[row].append(one_turn(orders[row]))
    result: dict[str, Any] = {
        "model": settings.model,
        "size": size.width if size.square else str(size),
        "threads": threads,
        "rounds": rounds,
        "rows": [_row(row, seen[row], models[ROWS[row][0]]) for row in rows],
    }
    result["ratios"] = ratios(result["rows"])
    if profile:
        profiled = dataclasses.replace(
            orders[OURS], profile=True, repeats=max(repeats, PROFILED_RUNS)
        )
        again = progress.track(range(rounds), "by op kind, with rotations and without")
        kinds_of = [one_turn(profiled) for _ in again]
        rotations = statistics.median(rotation_share(**kinds) for kinds in kinds_of)
        result["profile"] = shares(kinds_of[-1]["rotated"]) | {"rotations": rotations}
    return result


def _check(rows: Sequence[str], profile: bool) -> None:
    if unknown := [row for row in rows if row not in ROWS]:
        raise QuantfaceError(f"unknown row {unknown[0]!r}; expected some of {', '.join(ROWS)}")
    if profile and OURS not in rows:
        raise QuantfaceError(f"--profile is of {OURS}; add it to --rows")
    if OURS in rows and library_path() is None:
        raise QuantfaceError(f"{OURS} needs the native kernels: {why_missing()}, or leave it out")


def _random(settings: BuildSettings, progress: Progress) -> Path:
    """Weights in the published format, made once."""
    folder = settings.out / f"{settings.model}-weights"
    if not folder.exists():
        config = find_config(settings.model)
        write_fixtures(config, folder, FixtureSettings(seed=settings.seed), progress)
    return folder


def _prepare_peers(
    source: Source, images: NDArray[np.float32], work: Path, int8: bool, progress: Progress
) -> None:
    """The float stages, and the same quantized by ONNX Runtime, where they are missing."""
    values: list[Values] = [{"image": images[i : i + 1]} for i in range(len(images))]
    for name in STAGES:
        model, theirs = work / FLOAT / name, work / INT8 / name
        if not model.exists():
            progress.step(f"{name}: float32 to ONNX")
            with whole_folder(model) as new:
                export_float(name, source.stage(name), values[0], new)
        if int8 and not theirs.exists():
            progress.step(f"{name}: onnxruntime.quantization.quantize_static")
            with whole_folder(theirs) as new:
                _apart(prepare_for_ort, model / "model.onnx", new)
                _apart(quantize_by_ort, name, values, new)
        if not int8 and all((work / FLOAT / stage).exists() for stage in STAGES):
            continue
        progress.step(f"{name}: float32 values for the next stage")
        for row in values:
            row[STAGE_OUTPUT[name]] = float_output(name, model / "model.onnx", row)


def _apart(function: Callable[..., None], *args: object) -> None:
    """Call ``function`` in a process of its own, which gives all its memory back."""
    return_memory()
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            process.submit(function, *args).result()
    except BrokenProcessPool as e:
        raise QuantfaceError(
            "onnxruntime.quantization was killed, most likely for the memory that it takes; "
            f"leave {INT8} out of --rows"
        ) from e


def _bundle(settings: BuildSettings, given: Path | None, work: Path, progress: Progress) -> Path:
    if given is not None:
        return load_bundle(given).path
    made = work / OURS
    if not made.exists():
        build(
            dataclasses.replace(
                settings,
                out=made,
                train_steps=0,
                keep_unstable=True,
                work=work / f"{OURS}.work",
            ),
            progress,
        )
    return load_bundle(made).path


def one_turn(order: Order) -> dict[str, Any]:
    """What a process of its own measures.

    Raises:
        QuantfaceError: A model that ONNX Runtime refuses.
    """
    command = [sys.executable, "-m", "quantface_export.bench.worker"]
    done = subprocess.run(
        command, input=json.dumps(asdict(order)), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise QuantfaceError(f"{order.models} can't be run: {last[0]}")
    return dict(json.loads(done.stdout))


def _row(name: str, turns: Sequence[dict[str, Any]], models: Path) -> dict[str, Any]:
    """Medians over the turns."""
    stages = [
        {
            "name": stage,
            **{
                key: statistics.median(turn["stages"][i][key] for turn in turns)
                for key in ("seconds", "open_seconds")
            },
        }
        for i, stage in enumerate(STAGES)
    ]
    sums = [sum(stage["seconds"] for stage in turn["stages"]) for turn in turns]
    files = [f for stage in STAGES for f in (models / stage).glob("model.onnx*")]
    return {
        "name": name,
        "seconds_median": statistics.median(sums),
        "seconds_min": min(sums),
        "seconds_max": max(sums),
        "peak_rss_bytes": round(statistics.median(t["peak_rss_bytes"] for t in turns)),
        "disk_bytes": sum(f.stat().st_size for f in files),
        "stages": stages,
    }


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How many times faster ours is, and its share of float32's memory and disk."""
    named = {row["name"]: row for row in rows}
    found = {}
    for key, a, b, what in (
        ("vs_fp32", FLOAT, OURS, "seconds_median"),
        ("vs_ort_int8", INT8, OURS, "seconds_median"),
        ("function_vs_fp32", FLOAT, FALLBACK, "seconds_median"),
        ("peak_rss", OURS, FLOAT, "peak_rss_bytes"),
        ("disk", OURS, FLOAT, "disk_bytes"),
    ):
        if a in named and b in named:
            found[key] = named[a][what] / named[b][what]
    return found


def shares(kinds: dict[str, int]) -> dict[str, Any]:
    """The ten most expensive op kinds, and the share of all that is no integer math."""
    total = sum(kinds.values())
    ten = sorted(kinds.items(), key=lambda item: -item[1])[:10]
    return {
        "kinds": [{"op": k, "seconds": v / 1e6, "share": v / total} for k, v in ten],
        "not_integer": sum(v for k, v in kinds.items() if k not in INTEGER) / total,
    }
