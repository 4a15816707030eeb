"""Widths by site: edges keep 8 bits, and names that there are not are refused."""

from __future__ import annotations

import pytest
import torch

from calibration.observe import Site
from calibration.recipe import Recipe
from quantface_export.errors import QuantfaceError
from quantface_export.quantized import site_bits

SITES = {
    name: Site(name=name, layers=layers, peak=torch.ones(4))
    for name, layers in {
        "unet.conv_in": ["unet.conv_in"],
        "unet.mid.to_q": ["unet.mid.to_q", "unet.mid.to_k"],
        "unet.mid.to_out": ["unet.mid.to_out"],
    }.items()
}


def recipe(widths: dict[str, int]) -> Recipe:
    return Recipe(name="r", weight_bits=4, activation_bits=4, site_bits=widths)


def test_sites_get_their_widths_and_edges_8_bits() -> None:
    given = recipe({"unet/unet.mid.to_q": 6, "vre/vre.anything": 3})
    found = site_bits("unet", SITES, given)
    assert {k: b.activation for k, b in found.items()} == {
        "unet.conv_in": 8,
        "unet.mid.to_q": 6,
        "unet.mid.to_out": 4,
    }
    assert {k: b.weight for k, b in found.items()} == {
        "unet.conv_in": 8,
        "unet.mid.to_q": 4,
        "unet.mid.to_out": 4,
    }
    assert (found["unet.conv_in"].rank, found["unet.conv_in"].edge) == (0, True)


@pytest.mark.parametrize(
    "key",
    [
        "unet/unet.mid.to_v",  # no such layer
        "unet/unet.mid.to_k",  # it reads what to_q reads
        "unet.mid.to_q",  # no stage
        "decoder/conv_in",  # no such stage
        "unet/unet.conv_in",  # an edge
    ],
)
def test_names_that_can_not_be_chosen_are_refused(key: str) -> None:
    with pytest.raises(QuantfaceError, match=r"recipe r .*STAGE/LAYER") as e:
        site_bits("unet", SITES, recipe({key: 6}))
    assert repr(key) in str(e.value)
    assert "\n" not in str(e.value)
