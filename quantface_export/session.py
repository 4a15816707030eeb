"""Open an exported stage in ONNX Runtime. Never imports torch."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any, Literal

import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from onnx_ops.library import library_path, register
from quantface_export.stages import STAGES

Variant = Literal["function", "python", "native"]
"""Who computes the Hadamard ops: the model's own function body, the Python op, or the library."""

Optimization = Literal["off", "all"]

_LEVELS = {
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


SMALL_BYTES = 256 << 20
"""Models of up to this size together stay open, each with the memory that a run took."""


def small(models: Path) -> bool:
    """Whether the four stages in ``models`` take at most ``SMALL_BYTES`` on disk."""
    files = (f for name in STAGES for f in (models / name).glob("model.onnx*"))
    return sum(f.stat().st_size for f in files) <= SMALL_BYTES


def return_memory() -> None:
    """Give freed memory back to the system; glibc would keep what a closed session had."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def fastest_variant() -> Variant:
    """``native`` where the library was built, else ``function``."""
    return "function" if library_path() is None else "native"


def session_options(
    variant: Variant = "function",
    threads: int = 0,
    optimization: Optimization = "all",
) -> ort.SessionOptions:
    """Options of a session on one stage; :func:`open_session` says what the arguments are.

    ORT's arena hands a tensor's memory to the next one while it is warm. Its two plans made in
    advance are off: a block laid out from a first run is taken beside what that run took, and a
    buffer that the graph passes on is kept from everyone else until its last user is done.

    Raises:
        RuntimeError: ``native`` is wanted, but the library was not built.
    """
    if variant == "python":
        from onnx_ops.python_op import python_session_options

        options = python_session_options()
    else:
        options = ort.SessionOptions()
    if variant == "native":
        register(options)
    options.graph_optimization_level = _LEVELS[optimization]
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    options.enable_mem_reuse = False
    options.log_severity_level = 3
    return options


def open_session(
    model: Path,
    *,
    optimization: Optimization = "all",
    variant: Variant = "function",
    threads: int = 0,
    optimized_to: Path | None = None,
    profiled_to: Path | None = None,
    edited: onnx.ModelProto | None = None,
) -> ort.InferenceSession:
    """A CPU session on one stage.

    Args:
        model: ``model.onnx``; external data is found beside it.
        optimization: ``off`` runs the graph as written, ``all`` as ORT fuses it.
        variant: Who computes the Hadamard ops.
        threads: Intra-op threads; 0 lets ORT choose.
        optimized_to: Where ORT writes the graph that it really runs.
        profiled_to: What the name of ORT's profile begins with; none is made if left out.
        edited: A changed form of ``model`` to open in its place; it has the same external data.

    Raises:
        RuntimeError: ``native`` is wanted, but the library was not built.
    """
    options = session_options(variant, threads, optimization)
    if optimized_to is not None:
        options.optimized_model_filepath = str(optimized_to)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", optimized_to.name + ".data"
        )
    if profiled_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profiled_to)
        # Threads that wait for work of their own session would take the cores from another's.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if edited is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(model.parent.resolve())
        )
    source = str(model) if edited is None else edited.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
    """All outputs of a stage for positional inputs; each keeps its session's arena alive."""
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))
