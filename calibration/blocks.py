"""A stage as a sequence of blocks: the innermost modules that own a norm, and lone layers."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

NORMS = nn.GroupNorm, nn.LayerNorm


def blocks(stage: nn.Module, layers: Iterable[str]) -> list[str]:
    """Paths of the blocks; every one of ``layers`` is in exactly one.

    Args:
        stage: The stage.
        layers: Paths of the layers that matter; a layer outside of any block is its own.
    """
    names = list(layers)
    owners = [
        path
        for path, module in stage.named_modules()
        if path
        and any(isinstance(child, NORMS) for child in module.children())
        and any(name.startswith(f"{path}.") for name in names)
    ]
    inner = [p for p in owners if not any(o.startswith(f"{p}.") for o in owners)]
    return inner + [n for n in names if not any(n.startswith(f"{p}.") for p in inner)]
