"""QuantizedConv against ONNX Runtime's convolutions: ``python -m onnx_ops.bench_conv``.

Four ways to compute the same layer, in turns: float32 Conv, ``QuantizedConvLowRank`` by the native
kernels, ``QuantizedConv`` (no branch) by them, and the first by its function body, whose integer
part is ONNX Runtime's QLinearConv. Shapes are those of OSDFace at 512x512. The ratios count: to
float32, in the same run.
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

from onnx_ops import library
from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.quantized_conv import quantized_conv_functions, quantized_conv_node

RANK: Final = 16
ROUNDS: Final = 5
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Layer:
    """A square convolution of ``channels`` to ``filters`` on a square image."""

    channels: int
    filters: int
    kernel: int
    stride: int
    side: int

    def __str__(self) -> str:
        step = f"/{self.stride}" if self.stride > 1 else ""
        return f"{self.channels} -> {self.filters} {self.kernel}x{self.kernel}{step} @{self.side}"


LAYERS: Final = (
    Layer(320, 320, 3, 1, 64),
    Layer(640, 640, 3, 1, 32),
    Layer(1280, 1280, 3, 1, 16),
    Layer(512, 512, 3, 1, 128),
    Layer(256, 256, 3, 1, 256),
    Layer(128, 128, 3, 1, 512),
    Layer(320, 320, 3, 2, 64),
    Layer(640, 320, 1, 1, 64),
)


def constants(layer: Layer, bits: int) -> Arrays:
    """What the quantized layer reads besides its activation, in the order of the schema.

    Weights of up to 4 bits are INT4.
    """
    draw = np.random.default_rng(0)
    most = 2.0 ** (bits - 1)
    shape = (layer.filters, layer.channels, layer.kernel, layer.kernel)
    weight = np.clip(np.rint(draw.standard_normal(shape) * most / 3), -most, most - 1)
    return {
        "x_scale": np.array(0.1, np.float32),
        "x_zero_point": np.array(2 ** (bits - 1), np.uint8),
        "weight": weight.astype(ml_dtypes.int4 if bits <= 4 else np.int8),
        "weight_scale": np.full(layer.filters, 0.01, np.float32),
        "bias": np.zeros(layer.filters, np.int32),
        "y_scale": np.array(0.02, np.float32),
        "y_zero_point": np.array(128, np.uint8),
        "x": np.empty(0, np.float32),
        "down": draw.standard_normal((RANK, *shape[1:])).astype(np.float32),
        "up": draw.standard_normal((layer.filters, RANK, 1, 1)).astype(np.float32),
    }


def model(node: onnx.NodeProto, layer: Layer, inputs: Mapping[str, int], fixed: Arrays) -> bytes:
    """A serialized model of one node."""
    image = (1, layer.channels, layer.side, layer.side)
    infos = [onnx.helper.make_tensor_value_info(k, v, image) for k, v in inputs.items()]
    y = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    tensors = [onnx.numpy_helper.from_array(v, k) for k, v in fixed.items()]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph([node], "bench", infos, [y], tensors),
        functions=list(quantized_conv_functions()),
        opset_imports=[
            onnx.helper.make_opsetid("", OPSET),
            onnx.helper.make_opsetid(DOMAIN, VERSION),
        ],
        ir_version=10,
    )
    serialized: bytes = proto.SerializeToString()
    return serialized


def quantized(layer: Layer, bits: int, *, branch: bool) -> bytes:
    """The layer as QuantizedConv or QuantizedConvLowRank."""
    fixed = constants(layer, bits)
    names = ["codes", *fixed] if branch else ["codes", *list(fixed)[:7]]
    pad = layer.kernel // 2
    node = quantized_conv_node(
        names,
        "y",
        kernel_shape=(layer.kernel,) * 2,
        strides=(layer.stride,) * 2,
        pads=(pad,) * 4,
        top=2**bits - 1,
        name="layer/y",
    )
    inputs = {"codes": TensorProto.UINT8} | ({"x": TensorProto.FLOAT} if branch else {})
    return model(node, layer, inputs, {k: fixed[k] for k in names if k not in inputs})


def plain(layer: Layer) -> bytes:
    """The layer as a float32 Conv."""
    pad = layer.kernel // 2
    node = onnx.helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=[layer.stride] * 2, pads=[pad] * 4
    )
    w = constants(layer, 4)["weight"].astype(np.float32) / 100
    return model(node, layer, {"x": TensorProto.FLOAT}, {"w": w})


def measure(layer: Layer, bits: int, threads: int) -> str:
    """One line of the table."""
    import onnxruntime

    draw = np.random.default_rng(1)
    image = (1, layer.channels, layer.side, layer.side)
    values: Arrays = {
        "x": draw.standard_normal(image, np.float32),
        "codes": draw.integers(0, 2**bits, image).astype(np.uint8),
    }

    def session(serialized: bytes, native: bool) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if native:
            library.register(options)
        return onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])

    rows = {
        "float32": session(plain(layer), False),
        "native": session(quantized(layer, bits, branch=True), True),
        "without branch": session(quantized(layer, bits, branch=False), True),
        "function body": session(quantized(layer, bits, branch=True), False),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    end = time.perf_counter() + 2
    while time.perf_counter() < end or len(times["float32"]) < ROUNDS:
        for name, row in rows.items():
            feed = {i.name: values[i.name] for i in row.get_inputs()}
            start = time.perf_counter()
            row.run(None, feed)
            times[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(taken[1:])) * 1e3 for name, taken in times.items()}
    whole = medians.pop("float32")
    found = ", ".join(f"{name} {ms:7.1f} ms {whole / ms:5.2f}x" for name, ms in medians.items())
    return f"{layer!s:24} float32 {whole:8.1f} ms, {found}"


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
