import json

import numpy as np
import pytest
import torch

from calibration.perceptual import encoder_distance
from quantface_export.compare.landmarks import lmd, load_landmark_net
from quantface_export.compare.metrics import bootstrap_ci, frechet, psnr, ssim
from quantface_export.compare.scores import KEYS, Judge
from quantface_export.nano.data import HELD_OUT
from quantface_export.nano.landmark_data import render_faces
from quantface_export.nano.weights import load_nano

FACES = 4


@pytest.fixture(scope="module")
def clean():
    images, points = render_faces(range(HELD_OUT, HELD_OUT + FACES), 128)
    return images.transpose(0, 3, 1, 2).astype(np.float32) / 255, points


@pytest.fixture(scope="module")
def tools():
    nano = load_nano()

    def features(image):
        return nano.vae_encoder(image).mean((2, 3))

    return {
        "distance": encoder_distance(nano.vae_encoder.encoder),
        "features": features,
        "regressor": load_landmark_net(),
        "seed": 3,
    }


def noisy(images, strength):
    noise = np.random.default_rng(0).standard_normal(images.shape, np.float32)
    return np.clip(images + strength * noise, 0, 1)


@pytest.fixture(scope="module")
def judge(clean, tools):
    images, points = clean
    return Judge(noisy(images, 0.03), images, points, **tools)


def test_equals_the_metrics_one_by_one(clean, tools, judge):
    images, points = clean
    restored, fp32 = noisy(images, 0.1), noisy(images, 0.03)
    a, b, c = (torch.from_numpy(x) * 2 - 1 for x in (restored, fp32, images))
    found = judge.score(restored)
    with torch.inference_mode():
        perceptual = [tools["distance"](a, x).mean() for x in (c, b)]
        rows = [tools["features"](x).numpy() for x in (a, c, b)]
        landmarks = [tools["regressor"](x).numpy() for x in (a, b)]
    for figures, reference, row, value, where in (
        (found.truth, images, rows[1], perceptual[0], points),
        (found.fp32, fp32, rows[2], perceptual[1], landmarks[1]),
    ):
        assert figures.psnr_db.value == pytest.approx(psnr(restored, reference).mean())
        assert figures.ssim.value == pytest.approx(ssim(restored, reference).mean())
        assert figures.perceptual.value == pytest.approx(float(value), rel=1e-4)
        assert figures.frechet.value == pytest.approx(frechet(rows[0], row), rel=1e-3)
        assert figures.lmd.value == pytest.approx(lmd(landmarks[0], where).mean(), rel=1e-4)
    low, high = bootstrap_ci(psnr(restored, images), 3)
    assert (found.truth.psnr_db.low, found.truth.psnr_db.high) == (low, high)


def test_more_noise_is_worse_in_every_figure(clean, judge):
    little, much = (judge.score(noisy(clean[0], s)) for s in (0.05, 0.25))
    for side in ("truth", "fp32"):
        for key in KEYS:
            a, b = (getattr(getattr(scores, side), key).value for scores in (little, much))
            assert a > b if key in ("psnr_db", "ssim") else a < b, (side, key)


def test_the_output_of_float32_itself(clean, tools):
    images, points = clean
    fp32 = noisy(images, 0.03)
    found = Judge(fp32, images, points, **tools).score(fp32).as_json()
    same = found["vs_fp32"]
    assert same["psnr_db"] is None
    assert (same["perceptual"], same["lmd"]) == (0, 0)
    assert same["ssim"] == pytest.approx(1)
    assert same["frechet"] < 1e-6
    assert found["perceptual"] > 0


def test_json_has_every_key_and_no_infinity(clean, judge):
    found = judge.score(noisy(clean[0], 0.1)).as_json()
    assert set(found) == {*KEYS, "vs_fp32", "ci95"}
    assert set(found["ci95"]) == {*KEYS, "vs_fp32"}
    for values, ends in ((found, found["ci95"]), (found["vs_fp32"], found["ci95"]["vs_fp32"])):
        for key in KEYS:
            low, high = ends[key]
            assert low <= values[key] <= high
    json.dumps(found, allow_nan=False)


def test_refuses_another_number_of_images(clean, judge):
    with pytest.raises(ValueError, match=r"expected \(4, 3, 128, 128\) restored images"):
        judge.score(clean[0][:2])
