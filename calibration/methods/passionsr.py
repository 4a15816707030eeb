"""PassionSR: channel scales and grid boundaries are learned, one after the other.

L. Zhu et al., "PassionSR: Post-Training Quantization with Adaptive Scale in One-Step
Diffusion based Image Super-Resolution", CVPR 2025. Learnable equivalent transformation
(LET): a scale per channel; learnable boundary quantizer (LBQ): the ends of each grid;
distributed calibration: first the one, then the other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from calibration.balance import Balance, channel_scale
from calibration.folds import Fold
from calibration.layers import QuantLayer, merge, quant_layers
from calibration.learned import LearnedScale, learn_grids
from calibration.methods.method import Method, StageData
from calibration.observe import Site
from calibration.quantize import SitePlan, plan_site, weight_peak
from calibration.quantizer import observe_grid, weight_limits
from calibration.recipe import LayerBits, Recipe
from calibration.rounding import ste_round

STEPS = 60
RATE = 1e-2


def recipe(weight_bits: int, activation_bits: int) -> Recipe:
    """Scaling, no rotation, no branch."""
    return Recipe(
        name=f"passionsr-w{weight_bits}a{activation_bits}",
        method="passionsr",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rank=0,
        rotate=False,
        observer="percentile",
    )


def _descend(parameters: list[nn.Parameter], loss: Callable[[], Tensor]) -> None:
    """Adam; the parameters with the least loss that was met are kept."""
    optimizer = torch.optim.Adam(parameters, RATE)
    least, kept = math.inf, [p.detach().clone() for p in parameters]
    with torch.enable_grad():
        for _ in range(STEPS):
            found = loss()
            if float(found.detach()) < least:
                least = float(found.detach())
                kept = [p.detach().clone() for p in parameters]
            optimizer.zero_grad(set_to_none=True)
            found.backward()
            optimizer.step()
    for own, best in zip(parameters, kept, strict=True):
        own.data.copy_(best)


def _fake(x: Tensor, low: Tensor, high: Tensor, top: int) -> Tensor:
    scale = ((high - low) / top).clamp_min(1e-8)
    zero_point = ste_round(-low / scale)
    return (torch.clamp(ste_round(x / scale) + zero_point, 0, top) - zero_point) * scale


def plan(
    site: Site,
    weights: dict[str, Tensor],
    recipe: Recipe,
    bits: LayerBits,
    *,
    fold: Fold | None,
    seed: int,
) -> SitePlan:
    """LET: learn the channel scales by the output error, with grids that span the range."""
    start = plan_site(site, weights, recipe, bits, fold=fold, seed=seed)
    if bits.edge:
        return start
    log_s = nn.Parameter(channel_scale(site.peak, weight_peak(weights), 0.5).log())
    top, limit = (1 << bits.activation) - 1, weight_limits(bits.weight)
    pairs = [(site.samples(n), weights[n]) for n in site.layers]
    targets = [x.flatten(1) @ w.flatten(1).T for x, w in pairs]

    def loss() -> Tensor:
        total = torch.zeros(())
        s = log_s.exp()[:, None]
        for (x, w), target in zip(pairs, targets, strict=True):
            scaled, heavy = x / s, w * s
            q = _fake(scaled, scaled.min().clamp_max(0), scaled.max().clamp_min(0), top)
            step = heavy.abs().amax((1, 2), keepdim=True) / limit[1]
            r = ste_round(heavy / step).clamp(*limit) * step
            y = q.flatten(1) @ r.flatten(1).T
            total = total + ((y - target) ** 2).sum() / (target**2).sum().clamp_min(1e-12)
        return total

    _descend([log_s], loss)
    balance = Balance(d=(-log_s.detach()).exp(), block=1)
    x = torch.cat([balance.activation(x, 1).flatten() for x, _ in pairs])
    grid = observe_grid(x, bits.activation, recipe.observer)
    return dataclasses.replace(start, balance=balance, alpha=None, fold=fold, grid=grid)


def form(w: Tensor, bits: int, _: int) -> LearnedScale:
    """Boundaries of the weights start at their largest magnitudes."""
    scale = (w.flatten(1).abs().amax(1) / weight_limits(bits)[1]).clamp_min(1e-8)
    return LearnedScale(w, scale, bits)


def refine(stage: nn.Module, data: StageData) -> None:
    """LBQ: learn the ends of every grid by the output error of its layers."""
    by_site: dict[str, list[QuantLayer]] = {}
    for layer in quant_layers(stage).values():
        if not layer.edge:
            by_site.setdefault(layer.site, []).append(layer)
    text = f"{data.name}: learning boundaries"
    for site, layers in data.progress.track(by_site.items(), text, len(by_site)):
        learn_grids(layers)
        _descend(
            list({id(p): p for layer in layers for p in layer.parameters()}.values()),
            lambda site=site, layers=layers: _site_error(data, site, layers),  # type: ignore[misc]
        )
    merge(stage)


def _site_error(data: StageData, site: str, layers: list[QuantLayer]) -> Tensor:
    """Output error of a site's layers on its samples, relative to the outputs' energy."""
    balance, total = data.plans[site].balance, torch.zeros(())
    for layer in layers:
        x = balance.activation(data.sites[site].samples(layer.name), 1).flatten(1)
        form = layer.form
        assert isinstance(form, LearnedScale)
        target = x @ form.backbone.flatten(1).T
        weight, grid = layer.weight, layer.x_grid
        q = grid.centred(x) * grid.step
        y = q @ weight.effective()[0].flatten(1).T
        total = total + ((y - target) ** 2).sum() / (target**2).sum().clamp_min(1e-12)
    return total


METHOD = Method(
    name="passionsr",
    paper="Zhu et al., CVPR 2025",
    departures=(
        "boundaries and scales learn from sampled receptive fields of each layer, not end to end",
        "weights are symmetric with one scale per output channel, as everywhere here",
    ),
    recipe=recipe,
    plan=plan,
    form=form,
    refine=refine,
)
