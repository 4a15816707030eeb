"""The library and the function bodies in older ONNX Runtimes: `make runtimes` installs them.

Before 1.23, ONNX Runtime has no Cast of INT4, with which the body of a convolution begins.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_ops.bench_layers import Conv, Linear, quantized
from onnx_ops.hadamard import signs

ROOT = Path(__file__).resolve().parents[3]
EPS = np.finfo(np.float32).eps
RUNTIMES = sorted((ROOT / "build" / "ort").glob("[0-9]*"))

PROGRAM = """
import pathlib, sys
import numpy, onnxruntime
from onnx_ops import library

folder, version = sys.argv[1:]
assert onnxruntime.__version__ == version, onnxruntime.__version__
for path in pathlib.Path(folder).glob("*.npz"):
    name, feed = path.stem, dict(numpy.load(path))
    for native in (True,) if name.endswith("4") and version < "1.23" else (True, False):
        options = onnxruntime.SessionOptions()
        if native:
            library.register(options)
        session = onnxruntime.InferenceSession(f"{folder}/{name}.onnx", options)
        numpy.save(f"{folder}/{name}-{native}.npy", session.run(None, feed)[0])
"""


@pytest.mark.skipif(not RUNTIMES, reason="`make runtimes` has not been run")
@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda path: path.name)
def test_older_runtimes_compute_the_same(runtime, ops, tmp_path):
    draw = np.random.default_rng(0)
    x, image = draw.standard_normal((1, 60, 9, 7)).astype(np.float32), (1, 24, 9, 9)
    conv = {"codes": draw.integers(0, 16, image).astype(np.uint8), "x": np.ones(image, np.float32)}
    d = signs(60, 0)
    tokens = {k: draw.standard_normal((1, 30, 24), np.float32) for k in ("query", "key", "value")}
    linear = {k: v.transpose(0, 2, 3, 1).reshape(1, 81, 24) for k, v in conv.items()}
    layers = {
        f"{kind}{bits}": onnx.load_from_string(quantized(layer, bits, branch=True))
        for kind, layer in (("conv", Conv(24, 40, 3, 1, 9)), ("linear", Linear(24, 40, 81)))
        for bits in (4, 8)
    }
    models = layers | {
        "hadamard": ops.hadamard_model(x, d, 1),
        "codes": ops.quantize_model(x, d, 0.3, np.uint8(7), 1, 0, 15, channels_last=True),
        "attention": ops.attention_model(3),
        "attention8": ops.attention_model(3, quantized=True),
    }
    feeds = {name: conv if name.startswith("conv") else linear for name in layers}
    feeds |= {"hadamard": {"x": x}, "codes": {"x": x}, "attention": tokens, "attention8": tokens}
    for name, model in models.items():
        np.savez(tmp_path / f"{name}.npz", **feeds[name])
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    path = os.pathsep.join([str(runtime), str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path, runtime.name],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, model in models.items():
        for native in (True, False):
            if not native and name.endswith("4") and runtime.name < "1.23":
                continue
            there = np.load(tmp_path / f"{name}-{native}.npy")
            here = ops.session(model, native=native).run(None, feeds[name])[0]
            if native:
                np.testing.assert_array_equal(there, here)
            else:  # MatMul may add in another order
                steps = {"codes": 1, "hadamard": 60 * EPS * np.abs(x).sum(1).max()}
                step = steps.get(name, 24 * 9 * 16 * EPS * np.abs(here).max())
                assert np.abs(there.astype(float) - here).max() <= step
