"""Join SiLU to the GroupNorm before it: the native kernels compute both in one pass."""

from __future__ import annotations

import onnx_ir as ir

from onnx_ops.function_body import DOMAIN
from onnx_ops.group_norm import PLAIN, SILU
from quantface_export.lower.builder import take_place


def join_silu(model: ir.Model) -> int:
    """``GroupNorm -> y * Sigmoid(y)`` becomes ``GroupNormSilu``, in place.

    A GroupNorm whose result something else reads too is left as it is.

    Returns:
        How many were joined.
    """
    joined = 0
    for node in list(model.graph):
        if node.domain != DOMAIN or node.op_type != PLAIN:
            continue
        y = node.outputs[0]
        readers = {reader.op_type: reader for reader in y.consumers()}
        if set(readers) != {"Sigmoid", "Mul"} or len(y.uses()) != 2 or y.is_graph_output():
            continue
        sigmoid, product = readers["Sigmoid"], readers["Mul"]
        share, silu = sigmoid.outputs[0], product.outputs[0]
        if set(product.inputs) != {y, share} or len(share.uses()) != 1 or share.is_graph_output():
            continue
        node.op_type = SILU
        take_place(y, silu)
        model.graph.remove([product, sigmoid], safe=True)
        joined += 1
    return joined
