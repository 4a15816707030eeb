"""Reshapes that lead back where they came from are dropped, and no others."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from quantface_export.lower.reshapes import drop_round_trips

SHAPES = (1, 6, 8), (1, 6, 2, 4)


def model(*shapes: tuple[int | str | None, ...]) -> ir.Model:
    """A ``Relu`` before and behind a row of reshapes, from the first shape to the last."""
    x = ir.Value(name="x", shape=ir.Shape(shapes[0]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes = [ir.Node("", "Relu", [x])]
    nodes[0].outputs[0].shape = x.shape
    constants = []
    for i, shape in enumerate(shapes[1:]):
        sizes = np.array([d if isinstance(d, int) else -1 for d in shape], np.int64)
        constant = ir.Value(name=f"shape_{i}", const_value=ir.Tensor(sizes))
        nodes.append(ir.Node("", "Reshape", [nodes[-1].outputs[0], constant]))
        nodes[-1].outputs[0].shape = ir.Shape(shape)
        constants.append(constant)
    nodes.append(ir.Node("", "Relu", [nodes[-1].outputs[0]]))
    graph = ir.Graph([x], [nodes[-1].outputs[0]], nodes=nodes, initializers=constants)
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("shapes", "left"),
    [
        ((SHAPES[0], SHAPES[1], SHAPES[0]), 0),
        (((1, "n", 8), (1, "n", 2, 4), (1, "n", 8)), 0),
        ((SHAPES[0], SHAPES[1], SHAPES[0], SHAPES[1]), 1),
        ((SHAPES[0], SHAPES[1], (1, 12, 4)), 2),
        (((1, None, 8), (1, None, 2, 4), (1, None, 8)), 2),
        ((SHAPES[0], SHAPES[1]), 1),
    ],
    ids=str,
)
def test_round_trips(shapes: tuple[tuple[int | str | None, ...], ...], left: int) -> None:
    edited = model(*shapes)
    dropped = drop_round_trips(edited)
    kinds = [node.op_type for node in edited.graph]
    assert kinds.count("Reshape") == left == len(shapes) - 1 - 2 * dropped
    first, last = edited.graph[0], edited.graph[len(kinds) - 1]
    assert (last.inputs[0] is first.outputs[0]) == (left == 0)


def test_a_reshape_that_is_read_elsewhere_stays() -> None:
    edited = model(SHAPES[0], SHAPES[1], SHAPES[0])
    reader = ir.Node("", "Relu", [edited.graph[1].outputs[0]])
    edited.graph.append(reader)
    edited.graph.outputs.append(reader.outputs[0])
    assert drop_round_trips(edited) == 1
    assert [n.op_type for n in edited.graph] == ["Relu", "Reshape", "Relu", "Relu"]
