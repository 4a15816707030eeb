"""QuantizedLinear: sums equal the definition's on every instruction set."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.quantized_linear import (
    linear_branch,
    quantized_linear,
    quantized_linear_functions,
    quantized_linear_node,
)
from onnx_ops.variants import weight_tensors

EPS = 2.0**-24
SIZES = [  # shape of the codes, filters
    ((2, 17, 64), 48),
    ((1, 49, 40), 33),
    ((5, 35), 7),
    ((2, 117, 40), 33),  # so many rows that blocks of them compute their part of the branch
    ((1, 130), 16),
    ((1, 1, 3), 1),
    ((2, 3, 4, 62), 70),
    ((1, 7, 1040), 1010),  # more weights than are kept
    ((1, 3, 1030), 1034),
    ((1, 2, 2080), 2050),  # in two bands
]
BITS = [(4, 4), (6, 4), (8, 7), (8, 8), (3, 2)]  # of activations, of weights


class Case:
    """A layer's constants, input and expected result."""

    def __init__(self, shape, filters, bits, rank=0, full=False):
        self.rank, self.top = rank, 2 ** bits[0] - 1
        draw = np.random.default_rng([*shape, filters, *bits, rank])
        most = 2 ** (bits[1] - 1)
        channels = shape[-1]
        self.weight = draw.integers(-most, most, (filters, channels)).astype(np.int8)
        self.codes = draw.integers(0, self.top + 1, shape).astype(np.uint8)
        if full:  # the largest sums there are
            self.weight[:] = most - 1
            self.weight[::2] = -most
            self.codes[:] = self.top
        self.constants = {
            "x_scale": np.float32(0.1),
            "x_zero_point": np.uint8(self.top // 3),
            "weight": self.weight,
            "weight_scale": draw.uniform(0.01, 0.02, filters).astype(np.float32),
            "bias": draw.standard_normal(filters).astype(np.float32),
        }
        self.x = draw.standard_normal(shape).astype(np.float32)
        self.down = draw.standard_normal((rank, channels)).astype(np.float32)
        self.up = draw.standard_normal((filters, rank)).astype(np.float32)

    @property
    def feed(self):
        return {"codes": self.codes} | ({"x": self.x} if self.rank else {})

    def model(self, fed=(), bits=8):
        """With weights stored in ``bits``; the initializers in ``fed`` are inputs."""
        weights = weight_tensors(self.weight, bits)
        fixed = self.constants.items()
        constants = {}
        for name, value in fixed:
            constants |= weights if name == "weight" else {name: value}
        names = ["codes", *constants]
        if self.rank:
            names += ["x", "down", "up"]
            constants |= {"down": self.down, "up": self.up}
        values = self.feed | {name: constants.pop(name) for name in fed}
        inputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * np.ndim(value)
            )
            for name, value in values.items()
        ]
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * self.codes.ndim)
        tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
        node = quantized_linear_node(names, "y", top=self.top, name="layer/y")
        graph = helper.make_graph([node], "linear", inputs, [y], tensors)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
        functions = list(quantized_linear_functions())
        return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)

    def check(self, y):
        """Sums are the definition's; floats are within float32's error."""
        fixed = self.constants
        scale = np.float64(fixed["x_scale"]) * fixed["weight_scale"]
        zero = int(fixed["x_zero_point"])
        integer = quantized_linear(self.codes, zero, self.weight, scale, fixed["bias"])
        bound = 4 * EPS * (np.abs(integer - fixed["bias"]) + np.abs(integer) + np.abs(y))
        expected = integer
        if self.rank:
            expected = integer + linear_branch(self.x, self.down, self.up)
            sizes = linear_branch(np.abs(self.x), np.abs(self.down), np.abs(self.up))
            bound += (self.x.shape[-1] + self.rank + 2) * EPS * sizes
        assert y.shape == expected.shape
        assert np.all(np.abs(y - expected) <= bound)
        sums = (integer - fixed["bias"]) / scale
        if not self.rank and np.abs(sums).max() < 2**22:  # float32 tells them apart
            found = (y.astype(np.float64) - fixed["bias"]) / scale
            np.testing.assert_array_equal(np.rint(found), np.rint(sums))


@pytest.mark.parametrize("bits", BITS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sums_equal_the_definition_on_every_instruction_set(size, bits, every_isa):
    for case in (Case(*size, bits), Case(*size, bits, rank=3)):
        expected = every_isa(case.model(), case.feed)
        for y in expected:
            case.check(y)
        if bits[1] <= 4:
            found = every_isa(case.model(bits=4), case.feed, threads=2)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("filters", [272, 275])
def test_large_outputs(filters, every_isa):
    """More than 4 MiB, which pass the caches by where rows are aligned."""
    case = Case((1, 3900, 5), filters, (4, 4), rank=2)
    for y in every_isa(case.model(), case.feed, threads=2):
        case.check(y)


@pytest.mark.parametrize("bits", [(6, 6), (6, 5), (4, 6)], ids=str)
@pytest.mark.parametrize("size", [s for s in SIZES if s[1] % 2 == 0], ids=str)
def test_weights_in_planes_are_those_in_bytes(size, bits, every_isa, ops):
    for rank in (0, 3):
        case = Case(*size, bits, rank=rank)
        found = every_isa(case.model(bits=6), case.feed)
        np.testing.assert_array_equal(found, every_isa(case.model(), case.feed))
        for y in (
            *found,
            ops.session(case.model(bits=6), native=False).run(None, case.feed)[0],
        ):
            case.check(y)


@pytest.mark.parametrize("bits", [(4, 4), (6, 4), (8, 7), (8, 8)], ids=str)
def test_the_largest_sums_fit(bits, every_isa):
    case = Case((9, 2080), 18, bits, full=True)
    for y in every_isa(case.model(), case.feed):
        case.check(y)


@pytest.mark.parametrize("rank", [1, 16, 33])
def test_threads_do_not_matter(rank, ops):
    case = Case((2, 250, 64), 90, (4, 4), rank=rank)
    one, three = (ops.session(case.model(), threads=n).run(None, case.feed)[0] for n in (1, 3))
    case.check(one)
    np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("name", ["weight", "bias", "x_scale", "weight_scale"])
def test_constants_that_are_inputs(rank, name, ops):
    case = Case(*SIZES[0], (4, 4), rank=rank)
    feed = case.feed | {name: np.asarray(case.constants[name])}
    case.check(ops.session(case.model(fed=[name])).run(None, feed)[0])


@pytest.mark.parametrize("rank", [0, 4])
def test_function_body_and_kernel_agree(rank, ops):
    case = Case(*SIZES[1], (4, 4), rank=rank)
    case.check(ops.session(case.model(), native=False).run(None, case.feed)[0])


def test_no_rows(ops):
    case = Case((2, 0, 16), 8, (4, 4), rank=2)
    (y,) = ops.session(case.model()).run(None, case.feed)
    assert y.shape == (2, 0, 8)


def test_sizes_that_are_not_known_stay_unknown(ops):
    case = Case((2, 9, 40), 24, (4, 4))
    model = case.model()
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (2, 9, 24)))
    model.graph.node.append(helper.make_node("Concat", ["y", "z"], ["both"], axis=-1))
    model.graph.output[0].name = "both"
    feed = case.feed | {"z": np.zeros((2, 9, 24), np.float32)}
    (both,) = ops.session(model).run(None, feed)
    case.check(both[..., :24])


def test_beside_products_of_onnx_runtime(ops):
    """CPUs with AMX have one configuration of tiles for a thread, which both change."""
    case = Case((300, 640), 96, (8, 7))
    model = case.model()
    model.graph.initializer.append(numpy_helper.from_array(case.weight.T.copy(), "right"))
    model.graph.node.append(helper.make_node("MatMulInteger", ["codes", "right"], ["sums"]))
    model.graph.output.append(helper.make_tensor_value_info("sums", TensorProto.INT32, [300, 96]))
    session = ops.session(model)
    expected = case.codes.astype(np.int32) @ case.weight.T.astype(np.int32)
    for _ in range(3):
        y, sums = session.run(None, case.feed)
        case.check(y)
        np.testing.assert_array_equal(sums, expected)
