from itertools import islice

import numpy as np
import pytest

from calibration.photographs import NAMES, astronaut_face, crops, photograph


@pytest.mark.parametrize("name", NAMES)
def test_every_photograph_loads_offline_in_colour(name):
    image = photograph(name)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert min(image.shape[:2]) >= 300
    assert not image.flags.writeable
    assert np.abs(image[..., 0].astype(float) - image[..., 2]).mean() > 2  # not a grey picture


def test_equal_generators_give_equal_crops():
    first, again, other = (
        list(islice(crops(np.random.default_rng(seed), 64), 4)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert all(crop.shape == (64, 64, 3) and crop.dtype == np.uint8 for crop in first)
    assert not np.array_equal(first[0], first[1])


def test_the_held_out_photograph_is_never_read(monkeypatch):
    read = []

    def spy(name):
        read.append(name)
        return photograph(name)

    monkeypatch.setattr("calibration.photographs.photograph", spy)
    list(islice(crops(np.random.default_rng(0), 32), 60))
    assert set(read) == set(NAMES) - {"astronaut"}


@pytest.mark.parametrize("size", [64, 128, 256])
def test_the_astronauts_eyes_are_where_a_synthetic_face_has_them(size):
    image = astronaut_face(size)
    assert image.shape == (size, size, 3)
    grey = image.astype(float).mean(axis=2)
    for x in (0.375, 0.625):
        row, column = round(0.43 * size), round(x * size)
        reach = round(0.06 * size)
        eye = grey[row - reach : row + reach, column - reach : column + reach]
        cheek = grey[row + 2 * reach : row + 4 * reach, column - reach : column + reach]
        assert eye.min() < 0.5 * cheek.mean()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: crops(np.random.default_rng(0), 0), "size must be at least 1 pixel, got 0"),
        (lambda: astronaut_face(0), "size must be at least 1 pixel, got 0"),
        (lambda: photograph("lena"), "name must be one of .*, got 'lena'"),
        (
            lambda: crops(np.random.default_rng(0), 8, hold_out=("lena",)),
            "hold_out must name some of .*, got lena",
        ),
        (
            lambda: crops(np.random.default_rng(0), 8, hold_out=NAMES),
            "must leave at least one photograph, got all of them",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
