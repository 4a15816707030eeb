"""The function bodies that a model carries for its ops of the native kernels."""

from __future__ import annotations

import onnx_ir as ir

from onnx_ops import attention, linear_prologue, prologue
from onnx_ops.function_body import DOMAIN, VERSION, hadamard_function
from onnx_ops.group_norm import SILU, group_norm_functions
from onnx_ops.hadamard_quantize import hadamard_quantize_function
from onnx_ops.quantized_conv_body import quantized_conv_functions
from onnx_ops.quantized_linear import quantized_linear_functions
from onnx_ops.scale_quantize import scale_quantize_function
from quantface_export.settings import Profile


def carry_functions(model: ir.Model, profile: Profile) -> None:
    """Give ``model`` the bodies of the ops that it holds, in place; it needs no others.

    Args:
        model: A stage, or what is made of it so far.
        profile: What the graph is written for.
    """
    used = {node.op_type for node in model.graph if node.domain == DOMAIN}
    if not used:
        return
    model.opset_imports[DOMAIN] = VERSION
    if prologue.NAME in used:
        used |= {SILU, "HadamardQuantize"}
    if "HadamardQuantize" in used:
        used.add("Hadamard")
    for body in (
        hadamard_function(),
        hadamard_quantize_function(),
        scale_quantize_function(),
        *quantized_conv_functions(standard=profile == "portable"),
        *quantized_linear_functions(),
        *group_norm_functions(),
        prologue.prologue_function(),
        *linear_prologue.linear_prologue_functions(),
        *attention.attention_functions(),
    ):
        if body.name in used:
            function = ir.serde.deserialize_function(body)
            model.functions[function.identifier()] = function
