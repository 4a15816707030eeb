"""GroupNorm without the native kernels: body and schema."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.group_norm import (
    group_norm,
    group_norm_functions,
    group_norm_node,
    group_norm_schemas,
)


def model(gamma, beta, shape, *, silu, function=True):
    node = group_norm_node(("x", "gamma", "beta"), "y", groups=3, epsilon=1e-5, silu=silu, name="n")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    tensors = [numpy_helper.from_array(v, k) for k, v in (("gamma", gamma), ("beta", beta))]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = list(group_norm_functions()) if function else []
    graph = helper.make_graph([node], "norm", [x], [y], tensors)
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shape", [(2, 12, 4, 5), (1, 12, 7)], ids=str)
def test_the_body_computes_the_definition(silu, shape, tmp_path):
    draw = np.random.default_rng(0)
    x = draw.standard_normal(shape).astype(np.float32)
    gamma, beta = draw.standard_normal((2, 12)).astype(np.float32)
    proto, path = model(gamma, beta, shape, silu=silu), tmp_path / "optimized.onnx"
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    (y,) = session.run(None, {"x": x})
    wide = [v.astype(np.float64) for v in (x, gamma, beta)]
    expected = group_norm(*wide, groups=3, epsilon=1e-5, silu=silu)
    assert np.abs(y - expected).max() <= x[0, :4].size * 2.0**-24 * np.abs(expected).max()
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    activation = {"QuickGelu"} if silu else set()
    assert kinds == {"Reshape", "InstanceNormalization", "Mul", "Add", *activation}


@pytest.mark.parametrize("silu", [False, True])
def test_shape_inference_through_the_schema(silu, inferred):
    constants = np.ones((2, 6), np.float32)
    proto = model(*constants, ("batch", 6, 5), silu=silu, function=False)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    result = inferred(proto, group_norm_schemas())
    assert result.graph.output[0].type == proto.graph.input[0].type


def test_channels_must_be_whole_groups():
    with pytest.raises(ValueError, match="7 channels are no 3 groups"):
        group_norm(np.ones((1, 7, 2)), np.ones(7), np.ones(7), groups=3, epsilon=1e-5, silu=False)
