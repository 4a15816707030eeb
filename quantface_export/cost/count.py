"""Parameters and operations of a quantized model, as float32 equivalents (paper Table 2).

A parameter of b bits counts ``b / 32``, an operation between b_w and b_a bits
``sqrt(b_w b_a) / 32``. Operations are those of convolutions and linear layers in the VAE and
the UNet, two for a multiply-accumulate: neither attention's products nor the visual embedder.
That gives the paper's 4,264 G to 0.6 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from calibration.folds import find_folds
from calibration.observe import Site
from calibration.recipe import EDGE_BITS, LayerBits, Recipe
from onnx_ops.function_body import body_factors
from quantface_export.cost.walk import Stage, Walk
from quantface_export.osdface.plan import FLOAT_LAYERS
from quantface_export.quantized import site_bits

FLOAT_BITS = 32

OPS_STAGES = ("vae_encoder", "unet", "vae_decoder")
"""Stages whose operations count. The visual embedder's parameters count, as in the paper."""

PAPER_BRANCH_PARAMS, PAPER_BRANCH_OPS = 32 / FLOAT_BITS, 16 / FLOAT_BITS
"""What a branch's parameter and operation count in the paper's form.

No single width fits both columns of Table 2: at 16 bits w4a4 would save 86.4 % of the
parameters instead of 84.85 %, at 32 bits 79.2 % of the operations instead of 82.91 %.
"""

EXPORTED_BRANCH_PARAMS, EXPORTED_BRANCH_OPS = 16 / FLOAT_BITS, 32 / FLOAT_BITS
"""A bundle stores its branches as float16, and ONNX Runtime computes them in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Parameters and operations in float32 equivalents."""

    params: float
    ops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What quantization adds to one stage, in plain numbers.

    Attributes:
        branch_params, branch_ops: Of the low-rank branches; a folded one has no operations.
        multipliers: Numbers of the online multipliers, C for each site that is balanced online:
            here all that can be; what a build leaves as it is, its calibration decides.
        rotation_ops: Of the online rotations, ``2 (a + b)`` for each number that is rotated:
            the Hadamard op's function body multiplies by two dense factors, ``a b = C``.
    """

    branch_params: int
    branch_ops: int
    multipliers: int
    rotation_ops: int


def float_count(stages: Mapping[str, Stage]) -> Count:
    """The model before quantization."""
    return total(
        (name, Count(params=stage.parameters, ops=sum(x.ops for x in stage.layers.values())))
        for name, stage in stages.items()
    )


def paper_count(walk: Walk, recipe: Recipe) -> Count:
    """All stages in the paper's form, see :func:`paper_stage`."""
    return total(
        (name, paper_stage(name, stage, added_cost(name, walk.prepared[name], recipe), recipe))
        for name, stage in walk.published.items()
    )


def exported_count(walk: Walk, recipe: Recipe) -> Count:
    """All stages as they are exported, see :func:`exported_stage`."""
    return total((n, exported_stage(n, stage, recipe)) for n, stage in walk.prepared.items())


def total(stages: Iterable[tuple[str, Count]]) -> Count:
    """Parameters of all stages, operations of those that count."""
    counts = dict(stages)
    return Count(
        params=sum(count.params for count in counts.values()),
        ops=sum(count.ops for name, count in counts.items() if name in OPS_STAGES),
    )


def paper_stage(name: str, stage: Stage, added: Added, recipe: Recipe) -> Count:
    """The recipe's widths on everything, plus branches and online rotations.

    ``P b_w / 32 + P_branch`` parameters and
    ``sum O sqrt(b_w b_a) / 32 + O_branch / 2 + O_rotation`` operations.
    """
    ops = added.branch_ops * PAPER_BRANCH_OPS + added.rotation_ops
    for key, site in stage.sites.items():
        width = recipe.bits(name, key, edge=False)
        ops += sum(stage.layers[n].ops for n in site.layers) * _share(width, recipe)
    branch = added.branch_params * PAPER_BRANCH_PARAMS
    return Count(params=stage.parameters * recipe.weight_bits / FLOAT_BITS + branch, ops=ops)


def exported_stage(name: str, stage: Stage, recipe: Recipe) -> Count:
    """The exporter's plan: the widths of its numbers, whatever the containers they travel in.

    The stage's edges have 8 bits; biases, norms, codebook, online multipliers and one scale for
    each output channel are float32, and so are the layers that the plan leaves in float.
    """
    added = added_cost(name, stage, recipe)
    params = stage.parameters + added.multipliers + added.branch_params * EXPORTED_BRANCH_PARAMS
    ops = added.branch_ops * EXPORTED_BRANCH_OPS + added.rotation_ops
    ops += sum(stage.layers[n].ops for n in FLOAT_LAYERS.get(name, ()))
    sites = _quantized_sites(name, stage)
    for key, bits in site_bits(name, sites, recipe).items():
        for layer in (stage.layers[n] for n in sites[key].layers):
            params += layer.shape[0] - layer.weights * (1 - bits.weight / FLOAT_BITS)
            ops += layer.ops * _share(bits, recipe)
    return Count(params=params, ops=ops)


def added_cost(name: str, stage: Stage, recipe: Recipe) -> Added:
    """Branches and online balances of one stage, as it is exported."""
    sites = _quantized_sites(name, stage)
    ranked = [
        stage.layers[n].branch(bits.rank)
        for key, bits in site_bits(name, sites, recipe).items()
        for n in sites[key].layers
    ]
    online = [stage.layers[key] for key in online_sites(name, stage, recipe)]
    rotated = online if recipe.rotate else []
    return Added(
        branch_params=sum(params for params, _ in ranked),
        branch_ops=0 if recipe.fold else sum(ops for _, ops in ranked),
        multipliers=sum(layer.shape[1] for layer in online),
        rotation_ops=sum(2 * sum(body_factors(x.shape[1])) * x.inputs for x in rotated),
    )


def online_sites(name: str, stage: Stage, recipe: Recipe) -> list[str]:
    """Sites whose balance is an op of the graph: no edge, and no producer that could carry it."""
    if not (recipe.rotate or recipe.scale):
        return []
    folds = find_folds(stage.model)
    bits = site_bits(name, _quantized_sites(name, stage), recipe)
    return [key for key in bits if not bits[key].edge and key not in folds]


def _quantized_sites(name: str, stage: Stage) -> dict[str, Site]:
    kept = FLOAT_LAYERS.get(name, ())
    return {key: site for key, site in stage.sites.items() if key not in kept}


def _share(bits: LayerBits, recipe: Recipe) -> float:
    """``sqrt(b_w b_a) / 32``; b_a is the budget, a mean, until widths are allocated.

    A branch that is folded makes the weights that are computed with 8 bits wide.
    """
    weight = EDGE_BITS if recipe.fold else bits.weight
    activation: float = bits.activation
    if recipe.budget is not None and not recipe.site_bits and not bits.edge:
        activation = recipe.budget
    return math.sqrt(weight * activation) / FLOAT_BITS
