"""Attention on integers: the definition, its gradient, and where it takes effect."""

from __future__ import annotations

import copy

import numpy as np
import torch
from diffusers.models.attention_processor import Attention

from calibration.attention import quantize_attention, quantized_attention
from onnx_ops.attention import attention


def test_it_computes_the_ops_definition() -> None:
    draw = np.random.default_rng(0)
    q, k, v = (draw.standard_normal((2, tokens, 24)) for tokens in (5, 7, 7))
    heads = [torch.from_numpy(x).unflatten(2, (3, 8)).transpose(1, 2) for x in (q, k, v)]
    y = quantized_attention(*heads).transpose(1, 2).flatten(2)
    expected = attention(q, k, v, num_heads=3, quantized=True)
    np.testing.assert_allclose(y, expected, atol=1e-14)


def test_gradients_pass_the_rounding() -> None:
    torch.manual_seed(0)
    rounded = [torch.randn(1, 2, 6, 8, requires_grad=True) for _ in range(3)]
    exact = [x.detach().clone().requires_grad_() for x in rounded]
    quantized_attention(*rounded).sum().backward()
    torch.nn.functional.scaled_dot_product_attention(*exact).sum().backward()
    for x, y in zip(rounded, exact, strict=True):
        assert x.grad is not None and y.grad is not None
        assert (x.grad - y.grad).abs().max() < 0.1 * max(1.0, float(y.grad.abs().max()))


def test_every_attention_of_a_model_is_quantized_and_nothing_else() -> None:
    torch.manual_seed(0)
    plain = Attention(query_dim=24, heads=3, dim_head=8, residual_connection=True).eval()
    model = torch.nn.Sequential(copy.deepcopy(plain))
    quantize_attention(model)
    x = torch.randn(2, 9, 24)
    with torch.no_grad():
        q, k, v = (layer(x).numpy() for layer in (plain.to_q, plain.to_k, plain.to_v))
        mixed = torch.from_numpy(attention(q, k, v, num_heads=3, quantized=True)).float()
        expected = plain.to_out[0](mixed) + x
        torch.testing.assert_close(copy.deepcopy(model)(x), expected, rtol=0, atol=1e-6)
        assert (model(x) - plain(x)).abs().max() > 1e-4
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    exact = torch.softmax(q @ k.mT / 8**0.5, -1) @ v
    torch.testing.assert_close(
        torch.nn.functional.scaled_dot_product_attention(q, k, v), exact, rtol=0, atol=1e-6
    )
