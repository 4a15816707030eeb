"""What this machine's integer kernels make of drawn codes, as one hash. Never imports torch.

Float arithmetic may differ between CPUs in the last bit, and integer arithmetic may not. So every
quantized layer is cut out of its stage, reads codes that are drawn from a seed instead of rounded
from floats, and its integers are hashed: equal hashes on two machines mean equal integers.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quantface_export.layer_table import (
    LAYER_OPS,
    LayerRecord,
    layer_groups,
    read_layers,
    value_shapes,
)
from quantface_export.probe import carry_plain_bodies, without_branch
from quantface_export.session import Variant, open_session, run


def integers_sha256(
    model: Path, inputs: Sequence[NDArray[np.float32]], variant: Variant = "function"
) -> str:
    """Hash of the integers of every quantized layer of a stage, in graph order.

    Each layer reads codes drawn evenly from its grid; layers that share their codes share the
    drawn ones. Hashed are the layers' names, the output codes of convolutions and the sums of
    linear layers, as int32 in little-endian order.

    Args:
        model: The stage.
        inputs: Anything that it may read: the layers get codes of the shapes that follow.
        variant: Whose convolutions compute: ONNX Runtime's, or the native library's.
    """
    digest, shapes = hashlib.sha256(), value_shapes(model, inputs)
    for group in layer_groups(model, read_layers(model), inputs):
        codes = {record.codes: _drawn(record, shapes[record.x]) for record in group}
        for record, values in zip(group, _run(model, group, codes, variant), strict=True):
            alone = replace(record, branch=None)
            digest.update(record.name.encode())
            digest.update(alone.integers(values, values).astype("<i4").tobytes())
    return digest.hexdigest()


def _drawn(record: LayerRecord, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(zlib.crc32(record.codes.encode()))
    return rng.integers(0, record.top, shape, np.uint8, endpoint=True)


def _run(
    model: Path,
    records: Sequence[LayerRecord],
    codes: dict[str, NDArray[np.uint8]],
    variant: Variant,
) -> list[NDArray[np.float32]]:
    """The layers' results for these codes, from a model that holds nothing but the layers."""
    session = open_session(model, variant=variant, edited=_layers_alone(model, records, codes))
    return run(session, *(codes[i.name] for i in session.get_inputs()))


def _layers_alone(
    model: Path, records: Sequence[LayerRecord], codes: dict[str, NDArray[np.uint8]]
) -> onnx.ModelProto:
    """The stage with ``codes`` as its inputs and the layers' results as its outputs.

    Without the branches, which read floats.
    """
    proto = onnx.load(model, load_external_data=False)
    graph = proto.graph
    needed, kept = {record.out for record in records}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output) and not codes.keys() & set(node.output):
            alone = without_branch(node) if node.op_type in LAYER_OPS else node
            needed.update(alone.input)
            kept.append(alone)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    make = onnx.helper.make_tensor_value_info
    proto.graph.CopyFrom(
        onnx.helper.make_graph(
            kept[::-1],
            graph.name,
            [make(name, onnx.TensorProto.UINT8, array.shape) for name, array in codes.items()],
            [make(record.out, onnx.TensorProto.FLOAT, None) for record in records],
            constants,
        )
    )
    carry_plain_bodies(proto)
    return proto
