"""How many bits each activation needs alone (section 3.4), and what each width costs.

For every site, from 2 bits up: quantize this one activation of the float model and stop at
the first width whose Frechet distance differs from the float model's by at most epsilon.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calibration.balance import Balance
from calibration.blocks import blocks
from calibration.observe import Site
from calibration.quantize import SitePlan
from calibration.quantizer import ActivationGrid, observe_grid

EPSILON = 0.02
"""Section 3.4. The paper's is a difference of Inception distances; features of another network
have another scale, so here it is a share of the float model's own distance."""

B_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Settings of the sweep.

    Attributes:
        epsilon: Largest difference of the Frechet distance, relative to the float model's.
        b_max: Width at which the sweep gives up.
    """

    epsilon: float = EPSILON
    b_max: int = B_MAX


Quantized = Callable[[Tensor, int], Tensor]
"""An activation and its axis of channels to what the layer gets instead."""


class _Change(threading.local):
    """What a thread's run changes: the inputs of these layers, none before the first block."""

    def __init__(self) -> None:
        self.first = 0
        self.layers: dict[str, Quantized] = {}


class Replay:
    """Runs a stage from the block where something changes; what lies before is remembered.

    Exact: a block that runs before the change computes what it computed in the float run.
    """

    def __init__(self, stage: nn.Module, layers: list[str], inputs: tuple[Tensor, ...]) -> None:
        self.stage, self.inputs, self.change = stage, inputs, _Change()
        self.order: list[str] = []
        self.outputs: dict[str, Any] = {}
        self.block_of: dict[str, str] = {}
        self.paths = blocks(stage, layers)
        for name in layers:
            inside = [p for p in self.paths if name == p or name.startswith(f"{p}.")]
            self.block_of[name] = inside[0]

    @contextmanager
    def recorded(self) -> Iterator[Tensor]:
        """The float run; within the block, :meth:`run` may be used, by several threads at once."""
        forwards = {p: self.stage.get_submodule(p).forward for p in self.paths}
        handles = [
            self.stage.get_submodule(name).register_forward_pre_hook(self._hook(name))
            for name in self.block_of
        ]
        for path, forward in forwards.items():
            self.stage.get_submodule(path).forward = self._record(path, forward)
        try:
            output = self.stage(*self.inputs)
            for path, forward in forwards.items():
                self.stage.get_submodule(path).forward = self._replay(path, forward)
            yield output
        finally:
            for path in forwards:
                del self.stage.get_submodule(path).forward
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Callable[..., Any]:
        def hook(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            quantized = self.change.layers.get(name)
            if quantized is None:
                return args
            return (quantized(args[0], 1 if isinstance(layer, nn.Conv2d) else -1),)

        return hook

    def _record(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.order.append(path)
            self.outputs[path] = forward(*args, **kwargs)
            return self.outputs[path]

        return call

    def _replay(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        index = self.order.index(path)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.outputs[path] if index < self.change.first else forward(*args, **kwargs)

        return call

    def run(self, site: Site, quantized: Quantized) -> Tensor:
        """The stage's output with one site's activation changed."""
        self.change.layers = dict.fromkeys(site.layers, quantized)
        self.change.first = min(self.order.index(self.block_of[n]) for n in site.layers)
        try:
            return self.stage(*self.inputs)
        finally:
            self.change.layers, self.change.first = {}, 0


def rounded(balance: Balance, grid: ActivationGrid) -> Quantized:
    """``x -> D^-1 R^T Q(R D x)``: what a balanced layer sees of its activation."""

    def apply(x: Tensor, dim: int) -> Tensor:
        return balance.undone(grid.scale * grid.centred(balance.activation(x, dim)), dim)

    return apply


def site_grid(site: Site, plan: SitePlan, bits: int, observer: str) -> ActivationGrid:
    """The grid of another width for a site's balanced activation."""
    x = [plan.balance.activation(site.samples(n), 1).flatten() for n in site.layers]
    return observe_grid(torch.cat(x), bits, observer)


class SweepCache:
    """Distances that were computed, kept in a file as they come; other settings, other file."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.writing = path, threading.Lock()
        self.known: dict[str, float] = {}
        if path is not None and path.exists():
            text = path.read_text()
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                path.write_text(whole)  # less a line that a killed run left half-written
            for line in whole.splitlines():
                self.known.update(json.loads(line))

    def distance(self, key: str, compute: Callable[[], float]) -> float:
        """The distance under this key, computed if it is new."""
        if key not in self.known:
            self.known[key] = compute()
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.writing, self.path.open("a") as file:
                    file.write(json.dumps({key: self.known[key]}) + "\n")
        return self.known[key]


def needed_bits(
    name: str,
    distance_at: Callable[[int], float],
    reference: float,
    sweep: Sweep,
    cache: SweepCache,
) -> int:
    """B_i: the smallest width from 2 up whose distance is within epsilon, at most B_max."""
    for bits in range(2, sweep.b_max):
        distance = cache.distance(f"{name}@{bits}", lambda bits=bits: distance_at(bits))  # type: ignore[misc]
        if abs(distance - reference) <= sweep.epsilon * reference:
            return bits
    return sweep.b_max
