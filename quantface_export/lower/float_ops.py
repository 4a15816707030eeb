"""Attention and GroupNorm in the forms that ONNX Runtime's CPU provider runs best.

GroupNorm: as an op of the native kernels, whose function body is InstanceNormalization over each
group; the exporter's GroupNormalization becomes ten ops in ONNX Runtime, with Shape and Cast among
them, and takes up to 2.4 times as long as that.

Attention, of floats or integers, ``cpu`` profile: as an op of the native kernels, whose function
body is ONNX Runtime's ``com.microsoft.MultiHeadAttention``; both compute in tiles. As MatMul,
Softmax, MatMul, the ``portable`` profile, the scores of 5 heads and 4096 tokens take 340 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import Tensor

from onnx_ops import attention
from onnx_ops.function_body import DOMAIN, VERSION
from onnx_ops.group_norm import PLAIN
from quantface_export.settings import Profile

_ATTENTION: Final = {
    "torch.nn.functional.scaled_dot_product_attention": attention.PLAIN,
    "calibration.attention.quantized_attention": attention.QUANTIZED,
}
"""The op for each function."""


@contextmanager
def float_ops(profile: Profile) -> Iterator[None]:
    """Within it, an export sees the profile's attention and GroupNorm."""
    with ExitStack() as patches:
        patches.enter_context(patch("torch.nn.functional.group_norm", _group_norm))
        if profile == "cpu":
            for name, op in _ATTENTION.items():
                patches.enter_context(patch(name, partial(_multi_head, op)))
        yield


def _group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{PLAIN}",
        (x, weight, bias),
        {"groups": groups, "epsilon": eps},
        dtype=x.dtype,
        shape=x.shape,
        version=VERSION,
    )


def _multi_head(op: str, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """The op ``op`` of (N, heads, tokens, d) tensors."""
    if unknown := [k for k, v in options.items() if v]:
        raise ValueError(f"attention with {', '.join(unknown)} has no fused form")
    n, heads, tokens, d = query.shape
    joined = torch.onnx.ops.symbolic(
        f"{DOMAIN}::{op}",
        [x.transpose(1, 2).flatten(2) for x in (query, key, value)],
        {"num_heads": heads},
        dtype=query.dtype,
        shape=[n, tokens, heads * d],
        version=VERSION,
    )
    return joined.unflatten(2, (heads, d)).transpose(1, 2)
