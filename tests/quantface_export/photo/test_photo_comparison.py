"""The before-and-after picture."""

from __future__ import annotations

import numpy as np
import pytest

from quantface_export.photo.comparison import comparison


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((512, 512), (512, 512), (512, 1026)),
        ((200, 150), (512, 384), (512, 770)),
        ((64, 64), (64, 64), (256, 514)),
        ((3000, 4000), (3000, 4000), (1536, 4104)),
        ((16, 400), (16, 400), (16, 802)),
    ],
)
def test_size(before, after, expected):
    picture = comparison(np.zeros((*before, 3), np.uint8), np.zeros((*after, 3), np.uint8))
    assert picture.shape == (*expected, 3)
    assert picture.dtype == np.uint8


def test_only_the_labels_and_the_divider_are_added(astronaut):
    after = 255 - astronaut
    picture = comparison(astronaut, after)
    assert (picture[:, 512:514] == 255).all()
    for half, original in [(picture[:, :512], astronaut), (picture[:, 514:], after)]:
        changed = np.argwhere((half != original).any(axis=2))
        assert len(changed) > 500
        assert changed[:, 0].min() > 0.85 * 512
        assert changed[:, 1].max() < 0.3 * 512
