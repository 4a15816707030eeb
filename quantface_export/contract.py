"""The fusion contract: every planned integer layer must really run as one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx

from quantface_export.errors import QuantfaceError
from quantface_export.layer_table import LayerRecord, read_layers
from quantface_export.session import Variant, open_session


class FusionError(QuantfaceError):
    """A layer was planned as an integer kernel and ORT did not make it one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """What was planned and what ORT's optimized graph holds."""

    planned: int
    missing: tuple[str, ...]

    @property
    def fused(self) -> int:
        """Layers that run as planned."""
        return self.planned - len(self.missing)


def read_fusion(model: Path, variant: Variant = "function") -> Fusion:
    """Load a stage in ORT, read its optimized graph back, and compare it with the plan."""
    records = read_layers(model)
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(model, variant=variant, optimized_to=optimized)
        graph = onnx.load(optimized, load_external_data=False).graph
    missing = tuple(r.name for r in records if not _fused(r, graph))
    return Fusion(planned=len(records), missing=missing)


def _fused(record: LayerRecord, graph: onnx.GraphProto) -> bool:
    return any(node.op_type in record.fused_ops and record.key in node.input for node in graph.node)


def require_fusion(stage: str, model: Path) -> Fusion:
    """As :func:`read_fusion`, but a layer that did not fuse is an error.

    Raises:
        FusionError: Names the first layers, how many there are, and what was planned.
    """
    fusion = read_fusion(model)
    if fusion.missing:
        listed = ", ".join(fusion.missing[:3])
        raise FusionError(
            f"{len(fusion.missing)} of {fusion.planned} layers of {stage} do not run as integer "
            f"kernels in this ONNX Runtime (first: {listed}); expected QLinearConv or "
            "MatMulIntegerToFloat; export with another onnxruntime version or report the layer"
        )
    return fusion
