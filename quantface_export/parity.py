"""Layer-by-layer parity: each layer of the reference is fed what ORT fed to its own.

So one rounding tie that falls to the other side counts once, and does not excuse the
layers behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantface_export.layer_table import LayerRecord, layer_groups, read_layers
from quantface_export.probe import add_whole, with_outputs
from quantface_export.session import Optimization, Variant, open_session, run

MISMATCH_LIMIT = 1e-4
"""At most this share of a stage's integers may differ from the reference's."""

LSB_LIMIT = 1
"""And by at most this much."""

OUTPUT = "stage output"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerParity:
    """How one layer's integers compare: input codes and results together."""

    name: str
    integers: int
    mismatches: int
    lsb_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParity:
    """Parity of one stage under one variant and optimization level."""

    layers: tuple[LayerParity, ...]
    output: NDArray[np.float32]

    @property
    def mismatch_fraction(self) -> float:
        """Share of the stage's integers that differ."""
        total = sum(layer.integers for layer in self.layers)
        return sum(layer.mismatches for layer in self.layers) / max(1, total)

    @property
    def lsb_max(self) -> int:
        """Largest difference of any integer."""
        return max((layer.lsb_max for layer in self.layers), default=0)

    @property
    def worst_layer(self) -> str:
        """The layer with the largest share of mismatches; empty if there are none."""
        worst = max(self.layers, key=lambda p: p.mismatches / max(1, p.integers))
        return worst.name if worst.mismatches else ""

    @property
    def passed(self) -> bool:
        """Whether both limits hold."""
        return self.mismatch_fraction <= MISMATCH_LIMIT and self.lsb_max <= LSB_LIMIT


def compare_stage(
    model: Path,
    inputs: Sequence[NDArray[np.float32]],
    *,
    variant: Variant,
    optimization: Optimization,
) -> StageParity:
    """Run one stage in ORT and hold every quantized layer to the reference."""
    layers, output = [], np.empty(0, np.float32)
    for group in layer_groups(model, read_layers(model), inputs):
        results = _probed(model, group, inputs, variant, optimization)
        layers += [_compare_layer(record, results) for record in group]
        output = results[OUTPUT].astype(np.float32)  # a copy
        del results  # each would keep its session's arena
    return StageParity(layers=tuple(layers), output=output)


def _probed(
    model: Path,
    records: Sequence[LayerRecord],
    inputs: Sequence[NDArray[np.float32]],
    variant: Variant,
    optimization: Optimization,
) -> dict[str, NDArray[Any]]:
    """What one run gives for the layers' inputs, codes and results, and as ``OUTPUT``."""
    values: dict[str, int] = {}
    for record in records:
        values[record.x] = onnx.TensorProto.FLOAT
        values[record.codes] = onnx.TensorProto.UINT8
        values[record.out] = onnx.TensorProto.FLOAT
    edited = with_outputs(model, values)
    add_whole(edited, records)
    session = open_session(model, optimization=optimization, variant=variant, edited=edited)
    names = [o.name for o in session.get_outputs()]
    results = dict(zip(names, run(session, *inputs), strict=True))
    results |= dict(zip((i.name for i in session.get_inputs()), inputs, strict=True))
    return results | {OUTPUT: results[names[0]]}


def _compare_layer(record: LayerRecord, results: dict[str, NDArray[Any]]) -> LayerParity:
    x, codes = results[record.x], results[record.codes]
    out, whole = results[record.out], results[record.whole]
    pairs = (
        (record.input_codes(x), codes),
        (record.result(codes), record.integers(x, whole)),
    )
    differences = [np.abs(np.subtract(a, b, dtype=np.float64)) for a, b in pairs]
    if record.whole != record.out:
        differences.append(record.branch_error(x, out, whole))
    return LayerParity(
        name=record.name,
        integers=codes.size + out.size,
        mismatches=sum(int(np.count_nonzero(d)) for d in differences),
        lsb_max=max(int(d.max()) for d in differences),
    )
