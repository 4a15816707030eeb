"""A stage's graph, changed to look into it. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx

from onnx_ops.quantized_conv_body import quantized_conv_functions
from onnx_ops.quantized_linear import quantized_linear_functions
from quantface_export.layer_table import LAYER_OPS, LayerRecord


def with_outputs(model: Path, values: dict[str, int]) -> onnx.ModelProto:
    """``model`` with intermediate values among its outputs, and its weights left on disk.

    Args:
        model: The stage.
        values: ONNX element type by value name.
    """
    proto = onnx.load(model, load_external_data=False)
    present = {o.name for o in proto.graph.output}
    for name, element in values.items():
        if name not in present:
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, element, None))
    return proto


def without_branch(node: onnx.NodeProto) -> onnx.NodeProto:
    """A quantized layer's node less its branch."""
    op, plain = LAYER_OPS[node.op_type], onnx.NodeProto()
    plain.CopyFrom(node)
    plain.op_type = op.plain
    del plain.input[len(op.common) :]
    return plain


def carry_plain_bodies(model: onnx.ModelProto) -> None:
    """Give ``model`` the bodies of the ops without a branch, which it may not have used."""
    present = {function.name for function in model.functions}
    bodies = (*quantized_conv_functions(), *quantized_linear_functions())
    model.functions.extend(body for body in bodies if body.name not in present)


def add_whole(model: onnx.ModelProto, records: Sequence[LayerRecord]) -> None:
    """Compute :attr:`LayerRecord.whole` in ``model`` and make it an output, in place."""
    wanted = {r.out: r.whole for r in records if r.whole != r.out}
    for node in [n for n in model.graph.node if n.output and n.output[0] in wanted]:
        plain = without_branch(node)
        plain.name = plain.output[0] = wanted[node.output[0]]
        model.graph.node.append(plain)
        info = onnx.helper.make_tensor_value_info(plain.name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(info)
    carry_plain_bodies(model)
