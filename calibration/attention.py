"""Attention on integers: what the QuantizedAttention op computes, in PyTorch.

Its definition is in :mod:`onnx_ops.attention`; the rounding passes gradients straight through.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from calibration.rounding import ste_round
from onnx_ops.attention import KEY_TOP, LEAST_STEP, QUERY_TOP

_attend = F.scaled_dot_product_attention


def quantize_attention(model: nn.Module) -> None:
    """Let every attention of diffusers in ``model`` compute :func:`quantized_attention`."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.set_processor(_Quantized(module.processor))


def quantized_attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """``softmax(q k^T / sqrt(d)) v`` of rounded inputs.

    Args:
        query: (N, heads, T, d), float32 or float64; 7 bits for each token and head.
        key: (N, heads, S, d); 8 bits of ``key - mean(key)`` for each token and head.
        value: (N, heads, S, d); 8 bits for each channel.
        options: Those of ``scaled_dot_product_attention``.

    Returns:
        (N, heads, T, d).
    """
    query = _rounded(query, 3, QUERY_TOP)
    key = _rounded(key - key.mean(2, keepdim=True), 3, KEY_TOP)
    return _attend(query, key, _rounded(value, 2, KEY_TOP), **options)


def _rounded(x: Tensor, dim: int, top: int) -> Tensor:
    """``s round(x / s)`` with ``s = max |x| / top + LEAST_STEP`` along ``dim``."""
    step = x.detach().abs().amax(dim, keepdim=True) / top + LEAST_STEP
    return step * ste_round(x / step)


class _Quantized:
    """A processor of diffusers with :func:`quantized_attention` in it."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,  # diffusers looks at the names
    ) -> Tensor:
        attend = "torch.nn.functional.scaled_dot_product_attention"
        with patch(attend, quantized_attention):
            y: Tensor = self.processor(
                attn, hidden_states, encoder_hidden_states, attention_mask, temb
            )
        return y
