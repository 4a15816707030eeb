"""Further budgets from files: used by the allocation, refused in one line if they are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.recipe import Recipe
from quantface_export.allocate import SiteTable, allocated
from quantface_export.errors import QuantfaceError
from quantface_export.limits import read_limit

RECIPE = Recipe(name="w4a4", weight_bits=4, activation_bits=4, budget=6.0)
TABLES = [
    SiteTable(name=f"unet/{i}", needed=4, macs=100, error={b: 0.5**b for b in (3, 4, 5, 6)})
    for i in range(4)
]
COST: dict[str, Any] = {
    "unet/0": 5,
    **{f"unet/{i}": {"3": 1, "4": 2, "5": 3, "6": 4} for i in (1, 2, 3)},
}


def limit_file(folder: Path, **changed: Any) -> Path:
    path = folder / "limit.json"
    path.write_text(json.dumps({"name": "milliseconds", "most": 12, "cost": COST} | changed))
    return path


def refused(path: Path) -> str:
    with pytest.raises(QuantfaceError) as e:
        read_limit(path)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_a_limit_binds_where_the_bits_do_not(tmp_path: Path) -> None:
    free, _ = allocated(TABLES, RECIPE)
    assert set(free.site_bits.values()) == {6}
    bound, summary = allocated(TABLES, RECIPE, [read_limit(limit_file(tmp_path))])
    assert bound.site_bits["unet/0"] == 6
    # 5 for the first leaves 7 for three: 3 + 2 + 2, in widths 5 + 4 + 4
    assert sorted(bound.site_bits[f"unet/{i}"] for i in (1, 2, 3)) == [4, 4, 5]
    assert summary["limits"] == [{"name": "milliseconds", "most": 12, "used": 12}]


def test_says_the_least_feasible(tmp_path: Path) -> None:
    with pytest.raises(QuantfaceError, match=r"7 milliseconds can't be reached; .* is 8"):
        allocated(TABLES, RECIPE, [read_limit(limit_file(tmp_path, most=7))])


def test_names_activations_that_differ(tmp_path: Path) -> None:
    few = {name: cost for name, cost in COST.items() if name != "unet/2"}
    with pytest.raises(QuantfaceError, match=r"no cost for 1 activations, first 'unet/2'"):
        allocated(TABLES, RECIPE, [read_limit(limit_file(tmp_path, cost=few))])
    with pytest.raises(QuantfaceError, match=r"unknown 1 activations, first 'unet/9'"):
        allocated(TABLES, RECIPE, [read_limit(limit_file(tmp_path, cost={**COST, "unet/9": 1}))])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"most": 0}, "most must be above 0"),
        ({"most": "much"}, "most must be a number"),
        ({"most": True}, "most must be a number"),
        ({"cost": [1]}, "cost an object"),
        ({"cost": {"unet/0": {"3": 1}}}, "a cost for each of 3, 4, 5, 6 bits"),
        ({"cost": {"unet/0": -1}}, "at least 0"),
        ({"unit": "ms"}, "must be an object of name, most, cost"),
    ],
    ids=str,
)
def test_refuses_what_is_no_limit(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    assert message in refused(limit_file(tmp_path, **changed))


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    assert "can't be read" in refused(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    assert "is not JSON" in refused(tmp_path / "bad.json")
