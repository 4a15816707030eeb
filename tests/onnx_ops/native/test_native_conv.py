"""QuantizedConv: codes equal the definition bit for bit on every instruction set."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

from onnx_ops.function_body import DOMAIN, OPSET, VERSION
from onnx_ops.quantized_conv import (
    ConvGrid,
    low_rank_branch,
    quantized_conv,
    quantized_conv_node,
    upsample,
)
from onnx_ops.quantized_conv_body import quantized_conv_functions
from onnx_ops.variants import weight_tensors

EPS = 2.0**-24
GEOMETRY = [  # channels, filters, kernel, strides, pads, height, width
    (24, 40, (3, 3), (1, 1), (1, 1, 1, 1), 9, 10),
    (40, 24, (3, 3), (2, 2), (0, 0, 1, 1), 10, 7),
    (64, 17, (1, 1), (1, 1), (0, 0, 0, 0), 5, 25),
    (3, 5, (3, 3), (1, 1), (0, 0, 0, 0), 3, 3),
    (35, 33, (3, 3), (1, 1), (2, 0, 1, 3), 8, 31),
    (16, 16, (1, 4), (1, 3), (0, 2, 0, 1), 4, 9),
    (130, 8, (5, 3), (2, 1), (2, 1, 2, 1), 6, 6),
    (1, 1, (3, 3), (1, 1), (1, 1, 1, 1), 1, 1),
    (64, 64, (3, 3), (1, 1), (1, 1, 1, 1), 40, 42),
    (68, 20, (1, 1), (1, 1), (0, 0, 0, 0), 5, 7),  # no number of steps at once divides 17
    (33, 18, (3, 3), (1, 1), (1, 1, 1, 1), 37, 16),  # rows of tiles that share a vector
    (12, 20, (3, 3), (1, 1), (1, 1, 1, 1), 26, 18),  # the same where blocks begin amid a row
    (20, 70, (3, 3), (1, 1), (1, 1, 1, 1), 16, 8),  # blocks of whole rows, filters in groups
    (70, 20, (3, 3), (1, 1), (1, 1, 1, 1), 11, 14),  # the branch's channels in two parts
]
BITS = [(4, 4), (6, 4), (8, 7), (8, 8), (3, 2)]  # of activations, of weights
LARGE = [  # more than 1 MiB of weights in the kernels' order, which each call makes
    (260, 270, (3, 3), (1, 1), (1, 1, 1, 1), 5, 4),
    (261, 267, (3, 3), (1, 1), (1, 1, 1, 1), 5, 4),  # filters that begin amid a byte
    (352, 340, (3, 3), (2, 2), (0, 1, 1, 0), 4, 5),
    (1040, 1010, (1, 1), (1, 1), (0, 0, 0, 0), 2, 3),
    (1030, 1034, (1, 1), (1, 1), (0, 0, 0, 0), 2, 3),
    (640, 440, (3, 3), (1, 1), (1, 1, 1, 1), 3, 3),  # in two bands
    (300, 340, (3, 3), (1, 1), (1, 1, 1, 1), 22, 25),  # so in tiles of 4x4 pixels
]
SLABS = [  # more than 2 MiB of padded codes, which go slab by slab
    (64, 3, (3, 3), (1, 1), (1, 1, 1, 1), 151, 260),
    (64, 3, (3, 3), (2, 2), (0, 0, 1, 1), 151, 262),
    (64, 3, (1, 1), (1, 1), (0, 0, 0, 0), 130, 301),
    (64, 3, (5, 1), (3, 1), (2, 0, 2, 0), 150, 300),
    (1500, 16, (3, 3), (1, 1), (1, 1, 1, 1), 77, 78),  # more than 8 MiB, and weights put in order
]
STREAMED = [  # y of more than 4 MiB, which passes the caches by where vectors of it are aligned
    (3, 40, (3, 3), (1, 1), (1, 1, 1, 1), 164, 160),
    (5, 72, (1, 1), (1, 1), (0, 0, 0, 0), 100, 147),
]
UPSAMPLING = [
    (24, 40, (3, 3), (1, 1), (1, 1, 1, 1), 9, 10),  # rows and columns of a tile in pairs
    (7, 17, (3, 3), (1, 1), (3, 1, 0, 2), 3, 21),
    (35, 33, (3, 3), (1, 1), (2, 0, 1, 3), 8, 31),
    (16, 8, (3, 3), (1, 1), (1, 0, 1, 1), 5, 6),
    (40, 24, (3, 3), (2, 2), (0, 1, 1, 0), 10, 7),
    (64, 17, (1, 1), (1, 1), (0, 0, 0, 0), 5, 25),
    (16, 16, (1, 4), (1, 3), (0, 2, 0, 1), 4, 9),
    (1, 1, (3, 3), (1, 1), (1, 1, 1, 1), 1, 1),
    (12, 20, (3, 3), (1, 1), (1, 1, 1, 1), 13, 8),  # rows of tiles that share a vector
    (644, 5, (3, 3), (1, 1), (1, 1, 1, 1), 4, 11),  # the branch's smaller tiles
    (644, 5, (3, 3), (1, 1), (1, 1, 1, 1), 9, 3),
    (260, 270, (3, 3), (1, 1), (1, 1, 1, 1), 3, 2),  # weights that each call puts in order
    (64, 3, (3, 3), (1, 1), (1, 1, 1, 1), 76, 130),  # slabs
]


def around(sizes):
    """The largest within three pixels: Winograd's algorithm rounds what a whole tile adds up."""
    padded = np.pad(sizes, ((0, 0), (0, 0), (3, 3), (3, 3)))
    return sliding_window_view(padded, (7, 7), axis=(2, 3)).max((-2, -1))


class Case:
    """A convolution's constants, input and expected result."""

    def __init__(self, geometry, bits, rank=0, batch=1, full=False, upsamples=False):
        channels, filters, kernel, self.strides, self.pads, height, width = geometry
        self.rank, self.kernel, self.top = rank, kernel, 2 ** bits[0] - 1
        self.upsamples = upsamples
        draw = np.random.default_rng([channels, filters, *bits, rank])
        most = 2 ** (bits[1] - 1)
        shape = (filters, channels, *kernel)
        self.weight = draw.integers(-most, most, shape).astype(np.int8)
        x_shape = (batch, channels, height, width)
        self.codes = draw.integers(0, self.top + 1, x_shape).astype(np.uint8)
        if full:  # the largest sums there are
            self.weight[:] = most - 1
            self.weight[::2] = -most
            self.codes[:] = self.top
            # And of Winograd's differences: taps and pixels at either end, alike in all channels.
            signs, ends = draw.integers(0, 2, (filters, 1, *kernel)), (most - 1, -most)
            self.weight[2:] = np.choose(signs, ends)[2:]
            self.codes[..., 4:, :] *= draw.integers(0, 2, x_shape[2:], np.uint8)[4:]
        self.bias = draw.integers(-1000, 1000, filters).astype(np.int32)
        self.grid = ConvGrid(
            x_scale=np.float32(0.1),
            x_zero_point=self.top // 3,
            weight_scale=draw.uniform(0.01, 0.02, filters).astype(np.float32),
            y_scale=np.float32(0.001 * most * self.top / 15 * np.sqrt(channels * np.prod(kernel))),
            y_zero_point=120,
        )
        self.x = draw.standard_normal(x_shape).astype(np.float32)
        self.down = draw.standard_normal((rank, channels, *kernel)).astype(np.float32)
        self.up = draw.standard_normal((filters, rank, 1, 1)).astype(np.float32)

    @property
    def feed(self):
        return {"codes": self.codes} | ({"x": self.x} if self.rank else {})

    @property
    def window(self):
        return {"strides": self.strides, "pads": self.pads}

    def model(self, fed=(), bits=8):
        """With weights stored in ``bits``; the initializers in ``fed`` are inputs."""
        weights = weight_tensors(self.weight, bits)
        grid = self.grid
        constants = {
            "x_scale": grid.x_scale,
            "x_zero_point": np.uint8(grid.x_zero_point),
            **weights,
            "weight_scale": grid.weight_scale,
            "bias": self.bias,
            "y_scale": grid.y_scale,
            "y_zero_point": np.uint8(grid.y_zero_point),
        }
        names = ["codes", *constants]
        if self.rank:
            names += ["x", "down", "up"]
            constants |= {"down": self.down, "up": self.up}
        values = self.feed | {name: constants.pop(name) for name in fed}
        node = quantized_conv_node(
            names,
            "y",
            kernel_shape=self.kernel,
            top=self.top,
            name="layer/y",
            upsamples=self.upsamples,
            **self.window,
        )
        inputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * np.ndim(value)
            )
            for name, value in values.items()
        ]
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
        tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
        graph = helper.make_graph([node], "conv", inputs, [y], tensors)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
        functions = list(quantized_conv_functions())
        return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)

    def check(self, y):
        """Codes are the definition's; the branch is within float32's error."""
        codes, x = self.codes, self.x.astype(np.float64)
        if self.upsamples:
            codes, x = upsample(codes), upsample(x)
        expected = quantized_conv(codes, self.weight, self.bias, self.grid, **self.window)
        y = y.astype(np.float64)
        if self.rank:
            sizes = around(low_rank_branch(abs(x), abs(self.down), abs(self.up), **self.window))
            y -= low_rank_branch(x, self.down, self.up, **self.window)
        steps = y / np.float64(self.grid.y_scale)
        np.testing.assert_array_equal(np.rint(steps) + self.grid.y_zero_point, expected)
        error = np.abs(y - np.rint(steps) * np.float64(self.grid.y_scale))
        terms = self.down[0].size + self.rank + 20 if self.rank else 0
        bound = 256 * EPS * self.grid.y_scale + (terms * EPS * sizes if self.rank else 0)
        assert np.all(error <= bound)


@pytest.mark.parametrize("bits", BITS, ids=str)
@pytest.mark.parametrize("geometry", GEOMETRY, ids=str)
def test_codes_equal_the_definition_on_every_instruction_set(geometry, bits, every_isa):
    for case in (Case(geometry, bits), Case(geometry, bits, rank=3, batch=2)):
        expected = every_isa(case.model(), case.feed)
        for y in expected:
            case.check(y)
        if bits[1] <= 4:
            found = every_isa(case.model(bits=4), case.feed)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bits", [(4, 4), (8, 4)], ids=str)
@pytest.mark.parametrize("geometry", LARGE, ids=str)
def test_large_layers_of_four_bits(geometry, bits, every_isa):
    case = Case(geometry, bits, batch=2)
    for y in every_isa(case.model(bits=4), case.feed, threads=2):
        case.check(y)


@pytest.mark.parametrize("bits", [(4, 4), (8, 7)], ids=str)
@pytest.mark.parametrize("geometry", UPSAMPLING, ids=str)
def test_upsampling(geometry, bits, every_isa, ops):
    for rank in (0, 5):
        case = Case(geometry, bits, rank=rank, batch=2, upsamples=True)
        model = case.model(bits=bits[1])
        for y in every_isa(model, case.feed, threads=2):
            case.check(y)
        case.check(ops.session(model, native=False).run(None, case.feed)[0])


@pytest.mark.parametrize("geometry", SLABS, ids=str)
def test_large_images(geometry, ops):
    case = Case(geometry, (4, 4), rank=2, batch=2)
    case.check(ops.session(case.model(bits=4), threads=2).run(None, case.feed)[0])


@pytest.mark.parametrize("geometry", STREAMED, ids=str)
def test_large_outputs(geometry, every_isa):
    case = Case(geometry, (4, 4), rank=2)
    for y in every_isa(case.model(), case.feed, threads=2):
        case.check(y)


@pytest.mark.parametrize("channels", [640, 644])
def test_the_branch_of_many_channels(channels, every_isa):
    """Above 640, its tiles are smaller."""
    case = Case((channels, 5, (3, 3), (1, 1), (1, 1, 1, 1), 9, 11), (4, 4), rank=20)
    for y in every_isa(case.model(), case.feed):
        case.check(y)


@pytest.mark.parametrize("bits", [(6, 6), (6, 5), (4, 6)], ids=str)
@pytest.mark.parametrize("geometry", [s for s in GEOMETRY if s[1] % 2 == 0], ids=str)
def test_weights_in_planes_are_those_in_bytes(geometry, bits, every_isa, ops):
    for rank, upsamples in ((0, False), (3, False), (3, True)):
        case = Case(geometry, bits, rank=rank, upsamples=upsamples)
        found = every_isa(case.model(bits=6), case.feed)
        np.testing.assert_array_equal(found, every_isa(case.model(), case.feed))
        for y in (
            *found,
            ops.session(case.model(bits=6), native=False).run(None, case.feed)[0],
        ):
            case.check(y)


@pytest.mark.parametrize("bits", [(4, 4), (4, 3), (3, 4), (2, 4), (6, 4), (8, 7), (8, 8)], ids=str)
@pytest.mark.parametrize(("kernel", "side"), [(1, 6), (3, 6), (3, 24)])
def test_the_largest_sums_fit(kernel, side, bits, every_isa):
    """Tiles are of 2x2 pixels on the smaller image, of 4x4 on the larger one."""
    pad = kernel // 2
    geometry = (520, 18, (kernel, kernel), (1, 1), (pad,) * 4, side, side)
    case = Case(geometry, bits, full=True)
    for y in every_isa(case.model(), case.feed):
        case.check(y)


@pytest.mark.parametrize("rank", [1, 16, 33])
@pytest.mark.parametrize("channels", [20, 130])
def test_threads_do_not_matter(channels, rank, ops):
    case = Case((channels, 70, (3, 3), (1, 1), (1, 1, 1, 1), 16, 8), (4, 4), rank=rank)
    one, three = (ops.session(case.model(), threads=n) for n in (1, 3))
    (expected,) = one.run(None, case.feed)
    case.check(expected)
    for _ in range(20):  # whichever of the branch's parts comes last
        np.testing.assert_array_equal(three.run(None, case.feed)[0], expected)


@pytest.mark.parametrize("rank", [0, 4])
def test_constants_that_are_inputs(rank, ops):
    case = Case(GEOMETRY[0], (4, 4), rank=rank)
    for name in ("weight", "bias", "y_scale", "up" if rank else "weight_scale"):
        model = case.model(fed=[name])
        tensors = {
            "weight": case.weight,
            "bias": case.bias,
            "y_scale": np.asarray(case.grid.y_scale),
            "weight_scale": case.grid.weight_scale,
            "up": case.up,
        }
        case.check(ops.session(model).run(None, case.feed | {name: tensors[name]})[0])


@pytest.mark.parametrize("rank", [0, 4])
def test_function_body_and_kernel_agree(rank, ops):
    case = Case(GEOMETRY[1], (4, 4), rank=rank)
    case.check(ops.session(case.model(), native=False).run(None, case.feed)[0])


def test_an_empty_batch(ops):
    case = Case(GEOMETRY[0], (4, 4), rank=2, batch=0)
    (y,) = ops.session(case.model()).run(None, case.feed)
    assert y.shape == (0, 40, 9, 10)


def test_sizes_that_are_not_known_stay_unknown(ops):
    """What follows may know them; -1 from shape inference would contradict it."""
    case = Case(GEOMETRY[0], (4, 4))
    model = case.model()
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 40, 9, 10))
    model.graph.input.append(z)
    model.graph.node.append(helper.make_node("Concat", ["y", "z"], ["both"], axis=1))
    model.graph.output[0].name = "both"
    feed = case.feed | {"z": np.zeros((1, 40, 9, 10), np.float32)}
    (both,) = ops.session(model).run(None, feed)
    case.check(both[:, :40])
