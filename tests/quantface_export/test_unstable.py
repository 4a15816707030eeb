"""A picture that misses 40 dB only because the reference does is told from a wrong export."""

from __future__ import annotations

from typing import Any

import pytest

from quantface_export.console import console, print_verified
from quantface_export.pipeline import _failure
from quantface_export.verify import needed_db, only_unstable


def verified(
    psnr: float, floor: float, *, layers: bool = True, missing: int = 0, integers: bool = True
) -> dict[str, Any]:
    stage = {
        "name": "unet",
        "size": "128",
        "variant": "function",
        "optimization": "all",
        "passed": layers,
        "mismatch_fraction": 0.1,
        "sqnr_db": 40.0,
        "lsb_max": 3,
        "worst_layer": "x",
    }
    needed = max(40.0, floor - 6.02)
    case = {"psnr_db": psnr, "noise_floor_psnr_db": floor, "needed_psnr_db": needed}
    found = {
        "passed": False,
        "stages": [stage],
        "integers": {"passed": integers, "as_built": integers},
        "fusion": {"missing": ["unet: x"] * missing, "planned": 9, "fused": 9 - missing},
        "end_to_end": {**case, "cases": [case], "passed": psnr >= needed},
    }
    return found | {"unstable": only_unstable(found)}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (verified(13.2, 13.5), True),
        (verified(7.6, 13.5), True),
        (verified(7.4, 13.5), False),
        (verified(39.0, 60.0), False),
        (verified(13.2, 13.5, layers=False), False),
        (verified(13.2, 13.5, missing=1), False),
        (verified(13.2, 13.5, integers=False), False),
        (verified(45.0, 44.0, layers=False), False),
    ],
)
def test_only_unstable(made: dict[str, Any], expected: bool) -> None:
    assert only_unstable(made) == expected


def test_the_message_says_what_it_is() -> None:
    assert "rounding ties spread: the picture is 13.2 dB" in _failure(verified(13.2, 13.5))
    assert "end-to-end parity failed: 39.0 dB" in _failure(verified(39.0, 60.0))
    assert "parity failed in unet" in _failure(verified(13.2, 13.5, layers=False))


@pytest.mark.parametrize(
    ("made", "says", "not_says"),
    [
        (verified(45.0, 50.0) | {"passed": True}, "passed", "FAILED"),
        (verified(13.2, 13.5), "every layer is right, but in this model rounding ties", "FAILED"),
        (verified(39.0, 60.0), "FAILED", "every layer is right"),
    ],
)
def test_the_terminal_says_what_is_true(made: dict[str, Any], says: str, not_says: str) -> None:
    with console.capture() as captured:
        print_verified(made)
    text = " ".join(captured.get().split())
    assert says in text
    assert not_says not in text


@pytest.mark.parametrize(
    ("floor", "needed"), [(30.0, 40.0), (46.5, 40.5), (60.0, 54.0), (157.0, 58.9), (200.0, 58.9)]
)
def test_no_more_is_needed_than_rounding_to_8_bits_leaves(floor: float, needed: float) -> None:
    assert needed_db(floor) == pytest.approx(needed, abs=0.05)
