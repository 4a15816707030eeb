"""The shipped weights restore faces, and an interrupted training run goes on as if it had not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quantface_export.nano.data import Batches, pair, rendered_faces
from quantface_export.nano.evaluate import evaluate, held_out_faces, held_out_photograph
from quantface_export.nano.training import Schedule, Training
from quantface_export.nano.weights import WEIGHTS, load_nano, save_nano
from quantface_export.osdface.config import NANO


@pytest.fixture(scope="module")
def nano():
    return load_nano()


@pytest.fixture(scope="module")
def faces():
    return rendered_faces(0, 4, NANO.size, workers=0)


def test_weights_are_small_and_finite(nano):
    assert WEIGHTS.stat().st_size < 12_000_000
    assert all(torch.isfinite(p).all() for p in nano.parameters())


def test_gains_on_held_out_faces(nano):
    assert evaluate(nano, held_out_faces(64, NANO.size)).gain_db >= 2.5


def test_gains_on_held_out_photograph(nano):
    assert evaluate(nano, held_out_photograph(NANO.size, 8)).gain_db >= 1.0


def test_pairs_depend_on_their_number_only(faces):
    by_number = [pair(3, number, faces) for number in range(4)]
    batches = iter(Batches(3, faces, batch=2, start=1))
    degraded, clean = next(batches)
    np.testing.assert_array_equal(degraded, np.stack([p[0] for p in by_number[2:]]))
    np.testing.assert_array_equal(clean, np.stack([p[1] for p in by_number[2:]]))


@pytest.mark.parametrize("seed", [-1, 1_000_000])
def test_seeds_that_reach_held_out_faces_are_refused(seed):
    with pytest.raises(ValueError, match="seed must be in"):
        rendered_faces(seed, 1, NANO.size, workers=0)


@pytest.mark.parametrize(
    "pace",
    [{"sharpen": 0.5}, {"rebuilt": 0.25, "crop": 48, "cropped": 0.9, "trunk": 0.1}],
    ids=["critic", "linear start"],
)
def test_resumed_training_equals_uninterrupted_training(faces, tmp_path, pace):
    schedule = Schedule(steps=2, batch=1, faces=len(faces), **pace)
    batches = list(zip(range(2), Batches(0, faces, schedule.batch), strict=False))

    whole = Training(schedule, 0, "cpu")
    whole.step(*batches[0][1])
    whole.save(tmp_path / "half")
    whole.step(*batches[1][1])

    resumed = Training(schedule, 1, "cpu")
    resumed.load(tmp_path / "half")
    resumed.seed = whole.seed
    assert resumed.number == 1
    resumed.step(*next(iter(Batches(0, faces, schedule.batch, start=1))))

    assert resumed.share == whole.share == 1
    for name, value in whole.trained().state_dict().items():
        assert torch.equal(resumed.trained().state_dict()[name], value), name

    save_nano(whole.trained(), tmp_path / "nano.safetensors")
    restored = load_nano(tmp_path / "nano.safetensors")
    for name, value in whole.trained().state_dict().items():
        assert torch.equal(restored.state_dict()[name], value.half().float()), name
