"""Attention without the native kernels: definition, bodies and schemas."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnx_ops.attention import (
    KEY_TOP,
    QUERY_TOP,
    attention,
    attention_functions,
    attention_node,
    attention_schemas,
)
from onnx_ops.function_body import DOMAIN, OPSET, VERSION

NAMES = ("query", "key", "value")
SHAPES = (2, 5, 24), (2, 7, 24), (2, 7, 24)


def model(shapes, heads, *, quantized, function=True):
    node = attention_node(NAMES, "y", num_heads=heads, quantized=quantized, name="n")
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip((*NAMES, "y"), (*shapes, [None] * 3), strict=True)
    ]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = attention_functions() if function else []
    graph = helper.make_graph([node], "attention", infos[:3], infos[3:])
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


def drawn():
    draw = np.random.default_rng(0)
    return {k: draw.standard_normal(s, np.float32) for k, s in zip(NAMES, SHAPES, strict=True)}


@pytest.mark.parametrize("quantized", [False, True])
def test_the_body_computes_the_definition(quantized):
    feed, proto = drawn(), model(SHAPES, 3, quantized=quantized)
    onnx.checker.check_model(proto, full_check=True)
    (y,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)
    exact = {name: x.astype(np.float64) for name, x in feed.items()}
    expected = attention(**exact, num_heads=3, quantized=quantized)
    assert np.abs(y - expected).max() <= 24 * 2.0**-24 * np.abs(feed["value"]).max()


def test_rounding_moves_a_result_by_half_a_step_at_most():
    """With one key the result is its value, rounded; with equal keys it is their mean."""
    value = np.random.default_rng(1).standard_normal((1, 3, 8))
    key = np.ones((1, 3, 8))
    y = attention(key[:, :1], key, value, num_heads=2, quantized=True)
    step = np.abs(value).max(1) / KEY_TOP
    assert 0 < np.abs(y[:, 0] - value.mean(1)).max() < step.max() / 2


def test_keys_count_by_what_differs_among_them():
    """8 bits of key - mean: a mean of 1000 leaves the same scores."""
    q, k, v = np.random.default_rng(2).standard_normal((3, 1, 9, 16))
    near = attention(q, k, v, num_heads=1, quantized=True)
    far = attention(q, k + 1000, v, num_heads=1, quantized=True)
    np.testing.assert_allclose(far, near, atol=1e-9)
    exact = attention(q, k, v, num_heads=1)
    # half a step in each of 16 channels moves a score, twice that the shares; half a step moves v
    q_most, k_most, v_most = (np.abs(x).max() for x in (q, k - k.mean(1), v))
    moved = 16 / np.sqrt(16) * q_most * k_most * (1 / QUERY_TOP + 1 / KEY_TOP) / 2
    assert np.abs(near - exact).max() < 2 * moved * v_most + v_most / KEY_TOP / 2


def test_zeros_stay_zeros():
    zeros, ones = np.zeros((1, 4, 8)), np.ones((1, 4, 8))
    y = attention(zeros, ones, zeros, num_heads=2, quantized=True)
    np.testing.assert_array_equal(y, zeros)


@pytest.mark.parametrize("quantized", [False, True])
def test_shape_inference_through_the_schema(quantized, inferred):
    shapes = ("batch", 5, 24), ("batch", 7, 24), ("batch", 7, 24)
    proto = model(shapes, 3, quantized=quantized, function=False)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    result = inferred(proto, attention_schemas())
    assert result.graph.output[0].type == proto.graph.input[0].type


def test_channels_must_be_whole_heads():
    with pytest.raises(ValueError, match="7 channels are no 3 heads"):
        attention(*np.ones((3, 1, 2, 7)), num_heads=3)
