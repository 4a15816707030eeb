"""The linear start draws true colours before the first step, and all of it can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from quantface_export.nano.data import pair, rendered_faces, same_square, to_tensor
from quantface_export.nano.evaluate import evaluate, held_out_faces
from quantface_export.nano.losses import CodeDecoder, model_loss
from quantface_export.nano.start import CONSTANT, begin_linear, carriers, trunk
from quantface_export.nano.training import Schedule, Training
from quantface_export.osdface.config import NANO
from quantface_export.osdface.model import Osdface


def fresh(*, linear: bool) -> Osdface:
    torch.manual_seed(0)
    model = Osdface(NANO).eval()
    if linear:
        begin_linear(model)
    return model


@pytest.fixture(scope="module")
def faces():
    return held_out_faces(4, NANO.size)


def psnr(image: torch.Tensor, target: torch.Tensor) -> float:
    """Of images in [0, 1], dB."""
    return -10 * float(torch.log10(F.mse_loss(image, target)))


@pytest.mark.parametrize("linear", [False, True], ids=["random", "linear"])
def test_autoencoder_draws_colours_only_from_the_linear_start(faces, linear):
    model, image = fresh(linear=linear), to_tensor(faces)
    with torch.inference_mode():
        drawn = psnr(model.vae_decoder(model.vae_encoder(image)), image * 0.5 + 0.5)
    assert drawn > 23 if linear else drawn < 15


def test_latents_begin_at_unit_scale(faces):
    with torch.inference_mode():
        z = fresh(linear=True).vae_encoder(to_tensor(faces))
    rms = z.square().mean(dim=(0, 2, 3)).sqrt()
    assert ((rms > 0.5) & (rms < 2)).all(), rms


def test_unet_begins_as_the_identity(faces):
    model, image = fresh(linear=True), to_tensor(faces)
    with torch.inference_mode():
        z = model.vae_encoder(image)
        x0 = model.unet(z, model.vre(image))
    assert (x0 - z).square().mean() < 0.02 * z.square().mean()


def test_untrained_model_does_no_harm(faces):
    assert evaluate(fresh(linear=True), faces).gain_db > -0.5


@pytest.mark.parametrize(("width", "unit"), [(24, 3), (96, 3), (40, 5), (80, 5)])
def test_group_means_do_not_depend_on_signals(width, unit):
    signals = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32))
    embedding, constant = carriers(width, unit, 4)
    channels = embedding @ signals + CONSTANT * constant[:, None]
    means = channels.reshape(8, width // 8, 64).mean(dim=1)
    torch.testing.assert_close(means, torch.full_like(means, CONSTANT / unit), rtol=0, atol=1e-6)
    assert (embedding.abs().sum(dim=0) == width * (unit - 1) / unit / 4).all()


def test_every_parameter_learns_from_the_second_step_on():
    images = rendered_faces(0, 2, NANO.size, workers=0)
    degraded, clean = (
        torch.from_numpy(np.stack(s))
        for s in zip(*[pair(0, i, images) for i in range(2)], strict=True)
    )
    schedule = Schedule(steps=10, batch=2, faces=2, rebuilt=0.5, crop=32, cropped=1.0, trunk=0.1)
    training = Training(schedule, 0, "cpu")
    for _ in range(3):
        training.step(degraded, clean)
    still = [name for name, p in training.model.named_parameters() if not p.grad.any()]
    assert still == []


def test_only_the_trunk_of_a_linear_start_learns_slowly():
    schedule = Schedule(steps=10, batch=1, faces=1, crop=32, cropped=1.0, trunk=0.1)
    training = Training(schedule, 0, "cpu")
    rest, slow = training.optimizer.param_groups
    assert {id(p) for p in slow["params"]} == {id(p) for p in trunk(training.model)}
    assert len(rest["params"]) + len(slow["params"]) == len(training.parameters)
    images = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    training.step(images, images)
    assert slow["lr"] == pytest.approx(0.1 * rest["lr"])


def test_autoencoder_learns_from_its_share_of_the_batch():
    model, decoder = fresh(linear=True), CodeDecoder()
    counts = []
    hook = model.vae_encoder.encoder.register_forward_pre_hook(
        lambda _, args: counts.append(len(args[0]))
    )
    images = torch.rand(4, 3, 32, 32)
    for share in (0.25, 0.3, 1.0):
        loss, restored = model_loss(model, decoder, images, images, share)
        assert restored.shape == images.shape and loss.isfinite()
    hook.remove()
    assert counts == [5, 6, 8]


def test_squares_are_of_the_same_place():
    rows = torch.arange(128)[:, None].expand(128, 128)
    places = torch.stack([rows, rows.T, rows], dim=-1)[None]
    torch.manual_seed(0)
    seen = set()
    for _ in range(32):
        a, b = same_square(48, places, -places)
        assert a.shape == (1, 48, 48, 3) and torch.equal(a, -b)
        top, left, _ = a[0, 0, 0].tolist()
        assert top % 8 == left % 8 == 0
        seen.add((top, left))
    assert len(seen) > 16


@pytest.mark.parametrize("crop", [0, 40, 144])
def test_crops_that_the_unet_cannot_halve_are_refused(crop):
    with pytest.raises(ValueError, match="crop must be a multiple of 16"):
        Schedule(steps=1, batch=1, faces=1, crop=crop)


@pytest.mark.parametrize("rebuilt", [0.0, -0.5, 1.5])
def test_shares_that_leave_no_image_to_rebuild_are_refused(rebuilt):
    with pytest.raises(ValueError, match="rebuilt must be above 0"):
        Schedule(steps=1, batch=1, faces=1, rebuilt=rebuilt)
