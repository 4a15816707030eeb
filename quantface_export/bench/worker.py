"""One run of four stages in a process of its own; never imports torch.

``python -m quantface_export.bench.worker`` reads its :class:`Order` as JSON from standard input
and writes what it measured as JSON to standard output.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantface_export.bench.unrotated import without_rotations
from quantface_export.session import Variant, open_session, return_memory, run
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT, STAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run.

    Attributes:
        models: Folder with ``STAGE/model.onnx``.
        image: ``.npy`` file of the image, (1, 3, s, s) in [-1, 1].
        variant: Who computes the Hadamard ops.
        threads: Intra-op threads; 0 lets ONNX Runtime choose.
        repeats: Timed runs of each stage, after one that is not.
        profile: Whether to time every node instead, with rotations and without.
    """

    models: str
    image: str
    variant: Variant
    threads: int
    repeats: int
    profile: bool = False


def measure(order: Order) -> dict[str, Any]:
    """Run stage after stage as ``restore`` does: each is let go before the next is opened.

    Returns:
        ``stages`` with median seconds of a run and those of opening the session, and peak
        resident bytes of the process so far.
    """
    stages = []

    def timed(name: str, model: Path, inputs: list[NDArray[Any]]) -> NDArray[Any]:
        started = time.perf_counter()
        session = open_session(model, variant=order.variant, threads=order.threads)
        opened = time.perf_counter() - started
        seconds = []
        for _ in range(order.repeats + 1):
            started = time.perf_counter()
            (output,) = run(session, *inputs)
            seconds.append(time.perf_counter() - started)
        stages.append(
            {"name": name, "seconds": statistics.median(seconds[1:]), "open_seconds": opened}
        )
        return output

    _run_stages(order, timed)
    return {"stages": stages, "peak_rss_bytes": peak_rss()}


def profile(order: Order) -> dict[str, dict[str, int]]:
    """Time every node, with rotations and without.

    The two take turns from run to run, and of each node its fastest run counts: a shared host's
    speed changes within seconds, and what it takes from one of the two is never negative.

    Returns:
        ``rotated`` and ``unrotated``: microseconds by op kind.
    """
    kinds = {"rotated": Counter[str](), "unrotated": Counter[str]()}

    def profiled(name: str, model: Path, inputs: list[NDArray[Any]]) -> NDArray[Any]:
        graphs = {"rotated": None, "unrotated": without_rotations(model)}
        with tempfile.TemporaryDirectory() as folder:
            sessions = {
                key: open_session(
                    model,
                    variant=order.variant,
                    threads=order.threads,
                    profiled_to=Path(folder, key),
                    edited=graph,
                )
                for key, graph in graphs.items()
            }
            for _ in range(order.repeats + 1):
                outputs = {key: run(session, *inputs) for key, session in sessions.items()}
            for key, session in sessions.items():
                kinds[key] += by_kind(Path(session.end_profiling()), order.repeats)
        return outputs["rotated"][0]

    _run_stages(order, profiled)
    return {key: dict(found) for key, found in kinds.items()}


def _run_stages(
    order: Order, work: Callable[[str, Path, list[NDArray[Any]]], NDArray[Any]]
) -> None:
    """Call ``work(name, model, inputs)`` for each stage; later ones read what it returns."""
    values = {"image": np.load(order.image)}
    for name in STAGES:
        inputs = [values[key] for key in STAGE_INPUTS[name]]
        output = work(name, Path(order.models, name, "model.onnx"), inputs)
        values[STAGE_OUTPUT[name]] = output.copy()  # a result keeps its session's arena
        del output
        return_memory()


def peak_rss() -> int:
    """Most resident bytes of this process so far.

    ``getrusage`` would count what the process was forked from, where that was larger.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def by_kind(profile: Path, repeats: int) -> Counter[str]:
    """Microseconds of one run by op kind: each node's least over all runs but the first."""
    durations: dict[tuple[str, str], list[float]] = {}
    for event in json.loads(profile.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"], event["args"]["op_name"]
            durations.setdefault(key, []).append(event["dur"])
    kinds = Counter[str]()
    for (_, kind), times in durations.items():
        kinds[kind] += round(min(times[-repeats:]))
    return kinds


if __name__ == "__main__":
    given = Order(**json.load(sys.stdin))
    print(json.dumps(profile(given) if given.profile else measure(given)))
