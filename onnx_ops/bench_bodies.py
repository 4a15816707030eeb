"""The ops that are no layers against their function bodies: ``python -m onnx_ops.bench_bodies``.

Each op is timed in turns with the body that a model carries for it, which is what ONNX Runtime
computes without the library. Shapes are those of OSDFace at 512x512; the ratios count. Layers have
:mod:`onnx_ops.bench_layers`, the rotations beside a copy :mod:`onnx_ops.bench`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import onnx
import onnx.helper
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_ops import library
from onnx_ops.attention import attention_functions, attention_node
from onnx_ops.bench import aligned, bound, medians, open_session, serialized
from onnx_ops.function_body import hadamard_function, hadamard_node
from onnx_ops.group_norm import group_norm_functions, group_norm_node
from onnx_ops.hadamard import signs
from onnx_ops.hadamard_quantize import hadamard_quantize_function, hadamard_quantize_node
from onnx_ops.linear_prologue import geglu_node, layer_norm_node, linear_prologue_functions
from onnx_ops.prologue import prologue_function, prologue_node
from onnx_ops.scale_quantize import scale_quantize_function, scale_quantize_node

FUNCTIONS: Final = (
    hadamard_function(),
    hadamard_quantize_function(),
    scale_quantize_function(),
    *group_norm_functions(),
    prologue_function(),
    *linear_prologue_functions(),
    *attention_functions(),
)
GRID: Final[dict[str, Any]] = {"qmin": 0, "qmax": 15, "name": "op"}
NORM: Final[dict[str, Any]] = {"groups": 32, "epsilon": 1e-6}


@dataclass(frozen=True, slots=True)
class Case:
    """A node, the shapes of its inputs and of how many channels its constants are."""

    node: onnx.NodeProto
    inputs: Mapping[str, tuple[int, ...]]
    channels: int = 1

    def __str__(self) -> str:
        shapes = dict.fromkeys("x".join(map(str, shape)) for shape in self.inputs.values())
        return f"{self.node.op_type} {', '.join(shapes)}"

    def constants(self) -> dict[str, NDArray[Any]]:
        """Those that the node reads."""
        gamma, beta = np.random.default_rng(0).uniform(0.5, 2, (2, self.channels)).astype("f4")
        rotates = "Hadamard" in self.node.op_type
        known = {
            "d": signs(self.channels, 0) if rotates else gamma[:, None, None],
            "gamma": gamma,
            "beta": beta,
            "scale": np.array(0.2, np.float32),
            "zero_point": np.array(8, np.uint8),
        }
        return {name: known[name] for name in self.node.input if name in known}

    def model(self) -> bytes:
        """The node alone, serialized, with the bodies of all ops."""
        info = onnx.helper.make_tensor_value_info
        rank = len(next(iter(self.inputs.values())))
        types = {"y": TensorProto.FLOAT, "codes": TensorProto.UINT8}
        results = [info(y, types[y], [None] * rank) for y in self.node.output]
        inputs = [info(name, TensorProto.FLOAT, shape) for name, shape in self.inputs.items()]
        return serialized([self.node], inputs, results, self.constants(), FUNCTIONS)


def cases() -> Iterator[Case]:
    """Each op, of small and of large tensors where both occur."""
    scale, both = ("scale", "zero_point"), ("y", "codes")
    for n, side in ((320, 64), (512, 128), (128, 512)):
        x = {"x": (1, n, side, side)}
        turned = hadamard_node("x", "d", "y", n=n, axis=1, name="op")
        yield Case(turned, x, n)
        codes = hadamard_quantize_node(("x", "d", *scale), "codes", n=n, axis=1, **GRID)
        yield Case(codes, x, n)
        yield Case(scale_quantize_node(("x", "d", *scale), "codes", **GRID), x, n)
        for silu in (False, True):
            norm = group_norm_node(("x", "gamma", "beta"), "y", silu=silu, name="op", **NORM)
            yield Case(norm, x, n)
        joined = ("x", "gamma", "beta", "d", *scale)
        yield Case(prologue_node(joined, both, n=n, **NORM, **GRID), x, n)
    for tokens, n in ((4096, 320), (256, 1280)):
        rows = layer_norm_node(("x", "gamma", "beta", *scale), both, epsilon=1e-5, **GRID)
        yield Case(rows, {"x": (1, tokens, n)}, n)
        yield Case(geglu_node(("x", *scale), both, **GRID), {"x": (1, tokens, 8 * n)})
    for tokens, keys, heads, depth in (
        (4096, 4096, 5, 64),
        (4096, 77, 5, 64),
        (4096, 4096, 1, 512),
    ):
        names = ("query", "key", "value")
        lengths = zip(names, (tokens, keys, keys), strict=True)
        inputs = {name: (1, length, heads * depth) for name, length in lengths}
        for quantized in (False, True):
            node = attention_node(names, "y", num_heads=heads, quantized=quantized, name="op")
            yield Case(node, inputs)


def measure(case: Case, threads: int) -> str:
    """One line of the table."""
    draw = np.random.default_rng(1)
    inputs = {k: aligned(draw.standard_normal(v, np.float32)) for k, v in case.inputs.items()}
    model = case.model()
    kernel = open_session(model, native=True, threads=threads, in_turns=True)
    body = open_session(model, native=False, threads=threads, in_turns=True)
    found = dict(zip(case.node.output, map(aligned, kernel.run(None, inputs)), strict=True))
    native, slow = medians(
        *(partial(row.run_with_iobinding, bound(row, inputs, found)) for row in (kernel, body))
    )
    return f"{case!s:52} native {native * 1e3:8.2f} ms, function body {slow / native:6.2f}x as long"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of ONNX Runtime's pool")
    parser.add_argument("--op", help="this op alone, for instance HadamardQuantize")
    arguments = parser.parse_args()
    if library.library_path() is None:
        raise SystemExit(library.why_missing())
    chosen = [case for case in cases() if arguments.op in (None, case.node.op_type)]
    if not chosen:
        known = ", ".join(dict.fromkeys(case.node.op_type for case in cases()))
        raise SystemExit(f"--op {arguments.op}: one of {known} was expected")
    print(f"instruction sets: {library.instruction_sets()}")
    for case in chosen:
        print(measure(case, arguments.threads), flush=True)


if __name__ == "__main__":
    main()
