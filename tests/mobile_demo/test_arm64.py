"""A bundle, the op library and the C++ runner on emulated arm64 CPUs: `make arm64` runs this.

Emulated, one picture takes half a minute. So every CPU checks the integers of all layers, the ops'
codes and one picture; one CPU goes through all of `verify`, and another one runs the function
bodies.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.hadamard import signs
from onnx_ops.hadamard_quantize import hadamard_quantize_node
from onnx_ops.library import PATH_VARIABLE, library_path
from quantface_export.bundle import GOLDEN, load_bundle
from quantface_export.pixels import to_pictures
from quantface_export.verify import MIN_PSNR_DB, psnr_db

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("QUANTFACE_ARM64", ROOT / "nowhere"))
LIBRARY = FOLDER / "ops" / "libquantface_ops.so"
FUZZ = FOLDER / "fuzz" / "quantface_fuzz"
BUNDLE = FOLDER / "bundle"

CPUS = ("cortex-a53", "cortex-a76", "max")
"""Without the dot product, with it, and with i8mm."""

WHOLE, BODIES = "cortex-a76", "max"
"""Which CPU goes through all of `verify`, and which one runs the function bodies."""

ORDERS = (16, 12, 40, 60, 320)

FUZZ_ROUNDS = 300

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="only `make arm64` has the emulated root"),
    pytest.mark.timeout(1200),
]

Done = subprocess.CompletedProcess[str]

OPS_PROGRAM = """
import sys
import numpy, onnxruntime
from onnx_ops import library

folder, suffix, *orders = sys.argv[1:]
for n in orders:
    options = onnxruntime.SessionOptions()
    library.register(options)
    session = onnxruntime.InferenceSession(f"{folder}/{n}.onnx", options)
    x = {"x": numpy.load(f"{folder}/{n}.npy")}
    numpy.save(f"{folder}/{n}-{suffix}.npy", session.run(None, x)[0])
"""


def emulated(cpu: str, *command: object) -> Done:
    """Run an arm64 program; Python finds this tree and the arm64 wheels."""
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    assert qemu, "qemu-user-static is missing; `make arm64` installs it"
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(FOLDER / "wheels")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        PATH_VARIABLE: str(LIBRARY),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
    }
    return subprocess.run(
        [qemu, "-cpu", cpu, "-L", FOLDER / "root", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def python(cpu: str, *arguments: object) -> Done:
    interpreter = next((FOLDER / "root" / "usr" / "bin").glob("python3.[0-9]*"))
    return emulated(cpu, interpreter, *arguments)


def verified(cpu: str, target: Path, *options: object) -> Done:
    return python(cpu, "-m", "quantface_export", "verify", BUNDLE, *options, "--json", target)


def restored(cpu: str, folder: Path, *options: object) -> Done:
    """The first golden image by the C++ runner; to ``folder/restored-CPU.png``."""
    runtime = next((FOLDER / "wheels" / "onnxruntime" / "capi").glob("libonnxruntime.so.1*"))
    runner, kind = FOLDER / "runner" / "quantface-restore", "ops" if options else "bodies"
    files = BUNDLE, folder / "face.png", folder / f"{kind}-{cpu}.png"
    return emulated(cpu, runner, "--runtime", runtime, "--threads", 1, *options, *files)


def write_op_models(folder: Path) -> None:
    """A model of HadamardQuantize for each order, without a function body, and an input."""
    for n in ORDERS:
        names = ("x", "d", "scale", "zero_point")
        node = hadamard_quantize_node(names, "y", n=n, axis=1, qmin=0, qmax=15, name="q")
        constants = (signs(n, 0), np.float32(0.37), np.uint8(7))
        make = helper.make_tensor_value_info
        graph = helper.make_graph(
            [node],
            "op",
            [make("x", TensorProto.FLOAT, (1, n, 17, 19))],
            [make("y", TensorProto.UINT8, (1, n, 17, 19))],
            [
                numpy_helper.from_array(np.asarray(c), name)
                for c, name in zip(constants, names[1:], strict=True)
            ],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        (folder / f"{n}.onnx").write_bytes(model.SerializeToString())
        x = np.random.default_rng(n).standard_normal((1, n, 17, 19)).astype(np.float32)
        np.save(folder / f"{n}.npy", x)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the emulated programs read, and write to."""
    folder = tmp_path_factory.mktemp("arm64")
    write_op_models(folder)
    image = np.load(BUNDLE / GOLDEN)["image"][:1]
    cv2.imwrite(str(folder / "face.png"), to_pictures((image + 1) / 2)[0][..., ::-1])
    return folder


@pytest.fixture(scope="module")
def started(folder: Path) -> Iterator[dict[tuple[str, str], Future[Done]]]:
    """All emulated runs, one for each core of this machine at a time."""
    ops = ("--ops", LIBRARY)
    runs: dict[tuple[str, str], Callable[[], Done]] = {
        ("verify", WHOLE): lambda: verified(
            WHOLE, folder / "whole.json", "--native", "--images", 1
        ),
        ("bodies", BODIES): lambda: restored(BODIES, folder),
    }
    for cpu in CPUS:
        runs["picture", cpu] = lambda cpu=cpu: restored(cpu, folder, *ops)
        runs["integers", cpu] = lambda cpu=cpu: verified(cpu, folder / f"{cpu}.json", "--integers")
        runs["fuzz", cpu] = lambda cpu=cpu: emulated(cpu, FUZZ, FUZZ_ROUNDS)
        runs["ops", cpu] = lambda cpu=cpu: python(cpu, "-c", OPS_PROGRAM, folder, cpu, *ORDERS)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield {key: pool.submit(run) for key, run in runs.items()}


def finished(started: dict[tuple[str, str], Future[Done]], what: str, cpu: str) -> None:
    done = started[what, cpu].result()
    assert done.returncode == 0, done.stdout + done.stderr


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("cpu", CPUS)
def test_integers_are_identical_to_x86_s(started: Any, folder: Path, cpu: str) -> None:
    finished(started, "integers", cpu)
    there = read_json(folder / f"{cpu}.json")
    assert there["passed"] and there["integers"]["as_built"]
    command = [sys.executable, "-m", "quantface_export", "verify", BUNDLE, "--integers"]
    target = folder / "here.json"
    subprocess.run([*map(str, command), "--json", str(target)], check=True, cwd=ROOT)
    here = read_json(target)["integers"]["sha256"]["function"]
    assert there["integers"]["sha256"] == {"function": here, "native": here}


@pytest.mark.parametrize("cpu", CPUS)
def test_the_ops_give_x86_s_codes(started: Any, folder: Path, cpu: str) -> None:
    finished(started, "ops", cpu)
    if library_path() is None:
        pytest.skip("no native kernels here to compare with")
    command = [sys.executable, "-c", OPS_PROGRAM, folder, "here", *ORDERS]
    subprocess.run([*map(str, command)], check=True, cwd=ROOT)
    for n in ORDERS:
        here, there = (np.load(folder / f"{n}-{name}.npy") for name in ("here", cpu))
        np.testing.assert_array_equal(here, there)
        assert len(np.unique(here)) == 16


@pytest.mark.parametrize("cpu", CPUS)
def test_fuzzed_instruction_sets_agree(started: Any, cpu: str) -> None:
    finished(started, "fuzz", cpu)


@pytest.mark.parametrize(("kind", "cpu"), [*(("picture", cpu) for cpu in CPUS), ("bodies", BODIES)])
def test_the_runner_s_picture(started: Any, folder: Path, kind: str, cpu: str) -> None:
    finished(started, kind, cpu)
    name = "ops" if kind == "picture" else "bodies"
    result = cv2.imread(str(folder / f"{name}-{cpu}.png"))[..., ::-1]
    golden: NDArray[np.float32] = np.load(BUNDLE / GOLDEN)["restored"][0].transpose(1, 2, 0)
    floor = load_bundle(BUNDLE).manifest["noise_floor_psnr_db"]
    psnr = psnr_db(golden, (result / np.float32(255)).astype(np.float32))
    print(f"{cpu}, {name}: {psnr:.1f} dB")
    assert psnr >= max(MIN_PSNR_DB, floor - 6.03)


def test_all_of_verify(started: Any, folder: Path) -> None:
    finished(started, "verify", WHOLE)
    there = read_json(folder / "whole.json")
    assert there["passed"]
    assert there["fusion"]["fused"] == there["fusion"]["planned"] > 200


def test_the_archive_has_the_registration_function() -> None:
    archive = FOLDER / "ops-static" / "libquantface_ops.a"
    done = subprocess.run(
        ["readelf", "--wide", "--symbols", archive], capture_output=True, text=True, check=True
    )
    rows = [row.split() for row in done.stdout.splitlines() if "RegisterQuantfaceOps" in row]
    assert [row[3:6] for row in rows if row[6] != "UND"] == [["FUNC", "GLOBAL", "DEFAULT"]]


def test_the_library_is_for_arm64_and_pages_of_16_kib() -> None:
    done = subprocess.run(
        ["readelf", "--wide", "--file-header", "--program-headers", LIBRARY],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "AArch64" in done.stdout
    rows = [row.split() for row in done.stdout.splitlines()]
    aligned = [int(row[-1], 16) for row in rows if row[:1] == ["LOAD"]]
    assert aligned and min(aligned) >= 16384
