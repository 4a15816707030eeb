"""One stage through the line: observe, balance, round, lower."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from calibration.attention import quantize_attention
from calibration.layers import quant_layers
from calibration.methods import METHODS
from calibration.methods.method import StageData
from calibration.observe import Site, observe
from calibration.progress import SILENT, Progress
from calibration.quantize import SitePlan, observe_outputs, quantize, stored_form
from calibration.recipe import LayerBits, Recipe
from quantface_export.contract import require_fusion
from quantface_export.errors import QuantfaceError
from quantface_export.lower.expand import expand
from quantface_export.lower.export import SymbolicShapes, export_markers
from quantface_export.osdface.plan import EDGES, FLOAT_LAYERS
from quantface_export.settings import Profile
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT, STAGES
from quantface_export.student import TRAINED


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedStage:
    """One stage after quantization, with what led there.

    Attributes:
        module: The stage in its fake-quantized form.
        sites: The activations that were observed.
        plans: The decisions by site.
        output: (N, ...) what the float stage gave for the inputs it was observed on.
    """

    module: nn.Module
    sites: dict[str, Site]
    plans: dict[str, SitePlan]
    output: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """A model after the PyTorch side of the line.

    Attributes:
        recipe: What was done; with the widths that were allocated, if they were.
        stages: The merged stages, with what led there.
        values: Every tensor between the float stages, for the calibration images.
        training: What the training says of itself; None without one.
        allocation: What the allocation says of itself; None without one.
    """

    recipe: Recipe
    stages: dict[str, QuantizedStage]
    values: dict[str, Tensor]
    training: dict[str, Any] | None
    allocation: dict[str, Any] | None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The stages alone."""
        return {name: stage.module for name, stage in self.stages.items()}


def stage_inputs(name: str, values: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
    """Arguments of a stage, one tuple per image."""
    columns = [values[key].split(1) for key in STAGE_INPUTS[name]]
    return list(zip(*columns, strict=True))


def quantize_stage(
    name: str,
    stage: nn.Module,
    inputs: Sequence[tuple[Tensor, ...]],
    recipe: Recipe,
    *,
    seed: int,
    trained: bool = False,
    progress: Progress = SILENT,
) -> QuantizedStage:
    """Observe, balance and round one stage by the recipe's method; consumes ``stage``.

    If it will be ``trained`` end to end, the layers hold trainable forms afterwards.
    """
    method = METHODS[recipe.method]
    if method.transform is not None:
        method.transform(stage)
    reference = copy.deepcopy(stage) if method.refine is not None else stage
    skip = FLOAT_LAYERS.get(name, ())
    outputs: list[Tensor] = []
    try:
        sites = observe(
            stage, inputs, seed=seed, skip=skip, outputs=outputs, progress=progress, name=name
        )
    except ValueError as e:
        raise QuantfaceError(f"{name}: {e}") from e
    plans = quantize(
        stage,
        sites,
        recipe,
        bits=site_bits(name, sites, recipe),
        seed=seed,
        plan=method.plan,
        form=method.form if not method.distilled or (trained and name in TRAINED) else stored_form,
        progress=progress,
        name=name,
    )
    if recipe.quantize_attention:
        quantize_attention(stage)
    if method.refine is not None:
        data = StageData(
            name=name,
            reference=reference,
            inputs=inputs,
            sites=sites,
            plans=plans,
            seed=seed,
            progress=progress,
        )
        method.refine(stage, data)
    with torch.no_grad():
        observe_outputs(stage, progress.track(inputs, f"{name}: observing outputs"))
    return QuantizedStage(module=stage, sites=sites, plans=plans, output=torch.cat(outputs))


def site_bits(name: str, sites: dict[str, Site], recipe: Recipe) -> dict[str, LayerBits]:
    """Widths of every site of a stage; first and last layers have 8 bits.

    Raises:
        QuantfaceError: The recipe names a layer that the stage does not have.
    """
    found = {
        key: recipe.bits(name, key, any(layer in EDGES[name] for layer in site.layers))
        for key, site in sites.items()
    }
    for given in recipe.site_bits:
        stage, _, key = given.partition("/")
        if stage not in STAGES or (stage == name and (key not in found or found[key].edge)):
            raise QuantfaceError(
                f"recipe {recipe.name} gives bits to {given!r}, which is no activation that can be "
                "chosen; names are STAGE/LAYER as `quantface-export allocate` writes them"
            )
    return found


def lower_stage(
    name: str,
    module: nn.Module,
    example: Sequence[Tensor],
    folder: Path,
    profile: Profile = "cpu",
    shapes: SymbolicShapes | None = None,
) -> None:
    """Export, expand, save and check the fusion contract.

    ``shapes`` are the inputs' where they are not fixed to the example's.
    """
    inputs, output = STAGE_INPUTS[name], STAGE_OUTPUT[name]
    graph = export_markers(module, example, inputs, output, profile, shapes)
    expand(graph, quant_layers(module), profile)
    folder.mkdir(exist_ok=True)
    ir.save(graph, folder / "model.onnx", external_data="model.onnx.data")
    require_fusion(name, folder / "model.onnx")
