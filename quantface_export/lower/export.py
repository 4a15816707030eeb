"""``torch.onnx.export`` of one stage with markers in place of quantized layers."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence

import onnx_ir as ir
import torch
from torch import Tensor, nn

from quantface_export.lower.float_ops import float_ops
from quantface_export.lower.functions import carry_functions
from quantface_export.lower.marker import with_markers
from quantface_export.lower.silu import join_silu
from quantface_export.settings import Profile

OPSET = 21

# says at every export that torchvision, which nothing here needs, is missing
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


@torch.no_grad()
def export_markers(
    stage: nn.Module,
    args: Sequence[Tensor],
    inputs: Sequence[str],
    output: str,
    profile: Profile = "cpu",
) -> ir.Model:
    """Export a fake-quantized stage; quantized layers stay ``quantface.marker::Layer`` nodes.

    Args:
        stage: A fake-quantized stage.
        args: Example inputs; their shapes become the model's.
        inputs: Names of the inputs.
        output: Name of the one output.
        profile: Which ops stand for attention.
    """
    silent = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), silent, float_ops(profile):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            with_markers(stage),
            tuple(args),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=[output],
            verbose=False,
        )
    assert program is not None
    model = _without_traces(program.model)
    join_silu(model)
    carry_functions(model)
    return model


def _without_traces(model: ir.Model) -> ir.Model:
    """Drop the exporter's notes: stack traces name files of this machine, and weigh megabytes."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    return model
