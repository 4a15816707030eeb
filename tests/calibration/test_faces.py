from dataclasses import replace

import cv2
import numpy as np
import pytest

from calibration.faces import COUNT, GROUPS, FaceParams, face, render, sample_params
from calibration.faces.params import Eyes, Glasses, Hair, Head, Mouth, Pose, Skin

SEEDS = range(24)
PLAIN = FaceParams(texture=5)


@pytest.fixture(scope="module")
def crowd():
    return [face(seed) for seed in SEEDS]


def group(landmarks, name):
    return landmarks[GROUPS[name]]


def test_a_seed_gives_one_face_and_another_seed_another():
    first, again, other = face(3), face(3), face(4)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    assert np.abs(first.image.astype(float) - other.image).mean() > 10


@pytest.mark.parametrize("size", [16, 96, 128, 200])
def test_shapes_and_types(size):
    drawn = face(1, size)
    assert drawn.image.shape == (size, size, 3)
    assert drawn.image.dtype == np.uint8
    assert drawn.landmarks.shape == (COUNT, 2)
    assert drawn.landmarks.dtype == np.float32


@pytest.mark.parametrize("seed", [0, 9, 13])
def test_sizes_differ_by_resampling_only(seed):
    small, large = face(seed, 128), face(seed, 384)
    shrunk = cv2.resize(large.image, (128, 128), interpolation=cv2.INTER_AREA)
    error = np.abs(shrunk.astype(float) - small.image)
    assert error.mean() < 3.5
    np.testing.assert_allclose((large.landmarks + 0.5) / 3 - 0.5, small.landmarks, atol=0.02)


def test_groups_cover_every_landmark_once():
    covered = np.concatenate([np.arange(COUNT)[part] for part in GROUPS.values()])
    np.testing.assert_array_equal(np.sort(covered), np.arange(COUNT))


def test_landmarks_lie_in_the_picture_and_in_order(crowd):
    for drawn in crowd:
        points = drawn.landmarks
        assert points.min() >= 0
        assert points.max() <= 127
        eyes, mouth = group(points, "pupils").mean(axis=0), group(points, "outer_lips")
        assert 0.36 * 128 < eyes[1] < 0.50 * 128
        nose = group(points, "nose_base").mean(axis=0)
        assert eyes[1] < nose[1] < mouth[:, 1].mean() < points[8, 1]  # 8 is the chin
        jaw = group(points, "jaw")
        assert jaw[0, 0] < mouth[0, 0] < mouth[6, 0] < jaw[-1, 0]


def test_pupils_lie_between_corners_and_lids(crowd):
    for drawn in crowd:
        for name, pupil in zip(
            ("left_eye", "right_eye"), group(drawn.landmarks, "pupils"), strict=True
        ):
            eye = group(drawn.landmarks, name)
            assert eye[0, 0] < pupil[0] < eye[3, 0]
            assert eye[1:3, 1].mean() < pupil[1] < eye[4:6, 1].mean()


@pytest.mark.parametrize("gaze", [-0.7, 0.0, 0.7])
@pytest.mark.parametrize("yaw", [-0.3, 0.0, 0.3])
def test_pupils_are_the_dark_spots_of_the_eyes(yaw, gaze):
    eyes = replace(PLAIN.eyes, gaze_x=gaze, opening=1.2)
    drawn = render(replace(PLAIN, eyes=eyes, pose=Pose(yaw=yaw, roll=0.1)), 256)
    grey = drawn.image.astype(float).mean(axis=2)
    for x, y in group(drawn.landmarks, "pupils"):
        column, row = round(float(x)), round(float(y))
        pupil = grey[row - 1 : row + 2, column - 1 : column + 2].mean()
        sides = [grey[row, column + d] for d in (-9, 9)]
        assert pupil < 0.6 * max(sides)
        assert pupil < 60


@pytest.mark.parametrize(
    ("change", "index", "axis", "sign"),
    [
        ({"pose": Pose(yaw=0.3)}, 30, 0, 1),  # the tip of the nose turns to the right
        ({"pose": Pose(pitch=0.2)}, 30, 1, 1),
        ({"pose": Pose(dx=0.05)}, 30, 0, 1),
        ({"head": Head(chin=0.48)}, 8, 1, 1),
        ({"head": Head(width=0.29)}, 0, 0, -1),
        ({"mouth": Mouth(smile=0.9)}, 48, 1, -1),  # the corner of the mouth rises
        ({"mouth": Mouth(opening=0.8)}, 66, 1, 1),  # the lower lip drops
        ({"eyes": Eyes(spacing=0.14)}, 69, 0, 1),
        ({"eyes": Eyes(gaze_y=1.0)}, 69, 1, 1),
        ({"eyes": Eyes(gaze_x=1.0)}, 68, 0, 1),  # both eyes look the same way
        ({"eyes": Eyes(gaze_x=1.0)}, 69, 0, 1),
    ],
)
def test_landmarks_follow_the_parameters(change, index, axis, sign):
    before, after = render(PLAIN), render(replace(PLAIN, **change))
    assert sign * (after.landmarks[index, axis] - before.landmarks[index, axis]) > 0.4


def test_yaw_moves_the_picture_with_its_landmarks():
    turned = render(replace(PLAIN, pose=Pose(yaw=0.25)))
    level = render(PLAIN)
    nose, eyes = slice(30, 31), GROUPS["pupils"]
    shift = (turned.landmarks - level.landmarks)[:, 0]
    assert shift[nose].mean() > shift[eyes].mean() + 1  # the nose stands before the eyes
    assert np.abs(turned.image.astype(float) - level.image).mean() > 3


def test_skin_tone_hair_and_glasses_show():
    cheek = np.s_[74:80, 40:46]
    tones = [
        render(replace(PLAIN, skin=Skin(tone=tone))).image[cheek].mean() for tone in (0.0, 0.5, 1.0)
    ]
    assert tones[0] > tones[1] + 15
    assert tones[1] > tones[2] + 15
    bald, hairy = (render(replace(PLAIN, hair=Hair(amount=a))).image for a in (0.0, 1.0))
    assert hairy[8:16, 56:72].mean() < bald[8:16, 56:72].mean() - 40
    framed = render(replace(PLAIN, glasses=Glasses(style="round", rim=1.0))).image
    bare = render(PLAIN).image
    assert np.abs(framed.astype(float) - bare)[45:65].mean() > 5
    np.testing.assert_array_equal(framed[110:], bare[110:])


def test_the_crowd_is_varied(crowd):
    images = np.stack([drawn.image for drawn in crowd]).astype(float)
    assert images.std(axis=0).mean() > 35
    params = [sample_params(np.random.default_rng(seed)) for seed in range(200)]
    assert {p.beard.style for p in params} == {"none", "stubble", "moustache", "goatee", "full"}
    assert len({p.glasses.style for p in params}) >= 4
    lengths, tones = zip(*((p.hair.length, p.skin.tone) for p in params), strict=True)
    assert min(lengths) < 0
    assert max(lengths) > 0.5
    assert min(tones) < 0.1
    assert max(tones) > 0.8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: face(-1), "seed must be at least 0, got -1"),
        (lambda: face(0, 15), "size must be at least 16 pixels, got 15"),
        (lambda: Pose(yaw=0.6), r"Pose.yaw must be in -0.5..0.5, got 0.6"),
        (lambda: Skin(tone=float("nan")), r"Skin.tone must be in 0.0..1.0, got nan"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
