"""Merging a LoRA equals diffusers' own ``load_lora_weights`` and ``fuse_lora``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from quantface_export.osdface.errors import CheckpointError
from quantface_export.osdface.lora import merged, read_lora
from quantface_export.osdface.read import State, read_metadata, read_state

EPS = torch.finfo(torch.float32).eps
LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
OUTPUT = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
POINTWISE = "up_blocks.0.resnets.0.conv_shortcut"
LAYERS = (LINEAR, OUTPUT, CONV, POINTWISE)


@pytest.fixture(scope="module")
def weights() -> State:
    torch.manual_seed(0)
    return {k: v.detach().clone() for k, v in small_unet().state_dict().items()}


def small_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(2, 4),
        cross_attention_dim=12,
        norm_num_groups=4,
        use_linear_projection=True,
    )


def lora(weights: State, style: str, ranks: dict[str, int]) -> State:
    """Pairs for all layers, under the given key style."""
    down, up = style.split("/")
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name in LAYERS:
        out, c_in, *taps = weights[f"{name}.weight"].shape
        r, ones = ranks.get(name, 16), [1 for _ in taps]
        state[f"unet.{name}.{down}.weight"] = torch.randn(r, c_in, *taps, generator=generator)
        state[f"unet.{name}.{up}.weight"] = torch.randn(out, r, *ones, generator=generator)
    return state


def fused_by_diffusers(weights: State, folder: Path) -> State:
    unet = small_unet()
    unet.load_state_dict(weights)
    pipe = StableDiffusionPipeline(
        None, None, None, unet, None, None, None, requires_safety_checker=False
    )
    pipe.load_lora_weights(folder, weight_name="lora.safetensors")
    pipe.fuse_lora(components=["unet"])
    pipe.unload_lora_weights()
    return unet.state_dict()


def merged_by_us(weights: State, path: Path) -> State:
    shapes = {k: v.shape for k, v in weights.items()}
    pairs = read_lora(read_state([path]), read_metadata(path), shapes, path)
    assert set(pairs) == {f"{name}.weight" for name in LAYERS}
    return {k: merged(v, pairs[k]) if k in pairs else v for k, v in weights.items()}


METADATA = {
    "unet.r": 16,
    "unet.lora_alpha": 8,
    "unet.alpha_pattern": {"down_blocks.0.resnets.0.conv1": 24},
    "unet.target_modules": list(LAYERS),
}


@pytest.mark.parametrize(
    ("style", "ranks", "metadata"),
    [
        ("lora_A/lora_B", {}, None),
        ("lora.down/lora.up", {}, None),
        ("lora_A/lora_B", {CONV: 3, LINEAR: 5}, None),
        ("lora_A/lora_B", {}, METADATA),
        ("lora_A/lora_B", {}, METADATA | {"unet.use_rslora": True}),
    ],
    ids=["peft", "diffusers", "ranks differ", "alpha in metadata", "rank-stabilized"],
)
def test_merging_is_diffusers_fusing(
    weights: State, tmp_path: Path, style: str, ranks: dict[str, int], metadata: dict[str, object]
) -> None:
    state = lora(weights, style, ranks)
    text = None if metadata is None else {"lora_adapter_metadata": json.dumps(metadata)}
    save_file(state, tmp_path / "lora.safetensors", text)
    expected = fused_by_diffusers(weights, tmp_path)
    got = merged_by_us(weights, tmp_path / "lora.safetensors")
    assert expected.keys() == got.keys()
    changed = {k for k in got if not torch.equal(got[k], weights[k])}
    assert changed == {f"{name}.weight" for name in LAYERS}
    for key, tensor in got.items():
        # a sum of up to 16 products of normal values, scaled by at most 6, in two orders
        bound = 20 * EPS * (weights[key].abs() + 6 * 16 * 16)
        assert bool(((tensor - expected[key]).abs() <= bound).all())
        assert torch.allclose(tensor, expected[key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".alpha", ".lora.alpha"])
def test_alpha_keys_scale_their_layer(weights: State, tmp_path: Path, suffix: str) -> None:
    state = lora(weights, "lora_A/lora_B", {})
    state[f"unet.{CONV}{suffix}"] = torch.tensor(4.0)
    save_file(state, tmp_path / "l.safetensors")
    got = merged_by_us(weights, tmp_path / "l.safetensors")
    a, b = (state[f"unet.{CONV}.lora_{half}.weight"].flatten(1).double() for half in "AB")
    key = f"{CONV}.weight"
    expected = weights[key].double() + 4 / 16 * (b @ a).reshape(weights[key].shape)
    assert torch.allclose(got[key].double(), expected, rtol=0, atol=16 * 16 * EPS)


def test_merging_leaves_the_weight_and_upcasts(weights: State, tmp_path: Path) -> None:
    save_file(lora(weights, "lora_A/lora_B", {}), tmp_path / "l.safetensors")
    half = {k: v.half() for k, v in weights.items()}
    before = half[f"{LINEAR}.weight"].clone()
    assert merged_by_us(half, tmp_path / "l.safetensors")[f"{LINEAR}.weight"].dtype == torch.float32
    assert torch.equal(half[f"{LINEAR}.weight"], before)


A, B = f"unet.{LINEAR}.lora_A.weight", f"unet.{LINEAR}.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.update({A: torch.ones(8, 16)}),
            r"1 layers or keys differ: .*to_q has rank 8 in A \(8, 16\) and 16 in B \(16, 16\)",
        ),
        (lambda s: s.update({A: torch.ones(16, 9)}), r"to_q is \(16, 9\), .*UNet's is \(16, 16\)"),
        (lambda s: s.pop(B), "to_q has only lora_A of a pair"),
        (
            lambda s: s.update(
                {"unet.nowhere.lora_A.weight": torch.ones(1, 2)}
            ),
            "nowhere is not a layer of the UNet",
        ),
        (
            lambda s: s.update({"text_encoder.x.lora_A.weight": torch.ones(1, 2)}),
            "text_encoder.x is not a layer",
        ),
        (lambda s: s.update({"unet.x.dora_scale": torch.ones(1)}), "unexpected unet.x.dora_scale"),
        (lambda s: s.update({A: torch.ones(())}), r"to_q is A \(\) and B"),
        (
            lambda s: s.update({f"unet.x{i}.lora_A.weight": torch.ones(1, 2) for i in range(15)}),
            "15 layers or keys differ.*; and 5 more",
        ),
        (lambda s: s.clear() or s.update({"x": torch.ones(1)}), r"unexpected x \(1,\)"),
        (lambda s: s.clear(), "missing all, expected keys like"),
    ],
)  # fmt: skip
def test_another_lora_is_refused_in_one_line(
    weights: State, tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    state = lora(weights, "lora_A/lora_B", {})
    change(state)
    save_file(state, tmp_path / "l.safetensors")
    with pytest.raises(CheckpointError, match=message) as caught:
        merged_by_us(weights, tmp_path / "l.safetensors")
    assert "\n" not in str(caught.value)


def test_unreadable_metadata_is_named(weights: State, tmp_path: Path) -> None:
    state = lora(weights, "lora_A/lora_B", {})
    save_file(state, tmp_path / "l.safetensors", {"lora_adapter_metadata": "{"})
    with pytest.raises(CheckpointError, match="unreadable lora_adapter_metadata"):
        merged_by_us(weights, tmp_path / "l.safetensors")
