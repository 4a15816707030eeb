"""LayerNormQuantize and GegluQuantize: near the definition, the same bits on every CPU."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.integer import quantize
from onnx_ops.linear_prologue import (
    geglu,
    geglu_node,
    layer_norm,
    layer_norm_node,
    linear_prologue_functions,
)

EPS = 2.0**-24
SCALE, ZERO = np.float32(0.2), 3
KINDS = pytest.mark.parametrize("kind", ["layer norm", "geglu"])


def model(kind, channels, *, qmin=0, qmax=15, epsilon=1e-5, scale=SCALE):
    gamma, beta = affine(channels)
    fixed = {"gamma": gamma, "beta": beta, "scale": scale, "zero": np.uint8(ZERO)}
    outputs, grid = ("y", "codes"), {"qmin": qmin, "qmax": qmax, "name": "p"}
    if kind == "layer norm":
        node = layer_norm_node(("x", *fixed), outputs, epsilon=epsilon, **grid)
    else:
        node = geglu_node(("x", "scale", "zero"), outputs, **grid)
    info = helper.make_tensor_value_info
    results = [info("y", TensorProto.FLOAT, None), info("codes", TensorProto.UINT8, None)]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in fixed.items()]
    graph = helper.make_graph(
        [node], "prologue", [info("x", TensorProto.FLOAT, None)], results, tensors
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(
        graph, functions=linear_prologue_functions(), opset_imports=opsets, ir_version=10
    )


def affine(channels):
    return np.random.default_rng(channels).uniform(0.5, 2, (2, channels)).astype(np.float32)


@pytest.mark.parametrize("qmax", [15, 255])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7, 24), (2, 500, 96), (1, 33), (5, 1, 130)], ids=str)
@KINDS
def test_near_the_definition(kind, shape, qmax, ops, each_isa):
    draw = np.random.default_rng(0)
    *rows, channels = shape
    width = channels if kind == "layer norm" else 2 * channels
    x = (2 * draw.standard_normal((*rows, width)) + 5 * (kind == "layer norm")).astype(np.float32)
    proto = model(kind, channels, qmax=qmax)
    if kind == "layer norm":
        gamma, beta = (v.astype(np.float64) for v in affine(channels))
        expected = layer_norm(x.astype(np.float64), gamma, beta, epsilon=1e-5)
        # x - mean errs by the rounding of the mean, which is as large as x
        spread = np.sqrt(x.astype(np.float64).var(-1, keepdims=True) + 1e-5)
        bound = 4 * EPS * (np.abs(expected) + gamma * np.abs(x).max() / spread + beta)
    else:
        expected = geglu(x.astype(np.float64))
        value, gate = np.abs(np.split(x, 2, -1))
        bound = value * gate * (1e-7 + 4 * EPS)
    results = [ops.session(proto, threads=3).run(None, {"x": x})]
    results += [ops.session(proto).run(None, {"x": x}) for _ in each_isa()]
    for y, codes in results:
        assert (np.abs(y - expected) <= bound).all()
        np.testing.assert_array_equal(codes, quantize(y, SCALE, ZERO, 0, qmax))
        np.testing.assert_array_equal(y, results[0][0])
    body, _ = ops.session(proto, native=False).run(None, {"x": x})
    assert (np.abs(body - expected) <= bound).all()


@KINDS
def test_what_is_not_a_number_stays_in_its_row(kind, ops, each_isa):
    x = np.random.default_rng(0).standard_normal((4, 48)).astype(np.float32)
    x[2, 5] = np.nan
    for _ in each_isa():
        y, codes = ops.session(model(kind, 48 if kind == "layer norm" else 24)).run(None, {"x": x})
        assert np.isnan(y).any(-1).nonzero()[0].tolist() == [2]
        assert (codes[2][np.isnan(y[2])] == 0).all()


def test_gates_far_out(ops, each_isa):
    """Where gelu is the gate itself, or nothing."""
    gate = np.float32([-np.inf, -1e30, -40, -0.0, 0, 40, 1e30, np.inf])
    x = np.concatenate([np.ones(8, np.float32), gate])[None]
    for _ in each_isa():
        y, _ = ops.session(model("geglu", 8)).run(None, {"x": x})
        expected = np.float32([0, 0, 0, 0, 40, 1e30, np.inf])
        np.testing.assert_allclose(y[0, 1:], expected, rtol=0, atol=1e-37)
        assert np.isnan(y[0, 0])  # -inf * 0, as in the definition


@KINDS
def test_no_rows(kind, ops):
    y, codes = ops.session(model(kind, 24)).run(None, {"x": np.zeros((0, 24), np.float32)})
    assert y.shape == codes.shape == ((0, 24) if kind == "layer norm" else (0, 12))


@pytest.mark.parametrize(
    ("kind", "shape", "text"),
    [
        ("layer norm", (4, 25), r"gamma must be \(25\), got \(24\)"),
        ("geglu", (4, 25), "an even number of channels"),
        ("geglu", (), "an even number of channels"),
        ("layer norm", (), "x must have a dimension"),
    ],
)
def test_inputs_that_do_not_fit(kind, shape, text, ops):
    with pytest.raises(Exception, match=text):
        ops.session(model(kind, 24)).run(None, {"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"qmin": 16}, "need 0 <= qmin <= qmax <= 255, got qmin 16, qmax 15"),
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"scale": np.float32(0)}, "scale must be positive and finite, got 0"),
    ],
)
def test_attributes_that_do_not_fit(settings, text, ops):
    with pytest.raises(Exception, match=text):
        session = ops.session(model("layer norm", 24, **settings))
        session.run(None, {"x": np.zeros((2, 24), np.float32)})
