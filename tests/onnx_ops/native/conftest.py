"""Sessions with the native library, which has to exist wherever a compiler does."""

import os
import platform
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper

from onnx_ops import library
from onnx_ops.attention import attention_functions, attention_node
from onnx_ops.function_body import DOMAIN, OPSET, VERSION, hadamard_function, hadamard_node
from onnx_ops.hadamard_quantize import hadamard_quantize_function, hadamard_quantize_node

TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int8): TensorProto.INT8,
}
SOURCE = Path(library.__file__).parent / "native"
BUILDS = Path(__file__).resolve().parents[3] / "build"
COMPILERS = (os.environ.get("CXX") or "c++", "g++", "clang++")


@pytest.fixture(scope="session")
def native_library():
    path = library.library_path()
    if path is None:
        if any(map(shutil.which, COMPILERS)):
            pytest.fail(f"there is a compiler, but {library.why_missing()}; run `make venv`")
        pytest.skip("no C++ compiler")
    return path


def _model(node, x, constants, y_type, bodies):
    rank = x.ndim
    infos = [
        helper.make_tensor_value_info(name, kind, [None] * rank)
        for name, kind in (("x", TYPES[x.dtype]), ("y", y_type))
    ]
    graph = helper.make_graph(
        [node],
        "op",
        infos[:1],
        infos[1:],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, functions=bodies, opset_imports=opsets, ir_version=10)


class Ops:
    """Models of one op and what they compute."""

    @staticmethod
    def hadamard_model(x, d, axis, *, transposed=False):
        node = hadamard_node("x", "d", "y", n=d.size, axis=axis, name="r", transposed=transposed)
        half = x.dtype == np.float16
        return _model(node, x, {"d": d}, TYPES[x.dtype], [hadamard_function(half=half)])

    @staticmethod
    def quantize_model(x, d, scale, zero_point, axis, qmin, qmax, *, channels_last=False):
        node = hadamard_quantize_node(
            ("x", "d", "scale", "zero_point"),
            "y",
            n=d.size,
            axis=axis,
            qmin=qmin,
            qmax=qmax,
            name="q",
            channels_last=channels_last,
        )
        constants = {"d": d, "scale": np.float32(scale), "zero_point": zero_point}
        half = x.dtype == np.float16
        bodies = [hadamard_function(), hadamard_quantize_function(half=half)]
        return _model(node, x, constants, TYPES[zero_point.dtype], bodies)

    @staticmethod
    def attention_model(heads, *, quantized=False):
        names = ("query", "key", "value", "y")
        infos = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [None] * 3) for x in names]
        node = attention_node(names[:3], "y", num_heads=heads, quantized=quantized, name="a")
        graph = helper.make_graph([node], "op", infos[:3], infos[3:])
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
        functions = attention_functions()
        return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)

    @staticmethod
    def session(model, *, native=True, threads=1, optimized=None):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        if native:
            library.register(options)
        return onnxruntime.InferenceSession(model.SerializeToString(), options)

    @classmethod
    def run(cls, model, x, **settings):
        """The first result for ``x``, or for several inputs by name."""
        feed = x if isinstance(x, dict) else {"x": x}
        return cls.session(model, **settings).run(None, feed)[0]


@pytest.fixture
def ops(native_library, monkeypatch):
    monkeypatch.delenv(library.ISA_VARIABLE, raising=False)
    return Ops


@pytest.fixture(scope="session")
def build_native(shared):
    """Builds a target of the native library with CMake options; returns its folder."""

    def build(folder, target, *options):
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        cmake = shutil.which("cmake", path=path)
        assert cmake, "the dev extra has CMake: run `make venv`"
        jobs = str(os.cpu_count())
        with FileLock(shared / f"{folder}.lock"):
            for command in (
                [cmake, "-S", SOURCE, "-B", BUILDS / folder, *options],
                [cmake, "--build", BUILDS / folder, "--target", target, "--parallel", jobs],
            ):
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
        return BUILDS / folder

    return build


@pytest.fixture(scope="session")
def isa_libraries(native_library, build_native):
    """A library for each instruction set; x86's that this CPU lacks are emulated."""
    found = dict.fromkeys(library.instruction_sets(), native_library)
    if platform.machine() in ("x86_64", "AMD64") and "avx2" in found:
        folder = build_native("emulated", "quantface_ops", "-DQUANTFACE_EMULATE=ON")
        emulated = folder / "libquantface_ops.so"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(library.PATH_VARIABLE, str(emulated))
            names = library.instruction_sets()
        assert set(names) >= {"amx", "avx512-vnni", "avx512", "avx2", "sse4", "generic"}
        found = {name: found.get(name, emulated) for name in names}
    return found


@pytest.fixture
def each_isa(isa_libraries, ops, monkeypatch):
    """Goes through the instruction sets, fastest first; each is in use until the next."""

    def each():
        with monkeypatch.context() as patch:
            for isa, path in isa_libraries.items():
                patch.setenv(library.ISA_VARIABLE, isa)
                patch.setenv(library.PATH_VARIABLE, str(path))
                yield isa

    return each


@pytest.fixture
def every_isa(ops, each_isa):
    """Runs a model under each instruction set, fastest first."""

    def run(model, x, **settings):
        return [ops.run(model, x, **settings) for _ in each_isa()]

    return run
