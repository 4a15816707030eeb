"""Further budgets of an allocation, from a file: what each width costs on the target.

    {"name": "milliseconds", "most": 900, "cost": {"unet/mid_block...": {"3": 1.2, "4": 1.2, ...}}}

A cost that is one number holds for every width: on an integer unit of 8 bits 3 and 6 bits
cost the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.allocation import WIDTHS, Limit
from quantface_export.errors import QuantfaceError
from quantface_export.json_file import read_json

FIELDS = "name", "most", "cost"


class LimitError(QuantfaceError):
    """A file that states no limit."""


def read_limit(path: Path) -> Limit:
    """A limit file; which activations the model has is checked by :func:`require_complete`.

    Raises:
        QuantfaceError: The file is missing, is no JSON, or has an unknown or bad field.
    """
    values = read_json(path, "limit file")
    if not isinstance(values, dict) or set(values) != set(FIELDS):
        raise LimitError(f"limit file {path} must be an object of {', '.join(FIELDS)}")
    if not isinstance(values["name"], str) or not isinstance(values["cost"], dict):
        raise LimitError(f"limit file {path}: name must be a text and cost an object by activation")
    most = _number(path, "most", values["most"])
    if most == 0:
        raise LimitError(f"limit file {path}: most must be above 0")
    cost = {site: _costs(path, site, given) for site, given in values["cost"].items()}
    return Limit(name=values["name"], cost=cost, most=most)


def _costs(path: Path, site: str, given: Any) -> dict[int, float]:
    if not isinstance(given, dict):
        return dict.fromkeys(WIDTHS, _number(path, site, given))
    if set(given) != {str(b) for b in WIDTHS}:
        widths = ", ".join(map(str, WIDTHS))
        raise LimitError(
            f"limit file {path}: {site} must have a cost for each of {widths} bits, or one number"
        )
    return {b: _number(path, site, given[str(b)]) for b in WIDTHS}


def _number(path: Path, what: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise LimitError(f"limit file {path}: {what} must be a number of at least 0, got {value!r}")
    return float(value)


def require_complete(limits: Sequence[Limit], sites: Sequence[str]) -> None:
    """Raise LimitError unless each limit has a cost for exactly the activations ``sites``."""
    for limit in limits:
        for what, names in (
            ("no cost for", sorted(set(sites) - set(limit.cost))),
            ("a cost for unknown", sorted(set(limit.cost) - set(sites))),
        ):
            if names:
                raise LimitError(
                    f"limit {limit.name!r} has {what} {len(names)} activations, first "
                    f"{names[0]!r}; names are STAGE/LAYER as the `allocate` command writes them"
                )
