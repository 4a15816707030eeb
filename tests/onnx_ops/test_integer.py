import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.integer import (
    SAFE_WEIGHT,
    conv_accumulate,
    matmul_accumulate,
    quantize,
    requantize,
    requantize_multiplier,
)

CONVS = {
    # name: (N, C, H, W), (F, C/g, kh, kw), strides, pads (t, l, b, r), dilations, groups
    "1x1": ((2, 33, 5, 7), (17, 33, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "3x3 same": ((1, 20, 9, 8), (13, 20, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "3x3 down": ((1, 16, 9, 9), (8, 16, 3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 1),
    "one channel": ((1, 1, 4, 4), (1, 1, 3, 3), (1, 1), (1, 0, 0, 1), (1, 1), 1),
    "1x3 uneven": ((1, 5, 6, 9), (4, 5, 1, 3), (1, 2), (0, 2, 0, 1), (1, 1), 1),
    "dilated": ((1, 4, 9, 9), (6, 4, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    "grouped": ((1, 12, 6, 6), (8, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 4),
    "depthwise": ((1, 8, 6, 6), (8, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 8),
}
ZERO_POINTS = [0, 1, 128, 255]


def run(nodes, feeds, initializers, output_type, optimized_path=None):
    """Run nodes from feeds to ``y``."""
    inputs = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in feeds.items()
    ]
    graph = helper.make_graph(
        nodes,
        "integer",
        inputs,
        [helper.make_tensor_value_info("y", output_type, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)[0]


def qlinear_conv(codes, w, bias, *, x_scale, x_zero, w_scale, y_scale, y_zero, **attributes):
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], **attributes)
    initializers = {
        "xs": np.float32(x_scale),
        "xz": np.uint8(x_zero),
        "w": w,
        "ws": w_scale,
        "wz": np.zeros(len(w), np.int8),
        "ys": np.float32(y_scale),
        "yz": np.uint8(y_zero),
        "b": bias,
    }
    return run([node], {"x": codes}, initializers, TensorProto.UINT8)


def qdq_conv(codes, w, bias, *, path, x_scale, x_zero, w_scale, y_scale, y_zero, **attributes):
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bf"], axis=0),
        helper.make_node("Conv", ["xf", "wf", "bf"], ["yf"], **attributes),
        helper.make_node("QuantizeLinear", ["yf", "ys", "yz"], ["y"]),
    ]
    initializers = {
        "xs": np.float32(x_scale),
        "xz": np.uint8(x_zero),
        "w": w,
        "ws": w_scale,
        "wz": np.zeros(len(w), np.int8),
        "b": bias,
        "bs": np.float32(x_scale) * w_scale,
        "bz": np.zeros(len(w), np.int32),
        "ys": np.float32(y_scale),
        "yz": np.uint8(y_zero),
    }
    return run(nodes, {"x": codes}, initializers, TensorProto.UINT8, path)


def random_conv(name, seed, limit=SAFE_WEIGHT):
    x_shape, w_shape, strides, pads, dilations, groups = CONVS[name]
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, x_shape, dtype=np.uint8)
    w = rng.integers(-limit, limit + 1, w_shape).astype(np.int8)
    return rng, codes, w, {"strides": strides, "pads": pads, "dilations": dilations}, groups


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zero_point", [0, 1, 3])
def test_quantize_is_clip_then_quantize_linear(bits, zero_point):
    rng = np.random.default_rng(bits)
    qmin, qmax = 0, 2**bits - 1
    for scale in (np.float32(0.25), *rng.uniform(1e-3, 2, 20).astype(np.float32)):
        ties = (np.arange(-20, 300) + 0.5).astype(np.float32) * scale
        x = np.concatenate([ties, rng.standard_normal(500).astype(np.float32) * 2**bits * scale])
        low, high = (np.float32(q - zero_point) * scale for q in (qmin, qmax))
        constants = {"scale": scale, "zero": np.uint8(zero_point)}
        nodes = [helper.make_node("QuantizeLinear", ["clipped", "scale", "zero"], ["y"])]
        if bits < 8:
            nodes.insert(0, helper.make_node("Clip", ["x", "low", "high"], ["clipped"]))
            constants |= {"low": low, "high": high}
        else:  # QuantizeLinear saturates; runtime 1.20 fails to load a Clip of the full range
            nodes[0].input[0] = "x"
        y = run(nodes, {"x": x}, constants, TensorProto.UINT8)
        np.testing.assert_array_equal(quantize(x, scale, zero_point, qmin, qmax), y)


def test_quantize_of_a_grid_inside_the_container():
    x = np.array([-100, -8.5, -0.5, 0.5, 1.5, 100])
    codes = quantize(x, 1.0, 128, 120, 135)
    np.testing.assert_array_equal(codes, [120, 120, 128, 128, 130, 135])


@pytest.mark.parametrize("qmin, qmax", [(-1, 3), (0, 256), (5, 4)])
def test_quantize_rejects_grids_outside_the_container(qmin, qmax):
    with pytest.raises(ValueError, match=f"qmin {qmin}, qmax {qmax}"):
        quantize(np.zeros(1, np.float32), 1.0, 0, qmin, qmax)


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("name", CONVS)
def test_conv_accumulators_are_conv_integers(name, zero_point):
    _, codes, w, attributes, groups = random_conv(name, 0)
    # Unsigned weights around 128: runtimes before 1.21 have no u8 x s8 ConvInteger.
    unsigned = (w.astype(np.int16) + 128).astype(np.uint8)
    constants = {"w": unsigned, "xz": np.uint8(zero_point), "wz": np.uint8(128)}
    node = helper.make_node(
        "ConvInteger", ["x", "w", "xz", "wz"], ["y"], group=groups, **attributes
    )
    y = run([node], {"x": codes}, constants, TensorProto.INT32)
    acc = conv_accumulate(codes, zero_point, w, groups=groups, **attributes)
    np.testing.assert_array_equal(acc, y)


@pytest.mark.parametrize("limit", [7, 127], ids=["float32 path", "float64 path"])
def test_conv_accumulators_in_blocks_match_int64(limit, monkeypatch):
    monkeypatch.setattr("onnx_ops.integer._COLUMN_VALUES", 1000)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (2, 128, 7, 6), dtype=np.uint8)
    w = rng.integers(-limit, limit + 1, (3, 128, 3, 3)).astype(np.int8)
    centred = np.pad(codes.astype(np.int64) - 9, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(centred, (3, 3), axis=(2, 3))
    expected = np.einsum("nchwij,fcij->nfhw", windows, w.astype(np.int64))
    np.testing.assert_array_equal(conv_accumulate(codes, 9, w, pads=(1, 1, 1, 1)), expected)


def test_conv_rejects_shapes_that_disagree():
    with pytest.raises(ValueError, match=r"2 groups of 3 channels .*\(1, 5, 4, 4\)"):
        conv_accumulate(
            np.zeros((1, 5, 4, 4), np.uint8), 0, np.zeros((4, 3, 1, 1), np.int8), groups=2
        )
    with pytest.raises(ValueError, match=r"\(3, 3\) does not fit .*\(2, 2\)"):
        conv_accumulate(np.zeros((1, 1, 2, 2), np.uint8), 0, np.zeros((1, 1, 3, 3), np.int8))


def test_sums_beyond_int32_are_rejected():
    depth = 2**31 // (255 * 127) + 1
    with pytest.raises(ValueError, match="beyond int32"):
        matmul_accumulate(np.full((1, depth), 255, np.uint8), 0, np.full((depth, 1), 127, np.int8))


@pytest.mark.parametrize("y_zero", [0, 7, 255])
@pytest.mark.parametrize("x_zero", ZERO_POINTS)
@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("scales", ["random", "powers of two"])
def test_requantize_is_qlinear_conv(name, x_zero, y_zero, scales, tmp_path):
    rng, codes, w, attributes, groups = random_conv(name, 1)
    filters = len(w)
    acc = conv_accumulate(codes, x_zero, w, groups=groups, **attributes)
    x_scale, y_scale = np.float32(2.0**-4), np.float32(2.0**-4 * 64)
    if scales == "random":
        bias = rng.integers(-3000, 3000, filters).astype(np.int32)
        w_scale = rng.uniform(0.1, 1, filters).astype(np.float32)
        y_scale = np.float32(np.abs(acc).max() * x_scale / 150)
    else:  # multipliers 1/64 and 1/128, and biases that put one output of each filter on a tie
        w_scale = 2.0 ** -rng.integers(0, 2, filters).astype(np.float32)
        ties = rng.integers(-20, 200, filters) + 0.5
        bias = (ties * 64 / w_scale).astype(np.int32) - acc[0, :, 0, 0]
    acc += bias[:, None, None]
    multiplier = requantize_multiplier(x_scale, w_scale, y_scale)

    expected = requantize(acc, multiplier, y_zero)

    settings = {
        "x_scale": x_scale,
        "x_zero": x_zero,
        "w_scale": w_scale,
        "y_scale": y_scale,
        "y_zero": y_zero,
        "group": groups,
    }
    y = qlinear_conv(codes, w, bias, **settings, **attributes)
    np.testing.assert_array_equal(y, expected)
    path = tmp_path / "fused.onnx"
    fused = qdq_conv(codes, w, bias, path=path, **settings, **attributes)
    np.testing.assert_array_equal(fused, expected)
    assert {n.op_type for n in onnx.load(path).graph.node} <= {"QLinearConv", "Transpose"}


def test_requantize_multiplier_has_the_runtimes_order():
    """Biases are chosen where the next float32 multiplier would round to another code."""
    rng = np.random.default_rng(0)
    filters = 4000
    x_scale, y_scale = np.float32(0.0371), np.float32(0.0913)
    w_scale = rng.uniform(3e-5, 6e-5, filters).astype(np.float32)
    multiplier = requantize_multiplier(x_scale, w_scale, y_scale)
    alternatives = {
        "x * (w / y)": x_scale * (w_scale / y_scale),
        "(x / y) * w": (x_scale / y_scale) * w_scale,
        "float64": (x_scale.astype(np.float64) * w_scale / y_scale).astype(np.float32),
    }
    codes, w = np.zeros((1, 1, 1, 1), np.uint8), np.ones((filters, 1, 1, 1), np.int8)
    settings = {"x_scale": x_scale, "w_scale": w_scale, "y_scale": y_scale}
    differences = dict.fromkeys(alternatives, 0)
    for code in (150.5, 200.5, 250.5):
        bias = np.rint(code / multiplier.astype(np.float64)).astype(np.int32)
        acc = bias.reshape(1, filters, 1, 1)
        y = qlinear_conv(codes, w, bias, x_zero=0, y_zero=0, **settings)
        np.testing.assert_array_equal(requantize(acc, multiplier, 0), y)
        for name, other in alternatives.items():
            differences[name] += np.count_nonzero(requantize(acc, other, 0) != y)
    assert min(differences.values()) > 0, differences


def test_requantize_rounds_large_accumulators_to_float32():
    rng = np.random.default_rng(0)
    bias = rng.integers(2**28, 2**30, 1000).astype(np.int32)
    w_scale = (rng.integers(0, 255, 1000) + 0.5).astype(np.float32) / bias.astype(np.float32)
    codes = np.zeros((1, 1, 1, 1), np.uint8)
    w = np.ones((1000, 1, 1, 1), np.int8)
    settings = {"x_scale": 1.0, "x_zero": 0, "w_scale": w_scale, "y_scale": 1.0, "y_zero": 0}
    y = qlinear_conv(codes, w, bias, **settings)
    np.testing.assert_array_equal(requantize(bias.reshape(1, -1, 1, 1), w_scale, 0), y)


def test_requantize_along_the_last_axis():
    acc = np.array([[3, 3], [-5, 1000]], np.int32)
    codes = requantize(acc, np.array([0.5, 1.0], np.float32), 2, axis=-1)
    np.testing.assert_array_equal(codes, [[4, 5], [0, 255]])


def test_requantize_rejects_a_multiplier_of_another_length():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        requantize(np.zeros((1, 3, 1, 1), np.int32), np.ones(2, np.float32), 0)


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("shape", [(1, 7, 5), (2, 33, 320, 17), (5, 1280, 3)], ids=str)
@pytest.mark.parametrize("scaled", [False, True], ids=["unit scales", "random scales"])
def test_matmul_accumulators_are_matmul_integer_to_floats(shape, zero_point, scaled, tmp_path):
    rng = np.random.default_rng(0)
    *batch, depth, columns = shape
    codes = rng.integers(0, 256, (*batch, depth), dtype=np.uint8)
    w = rng.integers(-SAFE_WEIGHT, SAFE_WEIGHT + 1, (depth, columns)).astype(np.int8)
    x_scale = np.float32(0.037 if scaled else 1)
    w_scale = np.ones(columns, np.float32)
    if scaled:
        w_scale = rng.uniform(1e-3, 0.1, columns).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=1),
        helper.make_node("MatMul", ["xf", "wf"], ["y"]),
    ]
    constants = {
        "xs": x_scale,
        "xz": np.uint8(zero_point),
        "w": w,
        "ws": w_scale,
        "wz": np.zeros(columns, np.int8),
    }
    path = tmp_path / "fused.onnx"
    y = run(nodes, {"x": codes}, constants, TensorProto.FLOAT, path)

    acc = matmul_accumulate(codes, zero_point, w)

    assert [n.op_type for n in onnx.load(path).graph.node] == ["MatMulIntegerToFloat"]
    np.testing.assert_array_equal(acc.astype(np.float32) * (x_scale * w_scale), y)


@pytest.mark.parametrize("depth", [4, 64, 1280])
@pytest.mark.parametrize("sign", [1, -1])
def test_weights_within_the_bound_never_saturate(depth, sign):
    assert 2 * 255 * SAFE_WEIGHT <= np.iinfo(np.int16).max < 2 * 255 * (SAFE_WEIGHT + 1)
    codes = np.full((3, depth), 255, np.uint8)
    w = np.full((depth, 5), sign * SAFE_WEIGHT, np.int8)
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    y = run([node], {"x": codes}, {"w": w}, TensorProto.INT32)
    np.testing.assert_array_equal(y, matmul_accumulate(codes, 0, w))


@pytest.mark.parametrize("weight", [SAFE_WEIGHT + 1, 127])
def test_weights_beyond_the_bound_are_exact_or_saturate_in_pairs(weight):
    """Which of the two depends on the CPU: exact with VNNI or on ARM, saturated on plain AVX."""
    depth = 8
    codes = np.full((1, depth), 255, np.uint8)
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    constants = {"w": np.full((depth, 1), weight, np.int8)}
    y = run([node], {"x": codes}, constants, TensorProto.INT32)
    saturated = depth // 2 * np.iinfo(np.int16).max
    assert y.item() in (depth * 255 * weight, saturated)
