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
    (x, *_, scale, zero_point), codes = node.input, node.output[-1]
    nodes = []
    if node.op_type == prologue.NAME:
        x, *affine = node.input[:3]
        normal = group_norm.group_norm_node(
            (x, affine[0], affine[1]),
            node.output[0],
            groups=attributes["groups"],
            epsilon=attributes["epsilon"],
            silu=True,
            name=f"{node.name}/norm",
        )
        nodes, x = [normal], node.output[0]
    bounds = []
    for key in ("qmin", "qmax"):
        bounds.append(f"{codes}/{key}")
        graph.initializer.append(
            onnx.numpy_helper.from_array(np.array(attributes[key], np.uint8), bounds[-1])
        )
    node_of = onnx.helper.make_node
    rounded = f"{codes}/rounded"
    return [
        *nodes,
        node_of("QuantizeLinear", [x, scale, zero_point], [rounded], name=rounded),
        node_of("Clip", [rounded, *bounds], [codes], name=node.name),
    ]


def rotation_share(rotated: Mapping[str, int], unrotated: Mapping[str, int]) -> float:
    """Of the rotated run's time, what making codes takes longer there.

    Args:
        rotated: Microseconds by op kind.
        unrotated: The same of :func:`without_rotations`.
    """
    with_, without = (sum(kinds.get(k, 0) for k in ROUNDING) for kinds in (rotated, unrotated))
    return (with_ - without) / sum(rotated.values())
