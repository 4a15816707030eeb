"""What this machine's integer kernels make of drawn codes, as one hash. Never imports torch.

Float arithmetic may differ between CPUs in the last bit, and integer arithmetic may not. So every
quantized layer is cut out of its stage, reads codes that are drawn from a seed instead of rounded
from floats, and its integers are hashed: equal hashes on two machines mean equal integers.
"""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quantface_export.layer_table import LayerRecord, layer_groups, read_layers
from quantface_export.session import open_session, run, with_outputs


def integers_sha256(model: Path) -> str:
    """Hash of the integers of every quantized layer of a stage, in graph order.

    Each layer reads codes drawn evenly from its grid; layers that share their codes share the
    drawn ones. Hashed are the layers' names, the output codes of convolutions and the sums of
    linear layers, as int32 in little-endian order.
    """
    digest, shapes = hashlib.sha256(), _shapes(model)
    for group in layer_groups(model, read_layers(model)):
        codes = {record.codes: _drawn(record, shapes[record.x]) for record in group}
        for record, values in zip(group, _run(model, group, codes), strict=True):
            digest.update(record.name.encode())
            digest.update(record.integers(values).astype("<i4").tobytes())
    return digest.hexdigest()


def _drawn(record: LayerRecord, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(zlib.crc32(record.codes.encode()))
    return rng.integers(0, record.top, shape, np.uint8, endpoint=True)


def _shapes(model: Path) -> dict[str, tuple[int, ...]]:
    graph = onnx.load(model, load_external_data=False).graph
    return {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in (*graph.input, *graph.value_info)
    }


def _run(
    model: Path, records: Sequence[LayerRecord], codes: dict[str, NDArray[np.uint8]]
) -> list[NDArray[np.generic]]:
    """The layers' results for these codes, from a model that holds nothing but the layers."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / model.name
        with_outputs(model, {}, target)
        onnx.save(_layers_alone(target, records, codes), target)
        session = open_session(target)
        return run(session, *(codes[i.name] for i in session.get_inputs()))


def _layers_alone(
    model: Path, records: Sequence[LayerRecord], codes: dict[str, NDArray[np.uint8]]
) -> onnx.ModelProto:
    """The stage with ``codes`` as its inputs and the layers' results as its outputs."""
    proto = onnx.load(model, load_external_data=False)
    graph = proto.graph
    needed, kept = {record.out for record in records}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output) and not codes.keys() & set(node.output):
            needed.update(node.input)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    make = onnx.helper.make_tensor_value_info
    kind = {"conv": onnx.TensorProto.UINT8, "linear": onnx.TensorProto.FLOAT}
    proto.graph.CopyFrom(
        onnx.helper.make_graph(
            kept[::-1],
            graph.name,
            [make(name, onnx.TensorProto.UINT8, array.shape) for name, array in codes.items()],
            [make(record.out, kind[record.kind], None) for record in records],
            constants,
        )
    )
    return proto
