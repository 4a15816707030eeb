import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import (
    DOMAIN,
    OPSET,
    VERSION,
    hadamard_function,
    hadamard_node,
    hadamard_schema,
)
from onnx_ops.hadamard import factor, rotate, signs

LEVELS = {
    "off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
RUNTIME_OPS = {1: {"Reshape", "MatMul", "Shape"}, -1: {"Reshape", "MatMul", "Shape", "Mul"}}
ORDERS = [1, 2, 12, 20, 60, 64, 320, 512, 960, 2560]


def multiplier(n):
    return (signs(n, 0) * np.random.default_rng(n).uniform(0.5, 2, n)).astype(np.float32)


def hadamard_model(n, axis, shape, *, d_is_input=False, function=True):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    d = helper.make_tensor_value_info("d", TensorProto.FLOAT, [n])
    graph = helper.make_graph(
        [hadamard_node("x", "d", "y", n=n, axis=axis, name="rotation")],
        "hadamard",
        [x, d] if d_is_input else [x],
        [y],
        [] if d_is_input else [numpy_helper.from_array(multiplier(n), "d")],
    )
    return helper.make_model(
        graph,
        functions=[hadamard_function()] if function else [],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        ir_version=10,
    )


def session(model, level="all", optimized_path=None):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def assert_rotated(y, x, d, axis):
    n = x.shape[axis]
    expected = rotate(x.astype(np.float64), d, axis)
    m, p = factor(n)
    magnitudes = np.abs(np.moveaxis(x, axis, -1).astype(np.float64) * d).sum(-1) / np.sqrt(n)
    # Sums of at most m * p / 2 + 2 terms in two steps; one rounding for d, two for 1 / sqrt(n).
    bound = (m + p + 3) * np.finfo(np.float32).eps * np.expand_dims(magnitudes, axis)
    assert y.shape == x.shape
    assert np.all(np.abs(y - expected) <= bound)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(2, None, 3, 5), (1, None, 1, 1), (3, None)], ids=str)
@pytest.mark.parametrize("n", ORDERS)
def test_channels_first(n, shape, level):
    shape = [n if size is None else size for size in shape]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (y,) = session(hadamard_model(n, 1, shape), level).run(None, {"x": x})
    assert_rotated(y, x, multiplier(n), 1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", [(2, 7, None), (1, 1, None), (2, 2, 3, None)], ids=str)
@pytest.mark.parametrize("n", ORDERS)
def test_channels_last(n, shape, level):
    shape = [n if size is None else size for size in shape]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (y,) = session(hadamard_model(n, -1, shape), level).run(None, {"x": x})
    assert_rotated(y, x, multiplier(n), -1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("axis", "symbolic", "shapes"),
    [
        (1, ["batch", 40, "height", "width"], [(1, 40, 2, 3), (3, 40, 5, 1)]),
        (-1, ["batch", "tokens", 40], [(1, 6, 40), (3, 1, 40)]),
    ],
)
def test_one_session_takes_every_batch_and_spatial_size(axis, symbolic, shapes, level):
    runner = session(hadamard_model(40, axis, symbolic), level)
    for shape in shapes:
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        (y,) = runner.run(None, {"x": x})
        assert_rotated(y, x, multiplier(40), axis)


@pytest.mark.parametrize("axis", [1, -1])
def test_multiplier_may_be_computed(axis):
    x = np.random.default_rng(0).standard_normal((2, 20, 20)).astype(np.float32)
    runner = session(hadamard_model(20, axis, x.shape, d_is_input=True))
    (y,) = runner.run(None, {"x": x, "d": multiplier(20)})
    assert_rotated(y, x, multiplier(20), axis)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("n", [2, 320, 512])
def test_factors_fold_at_load(n, axis, tmp_path):
    path = tmp_path / "optimized.onnx"
    shape = ["batch", n, "height", "width"] if axis == 1 else ["batch", "tokens", n]
    session(hadamard_model(n, axis, shape), optimized_path=path)
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    assert set(nodes) == RUNTIME_OPS[axis]
    assert nodes.count("MatMul") == 2
    assert len(nodes) <= 6


@pytest.mark.parametrize("shape", [(2, 40, 3, 5), ("batch", 40, "height", "width")], ids=str)
@pytest.mark.parametrize("function", [True, False], ids=["body", "no body"])
def test_checker_accepts_the_model(shape, function):
    model = hadamard_model(40, 1, shape, function=function)
    onnx.checker.check_model(model, full_check=True)


def test_shape_inference_through_the_body():
    model = hadamard_model(40, 1, ["batch", 40, "height", "width"])
    model.graph.output[0].type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    assert inferred.graph.output[0].type == model.graph.input[0].type


def test_shape_inference_through_the_schema(inferred):
    model = hadamard_model(40, 1, ["batch", 40, "height", "width"], function=False)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    result = inferred(model, [hadamard_schema()])
    assert result.graph.output[0].type == model.graph.input[0].type


def test_body_is_one_function_with_the_attributes_of_the_schema():
    function = hadamard_function()
    assert (function.domain, function.name) == (DOMAIN, "Hadamard")
    assert {a.name for a in function.attribute_proto} == set(hadamard_schema().attributes)
    assert {node.domain for node in function.node} == {""}


@pytest.mark.parametrize("axis", [0, 2, -2])
def test_node_rejects_other_axes(axis):
    with pytest.raises(ValueError, match=f"axis must be 1 .* got {axis}"):
        hadamard_node("x", "d", "y", n=12, axis=axis, name="rotation")


def test_node_rejects_orders_without_a_construction():
    with pytest.raises(ValueError, match="order 100"):
        hadamard_node("x", "d", "y", n=100, axis=1, name="rotation")
