"""QuantizedConv without the native kernels: body, schema and node."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.quantized_conv import (
    ConvGrid,
    low_rank_branch,
    quantized_conv,
    quantized_conv_node,
    quantized_conv_schemas,
    upsample,
)
from onnx_ops.quantized_conv_body import quantized_conv_functions
from onnx_ops.variants import weight_tensors

SHAPE = (2, 10, 9, 8)
WINDOW = {"strides": (2, 1), "pads": (1, 0, 1, 2)}


def constants(bits=4):
    draw = np.random.default_rng(0)
    return {
        "x_scale": np.float32(0.1),
        "x_zero_point": np.uint8(6),
        "weight": draw.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (12, 10, 3, 2)).astype(
            np.int8
        ),
        "weight_scale": draw.uniform(0.01, 0.02, 12).astype(np.float32),
        "bias": draw.integers(-500, 500, 12).astype(np.int32),
        "y_scale": np.float32(0.05),
        "y_zero_point": np.uint8(120),
        "x": draw.standard_normal(SHAPE).astype(np.float32),
        "down": draw.standard_normal((3, 10, 3, 2)).astype(np.float32),
        "up": draw.standard_normal((12, 3, 1, 1)).astype(np.float32),
    }


def model(*, branch, function=True, shape=SHAPE, bits=4, upsamples=False, standard=False):
    fixed = constants(bits)
    weights = weight_tensors(fixed.pop("weight"), bits)
    names = [*list(fixed)[:2], *weights, *list(fixed)[2:]]
    names = ["codes", *(names if branch else names[:-3])]
    fixed |= weights
    node = quantized_conv_node(
        names, "y", kernel_shape=(3, 2), top=15, name="c", upsamples=upsamples, **WINDOW
    )
    infos = [helper.make_tensor_value_info("codes", TensorProto.UINT8, shape)]
    if branch:
        infos.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    tensors = [
        numpy_helper.from_array(np.asarray(fixed[k]), k) for k in names if k not in ("codes", "x")
    ]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = list(quantized_conv_functions(standard=standard)) if function else []
    graph = helper.make_graph([node], "conv", infos, [y], tensors)
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    ("branch", "standard"), [(False, False), (True, False), (True, True)], ids=str
)
@pytest.mark.parametrize("level", ["off", "all"])
@pytest.mark.parametrize(("bits", "upsamples"), [(4, False), (6, False), (7, False), (4, True)])
def test_the_body_computes_the_definition_as_integers(
    branch, standard, level, bits, upsamples, tmp_path
):
    fixed, path = constants(bits), tmp_path / "optimized.onnx"
    codes = np.random.default_rng(1).integers(0, 16, SHAPE).astype(np.uint8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    if level == "off":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = model(branch=branch, bits=bits, upsamples=upsamples, standard=standard)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    feed = {"codes": codes} | ({"x": fixed["x"]} if branch else {})
    y = session.run(None, feed)[0].astype(np.float64)
    grid = ConvGrid(
        x_scale=fixed["x_scale"],
        x_zero_point=6,
        weight_scale=fixed["weight_scale"],
        y_scale=fixed["y_scale"],
        y_zero_point=120,
    )
    x = fixed["x"].astype(np.float64)
    if upsamples:
        codes, x = upsample(codes), upsample(x)
    if branch:
        y -= low_rank_branch(x, fixed["down"], fixed["up"], **WINDOW)
    expected = quantized_conv(codes, fixed["weight"], fixed["bias"], grid, **WINDOW)
    np.testing.assert_array_equal(np.rint(y / fixed["y_scale"]) + 120, expected)
    if level == "all":
        kinds = [node.op_type for node in onnx.load(path).graph.node]
        assert kinds.count("QLinearConv") == 1
        assert "Cast" not in kinds
        assert kinds.count("Conv") == branch * (2 if standard else 1)
        assert kinds.count("FusedConv") == (branch and not standard)


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("upsamples", [False, True])
@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("function", [True, False], ids=["body", "no body"])
def test_checker_accepts_the_model(branch, function, bits, upsamples, standard):
    proto = model(
        branch=branch, function=function, bits=bits, upsamples=upsamples, standard=standard
    )
    onnx.checker.check_model(proto, full_check=True)


@pytest.mark.parametrize(("upsamples", "rows"), [(False, 5), (True, 9)])
@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("branch", [False, True])
def test_shape_inference_through_the_schema(branch, bits, upsamples, rows, inferred):
    shape = ("batch", 10, 9, "width")
    proto = model(branch=branch, bits=bits, function=False, shape=shape, upsamples=upsamples)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    result = inferred(proto, quantized_conv_schemas())
    batch, filters, height, width = result.graph.output[0].type.tensor_type.shape.dim
    assert (batch.dim_param, filters.dim_value, height.dim_value) == ("batch", 12, rows)
    assert not width.dim_value


def test_bodies_have_the_inputs_and_attributes_of_the_schemas():
    for function, schema in zip(quantized_conv_functions(), quantized_conv_schemas(), strict=True):
        assert function.name == schema.name
        assert list(function.input) == [p.name for p in schema.inputs]
        assert {a.name for a in function.attribute_proto} == set(schema.attributes)


def test_node_rejects_other_numbers_of_inputs():
    with pytest.raises(ValueError, match="need 8, 9, 11 or 12 inputs, got 10"):
        quantized_conv_node(
            ["a"] * 10, "y", kernel_shape=(1, 1), strides=(1, 1), pads=(0,) * 4, top=15, name="c"
        )
