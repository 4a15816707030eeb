"""A random checkpoint of the published format at a tiny size, written once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import pytest
from torch import Tensor, nn

from calibration.layers import quant_layers
from calibration.observe import observe
from calibration.quantize import observe_outputs, quantize
from calibration.recipe import Recipe
from quantface_export.lower.expand import expand
from quantface_export.lower.export import export_markers
from quantface_export.osdface.config import NANO, ModelConfig, VreConfig
from quantface_export.osdface.fixtures import FixtureSettings, write_fixtures
from quantface_export.settings import Profile

TINY = replace(
    NANO,
    name="tiny",
    size=64,
    prompt=16,
    vre=VreConfig(channels=8, multipliers=(1, 2, 2), res_blocks=1, latent=16, codes=64, groups=4),
    unet=NANO.unet
    | {
        "sample_size": 16,
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": (2, 4),
        "cross_attention_dim": 16,
        "norm_num_groups": 4,
    },
    vae=NANO.vae | {"block_out_channels": (8, 12, 16), "norm_num_groups": 4, "sample_size": 64},
)
"""All blocks of the published model, as few and narrow as they can be."""


Lower = Callable[..., ir.Model]


@pytest.fixture(scope="session")
def lower() -> Lower:
    """Quantizes a stage on one input and writes its graph as ``model.onnx`` into a folder."""

    def lowered(
        stage: nn.Module, x: Tensor, recipe: Recipe, folder: Path, profile: Profile = "cpu"
    ) -> ir.Model:
        sites = observe(stage, [(x,)], seed=0)
        bits = {key: recipe.bits("test", key, False) for key in sites}
        quantize(stage, sites, recipe, bits=bits, seed=0)
        observe_outputs(stage, [(x,)])
        graph = export_markers(stage, (x,), ["x"], "y")
        expand(graph, quant_layers(stage), profile)
        ir.save(graph, folder / "model.onnx", external_data="model.onnx.data")
        return graph

    return lowered


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    """Sizes of the checkpoint in ``published``."""
    return TINY


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("published") / "weights"
    write_fixtures(TINY, folder, FixtureSettings(seed=3))
    return folder


@pytest.fixture
def files(published: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(published, tmp_path / "weights"))
