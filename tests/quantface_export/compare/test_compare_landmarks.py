import numpy as np
import pytest
import torch

from calibration.degradation import Degradation
from quantface_export.compare.landmarks import (
    SIDE,
    WEIGHTS,
    LandmarkNet,
    lmd,
    load_landmark_net,
    save_landmark_net,
)
from quantface_export.nano.data import HELD_OUT, to_tensor
from quantface_export.nano.landmark_data import (
    MILD,
    MIRRORED,
    example,
    first_seed,
    moved,
    render_faces,
)
from quantface_export.nano.train_landmarks import LandmarkSchedule, degraded, errors, train


@pytest.fixture(scope="module")
def net():
    return load_landmark_net()


@pytest.fixture(scope="module")
def held_out():
    return render_faces(range(HELD_OUT, HELD_OUT + 64), SIDE)


def test_lmd_is_a_mean_distance():
    truth = np.zeros((2, 4, 2), np.float32)
    found = truth + np.array([[[3, 4]], [[0, 2]]])
    found[1, 0] = 0
    np.testing.assert_array_equal(lmd(found, truth), [5, 1.5])
    with pytest.raises(ValueError, match=r"shape \(2, 4, 2\), the true ones \(4, 2\)"):
        lmd(found, truth[0])


def test_weights_are_small(net):
    assert WEIGHTS.stat().st_size <= 400_000
    assert sum(p.numel() for p in net.parameters()) <= 150_000


def test_finds_landmarks_of_held_out_faces(net, held_out):
    found = errors(net, *held_out)
    assert found.mean() <= 1.5
    assert np.quantile(found, 0.9) <= 2.5


@pytest.mark.parametrize(("settings", "limit"), [(MILD, 1.5), (Degradation(), 3.0)])
def test_finds_landmarks_of_degraded_faces(net, held_out, settings, limit):
    images, points = held_out
    assert errors(net, degraded(images[:32], settings), points[:32]).mean() <= limit


def test_is_worse_without_training(held_out):
    torch.manual_seed(0)
    images, points = held_out
    assert errors(LandmarkNet().eval(), images[:4], points[:4]).mean() > 10


@torch.inference_mode()
def test_pixels_are_those_of_the_picture(net):
    small, large = (render_faces(range(HELD_OUT, HELD_OUT + 4), side) for side in (SIDE, 192))
    found = net(to_tensor(large[0])).numpy()
    assert lmd(found, large[1]).mean() <= 1.5 * 1.5
    scaled = (net(to_tensor(small[0])).numpy() + 0.5) * 1.5 - 0.5
    assert lmd(found, scaled).mean() <= 0.5


def test_refuses_other_shapes(net):
    with pytest.raises(ValueError, match=r"images must be \(N, 3, s, s\), got \(1, 128, 128, 3\)"):
        net(torch.zeros(1, 128, 128, 3))


def test_mirroring_keeps_the_names(held_out):
    """A mirrored crowd looks like the crowd: each landmark's mean stays."""
    points = held_out[1]
    mirrored = points[:, MIRRORED] * [-1, 1] + [SIDE - 1, 0]
    assert np.abs(mirrored.mean(0) - points.mean(0)).max() < 3
    np.testing.assert_array_equal(MIRRORED[MIRRORED], np.arange(70))


@pytest.mark.parametrize("seed", range(6))
def test_landmarks_move_with_the_picture(seed):
    points = np.array([[40, 50], [90, 60], [70, 100]], np.float32).repeat(24, axis=0)[:70]
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for k, (x, y) in enumerate(points[::24]):
        image[..., k] = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    picture, found = moved(image, points, np.random.default_rng(seed))
    # Mirroring swaps the points; compare where the spots are, whichever they are.
    weights = picture.astype(float) / picture.sum(axis=(0, 1))
    spots = np.stack([(weights * c[..., None]).sum((0, 1)) for c in (columns, rows)], axis=-1)
    nearest = np.linalg.norm(spots[:, None] - found[None], axis=-1).min(axis=1)
    assert nearest.max() < 0.3


def test_examples_depend_on_their_number_only(held_out):
    images, points = (x[:3] for x in held_out)
    first, again, other = (example(0, number, images, points) for number in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()


@pytest.mark.parametrize(("seed", "count"), [(-1, 1), (1_000_000, 1), (0, 2_000_000)])
def test_seeds_that_reach_held_out_faces_are_refused(seed, count):
    with pytest.raises(ValueError, match="seed must be in"):
        first_seed(seed, count)


def test_training_is_repeatable_and_learns(tmp_path, capsys):
    schedule = LandmarkSchedule(steps=12, batch=4, faces=3)
    nets = [train(schedule, seed=1) for _ in range(2)]
    reported = [float(s.split()[2]) for s in capsys.readouterr().out.splitlines() if "px" in s]
    assert np.mean(reported[-3:]) < reported[0]
    for name, value in nets[0].state_dict().items():
        assert torch.equal(nets[1].state_dict()[name], value), name

    save_landmark_net(nets[0], tmp_path / "w.safetensors")
    loaded = load_landmark_net(tmp_path / "w.safetensors").state_dict()
    for name, value in nets[0].state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(loaded[name], expected), name
