"""The library as a file, and what finds it."""

import shutil
import subprocess

import numpy as np
import pytest

from onnx_ops import library
from onnx_ops.hadamard import signs


def readelf(path, *options):
    if shutil.which("readelf") is None or path.suffix != ".so":
        pytest.skip("no readelf, or no ELF file")
    done = subprocess.run(
        ["readelf", "--wide", *options, path], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_it_exports_its_own_names_only(native_library):
    rows = [row.split() for row in readelf(native_library, "--dyn-syms").splitlines()]
    defined = {row[7] for row in rows if len(row) == 8 and row[4] == "GLOBAL" and row[6] != "UND"}
    assert defined == {"RegisterCustomOps", "RegisterQuantfaceOps", "QuantfaceInstructionSet"}


def test_it_needs_libc_alone(native_library):
    needed = [row for row in readelf(native_library, "--dynamic").splitlines() if "NEEDED" in row]
    assert all("[libc." in row or "[libm." in row or "[ld-" in row for row in needed), needed


def test_its_segments_fit_pages_of_16_kib(native_library):
    rows = readelf(native_library, "--program-headers").splitlines()
    aligned = [int(row.split()[-1], 16) for row in rows if row.split()[:1] == ["LOAD"]]
    assert aligned
    assert min(aligned) >= 16384


def test_the_slowest_instruction_set_is_generic(native_library):
    assert library.instruction_sets()[-1] == "generic"


def test_its_shape_inference_keeps_symbolic_sizes(ops):
    x = np.zeros((1, 12, 2, 2), np.float32)
    model = ops.quantize_model(x, signs(12, 0), 0.3, np.int8(0), 1, -8, 7, channels_last=True)
    for dimension, name in zip(
        model.graph.input[0].type.tensor_type.shape.dim,
        ("batch", "", "height", "width"),
        strict=True,
    ):
        dimension.dim_param = name
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 12
    model.graph.output[0].type.tensor_type.ClearField("shape")
    (y,) = ops.session(model).get_outputs()
    assert (y.type, y.shape) == ("tensor(int8)", ["batch", "height", "width", 12])


def test_a_named_library_must_exist(monkeypatch, tmp_path):
    monkeypatch.setenv(library.PATH_VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(FileNotFoundError, match=r"none\.so, which is not a file"):
        library.library_path()


def test_without_the_library_the_reason_is_given(monkeypatch, tmp_path):
    monkeypatch.delenv(library.PATH_VARIABLE, raising=False)
    monkeypatch.setattr(library, "_NAMES", ("absent.so",))
    assert library.library_path() is None
    assert library.instruction_sets() == ()
    with pytest.raises(RuntimeError, match=r"function bodies are used\. Install again"):
        library.register(None)
