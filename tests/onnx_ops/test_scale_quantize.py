"""ScaleQuantize without the native kernels: body, schema and node."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.integer import quantize
from onnx_ops.scale_quantize import (
    scale_quantize_function,
    scale_quantize_node,
    scale_quantize_schema,
)

SCALE, ZERO = np.float32(0.07), 6


def model(shape, d, *, top=15, function=True):
    node = scale_quantize_node(("x", "d", "scale", "zero"), "codes", qmin=0, qmax=top, name="s")
    fixed = {"d": d, "scale": SCALE, "zero": np.uint8(ZERO)}
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in fixed.items()]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "scale",
        [info("x", TensorProto.FLOAT, shape)],
        [info("codes", TensorProto.UINT8, shape)],
        tensors,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = [scale_quantize_function()] if function else []
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("top", [15, 255])
@pytest.mark.parametrize("d_shape", [(1,), (5,), (7, 1), (3, 1, 1)], ids=str)
def test_the_body_computes_the_definition(d_shape, top):
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, 3, 7, 5)).astype(np.float32)
    d = draw.uniform(0.5, 2, d_shape).astype(np.float32)
    proto = model(x.shape, d, top=top)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (codes,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(codes, quantize(x * d, SCALE, ZERO, 0, top))
    assert np.unique(codes).size > 10


def test_shape_inference_through_the_schema(inferred):
    proto = model(("batch", 24, "height", "width"), np.ones((24, 1, 1), np.float32), function=False)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    codes = inferred(proto, [scale_quantize_schema()]).graph.output[0].type.tensor_type
    assert codes.elem_type == TensorProto.UINT8
    dims = [d.dim_param or d.dim_value for d in codes.shape.dim]
    assert dims == ["batch", 24, "height", "width"]


def test_the_body_has_the_inputs_and_attributes_of_the_schema():
    function, schema = scale_quantize_function(), scale_quantize_schema()
    assert function.name == schema.name
    assert list(function.input) == [p.name for p in schema.inputs]
    declared = set(function.attribute) | {a.name for a in function.attribute_proto}
    assert declared == set(schema.attributes)
