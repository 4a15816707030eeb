"""The LoRA half of QD-LoRA goes through PEFT's files and fits the float model."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from calibration.adapter import WrongAdapterError, load_adapter, save_adapter, trained
from calibration.methods.quantface import form
from calibration.observe import observe
from calibration.quantize import SitePlan, quantize
from calibration.recipe import Recipe


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(24, 40, 3, padding=1)
        self.linear = nn.Linear(40, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(nn.functional.silu(self.conv(x)).flatten(2).transpose(1, 2))


def quantized() -> tuple[Net, Net, dict[str, SitePlan], Tensor]:
    torch.manual_seed(4)
    model = Net().eval().requires_grad_(False)
    plain, x = (
        copy.deepcopy(model),
        torch.randn(1, 24, 8, 8) * torch.linspace(0.1, 3, 24)[:, None, None],
    )
    sites = observe(model, [(x,)], seed=0)
    recipe = Recipe(name="test", weight_bits=4, activation_bits=4)
    bits = {key: recipe.bits("stage", key, edge=False) for key in sites}
    plans = quantize(model, sites, recipe, bits=bits, seed=1, form=form)
    for _, qd in trained(model).values():
        nn.init.normal_(qd.lora_B.data, std=0.1)
    return plain, model, plans, x


def test_peft_adds_what_the_branch_adds(tmp_path: Path) -> None:
    plain, model, plans, x = quantized()
    save_adapter(model, plans, tmp_path)
    adapted = PeftModel.from_pretrained(copy.deepcopy(plain), str(tmp_path)).eval()
    with torch.no_grad():
        seen = adapted.base_model.model.conv(x) - plain.conv(x)
        layer, qd = trained(model)["conv"]
        low = nn.functional.conv2d(layer.balanced(x), qd.lora_A, padding=1)
        added = nn.functional.conv2d(low, qd.lora_B[:, :, None, None])
    assert added.abs().max() > 0.1
    # float32: the balance is undone in the file and done again on the activation
    assert (seen - added).abs().max() <= 1e-4 * added.abs().max()


def test_adapter_round_trip(tmp_path: Path) -> None:
    _, model, plans, x = quantized()
    save_adapter(model, plans, tmp_path)
    before = model(x)
    for _, qd in trained(model).values():
        qd.lora_A.data.zero_()
        qd.lora_B.data.zero_()
    assert not torch.equal(model(x), before)
    load_adapter(model, plans, tmp_path)
    assert (model(x) - before).abs().max() <= 2e-3 * before.abs().max()  # float16 branch


def test_adapter_of_another_model(tmp_path: Path) -> None:
    _, model, plans, _ = quantized()
    save_adapter(model, plans, tmp_path)
    _, other, other_plans, _ = quantized()
    other.linear.form = nn.Identity()
    with pytest.raises(WrongAdapterError, match=r"2 keys do not fit, first .*linear.lora_A"):
        load_adapter(other, other_plans, tmp_path)
