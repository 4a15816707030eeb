"""The checkpoint's files are found where users have them, or what was looked for is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantface_export.osdface.errors import CheckpointError
from quantface_export.osdface.locate import (
    LORA,
    OSDFACE_FILES,
    PART_NAMES,
    PROMPT,
    VRE,
    find_weights,
    part_files,
)

HUB = "models--stabilityai--stable-diffusion-2-1-base/snapshots/5ede9e4"


def diffusers(folder: Path) -> Path:
    for part in ("unet", "vae"):
        (folder / part).mkdir(parents=True)
    return folder


def own(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in OSDFACE_FILES:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("sd", [".", "stable-diffusion-2-1-base", "any name", HUB])
@pytest.mark.parametrize("osdface", [".", "pretrained", "osdface"])
def test_everything_below_weights(tmp_path: Path, sd: str, osdface: str) -> None:
    diffusers(tmp_path / sd)
    own(tmp_path / osdface)
    found = find_weights(tmp_path)
    assert found.diffusion == tmp_path / sd
    assert (found.lora, found.prompt, found.vre) == tuple(
        tmp_path / osdface / name for name in OSDFACE_FILES
    )


def test_sd_and_osdface_override_weights(tmp_path: Path) -> None:
    own(diffusers(tmp_path / "w"))
    sd, osdface = diffusers(tmp_path / "sd"), own(tmp_path / "o")
    found = find_weights(tmp_path / "w", sd, osdface)
    assert (found.diffusion, found.osdface) == (sd, osdface)
    assert find_weights(None, sd, osdface) == found
    assert find_weights(tmp_path / "w", None, osdface).diffusion == tmp_path / "w"


@pytest.mark.parametrize("name", ["v2-1_512-ema-pruned.safetensors", "v2-1_512-nonema-pruned.ckpt"])
def test_single_files(tmp_path: Path, name: str) -> None:
    own(tmp_path)
    (tmp_path / name).touch()
    (tmp_path / "other.ckpt").touch()
    assert find_weights(tmp_path).diffusion == tmp_path / name
    assert find_weights(tmp_path, tmp_path / "other.ckpt").diffusion.name == "other.ckpt"


def test_without_any_option_fixtures_and_files_are_named() -> None:
    with pytest.raises(CheckpointError) as caught:
        find_weights(None)
    for word in ("--weights DIR", "--sd and --osdface", *OSDFACE_FILES, "fixtures osdface DIR"):
        assert word in str(caught.value)
    with pytest.raises(CheckpointError, match=r"or --osdface\)"):
        find_weights(None, Path("sd"))


def test_what_was_looked_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        find_weights(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=rf"in {tmp_path}: looked for unet/ and vae/.*--sd"):
        find_weights(tmp_path)
    diffusers(tmp_path)
    with pytest.raises(CheckpointError, match=rf"{LORA}, {PROMPT}, {VRE} does not exist.*pretrain"):
        find_weights(tmp_path)
    own(tmp_path / "pretrained")
    (tmp_path / "pretrained" / VRE).unlink()
    with pytest.raises(CheckpointError, match=rf"^{VRE} does not exist in {tmp_path}/pretrained"):
        find_weights(tmp_path)


def test_two_diffusers_folders_are_ambiguous(tmp_path: Path) -> None:
    own(tmp_path)
    diffusers(tmp_path / "a")
    diffusers(tmp_path / "b")
    with pytest.raises(CheckpointError, match=r"several diffusers folders \(a, b\).*--sd"):
        find_weights(tmp_path)


def test_full_precision_comes_first(tmp_path: Path) -> None:
    names = [name for name in PART_NAMES if not name.endswith(".json")]
    for name in names:
        (tmp_path / name).touch()
    for name in names:
        assert part_files(tmp_path) == [tmp_path / name]
        (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match="holds no weights; looked for diffusion_pytorch_mod"):
        part_files(tmp_path)
