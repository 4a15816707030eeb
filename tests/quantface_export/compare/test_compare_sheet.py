import numpy as np
import pytest

from quantface_export.compare.sheet import PAPER, draw_sheet


def pictures(value, n=2, side=48):
    return np.full((n, side, side, 3), value, np.uint8)


def test_pictures_are_shown_unfiltered_in_order():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 256, (2, 48, 48, 3), np.uint8) for _ in range(2))
    sheet = draw_sheet({"degraded": first, "clean": second}, ["a", "b"], enlarge=2)
    bottom, right = sheet[-6 - 96 : -6, -6 - 96 : -6], sheet[-6 - 96 : -6, -2 * 102 : -102 - 6]
    np.testing.assert_array_equal(bottom[::2, ::2], second[1])
    np.testing.assert_array_equal(bottom[1::2, 1::2], second[1])
    np.testing.assert_array_equal(right[::2, ::2], first[1])
    assert sheet.dtype == np.uint8


@pytest.mark.parametrize(
    "name", ["quantface", "quantface-mp\nW4A3.98", "a very long method's name"]
)
def test_labels_stay_above_their_column(name):
    sheet = draw_sheet({"": pictures(PAPER), name: pictures(PAPER), " ": pictures(PAPER)})
    inked = np.argwhere((sheet < 128).any(axis=2))
    assert len(inked) > 30
    above = sheet.shape[0] - 2 * (96 + 6)
    assert inked[:, 0].max() < above
    assert inked[:, 1].min() >= 6 + 102
    assert inked[:, 1].max() < 6 + 2 * 102


def test_captions_stand_left_of_their_rows():
    sheet = draw_sheet({"": pictures(PAPER)}, ["face 1", "face 23"])
    inked = np.argwhere((sheet < 128).any(axis=2))
    assert inked[:, 1].max() < sheet.shape[1] - 102
    middle = sheet.shape[0] - 102 - 3
    assert (inked[:, 0] < middle).any()
    assert (inked[:, 0] > middle).any()


@pytest.mark.parametrize(
    ("columns", "captions", "message"),
    [
        ({}, (), "columns must hold one shape"),
        ({"a": pictures(0), "b": pictures(0, n=3)}, (), "columns must hold one shape"),
        ({"a": pictures(0)[0]}, (), "columns must hold one shape"),
        ({"a": pictures(0)}, ["x"], "expected 2 captions, got 1"),
    ],
)
def test_refuses(columns, captions, message):
    with pytest.raises(ValueError, match=message):
        draw_sheet(columns, captions)
