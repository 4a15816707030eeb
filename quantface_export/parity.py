"""Layer-by-layer parity: each layer of the reference is fed what ORT fed to its own.

So one rounding tie that falls to the other side counts once, and does not excuse the
layers behind it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from quantface_export.layer_table import LayerRecord, read_layers
from quantface_export.session import Optimization, Variant, open_session, run, with_outputs

MISMATCH_LIMIT = 1e-4
"""At most this share of a stage's integers may differ from the reference's."""

LSB_LIMIT = 1
"""And by at most this much."""

GROUP_BYTES = 2 << 30
"""A run returns values of as many layers as fit in about this."""

PROBED_BYTES = 9
"""Of each value of a layer's input: float32, its code, and about one float32 of the result."""

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
    for group in _groups(model, read_layers(model), inputs):
        results = _probed(model, group, inputs, variant, optimization)
        layers += [_compare_layer(record, results) for record in group]
        output = results[OUTPUT]
    return StageParity(layers=tuple(layers), output=output.astype(np.float32))


def _groups(
    model: Path, records: Sequence[LayerRecord], inputs: Sequence[NDArray[np.float32]]
) -> Iterator[list[LayerRecord]]:
    """Layers whose probed values fit in memory together, in graph order."""
    values = _value_sizes(onnx.load(model, load_external_data=False).graph, inputs)
    group: list[LayerRecord] = []
    total = 0
    for record in records:
        size = values.get(record.x, 0) * PROBED_BYTES
        if group and total + size > GROUP_BYTES:
            yield group
            group, total = [], 0
        group.append(record)
        total += size
    yield group


def _value_sizes(graph: onnx.GraphProto, inputs: Sequence[NDArray[np.float32]]) -> dict[str, int]:
    """How many numbers every value of the graph has.

    A graph for any size has dimensions such as ``64*rows``; the inputs say what they are.
    """
    import onnx_ir as ir  # a second of import that graphs of a fixed size do without

    symbols: dict[str, int] = {}
    for given, x in zip(graph.input, inputs, strict=True):
        for dim, n in zip(given.type.tensor_type.shape.dim, x.shape, strict=True):
            if dim.dim_param:
                step, _, symbol = dim.dim_param.rpartition("*")
                symbols[symbol] = n // int(step or 1)

    def size(dim: onnx.TensorShapeProto.Dimension) -> int:
        if not dim.dim_param:
            return dim.dim_value
        return cast(int, ir.SymbolicDim(dim.dim_param).evaluate(symbols))

    return {
        v.name: math.prod(size(d) for d in v.type.tensor_type.shape.dim) for v in graph.value_info
    }


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
    with tempfile.TemporaryDirectory() as folder:
        probed = Path(folder) / model.name
        with_outputs(model, values, probed)
        session = open_session(probed, optimization=optimization, variant=variant)
        names = [o.name for o in session.get_outputs()]
        results = dict(zip(names, run(session, *inputs), strict=True))
        results |= dict(zip((i.name for i in session.get_inputs()), inputs, strict=True))
    return results | {OUTPUT: results[names[0]]}


def _compare_layer(record: LayerRecord, results: dict[str, NDArray[Any]]) -> LayerParity:
    codes = results[record.codes]
    pairs = (
        (record.input_codes(results[record.x]), codes),
        (record.result(codes), record.integers(results[record.x], results[record.out])),
    )
    differences = [np.abs(a.astype(np.int64) - b.astype(np.int64)) for a, b in pairs]
    return LayerParity(
        name=record.name,
        integers=sum(d.size for d in differences),
        mismatches=sum(int(np.count_nonzero(d)) for d in differences),
        lsb_max=max(int(d.max()) for d in differences),
    )
