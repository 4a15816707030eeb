"""ScaleQuantize: the codes of the definition, on every instruction set."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.integer import quantize
from onnx_ops.scale_quantize import scale_quantize_function, scale_quantize_node

SCALE, ZERO = np.float32(0.07), 6


def model(d, *, qmin=0, qmax=15, scale=SCALE):
    node = scale_quantize_node(("x", "d", "s", "z"), "codes", qmin=qmin, qmax=qmax, name="s")
    fixed = {"d": d, "s": scale, "z": np.uint8(ZERO)}
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in fixed.items()]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "scale",
        [info("x", TensorProto.FLOAT, None)],
        [info("codes", TensorProto.UINT8, None)],
        tensors,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(
        graph, functions=[scale_quantize_function()], opset_imports=opsets, ir_version=10
    )


@pytest.mark.parametrize("qmax", [15, 255])
@pytest.mark.parametrize(
    ("shape", "d_shape"),
    [
        ((2, 24, 9, 7), (24, 1, 1)),
        ((1, 3, 100, 101), (1,)),  # several runs, the last one shorter
        ((1, 40, 32, 32), (40, 1, 1)),
        ((2, 50, 40), (40,)),  # along the rows
        ((2, 50, 40), (50, 1)),
        ((1,), (1,)),
        ((5, 1, 1), (1, 1)),
        ((3, 5), (1, 1)),
    ],
    ids=str,
)
def test_the_codes_of_the_definition(shape, d_shape, qmax, ops, each_isa):
    draw = np.random.default_rng(0)
    x = draw.standard_normal(shape).astype(np.float32)
    d = draw.uniform(0.5, 2, d_shape).astype(np.float32)
    expected = quantize(x * d, SCALE, ZERO, 0, qmax)
    proto = model(d, qmax=qmax)
    np.testing.assert_array_equal(ops.run(proto, {"x": x}, native=False), expected)
    for _ in each_isa():
        np.testing.assert_array_equal(ops.run(proto, {"x": x}), expected)
        np.testing.assert_array_equal(ops.run(proto, {"x": x}, threads=3), expected)


def test_what_is_not_finite_has_an_end_of_the_grid(ops, each_isa):
    x = np.float32([np.nan, np.inf, -np.inf, 1e30, -1e30, 0])
    for _ in each_isa():
        codes = ops.run(model(np.ones(1, np.float32), qmin=1), {"x": x})
        assert codes.tolist() == [1, 15, 1, 15, 1, ZERO]


def test_nothing(ops):
    x = np.zeros((2, 24, 0, 7), np.float32)
    assert ops.run(model(np.ones((24, 1, 1), np.float32)), {"x": x}).shape == x.shape


@pytest.mark.parametrize("d_shape", [(24,), (2, 1, 1), (24, 2, 1), (0,), (1, 1, 1, 1, 1)], ids=str)
def test_multipliers_that_do_not_fit(d_shape, ops):
    x = np.zeros((2, 24, 3, 7), np.float32)
    with pytest.raises(Exception, match=r"d must be one value or \(C,1,...,1\)"):
        ops.session(model(np.ones(d_shape, np.float32))).run(None, {"x": x})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"qmin": 16}, "need 0 <= qmin <= qmax <= 255, got qmin 16, qmax 15"),
        ({"scale": np.float32(0)}, "scale must be positive and finite, got 0"),
    ],
)
def test_attributes_that_do_not_fit(settings, text, ops):
    with pytest.raises(Exception, match=text):
        session = ops.session(model(np.ones(1, np.float32), **settings))
        session.run(None, {"x": np.zeros((2, 24), np.float32)})


def test_its_shape_inference_keeps_symbolic_sizes(ops):
    proto = model(np.ones((24, 1, 1), np.float32))
    shape = ["batch", 24, "height", "width"]
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    (codes,) = ops.session(proto).get_outputs()
    assert (codes.type, codes.shape) == ("tensor(uint8)", shape)
