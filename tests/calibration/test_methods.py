"""Every method on one small stage, and what is peculiar to each."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from calibration.layers import QuantLayer, merge, quant_layers
from calibration.learned import LearnedScale
from calibration.lowrank import product
from calibration.methods import METHODS, passionsr, q_diffusion
from calibration.methods.method import StageData
from calibration.methods.q_diffusion import AdaRound, SplitConv, split_shortcuts
from calibration.observe import Site, observe
from calibration.progress import SILENT
from calibration.quantize import SitePlan, quantize
from calibration.quantizer import ActivationGrid, LearnedGrid, quantize_weight, weight_limits
from calibration.recipe import LayerBits, Recipe
from calibration.weights import StoredWeight
from quantface_export.osdface.config import NANO, TIMESTEP
from quantface_export.quantized import QuantizedStage, quantize_stage

EPS = torch.finfo(torch.float32).eps
WIDTH = 48  # three times the branch's rank
EDGES = {"unet.conv_in", "unet.conv_out"}


class Residual(nn.Module):
    """A block with a norm, a convolution, and two linear layers that read one tensor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.gate, self.value = nn.Linear(width, width), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(nn.functional.silu(self.norm(x)))
        rows = h.flatten(2).movedim(1, 2)
        return x + (self.gate(rows).sigmoid() * self.value(rows)).movedim(1, 2).reshape(x.shape)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4, WIDTH, 3, padding=1)
        self.blocks = nn.Sequential(Residual(WIDTH), Residual(WIDTH))
        self.lone = nn.Conv2d(WIDTH, WIDTH, 1)
        self.conv_out = nn.Conv2d(WIDTH, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.lone(self.blocks(self.conv_in(x))).relu())


class Stage(nn.Module):
    """In the place of the UNet, so that its edges have the names of the real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = Net()

    def forward(self, z: Tensor) -> Tensor:
        return self.unet(z)


def float_stage() -> tuple[Stage, list[tuple[Tensor]], Tensor]:
    torch.manual_seed(0)
    stage = Stage().eval().requires_grad_(False)
    # channels of unlike range, as in figure 4
    gain = torch.linspace(0.2, 4, 4)[:, None, None]
    inputs = [(torch.randn(1, 4, 8, 8) * gain,) for _ in range(5)]
    return stage, inputs, torch.cat([stage(*args) for args in inputs])


def quantized(
    method: str, bits: int, *, trained: bool = False, drawn: int = 0
) -> tuple[QuantizedStage, float]:
    """The stage by a method, merged, and its relative squared error.

    ``drawn`` random numbers have been drawn by others before.
    """
    stage, inputs, target = float_stage()
    torch.rand(drawn)
    recipe = METHODS[method].recipe(bits, bits)
    done = quantize_stage("unet", stage, inputs, recipe, seed=1, trained=trained)
    merge(done.module)
    with torch.no_grad():
        output = torch.cat([done.module(*args) for args in inputs])
    return done, float(((output - target) ** 2).sum() / (target**2).sum())


@pytest.fixture(scope="module")
def at4() -> dict[str, tuple[QuantizedStage, float]]:
    return {name: quantized(name, 4) for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_method_says_where_it_comes_from(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.paper
    assert method.departures
    assert all(text and "\n" not in text for text in method.departures)
    assert method.recipe(4, 6).method == name


def test_methods_are_those_of_the_papers_table() -> None:
    order = ["maxmin", "q-diffusion", "efficientdm", "passionsr", "svdquant", "quantface"]
    assert list(METHODS) == order


def check_merged(done: QuantizedStage, bits: int) -> None:
    layers = quant_layers(done.module)
    assert set(layers) > EDGES
    for name, layer in layers.items():
        weight, expected = layer.weight, 8 if name in EDGES else bits
        assert isinstance(layer.form, StoredWeight)
        assert weight.codes.dtype == torch.int8
        low, high = weight_limits(expected)
        assert low <= int(weight.codes.min()) < int(weight.codes.max()) <= high
        assert torch.isfinite(weight.scale).all()
        assert (weight.scale > 0).all()
        assert isinstance(layer.x_grid, ActivationGrid)
        assert layer.x_grid.bits == expected
        assert (layer.kind == "linear") == (layer.y_grid is None)
        assert layer.edge == (name in EDGES)
    assert not [n for n, p in done.module.named_parameters() if p.requires_grad]
    assert not [m for m in done.module.modules() if isinstance(m, LearnedGrid)]
    # the layers of one site share its codes in the graph, so they need one grid
    for site in done.sites.values():
        grids = {layers[n].x_grid for n in site.layers}
        assert len(grids) == 1, site.name


@pytest.mark.parametrize("name", METHODS)
def test_merged_stage_holds_integers(
    name: str, at4: dict[str, tuple[QuantizedStage, float]]
) -> None:
    check_merged(at4[name][0], 4)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.distilled])
def test_trainable_stage_merges_to_integers(name: str) -> None:
    stage, inputs, target = float_stage()
    recipe = METHODS[name].recipe(4, 4)
    done = quantize_stage("unet", stage, inputs, recipe, seed=1, trained=True)
    parameters = [p for p in done.module.parameters() if p.requires_grad]
    owners = {n.split(".form.")[0] for n, _ in done.module.named_parameters() if ".form." in n}
    assert owners == set(quant_layers(done.module)) - EDGES
    x = torch.cat([args[0] for args in inputs])
    optimizer = torch.optim.Adam(parameters, 3e-3)
    losses = []
    for _ in range(12):
        loss = ((done.module(x) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-4:]) < losses[0]
    with torch.no_grad():
        trained = done.module(x)
    merge(done.module)
    check_merged(done, 4)
    with torch.no_grad():
        assert torch.equal(done.module(x), trained)


@pytest.mark.parametrize("name", METHODS)
def test_more_bits_are_nearer_to_float(
    name: str, at4: dict[str, tuple[QuantizedStage, float]]
) -> None:
    assert quantized(name, 6)[1] < 0.5 * at4[name][1]


def test_balance_and_branch_beat_the_plain_method(
    at4: dict[str, tuple[QuantizedStage, float]],
) -> None:
    for name in ("svdquant", "quantface"):
        assert at4[name][1] < 0.5 * at4["maxmin"][1]


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_stage(name: str) -> None:
    trained = METHODS[name].distilled
    first, second = (quantized(name, 4, trained=trained, drawn=n)[0] for n in (0, 7))
    others = dict(second.module.named_buffers())
    for key, buffer in first.module.named_buffers():
        assert torch.equal(buffer, others[key]), key


def inner(done: QuantizedStage) -> dict[str, QuantLayer]:
    return {n: m for n, m in quant_layers(done.module).items() if n not in EDGES}


def test_svdquant_scales_and_splits_but_does_not_rotate(
    at4: dict[str, tuple[QuantizedStage, float]],
) -> None:
    done, _ = at4["svdquant"]
    assert {plan.balance.block for plan in done.plans.values()} == {1}
    assert all((plan.balance.d > 0).all() for plan in done.plans.values())
    assert {plan.alpha for plan in done.plans.values()} - {None}
    for layer in inner(done).values():
        assert layer.weight.up.shape[1] == 16


def test_quantface_rotates_where_it_pays(at4: dict[str, tuple[QuantizedStage, float]]) -> None:
    done, _ = at4["quantface"]
    assert WIDTH in {done.plans[layer.site].balance.block for layer in inner(done).values()}


@pytest.mark.parametrize("name", ["maxmin", "q-diffusion", "efficientdm"])
def test_no_balance_and_no_branch(name: str, at4: dict[str, tuple[QuantizedStage, float]]) -> None:
    done, _ = at4[name]
    for layer in inner(done).values():
        assert layer.balance is None
        assert layer.weight.down is None
    for plan in done.plans.values():
        assert (plan.balance.d == 1).all()


def test_maxmin_spans_the_full_range(at4: dict[str, tuple[QuantizedStage, float]]) -> None:
    done, _ = at4["maxmin"]
    for layer in inner(done).values():
        peak = layer.weight.codes.flatten(1).abs().amax(1)
        assert (peak == 7).all(), "each channel's largest weight is the largest code"
        x = done.sites[layer.site].samples(layer.name)
        grid = layer.x_grid
        ends = grid.scale * -grid.zero_point, grid.scale * (grid.top - grid.zero_point)
        assert ends[0] - grid.scale <= x.min() <= x.max() <= ends[1] + grid.scale


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("shape", [(6, 5, 3, 3), (7, 12)])
def test_adaround_starts_at_the_float_weight(shape: tuple[int, ...], bits: int) -> None:
    w = torch.randn(*shape, generator=torch.Generator().manual_seed(bits))
    form, (low, high) = AdaRound(w, bits), weight_limits(bits)
    codes, scale = quantize_weight(w, bits)
    per_row = scale.reshape([-1] + [1] * (w.ndim - 1))
    expected = (w / per_row).clamp(low, high)
    # a quotient's logarithm and its sigmoid: a few roundings of numbers up to the largest code
    assert (form().codes - expected).abs().max() <= 8 * EPS * (high + 1)
    form.hard = True
    hard = form().codes.detach()
    assert torch.equal(hard, hard.round())
    # on its start's side of every half it rounds like quantize_weight
    off_tie = (expected - expected.floor() - 0.5).abs() > 1e-4
    assert torch.equal(hard[off_tie], codes.float()[off_tie])


def test_adaround_ends_at_floor_or_ceiling_wherever_it_went() -> None:
    w = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    form, scale = AdaRound(w, 4), quantize_weight(w, 4)[1][:, None]
    with torch.no_grad():
        form.v.add_(3 * torch.randn(6, 40, generator=torch.Generator().manual_seed(1)))
    soft = form().codes
    assert ((soft >= form.floor.clamp(-8, 7)) & (soft <= (form.floor + 1).clamp(-8, 7))).all()
    form.hard = True
    codes, ratio = form().codes, w / scale
    floor, ceiling = (r.clamp(-8, 7) for r in (ratio.floor(), ratio.floor() + 1))
    assert ((codes == floor) | (codes == ceiling)).all()
    assert not torch.equal(codes, ratio.round().clamp(-8, 7)), "the noise moved nothing"


def test_q_diffusion_rounds_some_weights_the_other_way(
    at4: dict[str, tuple[QuantizedStage, float]],
) -> None:
    done, _ = at4["q-diffusion"]
    stage, _, _ = float_stage()
    moved = total = 0
    for name, layer in inner(done).items():
        w = stage.get_submodule(name).weight
        codes, scale = quantize_weight(w, 4)
        ratio = w / scale.reshape([-1] + [1] * (w.ndim - 1))
        distance = layer.weight.codes - ratio.clamp(-8, 7)
        assert distance.abs().max() <= 1
        moved += int((layer.weight.codes != codes).sum())
        total += codes.numel()
    assert 0 < moved < 0.5 * total


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 2, 1)])
def test_split_convolution_equals_the_one_it_replaces(
    kernel: int, stride: int, padding: int, bias: bool
) -> None:
    torch.manual_seed(kernel)
    conv = nn.Conv2d(24, 10, kernel, stride, padding, bias=bias).requires_grad_(False)
    split, x = SplitConv(conv, 16), torch.randn(2, 24, 7, 8)
    assert (split.hidden.in_channels, split.skip.in_channels) == (16, 8)
    assert split.skip.bias is None
    expected = conv(x)
    # two sums of at most 24 * k^2 products in another order
    bound = 24 * kernel**2 * EPS * conv.weight.abs().max() * x.abs().max()
    assert (split(x) - expected).abs().max() <= bound
    half = torch.cat([x[:, :16], torch.zeros_like(x[:, 16:])], 1)
    assert (split.hidden(x[:, :16]) - conv(half)).abs().max() <= bound


def test_split_shortcuts_of_the_unet() -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**NANO.unet).double().eval().requires_grad_(False)
    stage = nn.Module()
    stage.unet = unet
    z, prompt = torch.randn(1, 4, 16, 16).double(), torch.randn(1, 5, NANO.prompt).double()
    before = unet(z, TIMESTEP, prompt, return_dict=False)[0]
    # what is really concatenated: widths of an up-block's input and of the skips it takes
    hidden: dict[str, int] = {}
    shortcuts = [n for n, m in unet.named_modules() if n.endswith("conv_shortcut")]
    plain = {n: unet.get_submodule(n) for n in shortcuts}

    split_shortcuts(stage)
    split = {n: m for n, m in unet.named_modules() if isinstance(m, SplitConv)}
    expected = {f"up_blocks.{i}.resnets.{j}.conv_shortcut" for i in range(3) for j in range(3)}
    assert set(split) == expected
    assert set(shortcuts) - expected, "shortcuts of down-blocks read no concatenation"
    for name in set(shortcuts) - expected:
        assert unet.get_submodule(name) is plain[name]

    for i, block in enumerate(unet.up_blocks):
        width = unet.mid_block.resnets[-1].out_channels if i == 0 else hidden[f"{i - 1}"]
        for j, resnet in enumerate(block.resnets):
            widths = split[f"up_blocks.{i}.resnets.{j}.conv_shortcut"].widths
            assert widths == (width, resnet.in_channels - width)
            width = resnet.out_channels
        hidden[f"{i}"] = width
    skips = [s.widths[1] for n, s in sorted(split.items())]
    assert skips == [80, 80, 80, 80, 80, 40, 40, 40, 40]

    after = unet(z, TIMESTEP, prompt, return_dict=False)[0]
    assert (after - before).abs().max() <= 2**12 * torch.finfo(
        torch.float64
    ).eps * before.abs().max()
    assert before.abs().max() > 0.1


def test_splitting_leaves_other_stages_alone() -> None:
    stage, _, _ = float_stage()
    names = [n for n, _ in stage.named_modules()]
    split_shortcuts(stage)
    assert [n for n, _ in stage.named_modules()] == names


def output_error(layer: QuantLayer, x: Tensor, target: Tensor) -> float:
    weight, grid = layer.weight, layer.x_grid
    y = float(grid.step) * grid.centred(x) @ weight.effective()[0].flatten(1).T
    return float(((y - target) ** 2).sum() / (target**2).sum())


@pytest.mark.parametrize("gain", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("bits", [3, 6])
def test_learned_boundaries_are_no_worse_than_the_start(bits: int, gain: float) -> None:
    torch.manual_seed(2)
    stage = nn.Sequential(nn.Linear(12, 16), nn.Linear(16, 8)).eval().requires_grad_(False)
    stage[0].bias.zero_()
    weights = [layer.weight.clone() for layer in stage]
    inputs = [(gain * torch.randn(1, 40, 12) * torch.linspace(0.1, 3, 12),) for _ in range(4)]
    recipe = METHODS["passionsr"].recipe(bits, bits)
    sites = observe(stage, inputs, seed=0)
    widths = {k: LayerBits(weight=bits, activation=bits, rank=0) for k in sites}
    plans = quantize(
        stage, sites, recipe, bits=widths, seed=0, plan=passionsr.plan, form=passionsr.form
    )
    samples = [sites[k].samples(k).flatten(1) for k in ("0", "1")]
    targets = [x @ w.T for x, w in zip(samples, weights, strict=True)]

    def errors() -> list[float]:
        with torch.no_grad():
            return [
                output_error(layer, plans[k].balance.activation(x, 1), target)
                for (k, layer), x, target in zip(
                    quant_layers(stage).items(), samples, targets, strict=True
                )
            ]

    assert all(isinstance(layer.form, LearnedScale) for layer in quant_layers(stage).values())
    start = errors()
    data = StageData(
        name="test",
        reference=stage,
        inputs=inputs,
        sites=sites,
        plans=plans,
        seed=0,
        progress=SILENT,
    )
    passionsr.refine(stage, data)
    for before, after in zip(start, errors(), strict=True):
        assert after <= before * (1 + 1e-6)
    if gain >= 1:  # a step of Adam is more than a whole small grid; then the start is kept
        assert errors() != start
    assert all(isinstance(m.x_grid, ActivationGrid) for m in quant_layers(stage).values())


def test_learned_scales_are_a_balance_of_scales_only(
    at4: dict[str, tuple[QuantizedStage, float]],
) -> None:
    done, _ = at4["passionsr"]
    for layer in inner(done).values():
        plan: SitePlan = done.plans[layer.site]
        assert plan.balance.block == 1
        assert (plan.balance.d > 0).all()
        assert (plan.balance.d != 1).any()
        assert layer.weight.up is None


def test_efficientdm_rounds_the_update_with_the_weight() -> None:
    torch.manual_seed(0)
    w = torch.randn(8, 12)
    form = METHODS["efficientdm"].form(w, 4, 0)
    plain = form()
    assert torch.equal(plain.codes, quantize_weight(w, 4)[0].float())
    with torch.no_grad():
        form.lora_B.normal_()
    moved = form()
    update = product(form.lora_A, form.lora_B)
    assert update.shape == w.shape
    expected = ((w + update) / form.log_scale.exp()[:, None]).round().clamp(-8, 7)
    assert torch.equal(moved.codes, expected)
    assert not torch.equal(moved.codes, plain.codes)
    assert (moved.down, moved.up) == (None, None)


def test_q_diffusion_needs_no_more_images_than_there_are() -> None:
    stage, inputs, _ = float_stage()
    recipe: Recipe = METHODS["q-diffusion"].recipe(4, 4)
    assert len(inputs[:2]) < q_diffusion.BATCH
    done = quantize_stage("unet", stage, inputs[:2], recipe, seed=1)
    check_merged(done, 4)


def test_sites_are_the_ones_observed(at4: dict[str, tuple[QuantizedStage, float]]) -> None:
    done, _ = at4["quantface"]
    assert all(isinstance(site, Site) for site in done.sites.values())
    assert set(done.sites) == set(done.plans)
