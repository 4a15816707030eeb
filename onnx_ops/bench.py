"""HadamardQuantize against the memory's speed: ``python -m onnx_ops.bench``.

Each shape is timed in turns with a copy of the same floats. Bytes are those that must move: 4 + 1
per value for the op, 4 + 4 for the copy. The ratios of the two speeds are what counts: to the copy
of the same floats by one thread, which a CPU's caches make faster than memory is while they hold
it, and to a copy of 256 MiB by all threads, which they do not hold.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import onnx
import onnx.helper
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_ops import library
from onnx_ops.function_body import DOMAIN, OPSET, VERSION, hadamard_function
from onnx_ops.hadamard import signs
from onnx_ops.hadamard_quantize import hadamard_quantize_function, hadamard_quantize_node

SHAPES: Final = ((1, 320, 64, 64), (1, 512, 128, 128), (1, 128, 512, 512), (1, 960, 64, 64))
ROUNDS: Final = 5


def quantize_model(shape: tuple[int, ...], *, channels_last: bool) -> bytes:
    """One HadamardQuantize to 4-bit codes, with its function bodies."""
    n = shape[1]
    node = hadamard_quantize_node(
        ("x", "d", "scale", "zero_point"),
        "y",
        n=n,
        axis=1,
        qmin=0,
        qmax=15,
        name="rotation",
        channels_last=channels_last,
    )
    constants: dict[str, NDArray[Any]] = {
        "d": signs(n, 0),
        "scale": np.array(0.4, np.float32),
        "zero_point": np.array(8, np.uint8),
    }
    x = onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = onnx.helper.make_tensor_value_info("y", TensorProto.UINT8, [None] * len(shape))
    functions = hadamard_function(), hadamard_quantize_function()
    return serialized([node], [x], [y], constants, functions)


def serialized(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Mapping[str, NDArray[Any]],
    functions: Sequence[onnx.FunctionProto],
) -> bytes:
    """A model of ops of the project's domain, with their function bodies."""
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "bench", inputs, outputs, tensors),
        functions=functions,
        opset_imports=[
            onnx.helper.make_opsetid("", OPSET),
            onnx.helper.make_opsetid(DOMAIN, VERSION),
        ],
        ir_version=10,
    )
    written: bytes = model.SerializeToString()
    return written


def aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy from a multiple of 64 bytes on, as ONNX Runtime's tensors are and NumPy's are not.

    The kernels store whole lines past the caches only there.
    """
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def bound(
    session: Any, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]
) -> Any:
    """A binding of these inputs and outputs, all of them :func:`aligned`."""
    binding = session.io_binding()
    for name, x in inputs.items():
        binding.bind_input(name, "cpu", 0, x.dtype, x.shape, x.ctypes.data)
    for name, y in outputs.items():
        binding.bind_output(name, "cpu", 0, y.dtype, y.shape, y.ctypes.data)
    return binding


def open_session(model: bytes, *, native: bool, threads: int, in_turns: bool) -> Any:
    """A session with the library or without, alone or one that runs in turns with others."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if in_turns:
        # Threads that wait for work of their own session would take the cores from the others'.
        options.add_session_config_entry("session.force_spinning_stop", "1")
    if native:
        library.register(options)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def medians(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of two functions that are called in turns, for about a second."""
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + 1
    while time.perf_counter() < end or len(times[0]) < ROUNDS:
        for function, taken in zip((first, second), times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return float(np.median(times[0])), float(np.median(times[1]))


def memory_speed(threads: int) -> float:
    """Bytes per second of a copy that no cache holds, by as many threads as the op has."""
    source = np.ones(1 << 26, np.float32)  # not zeros: those would all be one page
    target = np.ones_like(source)
    parts = [*zip(np.array_split(target, threads), np.array_split(source, threads), strict=True)]
    with ThreadPoolExecutor(threads) as pool:
        seconds, _ = medians(lambda: list(pool.map(lambda p: np.copyto(*p), parts)), lambda: None)
    return 2 * source.nbytes / seconds


def measure(
    shape: tuple[int, ...], *, channels_last: bool, native: bool, threads: int, memory: float
) -> str:
    """One line of the table.

    Args:
        shape: (N, n, H, W) of x.
        channels_last: Write (N, H, W, n).
        native: Use the library, not the function body.
        threads: Threads of ONNX Runtime's pool.
        memory: What ``memory_speed`` measured.
    """
    model = quantize_model(shape, channels_last=channels_last)
    session = open_session(model, native=native, threads=threads, in_turns=False)
    x = aligned(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    target = aligned(x)
    y_shape = (shape[0], *shape[2:], shape[1]) if channels_last else shape
    y = aligned(np.zeros(y_shape, np.uint8))
    binding = bound(session, {"x": x}, {"y": y})
    op, copy = medians(lambda: session.run_with_iobinding(binding), lambda: np.copyto(target, x))
    speeds = 5 * x.size / op / 1e9, 8 * x.size / copy / 1e9
    name = "x".join(map(str, shape)) + (" NHWC" if channels_last else " NCHW")
    return (
        f"{name:22} {op * 1e3:8.2f} ms {speeds[0]:6.1f} GB/s   copy {copy * 1e3:7.2f} ms "
        f"{speeds[1]:6.1f} GB/s   ratio {speeds[0] / speeds[1]:.2f}, "
        f"to memory {speeds[0] * 1e9 / memory:.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of ONNX Runtime's pool")
    parser.add_argument("--body", action="store_true", help="time the function body instead")
    arguments = parser.parse_args()
    if not arguments.body and library.library_path() is None:
        raise SystemExit(library.why_missing())
    print("function body" if arguments.body else f"instruction sets: {library.instruction_sets()}")
    memory = memory_speed(arguments.threads)
    for shape in SHAPES:
        for last in (False, True):
            line = measure(
                shape,
                channels_last=last,
                native=not arguments.body,
                threads=arguments.threads,
                memory=memory,
            )
            print(line, flush=True)


if __name__ == "__main__":
    main()
