"""Float model in, fake-quantized model out: balance, split off the branch, round.

The walk is per site: choose the balance on sampled data, fold it into its producer or
keep it online, and only then round the layers, because a fold may still change them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from calibration.balance import Balance, channel_scale
from calibration.folded import FoldedWeight
from calibration.folds import Fold, find_folds
from calibration.layers import QuantLayer, quant_layers
from calibration.observe import Site, quantizable
from calibration.progress import SILENT, Progress
from calibration.quantizer import ActivationGrid, grid_from_range, observe_grid
from calibration.recipe import LayerBits, Recipe
from calibration.weights import StoredWeight, Weight, WeightForm, round_weight
from onnx_ops.hadamard import signs

PLANNED_ROWS = 256
"""Output channels of a layer that its balance is chosen on, evenly spread."""

ALPHAS = (0.3, 0.5, 0.7)
"""Candidates for alpha in eq. 8; ``None`` (no scaling) is always tried too."""

ROTATION_COST = 1.4
"""A rotation is kept up to so many times the output error without it. What it leaves is like noise;
what a grid does to unrotated channels follows the picture, and spreads further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePlan:
    """Decisions for one site.

    Attributes:
        balance: Transform of the activation.
        alpha: Exponent of eq. 8, None without scaling.
        fold: What carries the balance; None where it runs online.
        grid: Grid of the balanced activation.
        error: Output error relative to the output's energy on the samples.
    """

    balance: Balance
    alpha: float | None
    fold: Fold | None
    grid: ActivationGrid
    error: float

    @property
    def online(self) -> bool:
        """Whether the transform is an op of the graph."""
        return self.fold is None and not bool(
            (self.balance.d == 1).all() and self.balance.block == 1
        )


Form = Callable[[Tensor, int, int], WeightForm]
"""Makes the form of one layer from its balanced weight, its bits and the branch's rank."""


class Plan(Protocol):
    """Chooses balance and grid of a site; :func:`plan_site` says what the arguments are."""

    def __call__(
        self,
        site: Site,
        weights: dict[str, Tensor],
        recipe: Recipe,
        bits: LayerBits,
        *,
        fold: Fold | None,
        seed: int,
    ) -> SitePlan: ...


def stored_form(w: Tensor, bits: int, rank: int) -> WeightForm:
    """Rounded for good, with the branch from the SVD."""
    return StoredWeight(round_weight(w, bits, rank))


def minmax_form(w: Tensor, bits: int, rank: int) -> WeightForm:
    """Rounded for good on grids that span the full range."""
    return StoredWeight(round_weight(w, bits, rank, search=False))


def output_error(x: Tensor, w: Tensor, rounded: Weight, grid: ActivationGrid) -> float:
    """``||X W - (X L1 L2 + Q(X) Q(R))||^2 / ||X W||^2`` on balanced samples (P, C, taps)."""
    flat, weight = x.flatten(1), w.flatten(1)
    target = flat @ weight.T
    q = grid.scale * grid.centred(flat)
    rest, branch = rounded.effective()
    y = q @ rest.flatten(1).T
    if branch is not None:
        y = y + flat @ branch.flatten(1).T
    return float(((y - target) ** 2).sum() / (target**2).sum().clamp_min(1e-12))


def weight_peak(weights: Mapping[str, Tensor]) -> Tensor:
    """(C,) largest magnitude per input channel of the (F, C, taps) weights that read a site."""
    return torch.stack([w.abs().amax((0, 2)) for w in weights.values()]).amax(0)


def plan_site(
    site: Site,
    weights: dict[str, Tensor],
    recipe: Recipe,
    bits: LayerBits,
    *,
    fold: Fold | None,
    seed: int,
) -> SitePlan:
    """Search the balance of one site for the least output error.

    The paper rotates everything. A rotation evens out the channels, but also makes a bell of
    what SiLU left one-sided and near 0, which a static grid covers worse: where it multiplies
    the error by more than ``ROTATION_COST``, the site is scaled only.

    Args:
        site: Samples of the activation.
        weights: (F, C, taps) of each layer that reads it.
        recipe: Which parts are on.
        bits: Widths; an edge of its stage has no balance and no branch.
        fold: A producer that can carry the balance.
        seed: Seeds the rotation's signs.
    """
    channels = len(site.peak)
    ones, block = torch.ones(channels), channels if fold is None else fold.block
    sign = torch.from_numpy(signs(channels, seed))
    w_peak = weight_peak(weights)
    few = {n: w[:: -(-len(w) // PLANNED_ROWS)] for n, w in weights.items()}
    scaled = recipe.scale and not bits.edge
    rotated = recipe.rotate and not bits.edge and block > 1
    plans = []
    for alpha in (None, *(ALPHAS if scaled else ())):
        s = ones if alpha is None else channel_scale(site.peak, w_peak, alpha)
        carrier = None if alpha is None else fold
        plans.append(_plan(site, few, recipe, bits, Balance(d=1 / s, block=1), alpha, carrier))
        if rotated:
            turned = Balance(d=sign / s, block=block)
            plans.append(_plan(site, few, recipe, bits, turned, alpha, fold))
    return min(plans, key=lambda x: x.error * (1 if x.balance.block > 1 else ROTATION_COST))


def _plan(
    site: Site,
    weights: dict[str, Tensor],
    recipe: Recipe,
    bits: LayerBits,
    balance: Balance,
    alpha: float | None,
    fold: Fold | None,
) -> SitePlan:
    """What one balance does to a site."""
    x = {n: balance.activation(site.samples(n), 1) for n in site.layers}
    grid = observe_grid(
        torch.cat([v.flatten() for v in x.values()]), bits.activation, recipe.observer
    )
    error = 0.0
    for n in site.layers:
        w = balance.weight(weights[n])
        rank = min(bits.rank, w.shape[1], len(w))
        rounded = round_weight(w, bits.weight, rank, recipe.weight_search)
        error += output_error(x[n], w, rounded, grid) / len(site.layers)
    return SitePlan(balance=balance, alpha=alpha, fold=fold, grid=grid, error=error)


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    owner = model.get_submodule(parent)
    if isinstance(owner, nn.ModuleList | nn.Sequential):
        owner[int(leaf)] = layer
    else:
        setattr(owner, leaf, layer)


def flat_weight(layer: nn.Module) -> Tensor:
    """(F, C, taps) of a convolution or linear layer."""
    w = cast(Tensor, layer.weight).detach()
    return w.flatten(2) if w.ndim > 2 else w[:, :, None]


@torch.no_grad()
def quantize(
    model: nn.Module,
    sites: dict[str, Site],
    recipe: Recipe,
    *,
    bits: Mapping[str, LayerBits],
    seed: int,
    plan: Plan = plan_site,
    form: Form = stored_form,
    progress: Progress = SILENT,
    name: str = "",
) -> dict[str, SitePlan]:
    """Replace every observed layer of ``model`` by its fake-quantized form, in place.

    Args:
        model: A stage in float32; its parameters are consumed.
        sites: What :func:`calibration.observe.observe` found.
        recipe: Which parts are on.
        bits: Widths of each site.
        seed: Seeds the rotations; site ``i`` uses ``seed + i``.
        plan: Chooses balance and grid of a site.
        form: Makes the weight form of every layer that is not an edge.
        progress: Told of each site.
        name: The stage's, for ``progress``.

    Returns:
        The decisions by site.
    """
    layers, folds = quantizable(model), find_folds(model)
    plans: dict[str, SitePlan] = {}
    count = sum(len(site.layers) for site in sites.values())
    text = f"{name}: balancing and rounding {count} layers"
    for i, (key, site) in enumerate(progress.track(sites.items(), text, len(sites))):
        weights = {n: flat_weight(layers[n]) for n in site.layers}
        fold = None if bits[key].edge else folds.get(key)
        made = plan(site, weights, recipe, bits[key], fold=fold, seed=seed + i)
        if made.fold is not None:
            made.fold.apply(model, made.balance)
        for n in site.layers:
            layers[n].weight.data = made.balance.weight(layers[n].weight.data)
        plans[key] = made
    chosen: Form = (lambda *args: FoldedWeight(form(*args))) if recipe.fold else form
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for key, made in plans.items():
            for n in sites[key].layers:
                _replace(model, n, _quantized(layers[n], n, key, made, bits[key], chosen))
    return plans


def _quantized(
    layer: nn.Conv2d | nn.Linear, name: str, site: str, plan: SitePlan, bits: LayerBits, form: Form
) -> QuantLayer:
    """One layer, whose weight is balanced, in its fake-quantized form."""
    w = layer.weight.detach()
    make = stored_form if bits.edge else form
    return QuantLayer(
        layer,
        name=name,
        site=site,
        form=make(w, bits.weight, min(bits.rank, w.shape[1], len(w))),
        balance=plan.balance if plan.online else None,
        x_grid=plan.grid,
        weight_bits=bits.weight,
        edge=bits.edge,
    )


@torch.no_grad()
def observe_outputs(model: nn.Module, inputs: Iterable[Sequence[Tensor]]) -> None:
    """Give every convolution its 8-bit output grid: the range over the calibration set.

    Runs the fake-quantized model with the output grids still open, then sets them.
    """
    ranges: dict[str, tuple[float, float]] = {}
    convs = {n: m for n, m in quant_layers(model).items() if m.kind == "conv"}

    def hook(name: str):  # type: ignore[no-untyped-def]
        def record(layer: QuantLayer, args: tuple[Tensor], output: Tensor) -> None:
            y = output - layer.branch(args[0], layer.weight)
            low, high = (float(v) for v in torch.aminmax(y))
            old = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, old[0]), max(high, old[1]))

        return record

    handles = [m.register_forward_hook(hook(n)) for n, m in convs.items()]
    try:
        for args in inputs:
            model(*args)
    finally:
        for handle in handles:
            handle.remove()
    for name, layer in convs.items():
        layer.y_grid = grid_from_range(*ranges[name], bits=8)
