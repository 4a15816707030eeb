"""Quantized layers against ONNX Runtime's: ``python -m onnx_ops.bench_layers``.

Four ways to compute the same layer, in turns: float32, the quantized layer with its low-rank branch
by the native kernels, without its branch by them, and with it by its function body, whose integer
part is ONNX Runtime's QLinearConv or MatMulIntegerToFloat. Shapes are those of OSDFace at 512x512.
The ratios count: to float32, in the same run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np
import onnx
import onnx.helper
from numpy.typing import NDArray
from onnx import TensorProto

from onnx_ops import library, quantized_conv, quantized_conv_body, quantized_linear
from onnx_ops.bench import aligned, bound, open_session, serialized

RANK: Final = 16
ROUNDS: Final = 5
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Conv:
    """A square convolution of ``channels`` to ``filters`` on a square image, upsampled or not."""

    channels: int
    filters: int
    kernel: int
    stride: int
    side: int
    upsamples: bool = False

    def __str__(self) -> str:
        step = "*2" if self.upsamples else f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.channels} -> {self.filters} {self.kernel}x{self.kernel}{step} @{self.side}"

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return 1, self.channels, self.side, self.side

    @property
    def window(self) -> dict[str, Any]:
        """Strides and pads."""
        return {"strides": (self.stride,) * 2, "pads": (self.kernel // 2,) * 4}

    def constants(self, bits: int) -> Arrays:
        """What the op reads besides codes and x, in the order of its schema."""
        draw, taps = np.random.default_rng(0), (self.kernel, self.kernel)
        return {
            **_grid(bits),
            "weight": _weight(draw, (self.filters, self.channels, *taps), bits),
            "weight_scale": np.full(self.filters, 0.01, np.float32),
            "bias": np.zeros(self.filters, np.int32),
            "y_scale": np.array(0.02, np.float32),
            "y_zero_point": np.array(128, np.uint8),
            "down": draw.standard_normal((RANK, self.channels, *taps)).astype(np.float32),
            "up": draw.standard_normal((self.filters, RANK, 1, 1)).astype(np.float32),
        }

    def node(self, names: list[str], top: int) -> onnx.NodeProto:
        """The quantized layer."""
        kernel = (self.kernel, self.kernel)
        return quantized_conv.quantized_conv_node(
            names,
            "y",
            kernel_shape=kernel,
            top=top,
            name="layer/y",
            upsamples=self.upsamples,
            **self.window,
        )

    def float_nodes(self) -> list[onnx.NodeProto]:
        """The float32 layer."""
        image = "seen" if self.upsamples else "x"
        nodes = quantized_conv_body.upsampling_nodes({"x": image}) if self.upsamples else []
        return [*nodes, onnx.helper.make_node("Conv", [image, "w"], ["y"], **self.window)]

    @staticmethod
    def float_weight(weight: NDArray[Any]) -> NDArray[Any]:
        """Weights in the order of the float layer."""
        return weight


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of ``channels`` to ``filters`` on ``tokens`` rows."""

    channels: int
    filters: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.channels} -> {self.filters} @{self.tokens}"

    @property
    def x_shape(self) -> tuple[int, ...]:
        """(N, T, C)."""
        return 1, self.tokens, self.channels

    def constants(self, bits: int) -> Arrays:
        """What the op reads besides codes and x, in the order of its schema."""
        draw = np.random.default_rng(0)
        return {
            **_grid(bits),
            "weight": _weight(draw, (self.filters, self.channels), bits),
            "weight_scale": np.full(self.filters, 0.01, np.float32),
            "bias": np.zeros(self.filters, np.float32),
            "down": draw.standard_normal((RANK, self.channels)).astype(np.float32),
            "up": draw.standard_normal((self.filters, RANK)).astype(np.float32),
        }

    def node(self, names: list[str], top: int) -> onnx.NodeProto:
        """The quantized layer."""
        return quantized_linear.quantized_linear_node(names, "y", top=top, name="layer/y")

    def float_nodes(self) -> list[onnx.NodeProto]:
        """The float32 layer."""
        return [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])]

    @staticmethod
    def float_weight(weight: NDArray[Any]) -> NDArray[Any]:
        """Weights in the order of the float layer."""
        return np.ascontiguousarray(weight.T)


Layer = Conv | Linear

LAYERS: Final[tuple[Layer, ...]] = (
    Conv(320, 320, 3, 1, 64),
    Conv(640, 640, 3, 1, 32),
    Conv(1280, 1280, 3, 1, 16),
    Conv(512, 512, 3, 1, 128),
    Conv(256, 256, 3, 1, 256),
    Conv(128, 128, 3, 1, 512),
    Conv(320, 320, 3, 2, 64),
    Conv(640, 320, 1, 1, 64),
    Conv(256, 256, 3, 1, 256, upsamples=True),
    Linear(320, 320, 4096),
    Linear(320, 2560, 4096),
    Linear(1280, 320, 4096),
    Linear(640, 640, 1024),
    Linear(640, 5120, 1024),
    Linear(1280, 1280, 256),
    Linear(1280, 10240, 256),
)


def _grid(bits: int) -> Arrays:
    return {
        "x_scale": np.array(0.1, np.float32),
        "x_zero_point": np.array(2 ** (bits - 1), np.uint8),
    }


def _weight(draw: np.random.Generator, shape: tuple[int, ...], bits: int) -> NDArray[Any]:
    """INT4 for up to 4 bits."""
    most = 2.0 ** (bits - 1)
    weight = np.clip(np.rint(draw.standard_normal(shape) * most / 3), -most, most - 1)
    return weight.astype(ml_dtypes.int4 if bits <= 4 else np.int8)


def model(
    nodes: list[onnx.NodeProto], layer: Layer, inputs: Mapping[str, int], fixed: Arrays
) -> bytes:
    """A serialized model of one layer."""
    info = onnx.helper.make_tensor_value_info
    infos = [info(k, v, layer.x_shape) for k, v in inputs.items()]
    y = info("y", TensorProto.FLOAT, [None] * len(layer.x_shape))
    functions = (
        *quantized_conv_body.quantized_conv_functions(),
        *quantized_linear.quantized_linear_functions(),
    )
    return serialized(nodes, infos, [y], fixed, functions)


def quantized(layer: Layer, bits: int, *, branch: bool) -> bytes:
    """The quantized layer with its branch or without."""
    fixed = layer.constants(bits)
    *names, down, up = ["codes", *fixed]
    inputs: dict[str, int] = {"codes": TensorProto.UINT8}
    if branch:
        names += ["x", down, up]
        inputs["x"] = TensorProto.FLOAT
    node = layer.node(names, 2**bits - 1)
    return model([node], layer, inputs, {k: fixed[k] for k in names if k not in inputs})


def plain(layer: Layer) -> bytes:
    """The layer in float32."""
    w = layer.constants(4)["weight"].astype(np.float32) / 100
    fixed = {"w": layer.float_weight(w)}
    return model(layer.float_nodes(), layer, {"x": TensorProto.FLOAT}, fixed)


def measure(layer: Layer, bits: int, threads: int) -> str:
    """One line of the table."""
    draw = np.random.default_rng(1)
    values: Arrays = {
        "x": aligned(draw.standard_normal(layer.x_shape, np.float32)),
        "codes": aligned(draw.integers(0, 2**bits, layer.x_shape).astype(np.uint8)),
    }

    whole = quantized(layer, bits, branch=True)
    ways = {
        "float32": (plain(layer), False),
        "native": (whole, True),
        "without branch": (quantized(layer, bits, branch=False), True),
        "function body": (whole, False),
    }
    rows = {
        name: open_session(way, native=native, threads=threads, in_turns=True)
        for name, (way, native) in ways.items()
    }
    feeds = {k: {i.name: values[i.name] for i in row.get_inputs()} for k, row in rows.items()}
    y = aligned(rows["float32"].run(None, feeds["float32"])[0])
    bindings = {name: bound(row, feeds[name], {"y": y}) for name, row in rows.items()}
    times: dict[str, list[float]] = {name: [] for name in rows}
    end = time.perf_counter() + 2
    while time.perf_counter() < end or len(times["float32"]) < ROUNDS:
        for name, row in rows.items():
            start = time.perf_counter()
            row.run_with_iobinding(bindings[name])
            times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(taken[1:])) * 1e3 for name, taken in times.items()}
    plain_ms = medians.pop("float32")
    found = ", ".join(f"{name} {ms:7.1f} ms {plain_ms / ms:5.2f}x" for name, ms in medians.items())
    return f"{layer!s:24} float32 {plain_ms:8.1f} ms, {found}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of ONNX Runtime's pool")
    parser.add_argument("--bits", type=int, default=4, help="of weights and activations")
    parser.add_argument("--layers", type=int, nargs="*", help="some lines of the table, from 0")
    arguments = parser.parse_args()
    if library.library_path() is None:
        raise SystemExit(library.why_missing())
    print(f"instruction sets: {library.instruction_sets()}")
    for index in range(len(LAYERS)) if arguments.layers is None else arguments.layers:
        print(measure(LAYERS[index], arguments.bits, arguments.threads), flush=True)


if __name__ == "__main__":
    main()
