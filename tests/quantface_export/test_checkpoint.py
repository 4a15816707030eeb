"""OSDFace's published formats arrive whole, and whatever differs is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from quantface_export.osdface.checkpoint import Checkpoint, load_osdface
from quantface_export.osdface.config import ModelConfig
from quantface_export.osdface.errors import CheckpointError
from quantface_export.osdface.keys import VRE_PREFIX
from quantface_export.osdface.locate import (
    INDEX,
    LORA,
    PROMPT,
    SD_FOLDER,
    STEM,
    VRE,
    WEIGHTS,
    find_weights,
)
from quantface_export.resources import ResourceError
from quantface_export.stages import STAGES

Opener = Callable[[Path], Checkpoint]
UNET, VAE = f"{SD_FOLDER}/unet", f"{SD_FOLDER}/vae"
CROSS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture
def opened(tiny: ModelConfig) -> Opener:
    return lambda folder: Checkpoint(tiny, find_weights(folder))


def edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a file and write it again."""
    if path.suffix == ".safetensors":
        state = {k: v.clone() for k, v in load_file(path).items()}
        change(state)
        save_file(state, path)
        return
    loaded = torch.load(path, weights_only=True)
    change(loaded.get("state_dict", loaded))
    torch.save(loaded, path)


def test_vae_and_untouched_unet_weights_are_those_that_diffusers_reads(
    published: Path, tiny: ModelConfig
) -> None:
    vae = AutoencoderKL.from_pretrained(published / VAE)
    unet = UNet2DConditionModel.from_pretrained(published / UNET)
    model = load_osdface(tiny, find_weights(published))
    assert torch.equal(
        model.vae_encoder.encoder.state_dict()["mid_block.attentions.0.to_q.weight"],
        vae.state_dict()["encoder.mid_block.attentions.0.to_q.weight"],
    )
    for ours, theirs in (
        (model.vae_encoder.encoder, vae.encoder),
        (model.vae_decoder.decoder, vae.decoder),
        (model.vae_decoder.post_quant_conv, vae.post_quant_conv),
        (model.unet.unet.time_embedding, unet.time_embedding),
    ):
        state = theirs.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in ours.state_dict().items())


def test_embedder_and_projection_arrive(opened: Opener, published: Path) -> None:
    stage = opened(published).stage("vre").state_dict()
    stored = torch.load(published / VRE, weights_only=True)["state_dict"]
    prompt = torch.load(published / PROMPT, weights_only=True)
    attention = "encoder.mid.attn_1"
    assert torch.equal(
        stage[f"vre.{attention}.norm.weight"], stored[f"{VRE_PREFIX}{attention}.norm1.weight"]
    )
    assert torch.equal(
        stage["vre.quantize.embedding.weight"], stored[f"{VRE_PREFIX}quantize.embedding.weight"]
    )
    assert prompt["conv1.weight"].ndim == 3
    assert torch.equal(stage["embedding_change.conv1.weight"], prompt["conv1.weight"][..., 0])


def test_stages_one_at_a_time_are_the_whole_model(opened: Opener, published: Path) -> None:
    checkpoint = opened(published)
    whole = checkpoint.model().stages()
    for name in STAGES:
        stage = checkpoint.stage(name)
        assert not stage.training
        state = stage.state_dict()
        assert all(not p.requires_grad and p.dtype == torch.float32 for p in stage.parameters())
        assert state.keys() == whole[name].state_dict().keys()
        assert all(torch.equal(v, state[k]) for k, v in whole[name].state_dict().items())


def test_a_loaded_stage_may_be_changed_and_its_file_stays(opened: Opener, files: Path) -> None:
    before = (files / VAE / WEIGHTS).read_bytes()
    stage = opened(files).stage("vae_encoder")
    for parameter in stage.parameters():
        parameter.data += 1
    assert (files / VAE / WEIGHTS).read_bytes() == before


def half(path: Path) -> None:
    state = {k: v.half() for k, v in load_file(path).items()}
    save_file(state, path.with_name(f"{STEM}.fp16.safetensors"))
    path.unlink()


def as_pickle(path: Path) -> None:
    torch.save(load_file(path), path.with_name(f"{STEM}.bin"))
    path.unlink()


def sharded(path: Path) -> None:
    """As diffusers writes shards."""
    UNet2DConditionModel.from_pretrained(path.parent).save_pretrained(
        path.parent, max_shard_size="100KB"
    )
    path.unlink()
    assert (path.parent / INDEX).is_file()


@pytest.mark.parametrize(
    ("change", "tolerance"), [(half, 2**-11), (as_pickle, 0.0), (sharded, 0.0)]
)
def test_other_ways_to_store_the_unet(
    opened: Opener, files: Path, published: Path, change: Callable[[Path], None], tolerance: float
) -> None:
    change(files / UNET / WEIGHTS)
    expected = opened(published).stage("unet").state_dict()
    for key, tensor in opened(files).stage("unet").state_dict().items():
        assert tensor.dtype == torch.float32
        # half precision rounds to 2^-11 of a weight, subnormals to 2^-25; float32 merges the LoRA
        bound = tolerance * (expected[key].abs() + 0.2) + (2**-25 if tolerance else 0)
        assert bool(((tensor - expected[key]).abs() <= bound).all())


def test_a_missing_shard_is_named(opened: Opener, files: Path) -> None:
    sharded(files / UNET / WEIGHTS)
    (second,) = (files / UNET).glob(f"{STEM}-00002-of-*.safetensors")
    second.unlink()
    with pytest.raises(CheckpointError, match=rf"1 of the \d+ shards .*{second.name}"):
        opened(files)


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 1}'])
def test_a_broken_index_is_named(opened: Opener, files: Path, text: str) -> None:
    (files / UNET / WEIGHTS).unlink()
    (files / UNET / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match=rf"{INDEX} can't be read"):
        opened(files)


@pytest.mark.parametrize("name", [f"{UNET}/{WEIGHTS}", f"{VAE}/{WEIGHTS}", LORA, PROMPT, VRE])
def test_a_truncated_file_is_named(opened: Opener, files: Path, name: str) -> None:
    data = (files / name).read_bytes()
    for kept in (len(data) // 2, 0):
        (files / name).write_bytes(data[:kept])
        with pytest.raises(CheckpointError, match=Path(name).name) as caught:
            opened(files)
        assert "\n" not in str(caught.value)


def twelve_missing(state: dict[str, torch.Tensor]) -> None:
    for key in sorted(state)[:12]:
        del state[key]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            f"{UNET}/{WEIGHTS}",
            lambda s: s.update({"conv_in.weight": torch.ones(8, 4, 1, 1)}),
            r"1 keys differ \(0 missing, 0 unexpected, 1 .*: conv_in.weight is "
            r"\(8, 4, 1, 1\), expected \(8, 4, 3, 3\)",
        ),
        (
            f"{UNET}/{WEIGHTS}",
            lambda s: s.update({"conv_in.bias": torch.ones(8, dtype=torch.int8)}),
            r"conv_in.bias is torch.int8, expected floating point",
        ),
        (
            f"{VAE}/{WEIGHTS}",
            twelve_missing,
            r"12 keys differ \(12 missing, 0 unexpected, 0 .*missing decoder.*; and 2 more",
        ),
        (
            PROMPT,
            lambda s: s.update({"conv3.bias": torch.ones(7)}),
            r"1 keys differ \(0 missing, 1 unexpected.*unexpected conv3.bias \(7,\)",
        ),
        (
            VRE,
            lambda s: s.pop(f"{VRE_PREFIX}quant_conv.bias"),
            r"1 keys differ \(1 missing.*missing quant_conv.bias \(16,\)",
        ),
    ],
)
def test_differing_keys_are_listed(
    opened: Opener,
    files: Path,
    name: str,
    change: Callable[[dict[str, torch.Tensor]], object],
    message: str,
) -> None:
    edit(files / name, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        opened(files)
    assert str(caught.value).count("missing ") <= 12
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "shape", "guess"),
    [
        (CROSS, (8, 768), r"looks like Stable Diffusion 1.x \(cross-attention of width 768\)"),
        (CROSS, (8, 2048), "looks like SDXL"),
        (CROSS, (8, 1280), "looks like the SDXL refiner"),
        ("conv_in.weight", (8, 9, 3, 3), r"an inpainting model \(reads 9 channels\)"),
        ("joint_blocks.0.attn.weight", (3, 3), "diffusion transformer"),
    ],
)
def test_other_models_are_recognized(
    opened: Opener, files: Path, key: str, shape: tuple[int, ...], guess: str
) -> None:
    edit(files / UNET / WEIGHTS, lambda s: s.update({key: torch.ones(shape)}))
    with pytest.raises(CheckpointError, match=guess):
        opened(files)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("scheduler/scheduler_config.json", "prediction_type", "v_prediction", "768-v"),
        ("vae/config.json", "scaling_factor", 0.13025, "another model's VAE"),
    ],
)
def test_models_of_the_same_shapes_are_told_apart(
    opened: Opener, files: Path, name: str, key: str, value: object, message: str
) -> None:
    path = files / SD_FOLDER / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(CheckpointError, match=message):
        opened(files)


class Payload:
    """What a hostile pickle holds."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("run",))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", [VRE, PROMPT])
def test_a_pickle_with_code_is_not_run(
    opened: Opener, files: Path, capsys: pytest.CaptureFixture[str], name: str, zipped: bool
) -> None:
    torch.save({"state_dict": Payload()}, files / name, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"[(]print[)].*for safety.*weights_only=False"):
        opened(files)
    assert "run" not in capsys.readouterr().out


def test_the_way_out_of_a_refused_pickle_works(opened: Opener, files: Path) -> None:
    loaded = torch.load(files / VRE, weights_only=True)
    torch.save(loaded | {"callbacks": Path("x")}, files / VRE)
    with pytest.raises(CheckpointError) as caught:
        opened(files)
    code = str(caught.value).split('python -c "')[1].rstrip('"')
    exec(code, {})  # the command that the message tells a user to run
    opened(files)


def test_a_pickle_of_something_else_is_refused(opened: Opener, files: Path) -> None:
    torch.save([torch.ones(1)], files / VRE)
    with pytest.raises(CheckpointError, match="holds a list, expected a dict of tensors"):
        opened(files)


def test_too_little_memory_is_said_with_the_bytes(
    opened: Opener, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = opened(published)
    free = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(ResourceError, match=r"loading unet needs \d+,\d+ bytes .*1,000 are"):
        checkpoint.stage("unet")
    with pytest.raises(ResourceError, match="loading tiny needs "):
        checkpoint.model()
