"""``torch.onnx.export`` of one stage with markers in place of quantized layers."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from quantface_export.lower.float_ops import float_ops
from quantface_export.lower.functions import carry_functions
from quantface_export.lower.marker import with_markers
from quantface_export.lower.reshapes import drop_round_trips
from quantface_export.lower.silu import join_silu
from quantface_export.settings import Profile

OPSET = 21

SymbolicShapes = Mapping[str, Mapping[int, Any]]
"""By input, the :class:`torch.export.Dim` of every axis that is not fixed."""

# says at every export that torchvision, which nothing here needs, is missing
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


@torch.no_grad()
def export_markers(
    stage: nn.Module,
    args: Sequence[Tensor],
    inputs: Sequence[str],
    output: str,
    profile: Profile = "cpu",
    shapes: SymbolicShapes | None = None,
) -> ir.Model:
    """Export a fake-quantized stage; quantized layers stay ``quantface.marker::Layer`` nodes.

    Args:
        stage: A fake-quantized stage.
        args: Example inputs; their shapes become the model's, but for the axes in ``shapes``.
        inputs: Names of the inputs.
        output: Name of the one output.
        profile: What the graph is written for.
        shapes: Axes of any size; None fixes all of them.
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
            dynamic_shapes=None if shapes is None else tuple(dict(shapes[x]) for x in inputs),
            verbose=False,
        )
    assert program is not None
    if shapes is not None:
        _name_dimensions(program)
    model = _without_traces(program.model)
    join_silu(model)
    drop_round_trips(model)
    carry_functions(model, profile)
    return model


def _name_dimensions(program: torch.onnx.ONNXProgram) -> None:
    """Inner shapes in the inputs' symbols: the exporter names some of them anew, ``s18``."""
    exported, graph = program.exported_program, program.model.graph
    assert exported is not None
    traced = {node.name: node.meta["val"] for node in exported.graph.nodes if "val" in node.meta}
    names: dict[str, str] = {}
    for given, value in zip(exported.graph_signature.user_inputs, graph.inputs, strict=True):
        assert value.shape is not None
        for dim, size in zip(value.shape, traced[given].shape, strict=True):
            if isinstance(dim, ir.SymbolicDim):
                (symbol,), (name,) = size.node.expr.free_symbols, dim.free_symbols()
                names[str(symbol)] = name
    for node in graph:
        for value in node.outputs:
            shape = value.shape or ir.Shape(())
            for axis, dim in enumerate(shape):
                if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                    shape[axis] = re.sub(r"\bs\d+\b", lambda m: names[m[0]], dim.value)


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
