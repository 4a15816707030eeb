"""Drop the reshapes of attention: heads are split for PyTorch, and joined again for the op."""

from __future__ import annotations

import onnx_ir as ir


def drop_round_trips(model: ir.Model) -> int:
    """``Reshape -> Reshape`` back to the first one's shape becomes nothing, in place.

    Returns:
        How many pairs were dropped.
    """
    dropped = 0
    for back in list(model.graph):
        there = back.inputs[0].producer() if _reshapes(back) and back.inputs[0] else None
        if there is None or not _reshapes(there):
            continue
        x, y = there.inputs[0], back.outputs[0]
        if x is None or y.is_graph_output() or not _same(x.shape, y.shape):
            continue
        y.replace_all_uses_with(x)
        model.graph.remove(back, safe=True)
        if not there.outputs[0].uses() and not there.outputs[0].is_graph_output():
            model.graph.remove(there, safe=True)
        dropped += 1
    return dropped


def _reshapes(node: ir.Node) -> bool:
    return not node.domain and node.op_type == "Reshape"


def _same(a: ir.Shape | None, b: ir.Shape | None) -> bool:
    """Whether both are known and equal, symbols included."""
    if a is None or b is None or len(a) != len(b):
        return False
    known = all(isinstance(d, int) or d.value is not None for d in (*a, *b))
    return known and a == b
