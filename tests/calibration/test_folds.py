"""Folding a balance into its producer leaves the block's output as it was."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from calibration.balance import Balance
from calibration.folds import Fold, find_folds
from calibration.observe import observe, quantizable
from onnx_ops.hadamard import signs


def transformer() -> tuple[nn.Module, tuple[Tensor, ...]]:
    block = BasicTransformerBlock(40, 2, 20, cross_attention_dim=24, activation_fn="geglu")
    return block, (torch.randn(1, 12, 40), None, torch.randn(1, 7, 24))


def vae_attention() -> tuple[nn.Module, tuple[Tensor, ...]]:
    attention = Attention(
        24, heads=1, dim_head=24, norm_num_groups=4, bias=True, residual_connection=True
    )
    return attention, (torch.randn(1, 24, 5, 5),)


@pytest.mark.parametrize("make", [transformer, vae_attention])
def test_every_fold_is_exact(make) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    model, args = make()
    model = model.double().eval().requires_grad_(False)
    args = tuple(a if a is None else a.double() for a in args)
    before = model(*args)
    sites = observe(model, [args], seed=0)
    layers, folds = quantizable(model), find_folds(model)
    assert set(folds) <= set(sites), "a fold must serve the first layer of a site"
    for name, fold in folds.items():
        channels = len(sites[name].peak)
        sign = torch.from_numpy(signs(channels, 1)) if fold.block > 1 else torch.ones(channels)
        balance = Balance(d=sign / (torch.rand(channels) + 0.3), block=fold.block)
        fold.apply(model, balance)
        for n in sites[name].layers:
            layers[n].weight.data = balance.weight(layers[n].weight.data)
    bound = 256 * torch.finfo(torch.float32).eps * before.abs().max()
    assert (model(*args) - before).abs().max() <= bound
    assert folds


def test_a_wrong_fold_is_not_exact() -> None:
    torch.manual_seed(0)
    model, args = transformer()
    model.eval().requires_grad_(False)
    before = model(*args)
    balance = Balance(d=torch.rand(40) + 0.3, block=1)
    Fold(kind="norm", producer="norm1").apply(model, balance)
    assert (model(*args) - before).abs().max() > 1e-2
