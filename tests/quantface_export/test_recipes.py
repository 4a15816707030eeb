"""Recipes by name and from files, and one clear line for everything that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.methods import METHODS
from calibration.recipe import RECIPES, Recipe
from quantface_export.errors import QuantfaceError
from quantface_export.recipes import load_recipe, read_recipe, write_recipe

FILE = Recipe(
    name="by hand",
    weight_bits=4,
    activation_bits=5,
    rank=8,
    rotate=False,
    observer="percentile",
    budget=3.98,
    site_bits={"unet/unet.mid_block.attentions.0.proj_in": 3, "vae_encoder/encoder.conv_in": 6},
)


def refused(name: str) -> str:
    with pytest.raises(QuantfaceError) as e:
        load_recipe(name)
    assert "\n" not in str(e.value)
    return str(e.value)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_have_their_names(name: str) -> None:
    assert load_recipe(name) is RECIPES[name]
    assert RECIPES[name].name == name


def test_names_say_the_widths() -> None:
    widths = {n: (RECIPES[n].weight_bits, RECIPES[n].activation_bits) for n in RECIPES}
    assert widths["w4a4"] == (4, 4)
    assert widths["w4a6"] == (4, 6)
    assert widths["w6a6"] == (6, 6)
    budget = RECIPES["w4a4-mp"].budget
    assert budget is not None
    assert budget <= 4.0


@pytest.mark.parametrize("bits", [(4, 4), (4, 8), (6, 6), (2, 3)])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_at_every_width(method: str, bits: tuple[int, int]) -> None:
    weight, activation = bits
    name = f"{method}-w{weight}a{activation}"
    recipe = load_recipe(name)
    assert (recipe.method, recipe.weight_bits, recipe.activation_bits) == (method, *bits)
    assert recipe.name in (name, name.removeprefix("quantface-"))
    assert recipe == METHODS[method].recipe(*bits)


@pytest.mark.parametrize("name", ["w9z9", "", "w4a4 ", "W4A4", "svdquant", "svdquant-w4", "-w4a4"])
def test_unknown_recipe_lists_what_there_is(name: str) -> None:
    message = refused(name)
    assert repr(name) in message
    assert "w4a4-mp" in message
    assert "q-diffusion" in message


def test_unknown_method_is_an_unknown_recipe() -> None:
    assert "'awq-w4a4'" in refused("awq-w4a4")


@pytest.mark.parametrize(("name", "field"), [("maxmin-w9a4", "weight"), ("maxmin-w4a1", "activ")])
def test_bits_that_no_kernel_has(name: str, field: str) -> None:
    message = refused(name)
    assert message.startswith(f"recipe {name}: {field}")
    assert "2..8" in message


@pytest.mark.parametrize("recipe", [FILE, *RECIPES.values()], ids=lambda r: r.name)
def test_written_recipe_is_read_as_it_was(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "recipe.json"
    write_recipe(path, recipe)
    assert read_recipe(path) == recipe
    assert load_recipe(str(path)) == recipe
    # a person can read and edit it: one field a line
    assert len(path.read_text().splitlines()) > len(json.loads(path.read_text()))


def test_edited_site_gets_its_width(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    write_recipe(path, FILE)
    path.write_text(path.read_text().replace('proj_in": 3', 'proj_in": 6'))
    recipe = read_recipe(path)
    assert recipe.bits("unet", "unet.mid_block.attentions.0.proj_in", False).activation == 6
    assert recipe.bits("unet", "unet.other", False).activation == 5
    assert recipe.bits("vae_encoder", "encoder.conv_in", True).activation == 8


def file(folder: Path, values: Any) -> str:
    path = folder / "recipe.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return str(path)


WIDTHS = {"name": "n", "weight_bits": 4, "activation_bits": 4}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({**WIDTHS, "rang": 8}, "unknown field 'rang'"),
        ({**WIDTHS, "method": "awq"}, "unknown method 'awq'"),
        ({**WIDTHS, "method": ["quantface"]}, "method must be a text"),
        ({**WIDTHS, "weight_bits": 9}, "weight_bits must be in 2..8, got 9"),
        ({**WIDTHS, "activation_bits": 1}, "activation_bits must be in 2..8, got 1"),
        ({**WIDTHS, "site_bits": {"unet/a": 12}}, "unet/a must be in 2..8, got 12"),
        ({**WIDTHS, "site_bits": 4}, "site_bits"),
        ({**WIDTHS, "site_bits": {"unet/a": "four"}}, "unet/a"),
        ({**WIDTHS, "weight_bits": "4"}, "weight_bits"),
        ({**WIDTHS, "weight_bits": 4.5}, "weight_bits"),
        ({**WIDTHS, "activation_bits": None}, "activation_bits"),
        ({**WIDTHS, "rank": -1}, "rank must be 0 or more, got -1"),
        ({**WIDTHS, "rank": "all"}, "rank"),
        ({**WIDTHS, "rotate": "no"}, "rotate"),
        ({**WIDTHS, "observer": "entropy"}, "observer"),
        ({**WIDTHS, "budget": "low"}, "budget"),
        ({"name": "n", "weight_bits": 4}, "activation_bits"),
        ([1, 2], "no object"),
        ("w4a4", "is not JSON"),
        ("", "is not JSON"),
    ],
    ids=str,
)
def test_bad_file_is_one_line(tmp_path: Path, values: Any, expected: str) -> None:
    name = file(tmp_path, values)
    message = refused(name)
    assert name in message
    assert expected in message


def test_binary_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_bytes(bytes(range(256)))
    assert "is not JSON" in refused(str(path))


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    assert "can't be read (No such file or directory)" in refused(str(tmp_path / "none.json"))
    (tmp_path / "folder.json").mkdir()
    assert "can't be read" in refused(str(tmp_path / "folder.json"))
