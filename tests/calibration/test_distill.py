"""Distillation of a small student: it learns, resumes bit by bit, and refuses others' states."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.vae import Encoder
from torch import Tensor, nn

from calibration.distill import Distillation, WrongCheckpointError, batch_at, distill
from calibration.layers import merge, quant_layers
from calibration.methods.quantface import form
from calibration.observe import observe
from calibration.perceptual import PerceptualDistance, encoder_distance
from calibration.progress import Silent
from calibration.quantize import observe_outputs, quantize
from calibration.recipe import Recipe

SIDE, COUNT = 16, 5
SHORT = Distillation(steps=6, batch=2, rate=1e-2, save_every=1)


class Block(nn.Module):
    """GroupNorm, SiLU, convolution, and around them a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(4, channels), nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(nn.functional.silu(self.norm(x)))


class Restorer(nn.Module):
    """Images in [-1, 1] to images in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.blocks = nn.Sequential(Block(12), Block(12))
        self.last = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.blocks(self.first(image))).sigmoid()


def images() -> Tensor:
    """(COUNT, 3, SIDE, SIDE) smooth random pictures in [-1, 1]."""
    coarse = torch.randn(COUNT, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    size = (SIDE, SIDE)
    return nn.functional.interpolate(coarse, size=size, mode="bilinear").clamp(-2, 2) / 2


def student(seed: int = 0, bits: int = 3) -> tuple[nn.Module, Tensor]:
    """A quantized restorer with trainable forms, and the float one's pictures."""
    torch.manual_seed(seed)
    model, x = Restorer().eval().requires_grad_(False), images()
    target = model(x)
    inputs = [(image,) for image in x.split(1)]
    sites = observe(model, inputs, seed=0)
    settings = Recipe(name="test", weight_bits=bits, activation_bits=bits, rank=4)
    widths = {key: settings.bits("test", key, key in ("first", "last")) for key in sites}
    quantize(model, sites, settings, bits=widths, seed=5, form=form)
    observe_outputs(model, inputs)
    return model, target


def small_distance() -> PerceptualDistance:
    """On the features of a small random encoder."""
    torch.manual_seed(3)
    encoder = Encoder(
        in_channels=3,
        out_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        double_z=False,
    )
    return encoder_distance(encoder.eval().requires_grad_(False))


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    return small_distance()


class Killed(Exception):
    """What ends a run in the middle."""


class KilledAfter(Silent):
    """Ends the run in its ``steps``-th step, when its state is not saved yet."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def note(self, text: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    assert set(a) == set(b)
    return all(torch.equal(v, b[n]) for n, v in a.items())


def loss(model: nn.Module, target: Tensor, distance: PerceptualDistance) -> float:
    with torch.no_grad():
        image = model(images())
        return float(
            0.5 * distance(image * 2 - 1, target * 2 - 1).mean()
            + 0.5 * ((image * 2 - target * 2) ** 2).mean()
        )


def test_the_loss_falls(distance: PerceptualDistance) -> None:
    model, target = student()
    before = loss(model, target, distance)
    losses = distill(
        model, (images(),), target, distance, Distillation(steps=60, rate=1e-2), seed=0
    )
    assert len(losses) == 60
    assert loss(model, target, distance) < 0.75 * before
    assert sum(losses[-10:]) < sum(losses[:10])


def test_the_loss_of_a_step_is_equation_12(distance: PerceptualDistance) -> None:
    model, target = student()
    expected = loss(model, target, distance)
    schedule = Distillation(steps=1, batch=COUNT, perceptual=0.5, mse=0.5)
    (first,) = distill(model, (images(),), target, distance, schedule, seed=0)
    assert first == pytest.approx(expected, rel=3 * SIDE * SIDE * COUNT * torch.finfo().eps)


def test_a_model_with_nothing_to_train_stays_as_it_is(distance: PerceptualDistance) -> None:
    model, target = student()
    merge(model)
    before = model(images())
    assert distill(model, (images(),), target, distance, SHORT, seed=0) == []
    assert torch.equal(model(images()), before)


def test_only_trainable_forms_change(distance: PerceptualDistance) -> None:
    model, target = student()
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    before = parameters(model)
    distill(model, (images(),), target, distance, SHORT, seed=0)
    after = parameters(model)
    assert {n.rpartition(".")[2] for n in after} >= {"svd_up", "svd_down", "lora_A", "lora_B"}
    moved = {n for n, p in after.items() if not torch.equal(p, before[n])}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert moved == trained
    assert same(buffers, dict(model.named_buffers()))


@pytest.mark.parametrize("killed_in", [1, 2, 4, 6])
def test_a_resumed_run_equals_an_uninterrupted_one(
    tmp_path: Path, distance: PerceptualDistance, killed_in: int
) -> None:
    whole, target = student()
    whole_losses = distill(whole, (images(),), target, distance, SHORT, seed=4)

    file = tmp_path / "state"
    killed, _ = student()
    with pytest.raises(Killed):
        distill(
            killed,
            (images(),),
            target,
            distance,
            SHORT,
            seed=4,
            checkpoint=file,
            progress=KilledAfter(killed_in),
        )
    (tmp_path / "state.new").write_bytes(b"half-written")  # as a kill while saving leaves it

    resumed, _ = student()
    losses = distill(resumed, (images(),), target, distance, SHORT, seed=4, checkpoint=file)
    assert len(losses) == SHORT.steps - (killed_in - 1)
    assert losses == whole_losses[killed_in - 1 :]
    assert same(parameters(resumed), parameters(whole))


def test_a_state_saved_now_and_then_goes_on_from_the_last_one(
    tmp_path: Path, distance: PerceptualDistance
) -> None:
    schedule = dataclasses.replace(SHORT, save_every=2)
    whole, target = student()
    distill(whole, (images(),), target, distance, schedule, seed=4)
    file, arguments = tmp_path / "state", ((images(),), target, distance, schedule)
    with pytest.raises(Killed):
        distill(student()[0], *arguments, seed=4, checkpoint=file, progress=KilledAfter(4))
    resumed, _ = student()
    assert len(distill(resumed, *arguments, seed=4, checkpoint=file)) == 4
    assert same(parameters(resumed), parameters(whole))


def test_a_finished_run_has_nothing_to_do(tmp_path: Path, distance: PerceptualDistance) -> None:
    model, target = student()
    file = tmp_path / "state"
    distill(model, (images(),), target, distance, SHORT, seed=4, checkpoint=file)
    again, _ = student()
    assert distill(again, (images(),), target, distance, SHORT, seed=4, checkpoint=file) == []
    assert same(parameters(again), parameters(model))


@pytest.mark.parametrize("other", ["model", "bits", "seed", "steps", "rate", "images", "target"])
def test_the_state_of_another_run_is_refused(
    tmp_path: Path, distance: PerceptualDistance, other: str
) -> None:
    model, target = student()
    file, x = tmp_path / "state", images()
    distill(model, (x,), target, distance, SHORT, seed=4, checkpoint=file)
    saved = file.read_bytes()

    model, target = student(
        seed=1 if other == "model" else 0,
        bits=4 if other == "bits" else 3,
    )
    schedule = SHORT
    if other == "steps":
        schedule = dataclasses.replace(SHORT, steps=7)
    if other == "rate":
        schedule = dataclasses.replace(SHORT, rate=2e-3)
    if other == "images":
        x = x.flip(3)
    if other == "target":
        target = target.flip(3)
    before = parameters(model)
    seed = 5 if other == "seed" else 4
    with pytest.raises(WrongCheckpointError, match="another") as e:
        distill(model, (x,), target, distance, schedule, seed=seed, checkpoint=file)
    assert "\n" not in str(e.value)
    assert str(file) in str(e.value)
    assert file.read_bytes() == saved, "the other run lost its state"
    assert same(parameters(model), before)


def garbage(file: Path) -> None:
    file.write_bytes(bytes(range(256)))


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def something_else(file: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), file)


def a_list(file: Path) -> None:
    torch.save([1, 2], file)


def incomplete(file: Path) -> None:
    state = torch.load(file, weights_only=True)
    del state["parameters"]
    torch.save(state, file)


@pytest.mark.parametrize(
    "spoil",
    [garbage, truncated, empty, something_else, a_list, incomplete],
    ids=lambda f: f.__name__,
)
def test_a_file_that_is_no_state_is_refused(
    tmp_path: Path, distance: PerceptualDistance, spoil
) -> None:
    model, target = student()
    file = tmp_path / "state"
    distill(model, (images(),), target, distance, SHORT, seed=4, checkpoint=file)
    spoil(file)
    with pytest.raises(WrongCheckpointError, match="can't be read as a training state") as e:
        distill(model, (images(),), target, distance, SHORT, seed=4, checkpoint=file)
    assert "\n" not in str(e.value)


def test_recomputing_gives_the_same_training(distance: PerceptualDistance) -> None:
    results = []
    for recompute in (False, True):
        model, target = student()
        schedule = dataclasses.replace(SHORT, recompute=recompute)
        losses = distill(model, (images(),), target, distance, schedule, seed=4)
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((losses, parameters(model), grads))
    assert results[0][0] == results[1][0]
    assert same(results[0][1], results[1][1])
    assert results[0][2]
    assert same(results[0][2], results[1][2])


def test_recomputing_saves_what_blocks_keep(distance: PerceptualDistance) -> None:
    kept = []
    for recompute in (False, True):
        model, target = student()
        sizes: list[int] = []

        def pack(x: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(x.numel())
            return x

        schedule = Distillation(steps=1, batch=2, recompute=recompute)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            distill(model, (images(),), target, distance, schedule, seed=4)
        kept.append(sum(sizes))
    assert kept[1] < kept[0]


def test_a_model_that_was_recomputed_can_be_copied(distance: PerceptualDistance) -> None:
    model, target = student()
    schedule = dataclasses.replace(SHORT, recompute=True)
    distill(model, (images(),), target, distance, schedule, seed=4)
    merge(model)
    copied = copy.deepcopy(model)
    for layer in quant_layers(copied).values():
        layer.bias += 1
    with torch.no_grad():
        assert (
            copied.blocks(torch.ones(1, 12, 4, 4)) != model.blocks(torch.ones(1, 12, 4, 4))
        ).all()


def test_training_that_diverges_says_at_which_step(distance: PerceptualDistance) -> None:
    model, target = student()
    target[3] = float("nan")
    with pytest.raises(ValueError, match=r"diverged at step \d"):
        distill(model, (images(),), target, distance, SHORT, seed=4)


@pytest.mark.parametrize(("batch", "count"), [(1, 4), (2, 5), (3, 3), (4, 6), (7, 3), (8, 1)])
def test_every_image_comes_once_a_round(batch: int, count: int) -> None:
    steps = 3 * count
    order = torch.cat([batch_at(step, batch, count, seed=2) for step in range(steps)])
    assert len(order) == batch * steps
    rounds = order.split(count)
    assert all(sorted(r.tolist()) == list(range(count)) for r in rounds)
    if count > 3:
        assert len({tuple(r.tolist()) for r in rounds}) > 1, "every round has one order"
        other = torch.cat([batch_at(step, batch, count, seed=3) for step in range(steps)])
        assert not torch.equal(order, other)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    schedule = Distillation(steps=200, rate=1e-3)
    rates = [schedule.rate_at(step) for step in range(200)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == pytest.approx(1e-3, rel=0.01)
    assert 0 < rates[-1] < 1e-6
