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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from quantface_export.session import Variant, return_memory, run, session_options
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
        profile: Whether to have ONNX Runtime time every node as well.
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
        ``stages`` with median seconds of a run and those of opening the session, peak
        resident bytes of the process so far, and microseconds by op kind if profiled.
    """
    values = {"image": np.load(order.image)}
    stages, kinds = [], Counter[str]()
    for name in STAGES:
        inputs = [values[key] for key in STAGE_INPUTS[name]]
        options = session_options(order.variant, order.threads)
        with tempfile.TemporaryDirectory() as folder:
            if order.profile:
                options.enable_profiling = True
                options.profile_file_prefix = str(Path(folder, "profile"))
            model = Path(order.models, name, "model.onnx")
            started = time.perf_counter()
            session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
            opened = time.perf_counter() - started
            seconds = []
            for _ in range(order.repeats + 1):
                started = time.perf_counter()
                (output,) = run(session, *inputs)
                seconds.append(time.perf_counter() - started)
            if order.profile:
                kinds += by_kind(Path(session.end_profiling()), order.repeats)
        values[STAGE_OUTPUT[name]] = output
        del session
        return_memory()
        stages.append(
            {"name": name, "seconds": statistics.median(seconds[1:]), "open_seconds": opened}
        )
    return {
        "stages": stages,
        "peak_rss_bytes": peak_rss(),
        "kinds": dict(kinds),
    }


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
    """Microseconds of one run by op kind: each node's mean over all runs but the first."""
    durations: dict[tuple[str, str], list[float]] = {}
    for event in json.loads(profile.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"], event["args"]["op_name"]
            durations.setdefault(key, []).append(event["dur"])
    kinds = Counter[str]()
    for (_, kind), times in durations.items():
        kinds[kind] += round(statistics.fmean(times[-repeats:]))
    return kinds


if __name__ == "__main__":
    print(json.dumps(measure(Order(**json.load(sys.stdin)))))
