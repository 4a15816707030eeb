"""GroupNormSiluHadamardQuantize without the native kernels: body, schema and node."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION, hadamard_function
from onnx_ops.group_norm import group_norm, group_norm_functions
from onnx_ops.hadamard_quantize import hadamard_quantize, hadamard_quantize_function
from onnx_ops.prologue import prologue_function, prologue_node, prologue_schema

SHAPE = (2, 24, 5, 7)


def constants():
    draw = np.random.default_rng(0)
    gamma, beta, d = draw.uniform(0.5, 2, (3, SHAPE[1])).astype(np.float32)
    zero_point = np.uint8(3)
    return {"gamma": gamma, "beta": beta, "d": d, "scale": np.float32(0.2), "zero": zero_point}


def model(shape=SHAPE, *, function=True):
    fixed = constants()
    node = prologue_node(
        ("x", *fixed), ("y", "codes"), n=24, groups=4, epsilon=1e-5, qmin=0, qmax=15, name="p"
    )
    info = helper.make_tensor_value_info
    x, y = (info(name, TensorProto.FLOAT, shape) for name in "xy")
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in fixed.items()]
    graph = helper.make_graph(
        [node], "prologue", [x], [y, info("codes", TensorProto.UINT8, shape)], tensors
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = [
        hadamard_function(),
        hadamard_quantize_function(),
        *group_norm_functions(),
        prologue_function(),
    ]
    return helper.make_model(
        graph, functions=functions if function else [], opset_imports=opsets, ir_version=10
    )


@pytest.mark.parametrize("level", ["off", "all"])
def test_the_body_computes_the_definition(level):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if level == "off":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto, fixed = model(), constants()
    onnx.checker.check_model(proto, full_check=True)
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    y, codes = session.run(None, {"x": x})
    wide = [v.astype(np.float64) for v in (x, fixed["gamma"], fixed["beta"])]
    expected = group_norm(*wide, groups=4, epsilon=1e-5, silu=True)
    np.testing.assert_allclose(y, expected, rtol=0, atol=210 * 2.0**-24 * np.abs(expected).max())
    grid = (fixed["d"], fixed["scale"], fixed["zero"])
    reference = hadamard_quantize(y.astype(np.float64), *grid, axis=1, qmin=0, qmax=15)
    assert np.mean(codes != reference) < 1e-3  # a tie that float32 moved
    assert np.abs(codes.astype(int) - reference).max() <= 1


def test_shape_inference_through_the_schema(inferred):
    proto = model(("batch", 24, 5, "width"), function=False)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    result = inferred(proto, [prologue_schema()])
    for output in result.graph.output:
        dims = output.type.tensor_type.shape.dim
        assert [d.dim_param or d.dim_value for d in dims] == ["batch", 24, 5, "width"]


def test_the_body_has_the_inputs_and_attributes_of_the_schema():
    function, schema = prologue_function(), prologue_schema()
    assert function.name == schema.name
    assert list(function.input) == [p.name for p in schema.inputs]
    assert list(function.output) == [p.name for p in schema.outputs]
    declared = set(function.attribute) | {a.name for a in function.attribute_proto}
    assert declared == set(schema.attributes)
