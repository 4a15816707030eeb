"""Recipes by name, or from a file that a person can read and edit."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from types import NoneType
from typing import Any

from calibration.methods import METHODS
from calibration.recipe import RECIPES, Recipe
from quantface_export.errors import QuantfaceError
from quantface_export.json_file import read_json

_METHOD = re.compile(r"(?P<method>[a-z-]+)-w(?P<weight>\d)a(?P<activation>\d)")

_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(("name", "observer", "method"), (str, "a text")),
    **dict.fromkeys(("weight_bits", "activation_bits", "rank"), (int, "a whole number")),
    **dict.fromkeys(
        ("rotate", "scale", "weight_search", "quantize_attention", "fold"), (bool, "true or false")
    ),
    "budget": ((int, float, NoneType), "a number or null"),
    "site_bits": (dict, "an object of widths by stage/site"),
}
"""What a file may hold in each field."""


def load_recipe(name: str) -> Recipe:
    """The recipe ``w4a4``, ``METHOD-wNaM`` (e.g. ``svdquant-w4a4``), or of a ``.json`` file.

    Raises:
        QuantfaceError: No such recipe, or a file that is none.
    """
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith(".json"):
        return read_recipe(Path(name))
    match = _METHOD.fullmatch(name)
    if match and match["method"] in METHODS:
        try:
            return METHODS[match["method"]].recipe(int(match["weight"]), int(match["activation"]))
        except ValueError as e:
            raise QuantfaceError(f"recipe {name}: {e}") from e
    raise QuantfaceError(
        f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}, METHOD-wNaM with METHOD "
        f"one of {', '.join(METHODS)}, or a recipe file (.json)"
    )


def read_recipe(path: Path) -> Recipe:
    """A recipe file: a JSON object with the fields of :class:`Recipe`.

    Raises:
        QuantfaceError: The file is missing, is no JSON, or has an unknown or bad field.
    """
    values = read_json(path, "recipe file")
    known = {f.name for f in fields(Recipe)}
    if not isinstance(values, dict) or (unknown := sorted(set(values) - known)):
        what = f"unknown field {unknown[0]!r}" if isinstance(values, dict) else "no object"
        raise QuantfaceError(f"recipe file {path}: {what}; known are {', '.join(sorted(known))}")
    _check_kinds(path, values)
    if values.get("method", "quantface") not in METHODS:
        raise QuantfaceError(
            f"recipe file {path}: unknown method {values['method']!r}; expected one of "
            f"{', '.join(METHODS)}"
        )
    try:
        return Recipe(**values)
    except (TypeError, ValueError) as e:
        raise QuantfaceError(f"recipe file {path}: {e}") from e


def _check_kinds(path: Path, values: dict[str, Any]) -> None:
    widths = values.get("site_bits")
    inner = widths if isinstance(widths, dict) else {}
    pairs = [(n, v, *_KINDS[n]) for n, v in values.items() if n in _KINDS]
    for name, value, kind, text in [*pairs, *((n, v, int, "a width") for n, v in inner.items())]:
        if not isinstance(value, kind):
            raise QuantfaceError(f"recipe file {path}: {name} must be {text}, got {value!r}")


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write ``recipe`` as a file that :func:`read_recipe` reads."""
    path.write_text(json.dumps(asdict(recipe), indent=1) + "\n")
