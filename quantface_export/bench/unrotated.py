"""What a bundle's rotations take: its stages with and without them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from onnx_ops import group_norm, prologue

ROTATION: Final = "HadamardQuantize"

ROUNDING: Final = (prologue.NAME, ROTATION, group_norm.SILU, "QuantizeLinear", "Clip")
"""Op kinds that make codes, with a rotation or without."""


def without_rotations(model: Path) -> onnx.ModelProto:
    """The stage with ``QuantizeLinear`` and ``Clip`` in each rotation's place, for its time alone.

    Args:
        model: ``model.onnx``; its external data is not read.
    """
    edited = onnx.load(model, load_external_data=False)
    graph = edited.graph
    nodes = [new for node in graph.node for new in _unrotated(node, graph)]
    del graph.node[:]
    graph.node.extend(nodes)
    return edited


def _unrotated(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """What takes the place of ``node``."""
    if node.op_type not in (ROTATION, prologue.NAME):
        return [node]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    x, codes, nodes = node.input[0], node.output[-1], []
    if node.op_type == prologue.NAME:
        x, gamma, beta = node.input[:3]
        normal = group_norm.group_norm_node(
            (x, gamma, beta),
            node.output[0],
            groups=attributes["groups"],
            epsilon=attributes["epsilon"],
            silu=True,
            name=f"{node.name}/norm",
        )
        nodes, x = [normal], node.output[0]
    bounds = {f"{codes}/{key}": np.array(attributes[key], np.uint8) for key in ("qmin", "qmax")}
    graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in bounds.items())
    make, rounded = onnx.helper.make_node, f"{codes}/rounded"
    return [
        *nodes,
        make("QuantizeLinear", [x, *node.input[-2:]], [rounded], name=rounded),
        make("Clip", [rounded, *bounds], [codes], name=node.name),
    ]


def rotation_share(rotated: Mapping[str, int], unrotated: Mapping[str, int]) -> float:
    """Of the rotated run's time, what making codes takes longer there.

    Args:
        rotated: Microseconds by op kind.
        unrotated: The same of :func:`without_rotations`.
    """
    longer = sum(rotated.get(kind, 0) - unrotated.get(kind, 0) for kind in ROUNDING)
    return longer / sum(rotated.values())
