"""The models: sizes of the published one, and exact folds."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import DDPMScheduler

from quantface_export.osdface.config import (
    BETA_END,
    BETA_START,
    NANO,
    OSDFACE,
    PROMPT_TOKENS,
    TRAIN_STEPS,
)
from quantface_export.osdface.model import Osdface, alpha_bar
from quantface_export.osdface.plan import EDGES, FLOAT_LAYERS
from quantface_export.osdface.prepare import prepare
from quantface_export.osdface.vre import Codebook


def test_osdface_has_978_million_parameters() -> None:
    with torch.device("meta"):
        model = Osdface(OSDFACE)
    counts = {n: sum(p.numel() for p in s.parameters()) for n, s in model.stages().items()}
    assert counts["unet"] == 865_910_724
    assert counts["vae_encoder"] + counts["vae_decoder"] == 83_653_863
    assert sum(p.numel() for p in model.vre.vre.parameters()) == 29_169_344
    assert sum(counts.values()) == pytest.approx(978e6, rel=0.005)


def test_alpha_bar_is_the_scheduler_s() -> None:
    scheduler = DDPMScheduler(TRAIN_STEPS, BETA_START, BETA_END, beta_schedule="scaled_linear")
    assert alpha_bar(399) == pytest.approx(float(scheduler.alphas_cumprod[399]), rel=1e-5)


def test_folding_time_and_quant_conv_is_exact() -> None:
    torch.manual_seed(0)
    model = Osdface(NANO).double().eval().requires_grad_(False)
    folded = copy.deepcopy(model)
    prepare(folded)
    image = torch.rand(1, 3, 128, 128, dtype=torch.float64) * 2 - 1
    assert (model(image) - folded(image)).abs().max() < 1e-9
    assert not any("time" in name for name, _ in folded.unet.named_parameters())


def test_the_plan_names_layers_that_exist() -> None:
    for config in (NANO, OSDFACE):
        with torch.device("meta"):
            stages = Osdface(config).stages()
        for plan in (EDGES, FLOAT_LAYERS):
            for stage, paths in plan.items():
                for path in paths:
                    stages[stage].get_submodule(path)


@pytest.mark.parametrize("seed", range(3))
def test_prompt_is_the_loop_in_tensor_ops(seed: int) -> None:
    torch.manual_seed(seed)
    codebook = Codebook(NANO.vre).double()
    z = torch.randn(2, 256, NANO.vre.latent, dtype=torch.float64) + seed
    expected = torch.zeros(2, PROMPT_TOKENS, NANO.vre.latent, dtype=torch.float64)
    for n in range(2):
        distance = torch.cdist(z[n], codebook.embedding.weight)
        best, index = distance.min(1)
        taken: list[int] = []
        for position in best.argsort().tolist():
            code = int(index[position])
            if code not in taken and len(taken) < PROMPT_TOKENS:
                taken.append(code)
        expected[n, : len(taken)] = codebook.embedding.weight[taken]
    assert torch.equal(codebook.prompt(z), expected)


def test_prompt_with_few_codes_leaves_zero_rows() -> None:
    codebook = Codebook(NANO.vre)
    z = codebook.embedding.weight[[5, 9]].repeat(128, 1)[None]
    prompt = codebook.prompt(z)[0]
    assert {tuple(row) for row in prompt[:2].tolist()} == {
        tuple(codebook.embedding.weight[i].tolist()) for i in (5, 9)
    }
    assert prompt[2:].abs().max() == 0
