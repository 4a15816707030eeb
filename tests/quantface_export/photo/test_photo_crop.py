"""Cutting a face out and pasting it back without a seam."""

from __future__ import annotations

import numpy as np
import pytest

from quantface_export.photo.box import Box
from quantface_export.photo.crop import Crop, cut, frame, mask, paste, resize


def test_frame_has_the_margin_and_lies_higher():
    crop = frame(Box(x=100, y=100, side=100, score=1), margin=1.7, lift=0.05)
    assert crop == Crop(x=65, y=60, side=170)


def test_frame_puts_the_astronauts_eyes_where_ffhq_has_them(astronaut):
    crop = frame(Box(x=173, y=61, side=104, score=1))
    eyes = [((x - crop.x) / crop.side, (104 - crop.y) / crop.side) for x in (203.4, 247.5)]
    assert np.allclose(eyes, [(0.375, 0.48), (0.625, 0.48)], atol=0.02)


@pytest.mark.parametrize(
    "crop",
    [
        Crop(x=10, y=20, side=50),
        Crop(x=-30, y=-7, side=64),
        Crop(x=70, y=40, side=64),
        Crop(x=-200, y=-200, side=500),
    ],
    ids=["inside", "top-left", "bottom-right", "around"],
)
def test_cut_mirrors_beyond_the_photograph(crop):
    photo = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    padded = np.pad(photo, ((600, 600), (600, 600), (0, 0)), mode="reflect")
    expected = padded[600 + crop.y :, 600 + crop.x :][: crop.side, : crop.side]
    assert np.array_equal(cut(photo, crop, crop.side), expected)


@pytest.mark.parametrize("size", [64, 512])
def test_resize_keeps_flat_colours(size):
    flat = np.full((200, 200, 3), (1, 128, 254), np.uint8)
    assert np.array_equal(resize(flat, size, size), np.full((size, size, 3), (1, 128, 254)))


@pytest.mark.parametrize("feather", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("side", [2, 33, 256])
def test_mask_is_smooth_and_empty_at_the_edge(side, feather):
    alpha = mask(side, feather)
    assert alpha.shape == (side, side)
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    # Half a pixel inside the edge, t is 1 / (side feather) and 3 t^2 bounds the mask.
    edge = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
    assert edge.max() <= 3 / (side * feather) ** 2
    assert np.allclose(alpha, alpha[::-1], atol=1e-6)
    # No step is steeper than the smoothstep's 1.5 / feather per half side, times sqrt(2).
    assert np.abs(np.diff(alpha, axis=0)).max() <= 1.5 / feather * 2 / side * 1.5


@pytest.mark.parametrize("feather", [0, -0.1, 1.1])
def test_mask_refuses_a_feather_out_of_range(feather):
    with pytest.raises(ValueError, match=r"feather must be in \(0, 1\]"):
        mask(10, feather)


@pytest.mark.parametrize(
    "crop",
    [Crop(x=150, y=40, side=180), Crop(x=-60, y=-50, side=200), Crop(x=400, y=380, side=240)],
    ids=["inside", "top-left", "bottom-right"],
)
def test_pixels_outside_the_mask_are_untouched(astronaut, crop):
    original = astronaut.copy()
    restored = 255 - cut(astronaut, crop, 128)
    result = paste(astronaut, restored, crop, 0.3)
    assert np.array_equal(astronaut, original)
    cover = np.zeros((1200, 1200), np.float32)
    area = np.s_[300 + crop.y : 300 + crop.y + crop.side, 300 + crop.x : 300 + crop.x + crop.side]
    cover[area] = mask(crop.side, 0.3)
    cover = cover[300 : 300 + 512, 300 : 300 + 512]
    changed = (result != astronaut).any(axis=2)
    assert not changed[cover == 0].any()
    assert changed[cover == 1].mean() > 0.95


@pytest.mark.parametrize(("x", "y"), [(512, 0), (0, 512), (-64, 0), (0, -64)])
def test_a_crop_beside_the_photograph_changes_nothing(astronaut, x, y):
    white = np.full((64, 64, 3), 255, np.uint8)
    assert np.array_equal(paste(astronaut, white, Crop(x=x, y=y, side=64)), astronaut)


def test_a_shifted_colour_leaves_no_seam():
    photo = np.full((300, 300, 3), 100, np.uint8)
    crop = Crop(x=50, y=50, side=200)
    result = paste(photo, np.full((512, 512, 3), 160, np.uint8), crop, 0.3)[..., 0].astype(int)
    assert result[150, 150] == 160
    # 60 levels over 30 pixels rise by 3 a pixel at the steepest place, 1.5 times the mean.
    assert np.abs(np.diff(result[150])).max() <= 4
    assert np.abs(np.diff(result[:, 150])).max() <= 4


def test_pasting_back_what_was_cut_changes_nothing(astronaut):
    crop = Crop(x=-20, y=60, side=200)
    assert np.array_equal(paste(astronaut, cut(astronaut, crop, 200), crop), astronaut)
