"""Both profiles compute what PyTorch does, each with its own ops."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from calibration.attention import quantize_attention
from calibration.recipe import RECIPES
from onnx_ops.attention import PLAIN as ATTENTION
from onnx_ops.attention import QUANTIZED as QUANTIZED_ATTENTION
from onnx_ops.function_body import DOMAIN
from onnx_ops.group_norm import PLAIN as GROUP_NORM
from onnx_ops.group_norm import SILU as GROUP_NORM_SILU
from onnx_ops.library import library_path
from quantface_export.lower.export import export_markers
from quantface_export.lower.float_ops import float_ops
from quantface_export.nano.weights import load_nano
from quantface_export.quantized import quantize_stage
from quantface_export.session import Variant, open_session, run
from quantface_export.settings import Profile

ATTENTIONS = 1
NORMS = 18


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("profile", ["cpu", "portable"])
def test_a_decoder_in_both_profiles(tmp_path: Path, profile: Profile, quantized: bool) -> None:
    torch.manual_seed(0)
    stage, x = load_nano().stages()["vae_decoder"], torch.randn(1, 4, 16, 24)
    if quantized:
        quantize_attention(stage)
    op, other = (ATTENTION, QUANTIZED_ATTENTION)[:: -1 if quantized else 1]
    graph = export_markers(stage, (x,), ["x"], "y", profile)
    ops = Counter((node.domain, node.op_type) for node in graph.graph)
    assert ops[DOMAIN, op] == (ATTENTIONS if profile == "cpu" else 0)
    assert ops[DOMAIN, other] == 0
    assert ops["", "Softmax"] == (0 if profile == "cpu" else ATTENTIONS)
    assert ops[DOMAIN, GROUP_NORM] + ops[DOMAIN, GROUP_NORM_SILU] == NORMS
    assert ops[DOMAIN, GROUP_NORM] == ATTENTIONS
    assert ops["", "Sigmoid"] == 0
    assert set(graph.opset_imports) == {"", DOMAIN}
    ir.save(graph, tmp_path / "model.onnx", external_data="model.onnx.data")
    with torch.no_grad():
        expected = stage(x).numpy()
    variants: list[Variant] = ["function", *(["native"] if library_path() else [])]
    for variant in variants:
        (y,) = run(open_session(tmp_path / "model.onnx", variant=variant), x.numpy())
        shares = 2e-4 if quantized and variant == "native" else 0  # of 14 bits
        assert np.abs(y - expected).max() < 2e-5 + shares
    assert expected.std() > 0.05


def test_attention_that_has_no_fused_form_is_refused() -> None:
    q = torch.randn(1, 2, 3, 4)
    attention = torch.nn.functional
    with float_ops("cpu"), pytest.raises(ValueError, match="attention with is_causal"):
        attention.scaled_dot_product_attention(q, q, q, is_causal=True)


@pytest.mark.parametrize("quantized", [False, True])
def test_a_recipe_says_whether_attention_is_quantized(quantized: bool) -> None:
    torch.manual_seed(0)
    stage, x = load_nano().stages()["vae_decoder"], torch.randn(1, 4, 4, 4)
    recipe = replace(RECIPES["w4a4"], rank=0, quantize_attention=quantized)
    module = quantize_stage("vae_decoder", stage, [(x,)], recipe, seed=0).module
    graph = export_markers(module, (x,), ["x"], "y").graph
    kinds = Counter(node.op_type for node in graph)
    assert kinds[QUANTIZED_ATTENTION if quantized else ATTENTION] == ATTENTIONS
    assert kinds[ATTENTION if quantized else QUANTIZED_ATTENTION] == 0
