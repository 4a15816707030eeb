"""One stage through the line: observe, balance, round, lower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from torch import Tensor, nn

from calibration.layers import quant_layers
from calibration.observe import Site, observe
from calibration.quantize import SitePlan, observe_outputs, quantize
from calibration.recipe import Recipe
from quantface_export.contract import require_fusion
from quantface_export.errors import QuantfaceError
from quantface_export.lower.expand import expand
from quantface_export.lower.export import export_markers
from quantface_export.osdface.plan import EDGES, FLOAT_LAYERS
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedStage:
    """One stage after quantization, with what led there."""

    module: nn.Module
    sites: dict[str, Site]
    plans: dict[str, SitePlan]


def stage_inputs(name: str, values: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
    """Arguments of a stage, one tuple per image."""
    columns = [values[key].split(1) for key in STAGE_INPUTS[name]]
    return list(zip(*columns, strict=True))


def quantize_stage(
    name: str,
    stage: nn.Module,
    inputs: Sequence[tuple[Tensor, ...]],
    recipe: Recipe,
    seed: int,
    step: Step,
) -> QuantizedStage:
    """Observe, balance and round one stage; consumes ``stage``."""
    step(f"{name}: observing activations")
    try:
        sites = observe(stage, inputs, seed=seed, skip=FLOAT_LAYERS.get(name, ()))
    except ValueError as e:
        raise QuantfaceError(f"{name}: {e}") from e
    step(f"{name}: balancing and rounding {sum(len(s.layers) for s in sites.values())} layers")
    plans = quantize(stage, sites, recipe, edges=EDGES[name], seed=seed)
    step(f"{name}: observing outputs")
    observe_outputs(stage, inputs)
    return QuantizedStage(module=stage, sites=sites, plans=plans)


def lower_stage(name: str, module: nn.Module, example: Sequence[Tensor], folder: Path) -> None:
    """Export, expand, save and check the fusion contract."""
    graph = export_markers(module, example, STAGE_INPUTS[name], STAGE_OUTPUT[name])
    expand(graph, quant_layers(module))
    folder.mkdir()
    ir.save(graph, folder / "model.onnx", external_data="model.onnx.data")
    require_fusion(name, folder / "model.onnx")
