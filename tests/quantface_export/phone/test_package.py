"""A bundle in ORT format: what stays an op, what a reduced runtime needs, what the check says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, NotImplemented

from onnx_ops.library import library_path, register
from quantface_export.bundle import GOLDEN, load_bundle, sha256
from quantface_export.errors import QuantfaceError
from quantface_export.phone.package import _convert, package
from quantface_export.stages import STAGES

# ONNX Runtime's converter leaves files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Built = tuple[Path, dict[str, Any]]
NATIVE = library_path() is not None


def opened(model: Path, *, native: bool) -> ort.InferenceSession:
    """A session without the layout of x86, which the converter leaves out too."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if native:
        register(options)
    return ort.InferenceSession(
        str(model), options, ["CPUExecutionProvider"], disabled_optimizers=["NchwcTransformer"]
    )


@pytest.fixture(scope="module")
def packaged(
    built: Built, command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What the command writes; with the op library where there is one."""
    out = tmp_path_factory.mktemp("package") / "p"
    options = () if NATIVE else ("--function-bodies",)
    done = command("package", built[0], "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert "download 2: unet" in done.stderr
    return out


@pytest.mark.parametrize("native", [True, False], ids=["library", "function bodies"])
def test_a_converted_stage_computes_the_same(built: Built, tmp_path: Path, *, native: bool) -> None:
    if native and not NATIVE:
        pytest.skip("no C++ compiler")
    model = built[0] / "vae_encoder" / "model.onnx"
    _convert(model, tmp_path / "model.ort", library_path() if native else None)
    image = {"image": np.load(built[0] / GOLDEN)["image"][:1]}
    here = opened(model, native=native).run(None, image)[0]
    there = opened(tmp_path / "model.ort", native=native).run(None, image)[0]
    np.testing.assert_array_equal(here, there)
    if native:  # the ops are nodes and nothing else: without the library no session
        with pytest.raises((Fail, NotImplemented), match=r"quantface|Hadamard|GroupNorm"):
            opened(tmp_path / "model.ort", native=False)


def test_the_package_is_described(packaged: Path) -> None:
    said = json.loads((packaged / "package.json").read_text())
    assert said["op_library"] == NATIVE
    for name, file in said["files"].items():
        assert sha256(packaged / name) == file["sha256"]
    small, large = said["download"]
    assert large["stages"] == ["unet"]
    assert small["bytes"] < large["bytes"]
    assert sorted(small["files"] + large["files"]) == sorted(said["files"])


def test_operators_that_a_reduced_build_needs(packaged: Path) -> None:
    lines = (packaged / "required_operators.config").read_text().splitlines()
    operators = {op for line in lines for op in line.split(";")[2].split(",")}
    assert operators >= {"Conv", "MatMul"}
    bodies = {"QLinearConv", "MatMulIntegerToFloat", "MultiHeadAttention"}
    assert not operators & bodies  # the library's kernels do that
    assert all(line.split(";")[0] in ("ai.onnx", "com.microsoft") for line in lines)


def test_the_check_s_verdict_is_in_report_and_package(built: Built, packaged: Path) -> None:
    usability = json.loads((packaged / "package.json").read_text())["usability"]
    assert usability == built[1]["mobile"]
    assert list(usability) == list(STAGES)
    for found in usability.values():
        assert found["verdict"] == "CPU"
        assert set(found["providers"]) == {"NNAPI", "CoreML NeuralNetwork", "CoreML MLProgram"}
    html = (built[0] / "report.html").read_text()
    assert "mobile usability check" in html
    assert f"in {usability['unet']['providers']['NNAPI']['partitions']} pieces" in html


def test_the_manifest_says_what_to_download_first(built: Built) -> None:
    manifest = load_bundle(built[0]).manifest
    small, large = manifest["download"]
    assert large["stages"] == ["unet"]
    files = manifest["files"]
    for part in (small, large):
        assert part["bytes"] == sum(files[name]["bytes"] for name in part["files"])


def test_a_folder_that_is_taken(built: Built, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(QuantfaceError, match="is not empty; choose another --out"):
        package(load_bundle(built[0]), tmp_path, native=False)
