"""QD-LoRA on one layer: trained == merged, R = W - L1 L2 in every step, hand-made gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from calibration.layers import QuantLayer, merge, quant_layers
from calibration.lowrank import product
from calibration.methods.quantface import form
from calibration.observe import observe
from calibration.qdlora import QdLora
from calibration.quantize import observe_outputs, quantize
from calibration.quantizer import ActivationGrid
from calibration.recipe import Recipe
from calibration.weights import StoredWeight, Weight

LOW_RANK = {"svd_down", "svd_up", "lora_A", "lora_B"}

LAYERS = {
    "conv 3x3": lambda: nn.Conv2d(24, 40, 3, padding=1),
    "conv 3x3 stride 2": lambda: nn.Conv2d(40, 24, 3, stride=2),
    "conv 1x1": lambda: nn.Conv2d(64, 12, 1),
    "conv of few channels": lambda: nn.Conv2d(2, 5, 3, padding=1, bias=False),
    "linear": lambda: nn.Linear(40, 96),
    "linear without bias": lambda: nn.Linear(128, 20, bias=False),
}


class One(nn.Module):
    """A single layer after a float op, so that it stands like a layer inside a network."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(nn.functional.silu(x))


def sample(layer: nn.Module) -> Tensor:
    if isinstance(layer, nn.Conv2d):
        c = layer.in_channels
        return torch.randn(1, c, 9, 10) * torch.linspace(0.1, 4, c)[:, None, None]
    return torch.randn(1, 11, layer.in_features) * torch.linspace(0.1, 4, layer.in_features)


def student(kind: str, bits: int = 4) -> tuple[One, QuantLayer, Tensor, Tensor]:
    """The layer with QD-LoRA, its input, and its output in float."""
    torch.manual_seed(len(kind))
    model = One(LAYERS[kind]()).eval().requires_grad_(False)
    x = sample(model.layer)
    target, sites = model(x), observe(model, [(x,)], seed=0)
    settings = Recipe(name="test", weight_bits=bits, activation_bits=bits)
    widths = {key: settings.bits("test", key, edge=False) for key in sites}
    quantize(model, sites, settings, bits=widths, seed=5, form=form)
    observe_outputs(model, [(x,)])
    return model, quant_layers(model)["layer"], x, target


def train(model: nn.Module, x: Tensor, target: Tensor, steps: int = 5) -> None:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        ((model(x) - target) ** 2).mean().backward()
        optimizer.step()


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize("kind", LAYERS)
def test_merged_layer_gives_the_trained_numbers(kind: str, bits: int) -> None:
    model, layer, x, target = student(kind, bits)
    start = Weight(*(tensor.detach().clone() for tensor in layer.weight))
    train(model, x, target)
    assert not torch.equal(layer.weight.codes, start.codes), "training moved no code"
    assert not torch.equal(layer.weight.up, start.up)
    with_graph = model(x).detach()
    with torch.no_grad():
        trained = model(x)
    merge(model)
    assert isinstance(layer.form, StoredWeight)
    assert layer.weight.codes.dtype == torch.int8
    assert not list(model.parameters())
    with torch.no_grad():
        merged = model(x)
    assert torch.equal(with_graph, trained)
    assert torch.equal(merged, trained)


@pytest.mark.parametrize("kind", ["conv 3x3", "linear"])
def test_training_brings_the_layer_nearer_to_the_float_one(kind: str) -> None:
    model, _, x, target = student(kind, bits=3)
    with torch.no_grad():
        before = ((model(x) - target) ** 2).mean()
    train(model, x, target, steps=40)
    with torch.no_grad():
        assert ((model(x) - target) ** 2).mean() < 0.9 * before


@pytest.mark.parametrize("kind", ["conv 3x3", "linear"])
def test_gradients_reach_the_low_rank_factors_only(kind: str) -> None:
    model, _, x, target = student(kind)
    assert {n.rpartition(".")[2] for n, _ in model.named_parameters()} == LOW_RANK
    frozen = {n: b.clone() for n, b in model.named_buffers()}
    train(model, x, target, steps=2)  # B starts at zero, so that A moves from the second step on
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0, name
    assert {n for n, b in model.named_buffers() if not torch.equal(b, frozen[n])} == set()
    assert {"layer.form.backbone", "layer.form.scale", "layer.bias"} <= set(frozen)


def test_both_branches_start_as_the_svd_branch_alone() -> None:
    _, layer, _, _ = student("conv 3x3")
    f, weight = layer.form, layer.weight
    assert isinstance(f, QdLora)
    assert len(f.svd_down) + len(f.lora_A) == 16
    assert len(f.lora_A) >= 2
    branch = product(weight.down, weight.up)
    assert torch.equal(branch, product(f.svd_down, f.svd_up))


def plain_codes(f: QdLora) -> Tensor:
    """``clamp(round((W - L1 L2) / s))`` from the float16 factors, spelled out."""
    up, down = f.svd_up.detach().half().float(), f.svd_down.detach().half().float()
    rest = f.backbone.flatten(1) - up @ down.flatten(1)
    codes = (rest / f.scale[:, None]).round().clamp(*f.limits)
    return codes.reshape(f.backbone.shape)


@pytest.mark.parametrize("kind", ["conv 3x3", "linear"])
def test_the_rest_is_formed_again_after_every_change(kind: str) -> None:
    _, layer, _, _ = student(kind)
    f = layer.form
    before = f().codes.clone()
    assert torch.equal(before, plain_codes(f))
    with torch.no_grad():
        f.svd_up.add_(0.3 * torch.randn(f.svd_up.shape, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(f().codes, before)
    assert torch.equal(f().codes, plain_codes(f))
    # the branch for distillation is beside the backbone: no code depends on it
    before = f().codes.clone()
    with torch.no_grad():
        f.lora_B.normal_(generator=torch.Generator().manual_seed(2))
    assert torch.equal(f().codes, before)


def test_without_a_branch_there_is_nothing_to_train() -> None:
    w = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    plain = form(w, 4, 0)
    assert isinstance(plain, StoredWeight)
    assert plain().down is None


@pytest.mark.parametrize("rank", [1, 2, 3, 16])
def test_both_branches_have_the_rank_of_the_recipe(rank: int) -> None:
    w = torch.randn(20, 24, generator=torch.Generator().manual_seed(0))
    weight = form(w, 4, rank)()
    assert (weight.down.shape, weight.up.shape) == ((rank, 24), (20, rank))


def small_form(seed: int = 0) -> QdLora:
    """A form with a few weights outside of its grid."""
    torch.manual_seed(seed)
    f = QdLora(torch.randn(6, 10), 3, 2, 2)
    f.scale.mul_(0.5)
    with torch.no_grad():
        f.lora_B.normal_()
    return f


def inside(f: QdLora) -> Tensor:
    up, down = f.svd_up.detach().half().float(), f.svd_down.detach().half().float()
    rounded = ((f.backbone - up @ down) / f.scale[:, None]).round()
    return (rounded >= f.limits[0]) & (rounded <= f.limits[1])


def test_gradient_through_the_codes_is_the_one_of_the_rest_inside_the_grid() -> None:
    f, given = small_form(), torch.randn(6, 10, generator=torch.Generator().manual_seed(9))
    mask = inside(f)
    assert 5 < mask.sum() < 55, "both cases must occur"
    weight = f()
    (given * weight.codes * weight.scale[:, None]).sum().backward()
    # d(s codes)/dR is 1 inside and 0 outside; R = W - L1 L2
    seen = given * mask
    up, down = f.svd_up.detach().half().float(), f.svd_down.detach().half().float()
    bound = 16 * torch.finfo().eps * given.abs().max() * 10
    assert (f.svd_up.grad + seen @ down.T).abs().max() <= bound * down.abs().max()
    assert (f.svd_down.grad + up.T @ seen).abs().max() <= bound * up.abs().max()
    assert f.lora_A.grad is None
    assert f.lora_B.grad is None


def test_no_gradient_comes_from_weights_outside_the_grid() -> None:
    f = small_form()
    mask = inside(f)
    weight = f()
    ((~mask) * weight.codes).sum().backward()
    assert f.svd_up.grad.abs().max() == 0
    assert f.svd_down.grad.abs().max() == 0


def test_gradient_through_the_branch() -> None:
    f, given = small_form(), torch.randn(6, 10, generator=torch.Generator().manual_seed(9))
    (given * f().effective()[1]).sum().backward()
    pairs = ((f.svd_down, f.svd_up), (f.lora_A, f.lora_B))
    bound = 16 * torch.finfo().eps * given.abs().max() * 10
    for down, up in pairs:
        d, u = down.detach().half().float(), up.detach().half().float()
        assert (up.grad - given @ d.T).abs().max() <= bound * d.abs().max()
        assert (down.grad - u.T @ given).abs().max() <= bound * u.abs().max()


def test_gradient_of_a_linear_layer_by_hand() -> None:
    torch.manual_seed(4)
    codes, scale = torch.randint(-7, 8, (5, 6)).float(), torch.rand(5) + 0.1
    layer = QuantLayer(
        nn.Linear(6, 5),
        name="layer",
        site="layer",
        form=StoredWeight(Weight(codes, scale, None, None)),
        balance=None,
        x_grid=ActivationGrid(scale=0.25, zero_point=6, bits=4),
        weight_bits=4,
    )
    x, given = (2 * torch.randn(8, 6)).requires_grad_(), torch.randn(8, 5)
    (grad,) = torch.autograd.grad(layer(x), x, given)
    rounded = (x.detach() / 0.25).round()
    mask = (rounded >= -6) & (rounded <= 9)
    assert 8 < mask.sum() < 40, "both cases must occur"
    expected = mask * (given @ (codes * scale[:, None]))
    bound = 16 * torch.finfo().eps * 5 * given.abs().max() * 7 * scale.max()
    assert (grad - expected).abs().max() <= bound
    assert grad[~mask].abs().max() == 0


def test_gradient_of_a_convolution_is_zero_where_its_output_clips() -> None:
    codes = torch.tensor([[[[1.0]]], [[[1.0]]]])
    layer = QuantLayer(
        nn.Conv2d(1, 2, 1, bias=False),
        name="layer",
        site="layer",
        form=StoredWeight(Weight(codes, torch.tensor([1.0, 64.0]), None, None)),
        balance=None,
        x_grid=ActivationGrid(scale=1.0, zero_point=0, bits=8),
        weight_bits=4,
    )
    layer.y_grid = ActivationGrid(scale=1.0, zero_point=0, bits=8)
    x = torch.tensor([[[[2.0, 5.0]]]], requires_grad=True)
    y = layer(x)
    assert y.tolist() == [[[[2.0, 5.0]], [[128.0, 255.0]]]]
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.tolist() == [[[[65.0, 1.0]]]]
