"""``quantface-export cost``: what is asked for, checked, counted and put in one result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from calibration.recipe import RECIPES, Recipe
from quantface_export.cost.count import (
    OPS_STAGES,
    Count,
    exported_count,
    float_count,
    paper_count,
)
from quantface_export.cost.walk import Stage, Walk, walk
from quantface_export.models import find_config, image_size
from quantface_export.recipes import load_recipe

PAPER = {
    "float32": {"params": 978e6, "ops": 4264e9, "params_reduction": 0.0, "ops_reduction": 0.0},
    "w6a6": {"params": 209e6, "ops": 995e9, "params_reduction": 78.61, "ops_reduction": 76.66},
    "w4a6": {"params": 148e6, "ops": 848e9, "params_reduction": 84.85, "ops_reduction": 80.10},
    "w4a4": {"params": 148e6, "ops": 728e9, "params_reduction": 84.85, "ops_reduction": 82.91},
}
"""The paper's Table 2: OSDFace at 512x512."""


def requested(names: Sequence[str]) -> list[Recipe]:
    """Recipes of ``--recipe``, each name or several with commas; all named ones for none.

    Raises:
        QuantfaceError: No such recipe.
    """
    given = [name.strip() for text in names for name in text.split(",")]
    return [load_recipe(name) for name in given] or list(RECIPES.values())


def cost(model: str, size: int | None, recipes: Iterable[Recipe]) -> dict[str, Any]:
    """Count a model in float32 and under each recipe.

    Returns:
        The JSON of the ``cost`` command.

    Raises:
        QuantfaceError: Unknown model, a size that it can't take, or a recipe of another model.
    """
    config = find_config(model)
    size = image_size(config, None if size is None else str(size)).longer
    paper = PAPER if (model, size) == ("osdface", 512) else {}
    return {"model": model, "size": size, **compared(walk(config, size), recipes, paper)}


def compared(
    walked: Walk, recipes: Iterable[Recipe], paper: Mapping[str, dict[str, float]]
) -> dict[str, Any]:
    """Counts in float32 equivalents, reductions in percent, beside the paper's.

    ``params`` to ``ops_reduction`` of a row are in the paper's form, ``exported`` is the
    exporter's plan, and ``paper`` is None where Table 2 has no such row.
    """
    full = float_count(walked.published)
    return {
        "params": full.params,
        "ops": full.ops,
        "paper": paper.get("float32"),
        "rows": [
            {
                "recipe": recipe.name,
                **_reduced(paper_count(walked, recipe), full),
                "paper": paper.get(recipe.name),
                "exported": _reduced(exported_count(walked, recipe), full),
            }
            for recipe in recipes
        ],
        "stages": [row for name, s in walked.published.items() for row in _kinds(name, s)],
    }


def _reduced(count: Count, full: Count) -> dict[str, float]:
    return {
        "params": count.params,
        "ops": count.ops,
        "params_reduction": 100 * (1 - count.params / full.params),
        "ops_reduction": 100 * (1 - count.ops / full.ops),
    }


def _kinds(name: str, stage: Stage) -> list[dict[str, Any]]:
    """One stage by layer kind; ``counted`` is whether the operations are part of the total."""
    count, params, ops = Counter[str](), Counter[str](), Counter[str]()
    for layer in stage.layers.values():
        count[layer.kind] += 1
        params[layer.kind] += layer.weights + layer.bias
        ops[layer.kind] += layer.ops
    params["other"] = stage.parameters - params.total()
    ops["other"] = stage.products
    return [
        {
            "stage": name,
            "kind": kind,
            "layers": count[kind] or None,
            "params": params[kind],
            "ops": ops[kind],
            "counted": kind != "other" and name in OPS_STAGES,
        }
        for kind in ("conv", "linear", "other")
    ]
