"""The sweep: replaying a stage is exact, rounding is balanced, and what is known is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from calibration.balance import Balance
from calibration.blocks import blocks
from calibration.observe import Site, observe, quantizable
from calibration.quantize import flat_weight, plan_site
from calibration.quantizer import observe_grid
from calibration.recipe import Recipe
from calibration.sensitivity import Replay, Sweep, SweepCache, needed_bits, rounded, site_grid
from onnx_ops.hadamard import signs

EPS = torch.finfo(torch.float32).eps
RECIPE = Recipe(name="test", weight_bits=4, activation_bits=4, rank=2)


class Residual(nn.Module):
    """Owns a norm: a block."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(nn.functional.silu(self.conv1(nn.functional.silu(self.norm(x)))))
        return self.shortcut(x) + h


class Gated(nn.Module):
    """Linear layers that share one site, and one that reads another input of the stage."""

    def __init__(self, width: int, prompt: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.q, self.k = nn.Linear(width, width), nn.Linear(width, width)
        self.v = nn.Linear(prompt, width)

    def forward(self, x: Tensor, *, prompt: Tensor) -> Tensor:
        rows = self.norm(x.flatten(2).movedim(1, 2))
        gate = (self.q(rows) * self.k(rows)).tanh() * self.v(prompt).mean(1, keepdim=True)
        return x + gate.movedim(1, 2).reshape(x.shape)


class Stage(nn.Module):
    """A small UNet: lone layers, blocks, and a skip around the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4, 8, 3, padding=1)
        self.first = Residual(8, 8)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.other_down = nn.Conv2d(8, 8, 1, stride=2)
        self.middle = Gated(8, 12)
        self.last = Residual(16, 8)
        self.conv_out = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, z: Tensor, prompt: Tensor) -> Tensor:
        x = self.first(self.conv_in(z))
        skip = x
        x = self.down(x) + self.other_down(x)  # both read the same tensor: one site
        x = nn.functional.interpolate(self.middle(x, prompt=prompt), scale_factor=2.0)
        return self.conv_out(self.last(torch.cat([x, skip], 1)))


Prepared = tuple[nn.Module, dict[str, Site], tuple[Tensor, ...]]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    torch.manual_seed(0)
    stage = Stage().eval().requires_grad_(False)
    inputs = [(torch.randn(1, 4, 8, 8), torch.randn(1, 5, 12)) for _ in range(3)]
    joined = tuple(torch.cat(column) for column in zip(*inputs, strict=True))
    return stage, observe(stage, inputs, seed=0), joined


def layers_of(sites: dict[str, Site]) -> list[str]:
    return [name for site in sites.values() for name in site.layers]


def quantizer_of(stage: nn.Module, site: Site, bits: int):
    layers = quantizable(stage)
    weights = {n: flat_weight(layers[n]) for n in site.layers}
    width = RECIPE.bits("test", site.name, edge=False)
    plan = plan_site(site, weights, RECIPE, width, fold=None, seed=3)
    return rounded(plan.balance, site_grid(site, plan, bits, RECIPE.observer))


def run_without_replay(stage: nn.Module, site: Site, quantized, inputs) -> Tensor:
    def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (quantized(args[0], 1 if isinstance(layer, nn.Conv2d) else -1),)

    handles = [stage.get_submodule(n).register_forward_pre_hook(hook) for n in site.layers]
    output = stage(*inputs)
    for handle in handles:
        handle.remove()
    return output


def test_the_stage_has_blocks_lone_layers_and_shared_sites(prepared: Prepared) -> None:
    stage, sites, _ = prepared
    found = blocks(stage, layers_of(sites))
    assert sorted(found) == [
        "conv_in", "conv_out", "down", "first", "last", "middle", "other_down",
    ]  # fmt: skip
    assert sites["down"].layers == ["down", "other_down"]
    assert sites["middle.q"].layers == ["middle.q", "middle.k"]


def test_blocks_are_the_innermost_owners_of_norms() -> None:
    outer = nn.Module()
    outer.norm, outer.inner, outer.lone = nn.GroupNorm(1, 8), Residual(8, 8), nn.Conv2d(8, 8, 1)
    stage = nn.Module()
    stage.outer = outer
    names = ["outer.inner.conv1", "outer.inner.conv2", "outer.lone"]
    assert blocks(stage, names) == ["outer.inner", "outer.lone"]


def test_replay_equals_a_whole_run_for_every_site(prepared: Prepared) -> None:
    stage, sites, inputs = prepared
    plain = stage(*inputs)
    quantizers = {key: quantizer_of(stage, site, 3) for key, site in sites.items()}
    expected = {
        key: run_without_replay(stage, site, quantizers[key], inputs) for key, site in sites.items()
    }
    replay = Replay(stage, layers_of(sites), inputs)

    def run(key: str) -> Tensor:
        return replay.run(sites[key], quantizers[key])

    with replay.recorded() as recorded:
        assert torch.equal(recorded, plain)
        order = [*sites, *reversed(sites)]
        for key, found in zip(order, map(run, order), strict=True):
            assert torch.equal(found, expected[key]), key
            assert not torch.equal(found, plain), key
        with ThreadPoolExecutor(2) as pool:
            for key, found in zip(order * 3, pool.map(run, order * 3), strict=True):
                assert torch.equal(found, expected[key]), key
    assert torch.equal(stage(*inputs), plain)


def test_blocks_before_the_change_are_not_run_again(prepared: Prepared) -> None:
    stage, sites, inputs = prepared
    runs: list[str] = []
    watched = ("conv_in", "first.conv1", "down", "other_down", "middle.v", "last.conv1", "conv_out")
    handles = [
        stage.get_submodule(n).register_forward_hook(lambda *_, n=n: runs.append(n))
        for n in watched
    ]

    def same(x: Tensor, _: int) -> Tensor:
        return x

    def executed(key: str) -> list[str]:
        runs.clear()
        replay.run(sites[key], same)
        return runs

    replay = Replay(stage, layers_of(sites), inputs)
    with replay.recorded():
        # a lone layer's hooks see its replayed output too; what is inside of blocks does not run
        inner = {"first.conv1", "middle.v", "last.conv1"}
        assert inner & set(executed("conv_in")) == inner
        assert inner & set(executed("first.conv1")) == inner
        assert inner & set(executed("down")) == {"middle.v", "last.conv1"}
        assert inner & set(executed("middle.q")) == {"middle.v", "last.conv1"}
        assert inner & set(executed("last.conv1")) == {"last.conv1"}
        assert inner & set(executed("conv_out")) == set()
    for handle in handles:
        handle.remove()


def test_a_stage_is_as_it_was_even_after_an_error(prepared: Prepared) -> None:
    stage, sites, inputs = prepared
    plain = stage(*inputs)

    def fails(_: Tensor, __: int) -> Tensor:
        raise RuntimeError("broken")

    replay = Replay(stage, layers_of(sites), inputs)
    with pytest.raises(RuntimeError, match="broken"), replay.recorded():
        replay.run(sites["middle.q"], fails)
    assert torch.equal(stage(*inputs), plain)
    assert not any("forward" in vars(module) for module in stage.modules())
    assert not any(module._forward_pre_hooks for module in stage.modules())


def some_balance(channels: int, block: int) -> Balance:
    generator = torch.Generator().manual_seed(channels + block)
    s = torch.rand(channels, generator=generator) + 0.2
    sign = torch.from_numpy(signs(channels, 3)) if block > 1 else torch.ones(channels)
    return Balance(d=sign / s, block=block)


@pytest.mark.parametrize("shape", ["image", "rows"])
@pytest.mark.parametrize(
    ("channels", "block"), [(8, 1), (64, 64), (40, 40), (40, 20), (96, 96), (320, 320), (640, 640)]
)
def test_undone_is_the_inverse_of_the_balance(channels: int, block: int, shape: str) -> None:
    balance, generator = some_balance(channels, block), torch.Generator().manual_seed(1)
    size, dim = ((2, channels, 3, 4), 1) if shape == "image" else ((2, 7, channels), -1)
    x = torch.randn(*size, generator=generator)
    back = balance.undone(balance.activation(x, dim), dim)
    assert back.shape == x.shape
    # two rotations, each a sum over the block; scales are undone with the ratio of the largest
    spread = float(balance.d.abs().max() / balance.d.abs().min())
    assert (back - x).abs().max() <= 2 * block**0.5 * EPS * spread * 4 * x.abs().max()


@pytest.mark.parametrize(("channels", "block"), [(8, 1), (40, 40), (96, 96), (320, 320)])
@pytest.mark.parametrize("dim", [1, -1])
def test_rounding_at_8_bits_is_nearly_the_identity(channels: int, block: int, dim: int) -> None:
    balance, generator = some_balance(channels, block), torch.Generator().manual_seed(2)
    size = (2, channels, 3, 4) if dim == 1 else (2, 7, channels)
    x = torch.randn(*size, generator=generator)
    seen = balance.activation(x, dim)
    errors = {}
    for bits in (8, 4):
        grid = observe_grid(seen, bits, "minmax")
        error = rounded(balance, grid)(x, dim) - x
        # half a step per balanced channel (one at the ends, where zero was moved to a code),
        # rotated back and divided by d
        bound = grid.scale * block**0.5 / float(balance.d.abs().min())
        assert error.abs().max() <= bound * (1 + 1e-3)
        errors[bits] = float((error**2).mean())
    assert 0 < errors[8] < errors[4] / 100  # 17^2 finer, less the ends
    assert errors[8] < 1e-3


def test_the_grid_of_a_site_has_the_width_asked_for(prepared: Prepared) -> None:
    stage, sites, _ = prepared
    site = sites["middle.q"]
    weights = {n: flat_weight(quantizable(stage)[n]) for n in site.layers}
    width = RECIPE.bits("test", site.name, edge=False)
    plan = plan_site(site, weights, RECIPE, width, fold=None, seed=3)
    for bits in (2, 5, 8):
        assert site_grid(site, plan, bits, "mse").bits == bits
    assert site_grid(site, plan, 4, "mse") == plan.grid


class Computed:
    """Distances from a table, and which of them were asked for."""

    def __init__(self, table: dict[int, float]) -> None:
        self.table, self.asked = table, []

    def __call__(self, bits: int) -> float:
        self.asked.append(bits)
        return self.table[bits]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({2: 1.0}, 2),
        ({2: 3.0, 3: 1.5, 4: 1.09, 5: 1.0}, 4),
        ({2: 0.5, 3: 0.92}, 3),  # nearer to the clean images than the float model counts as well
        ({2: 9.0, 3: 1.0, 4: 9.0}, 3),
        ({2: 9.0, 3: float("nan"), 4: 1.0}, 4),
        (dict.fromkeys(range(2, 8), 2.0), 8),
    ],
)
def test_needed_bits_is_the_first_width_within_epsilon(
    table: dict[int, float], expected: int
) -> None:
    computed = Computed(table)
    sweep = Sweep(epsilon=0.1, b_max=8)
    assert needed_bits("unet/a", computed, 1.0, sweep, SweepCache(None)) == expected
    assert computed.asked == list(range(2, min(expected, 7) + 1))


def test_epsilon_is_a_share_of_the_reference_and_b_max_ends_the_sweep() -> None:
    table = {2: 120.0, 3: 109.0}
    assert needed_bits("a", Computed(table), 100.0, Sweep(epsilon=0.1), SweepCache(None)) == 3
    computed = Computed(dict.fromkeys(range(2, 8), 120.0))
    assert needed_bits("a", computed, 100.0, Sweep(epsilon=0.1, b_max=5), SweepCache(None)) == 5
    assert computed.asked == [2, 3, 4]


def test_a_second_sweep_computes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "sweep.jsonl"
    table, sweep = {2: 3.0, 3: 1.5, 4: 1.0}, Sweep(epsilon=0.1)
    first = Computed(table)
    assert needed_bits("unet/a", first, 1.0, sweep, SweepCache(file)) == 4
    assert first.asked == [2, 3, 4]
    second = Computed({})
    assert needed_bits("unet/a", second, 1.0, sweep, SweepCache(file)) == 4
    assert second.asked == []
    other = Computed(table)
    needed_bits("unet/b", other, 1.0, sweep, SweepCache(file))
    assert other.asked == [2, 3, 4]


@pytest.mark.parametrize("left", [1, 7, -2, -1])
def test_a_killed_sweep_goes_on(tmp_path: Path, left: int) -> None:
    """The last line is cut to ``left`` characters; -1 cuts the line's end alone."""
    file, table, sweep = tmp_path / "sweep.jsonl", {2: 3.0, 3: 1.5, 4: 1.0}, Sweep(epsilon=0.1)
    needed_bits("a", Computed(table), 1.0, sweep, SweepCache(file))
    *lines, last = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, last[:left]]))
    resumed = Computed(table)
    assert needed_bits("a", resumed, 1.0, sweep, SweepCache(file)) == 4
    assert resumed.asked in ([4], [])
    needed_bits("b", Computed(table), 1.0, sweep, SweepCache(file))
    # nothing of what came after the half-written line is lost either
    for name in "ab":
        again = Computed({})
        assert needed_bits(name, again, 1.0, sweep, SweepCache(file)) == 4
        assert again.asked == []


def test_distances_are_kept_exactly(tmp_path: Path) -> None:
    file, value = tmp_path / "sweep.jsonl", 0.1 + 0.2
    SweepCache(file).distance("a@2", lambda: value)
    assert SweepCache(file).distance("a@2", lambda: 0.0) == value
