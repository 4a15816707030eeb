"""GroupNormSiluHadamardQuantize: bit for bit what the two ops of which it is made give."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION, hadamard_function
from onnx_ops.group_norm import group_norm_functions, group_norm_node
from onnx_ops.hadamard_quantize import hadamard_quantize_function, hadamard_quantize_node
from onnx_ops.prologue import prologue_function, prologue_node

CASES = [  # shape of x, groups
    ((1, 32, 9, 7), 8),
    ((2, 128, 40, 33), 32),
    ((1, 320, 16, 16), 32),
    ((3, 24, 1, 1), 4),
    ((1, 60, 45), 3),
    ((1, 1, 3, 300), 1),
    ((1, 64, 260, 257), 16),  # codes that are written past the caches
    ((1, 64, 256, 272), 16),  # y too, whose rows are whole vectors
]


def constants(n):
    draw = np.random.default_rng(n)
    gamma, beta, d = draw.uniform(0.5, 2, (3, n)).astype(np.float32)
    return {
        "gamma": gamma,
        "beta": beta,
        "d": d,
        "scale": np.float32(0.2),
        "zero": np.uint8(3),
    }


def model(n, groups, *, joined, qmax=15):
    fixed = constants(n)
    norm = {"groups": groups, "epsilon": 1e-5}
    grid = {"n": n, "qmin": 0, "qmax": qmax}
    nodes = [
        group_norm_node(("x", "gamma", "beta"), "y", **norm, silu=True, name="n"),
        hadamard_quantize_node(("y", "d", "scale", "zero"), "codes", axis=1, name="h", **grid),
    ]
    if joined:
        nodes = [prologue_node(("x", *fixed), ("y", "codes"), name="p", **norm, **grid)]
    info = helper.make_tensor_value_info
    outputs = [info("y", TensorProto.FLOAT, None), info("codes", TensorProto.UINT8, None)]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in fixed.items()]
    graph = helper.make_graph(
        nodes, "prologue", [info("x", TensorProto.FLOAT, None)], outputs, tensors
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = [
        hadamard_function(),
        hadamard_quantize_function(),
        *group_norm_functions(),
        prologue_function(),
    ]
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("qmax", [15, 255])
@pytest.mark.parametrize(("shape", "groups"), CASES, ids=str)
def test_it_is_the_two_ops(shape, groups, qmax, ops, each_isa):
    feed = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32) + 1}
    both = ops.session(model(shape[1], groups, joined=False, qmax=qmax)).run(None, feed)
    proto = model(shape[1], groups, joined=True, qmax=qmax)
    results = [ops.session(proto, threads=3).run(None, feed)]
    for _ in each_isa():
        results.append(ops.session(proto).run(None, feed))
    for y, codes in results:
        np.testing.assert_array_equal(y, both[0])
        np.testing.assert_array_equal(codes, both[1])
    assert np.unique(both[1]).size > 3


@pytest.mark.parametrize("read_later", [False, True])
@pytest.mark.parametrize("op", ["GroupNorm", "GroupNormSilu", "GroupNormSiluHadamardQuantize"])
def test_in_the_place_of_x(op, read_later, ops):
    """y may be written over an x of the graph's own, unless another node reads that later."""
    draw, n = np.random.default_rng(1), 32
    proto = model(n, 8, joined=op.endswith("Quantize"))
    graph = proto.graph
    if op == "GroupNorm":
        names, norm = ("x", "gamma", "beta"), {"groups": 8, "epsilon": 1e-5}
        graph.node[0].CopyFrom(group_norm_node(names, "y", **norm, silu=False, name="n"))
    feed = {"x": draw.standard_normal((2, n, 37, 41)).astype(np.float32)}
    expected = ops.session(proto).run(None, feed)
    graph.node[0].input[0] = "own"
    graph.node.insert(0, helper.make_node("Neg", ["x"], ["own"]))
    if read_later:
        graph.node.append(helper.make_node("Sub", ["y", "own"], ["last"]))
        graph.output.append(helper.make_tensor_value_info("last", TensorProto.FLOAT, None))
    found = ops.session(proto, threads=3).run(None, {"x": -feed["x"]})
    for a, b in zip(found[:2], expected, strict=True):
        np.testing.assert_array_equal(a, b)
    if read_later:
        np.testing.assert_array_equal(found[2], expected[0] - feed["x"])


def test_an_empty_batch(ops):
    proto = model(32, 8, joined=True)
    y, codes = ops.session(proto).run(None, {"x": np.zeros((0, 32, 4, 4), np.float32)})
    assert y.shape == codes.shape == (0, 32, 4, 4)


@pytest.mark.parametrize(
    ("shape", "text"),
    [((1, 30, 4, 4), "C a multiple of 8"), ((1, 64, 4, 4), r"need x \(N,C"), ((32,), "got")],
)
def test_inputs_that_do_not_fit(shape, text, ops):
    session = ops.session(model(32, 8, joined=True))
    with pytest.raises(Exception, match=text):
        session.run(None, {"x": np.zeros(shape, np.float32)})
