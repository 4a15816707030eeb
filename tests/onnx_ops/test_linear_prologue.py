"""LayerNormQuantize and GegluQuantize without the native kernels: bodies, schemas and nodes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.integer import quantize
from onnx_ops.linear_prologue import (
    GEGLU,
    geglu,
    geglu_node,
    layer_norm,
    layer_norm_node,
    linear_prologue_functions,
    linear_prologue_schemas,
)

EPS = 2.0**-24
SHAPE = (2, 5, 24)
KINDS = pytest.mark.parametrize("kind", ["layer norm", "geglu"])


def constants(kind):
    gamma, beta = np.random.default_rng(0).uniform(0.5, 2, (2, 24)).astype(np.float32)
    affine = {"gamma": gamma, "beta": beta} if kind == "layer norm" else {}
    return affine | {"scale": np.float32(0.2), "zero": np.uint8(3)}


def model(kind, shape=SHAPE, *, function=True):
    fixed, outputs, grid = constants(kind), ("y", "codes"), {"qmin": 0, "qmax": 15}
    node = geglu_node(("x", *fixed), outputs, **grid, name="p")
    if kind == "layer norm":
        node = layer_norm_node(("x", *fixed), outputs, epsilon=1e-5, **grid, name="p")
    info = helper.make_tensor_value_info
    half = shape if kind == "layer norm" else (*shape[:-1], shape[-1] // 2)
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in fixed.items()]
    results = [info("y", TensorProto.FLOAT, half), info("codes", TensorProto.UINT8, half)]
    graph = helper.make_graph(
        [node], "prologue", [info("x", TensorProto.FLOAT, shape)], results, tensors
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = linear_prologue_functions() if function else []
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


@KINDS
def test_the_body_computes_the_definition(kind):
    proto, fixed = model(kind), constants(kind)
    onnx.checker.check_model(proto, full_check=True)
    x = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    y, codes = session.run(None, {"x": x})
    wide = x.astype(np.float64)
    expected = geglu(wide)
    if kind == "layer norm":
        expected = layer_norm(wide, fixed["gamma"], fixed["beta"], epsilon=1e-5)
    np.testing.assert_allclose(y, expected, rtol=0, atol=30 * EPS * np.abs(expected).max())
    np.testing.assert_array_equal(codes, quantize(y, fixed["scale"], 3, 0, 15))
    assert np.unique(codes).size > 3


def test_gelu_is_the_exact_one():
    """Of v = 1 it is the normal distribution's 0.8413447, not the tanh form's 0.8411920."""
    np.testing.assert_allclose(geglu(np.array([2.0, 1.0])), [1.6826894921370859], rtol=1e-15)


@KINDS
def test_shape_inference_through_the_schemas(kind, inferred):
    proto = model(kind, ("batch", "tokens", 24), function=False)
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    result = inferred(proto, linear_prologue_schemas())
    for output in result.graph.output:
        dims = output.type.tensor_type.shape.dim
        channels = 24 if kind == "layer norm" else 12
        assert [d.dim_param or d.dim_value for d in dims] == ["batch", "tokens", channels]


def test_the_bodies_have_the_inputs_and_attributes_of_the_schemas():
    for function, schema in zip(
        linear_prologue_functions(), linear_prologue_schemas(), strict=True
    ):
        assert function.name == schema.name
        assert list(function.input) == [p.name for p in schema.inputs]
        assert list(function.output) == [p.name for p in schema.outputs]
        declared = set(function.attribute) | {a.name for a in function.attribute_proto}
        assert declared == set(schema.attributes)


def test_channels_must_have_halves():
    with pytest.raises(ValueError, match="7 channels have no halves"):
        geglu(np.ones((2, 7)))
    assert linear_prologue_schemas()[1].name == GEGLU
