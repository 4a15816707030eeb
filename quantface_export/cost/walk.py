"""Run a model on torch's meta device and note what each of its layers multiplies.

Nothing is allocated: meta tensors have shapes and no values. Operations are those of torch's
``FlopCounterMode``, two for a multiply-accumulate, and only matrix products count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from calibration.observe import Readers, Site, quantizable
from quantface_export.osdface.config import ModelConfig
from quantface_export.osdface.model import Osdface
from quantface_export.osdface.prepare import prepare
from quantface_export.stages import STAGE_INPUTS, STAGE_OUTPUT

META = torch.device("meta")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One convolution or linear layer.

    Attributes:
        name: Its path in the stage.
        kind: ``conv`` or ``linear``.
        shape: Of the weight, (F, C, kh, kw) or (F, C).
        bias: Numbers of the bias, F or 0.
        ops: Operations for one image, ``2 P F C kh kw`` at P output positions.
        inputs: Numbers of the activation that it reads, for one image.
    """

    name: str
    kind: Literal["conv", "linear"]
    shape: tuple[int, ...]
    bias: int
    ops: int
    inputs: int

    @property
    def weights(self) -> int:
        """Numbers of the weight."""
        return math.prod(self.shape)

    def branch(self, rank: int) -> tuple[int, int]:
        """Parameters ``r (C kh kw + F)`` and operations ``2 P r (C kh kw + F)`` of eq. 9's branch.

        r is ``rank``, or as much as the layer has.
        """
        f, c, *_ = self.shape
        parameters = min(rank, f, c) * (self.weights // f + f)
        return parameters, self.ops // self.weights * parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage for one image.

    Attributes:
        model: The stage on the meta device.
        parameters: All its parameters.
        layers: Its convolutions and linear layers, by path.
        sites: Which layers read one activation; their samples are empty.
        products: Operations outside of layers: attention's two products, the codebook's search.
    """

    model: nn.Module
    parameters: int
    layers: dict[str, Layer]
    sites: dict[str, Site]
    products: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """A model's stages by name.

    Attributes:
        published: As its authors count them.
        prepared: As they are exported: without time layers and the encoder's ``quant_conv``.
    """

    published: dict[str, Stage]
    prepared: dict[str, Stage]


def walk(config: ModelConfig, size: int) -> Walk:
    """Both forms of a model, for an image of ``size`` x ``size`` pixels."""
    with META:
        published, prepared = Osdface(config).eval(), Osdface(config).eval()
        prepare(prepared)
    return Walk(published=_stages(published, size), prepared=_stages(prepared, size))


def _stages(model: Osdface, size: int) -> dict[str, Stage]:
    values = {"image": torch.empty(1, 3, size, size, device=META)}
    stages: dict[str, Stage] = {}
    for name, module in model.stages().items():
        arguments = [values[key] for key in STAGE_INPUTS[name]]
        stages[name], values[STAGE_OUTPUT[name]] = walk_stage(module, *arguments)
    return stages


@torch.no_grad()
def walk_stage(stage: nn.Module, *arguments: Tensor) -> tuple[Stage, Tensor]:
    """What ``stage`` multiplies for these arguments, and its output.

    Layers that are not run are not listed.
    """
    readers, inputs = Readers(), dict[str, Tensor]()

    def hook(name: str):  # type: ignore[no-untyped-def]
        def record(_: nn.Module, args: tuple[Tensor]) -> None:
            readers.site(name, args[0])
            inputs[name] = args[0]

        return record

    modules = quantizable(stage)
    handles = [layer.register_forward_pre_hook(hook(n)) for n, layer in modules.items()]
    try:
        with FlopCounterMode(display=False) as counter:
            output = stage(*arguments)
    finally:
        for handle in handles:
            handle.remove()
    counts, root = counter.get_flop_counts(), type(stage).__name__
    layers = {
        name: _layer(name, modules[name], x, sum(counts[f"{root}.{name}"].values()))
        for name, x in inputs.items()
    }
    sites: dict[str, Site] = {}
    for name, key in readers.site_of.items():
        channels = torch.empty(layers[name].shape[1], device=META)
        sites.setdefault(key, Site(key, [], channels)).layers.append(name)
    return Stage(
        model=stage,
        parameters=sum(p.numel() for p in stage.parameters()),
        layers=layers,
        sites=sites,
        products=counter.get_total_flops() - sum(layer.ops for layer in layers.values()),
    ), output


def _layer(name: str, module: nn.Conv2d | nn.Linear, x: Tensor, ops: int) -> Layer:
    return Layer(
        name=name,
        kind="conv" if isinstance(module, nn.Conv2d) else "linear",
        shape=tuple(module.weight.shape),
        bias=0 if module.bias is None else module.bias.numel(),
        ops=ops,
        inputs=x.numel(),
    )
