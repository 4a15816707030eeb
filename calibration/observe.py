"""Look at a float model: which activations feed which layers, and how they are distributed."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.progress import SILENT, Progress

SAMPLES = 256
"""Input patches kept per layer over the whole calibration set."""

Quantizable = nn.Conv2d | nn.Linear


@dataclass(slots=True)
class Site:
    """One activation tensor and the layers that read it.

    Attributes:
        name: Path of the first layer that reads it.
        layers: Paths of all layers that read it.
        peak: (C,) largest magnitude per channel.
        positions: Per layer, output positions of one image: pixels or tokens.
        patches: Per layer, sampled receptive fields (P, C, taps).
    """

    name: str
    layers: list[str]
    peak: Tensor
    positions: dict[str, int] = field(default_factory=dict)
    patches: dict[str, list[Tensor]] = field(default_factory=dict)

    def samples(self, layer: str) -> Tensor:
        """(P, C, taps) receptive fields of one layer."""
        return torch.cat(self.patches[layer])


def quantizable(model: nn.Module) -> dict[str, Quantizable]:
    """Convolutions and linear layers by path."""
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def _positions(layer: Quantizable, x: Tensor) -> int:
    """Output positions of one image."""
    if isinstance(layer, nn.Linear):
        return x[0, ..., 0].numel()
    padding = cast(tuple[int, int], layer.padding)
    axes = zip(x.shape[2:], layer.kernel_size, layer.stride, padding, strict=True)
    return math.prod((n + 2 * p - k) // s + 1 for n, k, s, p in axes)


def _sample(layer: Quantizable, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` random receptive fields of ``layer`` in ``x``, as (count, C, taps)."""
    if isinstance(layer, nn.Linear):
        rows = x.reshape(-1, x.shape[-1])
        return rows[torch.randint(len(rows), (count,), generator=generator)][:, :, None].clone()
    (kh, kw), (sh, sw) = layer.kernel_size, layer.stride
    ph, pw = cast(tuple[int, int], layer.padding)
    x = F.pad(x, (pw, pw, ph, ph))
    n, _, h, w = x.shape
    top = torch.randint((h - kh) // sh + 1, (count,), generator=generator) * sh
    left = torch.randint((w - kw) // sw + 1, (count,), generator=generator) * sw
    image = torch.randint(n, (count,), generator=generator)
    rows = top[:, None, None] + torch.arange(kh)[:, None]
    columns = left[:, None, None] + torch.arange(kw)
    return x[image[:, None, None], :, rows, columns].permute(0, 3, 1, 2).flatten(2)


class Readers:
    """Groups layers by the tensor object they read: each group is one site.

    Attributes:
        site_of: Name of the site by layer; a site is named after its first layer.
    """

    def __init__(self) -> None:
        self.site_of: dict[str, str] = {}
        self._live: list[tuple[weakref.ref[Tensor], str]] = []

    def site(self, name: str, tensor: Tensor) -> str:
        """The site of layer ``name``, which reads ``tensor`` now."""
        if name not in self.site_of:
            shared = [site for ref, site in self._live if ref() is tensor]
            self.site_of[name] = shared[0] if shared else name
        self._live = [(ref, site) for ref, site in self._live if ref() is not None]
        self._live.append((weakref.ref(tensor), self.site_of[name]))
        return self.site_of[name]


class _Recorder:
    """Forward pre-hooks that describe what each layer reads, by site."""

    def __init__(self, model: nn.Module, per_call: int, seed: int, skip: Sequence[str]) -> None:
        self.per_call = per_call
        self.generator = torch.Generator().manual_seed(seed)
        self.sites: dict[str, Site] = {}
        self.readers = Readers()
        self.handles = [
            layer.register_forward_pre_hook(self._hook(name))
            for name, layer in quantizable(model).items()
            if name not in skip
        ]

    def _hook(self, name: str):  # type: ignore[no-untyped-def]
        def record(layer: Quantizable, args: tuple[Tensor, ...]) -> None:
            self.record(name, layer, args[0].detach(), args[0])

        return record

    def _site(self, name: str, tensor: Tensor, channels: int) -> Site:
        key = self.readers.site(name, tensor)
        site = self.sites.setdefault(key, Site(key, [], torch.zeros(channels)))
        if name not in site.layers:
            site.layers.append(name)
        return site

    def record(self, name: str, layer: Quantizable, x: Tensor, tensor: Tensor) -> None:
        channel = 1 if isinstance(layer, nn.Conv2d) else x.ndim - 1
        site = self._site(name, tensor, x.shape[channel])
        other = [d for d in range(x.ndim) if d != channel]
        if not torch.isfinite(x).all():
            raise ValueError(f"activations of layer {name} are not finite; check the model")
        site.peak = torch.maximum(site.peak, x.abs().amax(other))
        site.positions[name] = _positions(layer, x)
        patch = _sample(layer, x, self.per_call, self.generator)
        site.patches.setdefault(name, []).append(patch)


@torch.no_grad()
def observe(
    model: nn.Module,
    inputs: Sequence[Sequence[Tensor]],
    *,
    seed: int,
    skip: Sequence[str] = (),
    outputs: list[Tensor] | None = None,
    progress: Progress = SILENT,
    name: str = "",
) -> dict[str, Site]:
    """Run the float model and describe the input of every convolution and linear layer.

    Args:
        model: A stage in float32.
        inputs: Arguments of the stage, one tuple per calibration image.
        seed: Seeds the choice of samples.
        skip: Paths of layers that stay in float.
        outputs: Takes what the model gives for each image.
        progress: Told of each image.
        name: The stage's, for ``progress``.

    Returns:
        Sites by name, in the order in which the model reaches them.

    Raises:
        ValueError: An activation is not finite (the layer is named).
    """
    recorder = _Recorder(model, max(1, SAMPLES // len(inputs)), seed, skip)
    try:
        for args in progress.track(inputs, f"{name}: observing activations"):
            output = model(*args)
            if outputs is not None:
                outputs.append(output)
    finally:
        for handle in recorder.handles:
            handle.remove()
    return recorder.sites
