"""Float model in, fake-quantized model out: balance, split off the branch, round.

The walk is per site: choose the balance on sampled data, fold it into its producer or
keep it online, and only then round the layers, because a fold may still change them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calibration.balance import Balance, channel_scale
from calibration.folds import Fold, find_folds
from calibration.layers import QuantLayer, quant_layers
from calibration.lowrank import product, svd_branch
from calibration.observe import Site, quantizable
from calibration.quantizer import ActivationGrid, grid_from_range, observe_grid, quantize_weight
from calibration.recipe import EDGE_BITS, Recipe
from onnx_ops.hadamard import signs

ALPHAS = (0.3, 0.5, 0.7)
"""Candidates for alpha in eq. 8; ``None`` (no scaling) is always tried too."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounded:
    """One layer's weight as codes, scales and branch."""

    codes: Tensor
    scale: Tensor
    branch: tuple[Tensor, Tensor] | None

    def effective(self) -> tuple[Tensor, Tensor | None]:
        """Dequantized codes, and the branch as a full matrix."""
        shape = [-1] + [1] * (self.codes.ndim - 1)
        weight = self.codes * self.scale.reshape(shape)
        return weight, None if self.branch is None else product(*self.branch)


def round_layer(w: Tensor, bits: int, rank: int) -> Rounded:
    """Split off the branch of ``rank`` by SVD, round the rest (eq. 9)."""
    branch = svd_branch(w, rank) if rank else None
    rest = w if branch is None else w - product(*branch)
    codes, scale = quantize_weight(rest, bits)
    return Rounded(codes=codes, scale=scale, branch=branch)


def _bits(recipe: Recipe, edge: bool) -> tuple[int, int, int]:
    """Weight bits, activation bits and rank of a layer."""
    if edge:
        return EDGE_BITS, EDGE_BITS, 0
    return recipe.weight_bits, recipe.activation_bits, recipe.rank


def _output_error(x: Tensor, w: Tensor, rounded: Rounded, grid: ActivationGrid) -> float:
    """``||X W - (X L1 L2 + Q(X) Q(R))||^2 / ||X W||^2`` on balanced samples (P, C, taps)."""
    flat, weight = x.flatten(1), w.flatten(1)
    target = flat @ weight.T
    q = grid.scale * (grid.codes(flat) - grid.zero_point)
    rest, branch = rounded.effective()
    y = q @ rest.flatten(1).T
    if branch is not None:
        y = y + flat @ branch.flatten(1).T
    return float(((y - target) ** 2).sum() / (target**2).sum().clamp_min(1e-12))


def _thinned(samples: Iterable[Tensor], count: int = 1 << 16) -> Tensor:
    """About ``count`` values of the samples, for the search of a range."""
    flat = torch.cat([x.flatten() for x in samples])
    return flat[:: max(1, len(flat) // count)]


def plan_site(
    site: Site,
    weights: dict[str, Tensor],
    recipe: Recipe,
    *,
    edge: bool,
    fold: Fold | None,
    seed: int,
) -> SitePlan:
    """Search the balance of one site for the least output error.

    Args:
        site: Samples of the activation.
        weights: (F, C, taps) of each layer that reads it.
        recipe: Which parts are on.
        edge: First or last layer of its stage: 8 bits, no balance, no branch.
        fold: A producer that can carry the balance.
        seed: Seeds the rotation's signs.
    """
    weight_bits, activation_bits, rank = _bits(recipe, edge)
    channels = len(site.peak)
    ones = torch.ones(channels)
    block = channels if fold is None else fold.block
    rotated = recipe.rotate and not edge and block > 1
    sign = torch.from_numpy(signs(channels, seed)) if rotated else ones
    w_peak = torch.stack([weights[n].abs().amax((0, 2)) for n in site.layers]).amax(0)
    best: SitePlan | None = None
    for alpha in (None, *(ALPHAS if recipe.scale and not edge else ())):
        s = ones if alpha is None else channel_scale(site.peak, w_peak, alpha)
        balance = Balance(d=sign / s, block=block if rotated else 1)
        x = {n: balance.activation(site.samples(n), 1) for n in site.layers}
        grid = observe_grid(
            torch.cat([v.flatten() for v in x.values()]), activation_bits, recipe.observer
        )
        error = 0.0
        for n in site.layers:
            w = balance.weight(weights[n])
            rounded = round_layer(w, weight_bits, min(rank, recipe.layer_rank(channels, len(w))))
            error += _output_error(x[n], w, rounded, grid) / len(site.layers)
        if best is None or error < best.error:
            used = fold if rotated or alpha is not None else None
            best = SitePlan(balance=balance, alpha=alpha, fold=used, grid=grid, error=error)
    assert best is not None
    return best


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    owner = model.get_submodule(parent)
    if isinstance(owner, nn.ModuleList | nn.Sequential):
        owner[int(leaf)] = layer
    else:
        setattr(owner, leaf, layer)


@torch.no_grad()
def quantize(
    model: nn.Module,
    sites: dict[str, Site],
    recipe: Recipe,
    *,
    edges: Sequence[str],
    seed: int,
) -> dict[str, SitePlan]:
    """Replace every observed layer of ``model`` by its fake-quantized form, in place.

    Args:
        model: A stage in float32; its parameters are consumed.
        sites: What :func:`calibration.observe.observe` found.
        recipe: Bits and parts.
        edges: Paths of the first and last layers, kept at 8 bits.
        seed: Seeds the rotations; site ``i`` uses ``seed + i``.

    Returns:
        The decisions by site.
    """
    layers, folds = quantizable(model), find_folds(model)
    plans: dict[str, SitePlan] = {}
    for i, (name, site) in enumerate(sites.items()):
        weights = {
            n: layers[n].weight.detach().flatten(2)
            if layers[n].weight.ndim > 2
            else layers[n].weight.detach()[:, :, None]
            for n in site.layers
        }
        edge = any(n in edges for n in site.layers)
        fold = None if edge else folds.get(name)
        plan = plan_site(site, weights, recipe, edge=edge, fold=fold, seed=seed + i)
        if plan.fold is not None:
            plan.fold.apply(model, plan.balance)
        for n in site.layers:
            layers[n].weight.data = plan.balance.weight(layers[n].weight.data)
        plans[name] = plan
    for name, plan in plans.items():
        for n in sites[name].layers:
            layer = layers[n]
            bits, _, rank = _bits(recipe, any(m in edges for m in sites[name].layers))
            w = layer.weight.detach()
            rounded = round_layer(w, bits, min(rank, recipe.layer_rank(w.shape[1], len(w))))
            new = QuantLayer(
                layer,
                name=n,
                site=name,
                codes=rounded.codes,
                scale=rounded.scale,
                branch=rounded.branch,
                balance=plan.balance if plan.online else None,
                x_grid=plan.grid,
                weight_bits=bits,
            )
            _replace(model, n, new)
    return plans


@torch.no_grad()
def observe_outputs(model: nn.Module, inputs: Iterable[Sequence[Tensor]]) -> None:
    """Give every convolution its 8-bit output grid: the range over the calibration set.

    Runs the fake-quantized model with the output grids still open, then sets them.
    """
    ranges: dict[str, tuple[float, float]] = {}
    convs = {n: m for n, m in quant_layers(model).items() if m.kind == "conv"}

    def hook(name: str):  # type: ignore[no-untyped-def]
        def record(layer: QuantLayer, args: tuple[Tensor], output: Tensor) -> None:
            y = output - layer.branch(layer.balanced(args[0]))
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
