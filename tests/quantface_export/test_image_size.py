"""Sizes on the command line, and the images that are cut to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantface_export.bundle import Bundle, BundleError
from quantface_export.errors import QuantfaceError
from quantface_export.image_size import ImageSize, read_size
from quantface_export.models import image_size
from quantface_export.osdface.config import NANO, OSDFACE
from quantface_export.pipeline import calibration_images
from quantface_export.settings import BuildSettings


@pytest.mark.parametrize(
    ("text", "width", "height"), [("256", 256, 256), ("1024x256", 1024, 256), ("512x768", 512, 768)]
)
def test_a_size_that_the_model_takes(text: str, width: int, height: int) -> None:
    found = image_size(OSDFACE, text)
    assert (found.width, found.height) == (width, height)
    assert str(found) == text
    assert found.square == (width == height)


@pytest.mark.parametrize("text", ["500", "192", "1088", "512x500", "128x512"])
def test_a_size_that_it_does_not_take(text: str) -> None:
    with pytest.raises(QuantfaceError, match=f"multiple of 64 from 256 to 1024 .* got {text}"):
        image_size(OSDFACE, text)


@pytest.mark.parametrize("text", ["", "x", "512x", "-512", "512x512x3", "big"])
def test_no_size_at_all(text: str) -> None:
    with pytest.raises(QuantfaceError, match="must be a side or WIDTHxHEIGHT"):
        read_size(text)


def test_calibration_images_are_cut_from_the_middle(tmp_path: Path) -> None:
    settings = BuildSettings(
        model="nano", recipe="w4a4", calib=None, calib_count=1, seed=0, out=tmp_path
    )
    (square,), _ = calibration_images(settings, image_size(NANO, "96"))
    (wide,), clean = calibration_images(settings, ImageSize(width=96, height=64))
    assert clean is not None
    assert clean[0].shape == (64, 96, 3)
    assert np.array_equal(wide, square[16:80])


def test_a_bundle_that_is_not_square_has_no_side(tmp_path: Path) -> None:
    manifest = {"size": None, "width": 64, "height": 96}
    with pytest.raises(BundleError, match="takes images of 64x96 pixels, and faces are cut"):
        Bundle(path=tmp_path, manifest=manifest).side()


def test_only_a_dynamic_bundle_takes_another_side(tmp_path: Path) -> None:
    fixed = {"size": 64, "width": 64, "height": 64, "sides": None}
    assert Bundle(path=tmp_path, manifest=fixed).side() == 64
    with pytest.raises(BundleError, match="takes 64x64 pixels alone, not 96; build it with --dyn"):
        Bundle(path=tmp_path, manifest=fixed).side(96)
    any_side = Bundle(
        path=tmp_path, manifest=fixed | {"sides": {"step": 16, "least": 32, "most": 128}}
    )
    assert [any_side.side(side) for side in (None, 32, 128)] == [64, 32, 128]
    for side in (24, 40, 144):
        with pytest.raises(
            BundleError, match=f"multiple of 16 from 32 to 128 for {tmp_path}, got {side}"
        ):
            any_side.side(side)
