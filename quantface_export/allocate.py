"""Sensitivity sweep, error table and integer program over all stages of a model."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from calibration.allocation import (
    WIDTHS,
    InfeasibleBudgetError,
    Item,
    Limit,
    allocate,
    require_feasible,
)
from calibration.dataset import generated
from calibration.folds import find_folds
from calibration.observe import Site, observe, quantizable
from calibration.progress import SILENT, Progress
from calibration.quantize import SitePlan, flat_weight, output_error, plan_site
from calibration.recipe import Recipe
from calibration.sensitivity import Replay, Sweep, SweepCache, needed_bits, rounded, site_grid
from calibration.side_by_side import side_by_side
from calibration.weights import round_weight
from quantface_export.compare.metrics import frechet
from quantface_export.errors import QuantfaceError
from quantface_export.features import Features, features_name, load_features
from quantface_export.limits import require_complete
from quantface_export.models import image_size
from quantface_export.osdface.model import Osdface
from quantface_export.osdface.plan import FLOAT_LAYERS
from quantface_export.quantized import site_bits, stage_inputs
from quantface_export.reference import run_stages, to_tensors
from quantface_export.settings import BuildSettings
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT, STAGES

SWEEP_IMAGES = 3

WEIGHT_POWER = 1
"""p of the perceptual weight; the paper squares it, and takes absolute errors.

On nano absolute errors let the largest layers take everything, and squares the sweep's noise:
README, design notes.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTable:
    """What the sweep found of one site.

    Attributes:
        name: ``stage/site``.
        needed: B_i.
        macs: Multiply-accumulates of one image.
        error: ``||W X - Q(W) Q_b(X)||^2 / ||W X||^2`` by width, summed over the site's layers.
    """

    name: str
    needed: int
    macs: int
    error: dict[int, float]

    def item(self) -> Item:
        """With the perceptual weight ``w_i^p = (2^B_i - 1)^p``."""
        weight = (2**self.needed - 1) ** WEIGHT_POWER
        return Item(
            name=self.name,
            macs=self.macs,
            error={b: weight * e for b, e in self.error.items()},
        )


class Sensitivity:
    """The sweep over one float model.

    Attributes:
        stages: The four stages in float.
        values: Every tensor between them for the calibration images.
        clean: Feature rows of the clean images, the reference of the Frechet distance.
        features: For the Frechet distance.
    """

    def __init__(
        self,
        stages: dict[str, nn.Module],
        values: dict[str, Tensor],
        clean: Tensor,
        features: Features,
        recipe: Recipe,
        seed: int,
    ) -> None:
        self.stages, self.values, self.features = stages, values, features
        self.clean, self.recipe, self.seed = clean, recipe, seed
        self.reference = self._frechet(values["restored"])

    def _frechet(self, restored: Tensor) -> float:
        rows = self.features(restored * 2 - 1)
        return frechet(rows.numpy(), self.clean.numpy())

    def _restored(self, stage: str, output: Tensor) -> Tensor:
        """The picture if ``stage`` gives ``output``; only what comes after it is run."""
        values = {**self.values, STAGE_OUTPUT[stage]: output}
        changed = {STAGE_OUTPUT[stage]}
        for name in STAGES:
            if changed & set(STAGE_INPUTS[name]):
                values[STAGE_OUTPUT[name]] = self.stages[name](
                    *(values[key] for key in STAGE_INPUTS[name])
                )
                changed.add(STAGE_OUTPUT[name])
        return values["restored"]

    @torch.no_grad()
    def tables(self, sweep: Sweep, cache: SweepCache, progress: Progress) -> list[SiteTable]:
        """B_i and the error table of every site that is not at an edge."""
        return [
            table
            for name in self.stages
            for table in self.stage_tables(name, sweep, cache, progress)
        ]

    def stage_tables(
        self, name: str, sweep: Sweep, cache: SweepCache, progress: Progress
    ) -> Iterator[SiteTable]:
        """B_i and the error table of one stage's sites."""
        stage = self.stages[name]
        inputs = stage_inputs(name, self.values)
        sites = observe(
            stage,
            inputs,
            seed=self.seed,
            skip=FLOAT_LAYERS.get(name, ()),
            progress=progress,
            name=name,
        )
        bits = site_bits(name, sites, self.recipe)
        layers, folds = quantizable(stage), find_folds(stage)
        inner = [key for key in sites if not bits[key].edge]
        replay = Replay(
            stage,
            [n for site in sites.values() for n in site.layers],
            tuple(torch.cat(column) for column in zip(*inputs, strict=True)),
        )

        def table(key: str) -> SiteTable:
            site = sites[key]
            weights = {n: flat_weight(layers[n]) for n in site.layers}
            plan = plan_site(
                site, weights, self.recipe, bits[key], fold=folds.get(key), seed=self.seed
            )

            def distance(width: int) -> float:
                grid = site_grid(site, plan, width, self.recipe.observer)
                output = replay.run(site, rounded(plan.balance, grid))
                return self._frechet(self._restored(name, output))

            needed = needed_bits(f"{name}/{key}", distance, self.reference, sweep, cache)
            return self._table(f"{name}/{key}", site, plan, weights, needed)

        with replay.recorded():
            text = f"{name}: sensitivity of {len(inner)} activations"
            yield from progress.track(side_by_side(table, inner), text, len(inner))

    def _table(
        self, name: str, site: Site, plan: SitePlan, weights: dict[str, Tensor], needed: int
    ) -> SiteTable:
        error = dict.fromkeys(WIDTHS, 0.0)
        recipe, macs = self.recipe, 0
        for n in site.layers:
            w, x = plan.balance.weight(weights[n]), plan.balance.activation(site.samples(n), 1)
            rank = min(recipe.rank, w.shape[1], len(w))
            weight = round_weight(w, recipe.weight_bits, rank)
            macs += site.positions[n] * w.numel()
            for b in WIDTHS:
                grid = site_grid(site, plan, b, recipe.observer)
                error[b] += output_error(x, w, weight, grid)
        return SiteTable(name=name, needed=needed, macs=macs, error=error)


def sweep_key(
    stages: dict[str, nn.Module],
    images: Tensor,
    recipe: Recipe,
    sweep: Sweep,
    seed: int,
    features: str,
) -> str:
    """Tells sweeps apart: weights, images and what the distances depend on."""
    same = dataclasses.replace(recipe, name="", budget=None)
    digest = hashlib.sha256(repr((same, sweep, seed, features)).encode())
    for tensor in (images, *(p for s in stages.values() for p in s.parameters())):
        digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()[:16]


def measured(
    model: Osdface, recipe: Recipe, settings: BuildSettings, progress: Progress
) -> list[SiteTable]:
    """The sweep on generated faces: their clean originals are the distance's reference."""
    degraded, clean = (
        to_tensors(images)
        for images in generated(
            SWEEP_IMAGES, image_size(model.config, settings.size).longer, settings.seed
        )
    )
    stages, sweep = model.stages(), Sweep()
    values = run_stages(stages, degraded, progress, "running the float model")
    features = load_features(model.vre, settings.inception, pooled=False)
    sensitivity = Sensitivity(stages, values, features(clean), features, recipe, settings.seed)
    cache = None
    if settings.cache is not None:
        key = sweep_key(
            stages, degraded, recipe, sweep, settings.seed, features_name(settings.inception)
        )
        cache = settings.cache / f"sensitivity-{key}.jsonl"
    return sensitivity.tables(sweep, SweepCache(cache), progress)


def allocate_recipe(
    model: Osdface, recipe: Recipe, settings: BuildSettings, progress: Progress = SILENT
) -> tuple[Recipe, dict[str, Any]]:
    """``recipe`` with the widths that its budget of bits allows, and how they were found.

    Raises:
        QuantfaceError: The budget can't be kept.
    """
    assert recipe.budget is not None
    require_budget(recipe.budget)
    tables = measured(model, recipe, settings, progress)
    progress.step("allocating bits")
    recipe, summary = allocated(tables, recipe)
    del summary["seconds"]  # a bundle holds nothing that differs from run to run
    return recipe, {**summary, "frechet_features": features_name(settings.inception)}


def require_budget(budget: float) -> None:
    """Raise QuantfaceError at once for a budget that no sweep can help."""
    try:
        require_feasible(budget)
    except InfeasibleBudgetError as e:
        raise QuantfaceError(str(e)) from e


def allocated(
    tables: Sequence[SiteTable], recipe: Recipe, limits: Sequence[Limit] = ()
) -> tuple[Recipe, dict[str, Any]]:
    """``recipe`` with the widths that its budget and ``limits`` allow, and how they were found.

    Raises:
        QuantfaceError: A budget can't be kept, or a limit lacks an activation.
    """
    require_complete(limits, [table.name for table in tables])
    assert recipe.budget is not None
    try:
        found = allocate([table.item() for table in tables], recipe.budget, limits)
    except InfeasibleBudgetError as e:
        raise QuantfaceError(str(e)) from e
    summary = {
        "budget": recipe.budget,
        "mean_bits": found.mean_bits,
        "error": found.error,
        "gap": found.gap,
        "seconds": found.seconds,
        "limits": [
            {
                "name": limit.name,
                "most": limit.most,
                "used": sum(limit.cost[name][b] for name, b in found.bits.items()),
            }
            for limit in limits
        ],
        "sites": [
            {"name": t.name, "needed": t.needed, "macs": t.macs, "bits": found.bits[t.name]}
            for t in tables
        ],
    }
    return dataclasses.replace(recipe, site_bits=found.bits), summary
