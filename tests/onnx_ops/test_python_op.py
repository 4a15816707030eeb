import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION, hadamard_function, hadamard_node
from onnx_ops.hadamard import rotate, signs

python_op = pytest.importorskip("onnx_ops.python_op")


def hadamard_model(n, axis, rank):
    shape = [None] * rank
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    node = hadamard_node("x", "d", "y", n=n, axis=axis, name="rotation")
    d = numpy_helper.from_array(signs(n, 0), "d")
    return helper.make_model(
        helper.make_graph([node], "hadamard", [x], [y], [d]),
        functions=[hadamard_function()],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        ir_version=10,
    )


@pytest.mark.parametrize(
    ("shape", "axis"), [((2, 40, 3, 5), 1), ((1, 320), 1), ((2, 7, 60), -1)], ids=str
)
def test_kernel_is_the_definition_and_precedes_the_body(shape, axis, monkeypatch):
    calls = []
    definition = python_op.hadamard_kernel.body

    def recorded(*feed, **attributes):
        calls.append(attributes)
        return definition(*feed, **attributes)

    monkeypatch.setattr(python_op.hadamard_kernel, "body", recorded)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    n = shape[axis]
    model = hadamard_model(n, axis, len(shape)).SerializeToString()

    session = onnxruntime.InferenceSession(model, python_op.python_session_options())
    (y,) = session.run(None, {"x": x})

    np.testing.assert_array_equal(y, rotate(x, signs(n, 0), axis))
    assert [attributes["axis"] for attributes in calls] == [axis]


def test_other_sessions_run_the_body(monkeypatch):
    monkeypatch.setattr(python_op.hadamard_kernel, "body", None)
    session = onnxruntime.InferenceSession(hadamard_model(12, -1, 2).SerializeToString())
    assert session.run(None, {"x": np.ones((1, 12), np.float32)})[0].shape == (1, 12)


def test_attributes_of_another_order_give_nan():
    model = hadamard_model(40, -1, 2)
    for attribute in model.graph.node[0].attribute:
        if attribute.name == "log2":
            attribute.i += 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), python_op.python_session_options()
    )
    assert np.isnan(session.run(None, {"x": np.ones((1, 40), np.float32)})[0]).all()


def test_importing_it_imports_no_torch() -> None:
    program = "import sys; from onnx_ops import python_op; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers"} & set(done.stdout.split())
    program = "from onnx_ops import python_op; import torch, transformers"
    subprocess.run([sys.executable, "-c", program], check=True)
