"""What does not fit is an error of ONNX Runtime's, never a crash."""

import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from onnx_ops import library
from onnx_ops.bench_layers import Conv, quantized
from onnx_ops.hadamard import signs

ERRORS = onnxruntime.capi.onnxruntime_pybind11_state
REFUSED = (
    ERRORS.Fail,
    ERRORS.InvalidArgument,
    ERRORS.InvalidGraph,
    ERRORS.NotImplemented,
    ERRORS.RuntimeException,  # how a status from creating a kernel arrives
)
FUZZ_ROUNDS = "1000"
# Codes of 32 MiB are asked for where 16 MiB are left, twice.
WITHOUT_MEMORY = """
import pathlib, resource, sys
import numpy as np
import onnxruntime
from onnx_ops import library

options = onnxruntime.SessionOptions()
library.register(options)
session = onnxruntime.InferenceSession(sys.argv[1], options)
long = np.zeros((1, 65536, 512), np.float32)
feed = {"query": long[:, :2], "key": long, "value": long}
used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, used + 2**24))
for _ in range(2):
    try:
        session.run(None, feed)
    except Exception as error:
        print("Failed to allocate memory" in str(error))
"""


def quantize_model(ops, x):
    return ops.quantize_model(x, signs(x.shape[1], 0), 0.3, np.uint8(7), 1, 0, 15)


def with_attribute(model, name, value):
    (attribute,) = [a for a in model.graph.node[0].attribute if a.name == name]
    attribute.i = value
    return model


def with_initializer(model, name, value):
    (tensor,) = [t for t in model.graph.initializer if t.name == name]
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), name))
    return model


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("axis", 0, "axis must be 1 .channels first. or -1 .channels last., got 0"),
        ("axis", 2**63 - 1, "axis must be"),
        ("seed", 28, "got seed 28, log2 0"),
        ("seed", -12, "got seed -12"),
        ("log2", 63, "got seed 12, log2 63"),
        ("log2", -(2**63), "log2 >= 0"),
        ("log2", 14, "<= 65536"),
        ("qmin", -1, "need 0 <= qmin <= qmax <= 255, got qmin -1, qmax 15"),
        ("qmax", 256, "got qmin 0, qmax 256"),
        ("qmin", 16, "got qmin 16, qmax 15"),
        ("channels_last", 2, "channels_last must be 0, or 1 with axis 1; got 2"),
    ],
)
def test_attributes_that_do_not_fit(name, value, message, ops):
    x = np.zeros((1, 12, 3), np.float32)
    with pytest.raises(REFUSED, match=message):
        ops.session(with_attribute(quantize_model(ops, x), name, value))


@pytest.mark.parametrize("name", ["axis", "seed", "log2", "qmin", "qmax"])
def test_attributes_that_are_missing(name, ops):
    model = quantize_model(ops, np.zeros((1, 12, 3), np.float32))
    kept = [a for a in model.graph.node[0].attribute if a.name != name]
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.extend(kept)
    with pytest.raises(REFUSED, match=name):
        ops.session(model)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("d", np.ones(11, np.float32), r"order is 12, but x is .1,12,3.* d is .11."),
        ("d", np.ones((12, 1), np.float32), r"d is .12,1."),
        ("scale", np.ones(2, np.float32), r"one value, got shapes .2. and"),
        ("scale", np.ones(0, np.float32), "one value"),
        ("scale", np.float32(0), "scale must be positive and finite, got 0"),
        ("scale", np.float32(-1), "got -1"),
        ("scale", np.float32(np.nan), "got -?nan"),
        ("scale", np.float32(np.inf), "got inf"),
        ("zero_point", np.zeros(3, np.uint8), "one value, got shapes"),
    ],
)
def test_constants_that_do_not_fit(name, value, message, ops):
    x = np.zeros((1, 12, 3), np.float32)
    session = ops.session(with_initializer(quantize_model(ops, x), name, value))
    with pytest.raises(REFUSED, match=message):
        session.run(None, {"x": x})


@pytest.mark.parametrize("shape", [(1, 13, 3), (1, 0, 3), (12, 1, 1)], ids=str)
def test_another_number_of_channels(shape, ops):
    session = ops.session(quantize_model(ops, np.zeros((1, 12, 3), np.float32)))
    wanted = rf"order is 12, but x is .{','.join(map(str, shape))}. with channels at axis 1"
    with pytest.raises(REFUSED, match=wanted):
        session.run(None, {"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("shape", [(0, 12, 3), (2, 12, 0), (0, 12, 0)], ids=str)
def test_zero_sizes_give_zero_sizes(shape, ops):
    session = ops.session(quantize_model(ops, np.zeros((1, 12, 3), np.float32)))
    (codes,) = session.run(None, {"x": np.zeros(shape, np.float32)})
    assert codes.shape == shape


def test_too_few_dimensions(ops):
    model = ops.hadamard_model(np.zeros(12, np.float32), np.ones(12, np.float32), 1)
    session = ops.session(model)
    with pytest.raises(REFUSED, match=r"x must have at least 2 dimensions for axis 1, got .12."):
        session.run(None, {"x": np.zeros(12, np.float32)})


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.INT32, TensorProto.BFLOAT16])
def test_other_types_are_refused_at_load(kind, ops):
    model = ops.hadamard_model(np.zeros((1, 12), np.float32), np.ones(12, np.float32), 1)
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = kind
    with pytest.raises(REFUSED):
        ops.session(model)


def test_weights_of_four_bits_without_a_sign_are_refused_at_load(ops):
    model = onnx.load_from_string(quantized(Conv(8, 8, 3, 1, 4), 4, branch=False))
    (weight,) = [t for t in model.graph.initializer if t.name == "weight"]
    weight.data_type = TensorProto.UINT4
    with pytest.raises(REFUSED, match="uint4"):
        ops.session(model)


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_no_memory_is_an_error(ops, tmp_path):
    """ONNX Runtime's allocator throws, through the library, which has no exceptions."""
    onnx.save(ops.attention_model(1, quantized=True), tmp_path / "model.onnx")
    command = [sys.executable, "-c", WITHOUT_MEMORY, tmp_path / "model.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stdout + done.stderr


def test_an_unknown_instruction_set_is_an_error(ops, monkeypatch):
    monkeypatch.setenv(library.ISA_VARIABLE, "abacus")
    model = ops.hadamard_model(np.zeros((1, 12), np.float32), np.ones(12, np.float32), 1)
    with pytest.raises(REFUSED, match="QUANTFACE_ISA is abacus"):
        ops.session(model)


@pytest.mark.timeout(900)  # compiles the library
def test_fuzzed_under_the_sanitizers(native_library, build_native):
    options = ["-DQUANTFACE_SANITIZE=ON", "-DQUANTFACE_FUZZ=ON", "-DQUANTFACE_EMULATE=ON"]
    folder = build_native(
        "sanitized", "quantface_fuzz", *options, "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1"
    )
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    command = [folder / "quantface_fuzz", FUZZ_ROUNDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
