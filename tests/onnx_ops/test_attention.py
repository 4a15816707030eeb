"""Attention without the native kernels: body and schema."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnx_ops.attention import attention, attention_function, attention_node, attention_schema
from onnx_ops.function_body import DOMAIN, OPSET, VERSION

NAMES = ("query", "key", "value")


def model(shapes, heads, *, function=True):
    node = attention_node(NAMES, "y", num_heads=heads, name="n")
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip((*NAMES, "y"), (*shapes, [None] * 3), strict=True)
    ]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = [attention_function()] if function else []
    graph = helper.make_graph([node], "attention", infos[:3], infos[3:])
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


def test_the_body_computes_the_definition():
    draw = np.random.default_rng(0)
    shapes = (2, 5, 24), (2, 7, 24), (2, 7, 24)
    feed = {k: draw.standard_normal(s, np.float32) for k, s in zip(NAMES, shapes, strict=True)}
    proto = model(shapes, 3)
    onnx.checker.check_model(proto, full_check=True)
    (y,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)
    expected = attention(*(v.astype(np.float64) for v in feed.values()), num_heads=3)
    assert np.abs(y - expected).max() <= 24 * 2.0**-24 * np.abs(feed["value"]).max()


def test_shape_inference_through_the_schema(inferred):
    proto = model((("batch", 5, 24), ("batch", 7, 24), ("batch", 7, 24)), 3, function=False)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    result = inferred(proto, [attention_schema()])
    assert result.graph.output[0].type == proto.graph.input[0].type


def test_channels_must_be_whole_heads():
    with pytest.raises(ValueError, match="7 channels are no 3 heads"):
        attention(*np.ones((3, 1, 2, 7)), num_heads=3)
