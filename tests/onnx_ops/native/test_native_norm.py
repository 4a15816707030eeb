"""GroupNorm and GroupNormSilu: equal on every instruction set, and near the definition."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.group_norm import group_norm, group_norm_functions, group_norm_node

EPS = 2.0**-24
EPSILON = 1e-6


def model(gamma, beta, rank, groups, silu):
    node = group_norm_node(
        ("x", "gamma", "beta"), "y", groups=groups, epsilon=EPSILON, silu=silu, name="n"
    )
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in "xy"]
    tensors = [numpy_helper.from_array(v, k) for k, v in (("gamma", gamma), ("beta", beta))]
    graph = helper.make_graph([node], "norm", infos[:1], infos[1:], tensors)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    functions = list(group_norm_functions())
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)


def drawn(shape, offset):
    draw = np.random.default_rng(list(shape))
    x = (draw.standard_normal(shape) * 3 + offset).astype(np.float32)
    gamma, beta = draw.standard_normal((2, shape[1])).astype(np.float32)
    return x, gamma, beta


def check(y, x, gamma, beta, groups, silu):
    wide = [v.astype(np.float64) for v in (x, gamma, beta)]
    expected = group_norm(*wide, groups=groups, epsilon=EPSILON, silu=silu)
    # x and mean are rounded before they are subtracted; SiLU's slope is at most 1.1
    grouped = wide[0].reshape(x.shape[0], groups, -1)
    size = np.abs(grouped).max() / np.sqrt(grouped.var(-1).min() + EPSILON)
    bound = 8 * EPS * (np.abs(gamma).max() * size + np.abs(beta).max())
    assert np.abs(y - expected).max() <= bound


@pytest.mark.parametrize("silu", [False, True], ids=["plain", "silu"])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((2, 32, 9, 7), 8), ((1, 6, 1, 1), 3), ((1, 64, 45), 32), ((1, 4, 130, 131), 2)],
    ids=str,
)
@pytest.mark.parametrize("offset", [0, 50])
def test_norms(shape, groups, silu, offset, ops, each_isa):
    x, gamma, beta = drawn(shape, offset)
    proto = model(gamma, beta, len(shape), groups, silu)
    results = [ops.run(proto, x, threads=3)]
    for _ in each_isa():
        results.append(ops.run(proto, x))
    for y in results:
        np.testing.assert_array_equal(y, results[0])
    check(results[0], x, gamma, beta, groups, silu)
    if offset == 0:
        # ONNX Runtime takes x - mean in float32 sums of another order
        body = ops.run(proto, x, native=False)
        assert np.abs(body - results[0]).max() <= 1e-5 * np.abs(results[0]).max()


def test_extreme_values(ops, each_isa):
    x = np.zeros((1, 2, 4, 5), np.float32)
    x[0, 1] = np.linspace(-1, 1, 20).reshape(4, 5) * 1e4
    gamma, beta = np.array([1, 300], np.float32), np.array([-200, 0], np.float32)
    proto = model(gamma, beta, 4, 2, True)
    for _ in each_isa():
        y = ops.run(proto, x)
        assert np.all(np.isfinite(y))
        assert np.all(np.abs(y[0, 0]) < 1e-30)  # SiLU(-200)
        assert y[0, 1].max() == pytest.approx(300 * np.sqrt(3), rel=0.06)


def test_results_below_the_normal_floats(ops, each_isa):
    """There a fused multiply-add in doubles has to be rounded at another bit."""
    x, _, _ = drawn((1, 4, 16, 16), 0)
    gamma, beta = np.full(4, 1e-39, np.float32), np.full(4, 1e-42, np.float32)
    proto = model(gamma, beta, 4, 2, False)
    results = [ops.run(proto, x) for _ in each_isa()]
    assert 0 < np.abs(results[0]).max() < 2.0**-126
    for y in results:
        np.testing.assert_array_equal(y, results[0])


def test_channels_that_are_no_groups(ops):
    x, gamma, beta = drawn((1, 6, 3, 3), 0)
    session = ops.session(model(gamma, beta, 4, 3, True))
    with pytest.raises(Exception, match="C a multiple of 3"):
        session.run(None, {"x": x[:, :4]})
