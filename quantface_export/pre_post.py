"""Image bytes in, image bytes out: two small models around the four stages. Never imports torch.

``pre`` turns the bytes of a JPEG or PNG into ``image``, which two stages read, and ``post`` turns
``restored`` into the bytes of a PNG. They need the operators of onnxruntime-extensions, which the
four stages do not, so they are models of their own. onnxruntime-extensions' PrePostProcessor
(Microsoft, 2022) writes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnx_ops.extensions import onnxruntime_extensions
from onnx_ops.function_body import OPSET
from quantface_export.image_size import ImageSize

# isort: split
from onnxruntime_extensions.tools import pre_post_processing as ppp

PRE, POST = "pre/model.onnx", "post/model.onnx"

MANIFEST_ENTRY = {"pre": PRE, "post": POST, "needs": "onnxruntime-extensions >= 0.14"}
"""What the manifest says of the two models, as ``image_bytes``."""


class ThreeChannels(ppp.Step):  # type: ignore[misc]
    """(h, w, 1, 3 or 4) uint8, whatever the file holds, to (h, w, 3): gray repeated, no alpha."""

    def __init__(self) -> None:
        super().__init__(["pixels"], ["colours"])

    def _create_graph_for_step(self, graph: onnx.GraphProto, onnx_opset: int) -> onnx.GraphProto:
        return onnx.parser.parse_graph(
            f"""
            three_channels (uint8[h, w, c] {self.input_names[0]})
                => (uint8[h, w, 3] {self.output_names[0]})
            {{
                zero = Constant <value = int64[1] {{0}}> ()
                three = Constant <value = int64[1] {{3}}> ()
                last = Constant <value = int64[1] {{2}}> ()
                shape = Constant <value = int64[3] {{1, 1, 3}}> ()
                opaque = Slice ({self.input_names[0]}, zero, three, last)
                {self.output_names[0]} = Expand (opaque, shape)
            }}
            """
        )


def write_pre_post(folder: Path, size: ImageSize) -> None:
    """Write both models into a bundle's folder.

    Args:
        folder: The bundle's.
        size: Of the stages' images.
    """
    for name, model in ((PRE, pre_model(size)), (POST, post_model(size))):
        (folder / name).parent.mkdir()
        onnx.save(model, folder / name)


def pre_model(size: ImageSize) -> onnx.ModelProto:
    """``bytes`` (n,) uint8 to ``image`` (1, 3, h, w) float32, ``pixel / 127.5 - 1``.

    A picture of another size is resized, bilinear with a filter as wide as the step, until it
    covers the size, and its middle is taken. Transparency and EXIF orientation are ignored.
    """
    encoded = helper.make_tensor_value_info("bytes", TensorProto.UINT8, ["n"])
    processor = ppp.PrePostProcessor([encoded], OPSET)
    processor.add_pre_processing(
        [
            ppp.ConvertImageToBGR(),
            ThreeChannels(),
            ppp.ReverseAxis(axis=2, dim_value=3),
            ppp.Resize((size.height, size.width)),
            ppp.CenterCrop(size.height, size.width),
            ppp.ChannelsLastToChannelsFirst(),
            # In two steps, so that it rounds as the division and the subtraction of Python do.
            ppp.Normalize([(0, 127.5)]),
            ppp.Normalize([(1, 1)]),
            ppp.Unsqueeze([0]),
        ]
    )
    return _named(processor.run(_identity("joined", "image", size)), "image")


def post_model(size: ImageSize) -> onnx.ModelProto:
    """``restored`` (1, 3, h, w) float32 in [0, 1] to ``png`` (n,) uint8, half rounded to even."""
    processor = ppp.PrePostProcessor(onnx_opset=OPSET)
    processor.add_post_processing(
        [
            ppp.Squeeze([0]),
            ppp.Transpose([1, 2, 0]),
            ppp.FloatToImageBytes(),
            ppp.ReverseAxis(axis=2, dim_value=3),
            ppp.ConvertBGRToImage("png"),
        ]
    )
    return _named(processor.run(_identity("restored", "joined", size)), "png")


def _identity(source: str, target: str, size: ImageSize) -> onnx.ModelProto:
    """What the processor joins its steps to."""
    shape = (1, 3, size.height, size.width)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in (source, target))
    graph = helper.make_graph([helper.make_node("Identity", [source], [target])], "stage", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


def _named(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """Its output so named, other values by number: a processor counts on from model to model."""
    graph = model.graph
    names = {value.name: value.name for value in graph.input}
    names |= {graph.output[0].name: output, "": ""}
    for i, node in enumerate(graph.node):
        node.name = f"{node.op_type}{i}"
        for name in node.output:
            names.setdefault(name, f"value{len(names)}")
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    shape = graph.output[0].type.tensor_type.shape
    for dimension in shape.dim:
        if dimension.dim_param:
            dimension.dim_param = "n"
    graph.output[0].name = output
    del graph.value_info[:]
    return model


def open_pre_post(model: Path) -> ort.InferenceSession:
    """A CPU session on one of the two models, with onnxruntime-extensions' operators."""
    options = ort.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    options.log_severity_level = 3
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def run_bytes(session: ort.InferenceSession, value: bytes | NDArray[Any]) -> NDArray[Any]:
    """The one output for the one input; bytes become (n,) uint8."""
    (given,) = session.get_inputs()
    array = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
    (result,) = session.run(None, {given.name: array})
    return np.asarray(result)
