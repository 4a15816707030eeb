"""A picture that misses 40 dB only because the reference does is told from a wrong export."""

from __future__ import annotations

from typing import Any

import pytest

from quantface_export.pipeline import _failure
from quantface_export.verify import only_unstable


def verified(psnr: float, floor: float, *, layers: bool = True, missing: int = 0) -> dict[str, Any]:
    stage = {
        "name": "unet",
        "variant": "function",
        "optimization": "all",
        "passed": layers,
        "mismatch_fraction": 0.1,
        "lsb_max": 3,
        "worst_layer": "x",
    }
    needed = max(40.0, floor - 6.02)
    return {
        "passed": False,
        "stages": [stage],
        "fusion": {"missing": ["unet: x"] * missing},
        "end_to_end": {
            "psnr_db": psnr,
            "noise_floor_psnr_db": floor,
            "needed_psnr_db": needed,
            "passed": psnr >= needed,
        },
    }


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (verified(13.2, 13.5), True),
        (verified(7.6, 13.5), True),
        (verified(7.4, 13.5), False),
        (verified(39.0, 60.0), False),
        (verified(13.2, 13.5, layers=False), False),
        (verified(13.2, 13.5, missing=1), False),
        (verified(45.0, 44.0, layers=False), False),
    ],
)
def test_only_unstable(made: dict[str, Any], expected: bool) -> None:
    assert only_unstable(made) == expected


def test_the_message_says_what_it_is() -> None:
    assert "rounding ties spread: the picture is 13.2 dB" in _failure(verified(13.2, 13.5))
    assert "end-to-end parity failed: 39.0 dB" in _failure(verified(39.0, 60.0))
    assert "parity failed in unet" in _failure(verified(13.2, 13.5, layers=False))
