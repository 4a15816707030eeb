"""Q-Diffusion: blocks are reconstructed with adaptive rounding; shortcuts are split.

X. Li et al., "Q-Diffusion: Quantizing Diffusion Models", ICCV 2023, with the block
reconstruction of BRECQ (Li et al., ICLR 2021) and the adaptive rounding of AdaRound (Nagel
et al., ICML 2020). The two halves of a concatenated shortcut have unlike ranges, so each
gets a grid and a weight of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from calibration.blocks import blocks
from calibration.layers import QuantLayer, merge, quant_layers
from calibration.learned import learn_grids
from calibration.methods.method import Method, StageData
from calibration.quantizer import quantize_weight, weight_limits
from calibration.recipe import Recipe
from calibration.weights import Weight, WeightForm

STEPS = 60
ROUNDING_RATE = 1e-2
GRID_RATE = 1e-3
BATCH = 4
PENALTY = 0.01
SHARPNESS = (20.0, 2.0)  # of the penalty, first and last step
_STRETCH, _SHIFT = 1.2, -0.1  # of the sigmoid, so that it reaches 0 and 1


def recipe(weight_bits: int, activation_bits: int) -> Recipe:
    """No balance and no branch."""
    return Recipe(
        name=f"q-diffusion-w{weight_bits}a{activation_bits}",
        method="q-diffusion",
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rank=0,
        rotate=False,
        scale=False,
    )


class SplitConv(nn.Module):
    """A convolution of ``[hidden, skip]`` as the sum of one convolution for each."""

    def __init__(self, conv: nn.Conv2d, hidden: int) -> None:
        super().__init__()
        self.widths = (hidden, conv.in_channels - hidden)
        parts = []
        for w, bias in zip(conv.weight.split(self.widths, 1), (conv.bias, None), strict=True):
            part = nn.Conv2d(
                w.shape[1],
                len(w),
                conv.kernel_size,  # type: ignore[arg-type]
                conv.stride,  # type: ignore[arg-type]
                conv.padding,  # type: ignore[arg-type]
                bias=bias is not None,
            )
            part.weight = nn.Parameter(w.detach().clone(), requires_grad=False)
            if bias is not None:
                part.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
            parts.append(part)
        self.hidden, self.skip = parts

    def forward(self, x: Tensor) -> Tensor:
        hidden, skip = x.split(self.widths, 1)
        return self.hidden(hidden) + self.skip(skip)


def split_shortcuts(stage: nn.Module) -> None:
    """Split the shortcut convolutions that read a concatenation, in place."""
    for unet in (m for m in stage.modules() if hasattr(m, "up_blocks") and hasattr(m, "conv_in")):
        model: Any = unet
        width = model.mid_block.resnets[-1].out_channels
        for block in model.up_blocks:
            for resnet in block.resnets:
                if resnet.conv_shortcut is not None and resnet.in_channels > width:
                    resnet.conv_shortcut = SplitConv(resnet.conv_shortcut, width)
                width = resnet.out_channels


class AdaRound(WeightForm):
    """``codes = clamp(floor(W / s) + h(v))``; h is soft while it learns, then 0 or 1."""

    floor: Tensor
    scale: Tensor

    def __init__(self, w: Tensor, bits: int) -> None:
        super().__init__()
        self.limits, self.hard = weight_limits(bits), False
        _, scale = quantize_weight(w, bits)
        ratio = w / scale.reshape([-1] + [1] * (w.ndim - 1))
        self.register_buffer("floor", ratio.floor())
        self.register_buffer("scale", scale)
        share = ((ratio - ratio.floor() - _SHIFT) / _STRETCH).clamp(1e-4, 1 - 1e-4)
        self.v = nn.Parameter((share / (1 - share)).log())

    @property
    def up(self) -> Tensor:
        """h(v), how far each weight is rounded up, 0..1."""
        soft = (self.v.sigmoid() * _STRETCH + _SHIFT).clamp(0, 1)
        return (soft >= 0.5).to(soft) if self.hard else soft

    def forward(self) -> Weight:
        return Weight((self.floor + self.up).clamp(*self.limits), self.scale, None, None)


def form(w: Tensor, bits: int, _: int) -> WeightForm:
    """Adaptive rounding."""
    return AdaRound(w, bits)


class _Recorded:
    """What every block of the float stage takes and gives."""

    def __init__(self, stage: nn.Module, paths: list[str], data: StageData) -> None:
        self.calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any], Any]]] = {}
        handles = [
            stage.get_submodule(p).register_forward_hook(self._hook(p), with_kwargs=True)
            for p in paths
        ]
        with torch.no_grad():
            for args in data.progress.track(data.inputs, f"{data.name}: recording blocks"):
                stage(*args)
        for handle in handles:
            handle.remove()

    def _hook(self, path: str):  # type: ignore[no-untyped-def]
        def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            self.calls.setdefault(path, []).append((args, kwargs, out))

        return record

    def batch(self, path: str, at: list[int]) -> tuple[tuple[Any, ...], dict[str, Any], Tensor]:
        """Arguments and output of a block for several images at once."""
        calls = [self.calls[path][i] for i in at]
        args = tuple(_joined([c[0][i] for c in calls]) for i in range(len(calls[0][0])))
        kwargs = {k: _joined([c[1][k] for c in calls]) for k in calls[0][1]}
        return args, kwargs, torch.cat([c[2] for c in calls])


def _joined(values: list[Any]) -> Any:
    return torch.cat(values) if isinstance(values[0], Tensor) else values[0]


def refine(stage: nn.Module, data: StageData) -> None:
    """Reconstruct the stage block by block: roundings and activation grids learn."""
    paths = blocks(stage, quant_layers(stage))
    recorded = _Recorded(data.reference, paths, data)
    generator = torch.Generator().manual_seed(data.seed)
    for path in data.progress.track(paths, f"{data.name}: reconstructing blocks"):
        block = stage.get_submodule(path)
        layers = [m for m in block.modules() if isinstance(m, QuantLayer) and not m.edge]
        if layers:
            _reconstruct(block, layers, recorded, path, generator)
        del recorded.calls[path]
    merge(stage)


def _reconstruct(
    block: nn.Module,
    layers: list[QuantLayer],
    recorded: _Recorded,
    path: str,
    generator: torch.Generator,
) -> None:
    learn_grids(layers)
    forms = [m.form for m in layers if isinstance(m.form, AdaRound)]
    grids = {id(p): p for m in layers for p in m.parameters()}
    for f in forms:
        del grids[id(f.v)]
    optimizer = torch.optim.Adam(
        [
            {"params": [f.v for f in forms], "lr": ROUNDING_RATE},
            {"params": list(grids.values()), "lr": GRID_RATE},
        ]
    )
    count = len(recorded.calls[path])
    with torch.enable_grad():
        for step in range(STEPS):
            at = torch.randperm(count, generator=generator)[:BATCH].tolist()
            args, kwargs, target = recorded.batch(path, at)
            error = ((block(*args, **kwargs) - target) ** 2).mean() / (target**2).mean()
            power = SHARPNESS[0] + (SHARPNESS[1] - SHARPNESS[0]) * step / STEPS
            penalty = sum((1 - (2 * f.up - 1).abs() ** power).mean() for f in forms) / len(forms)
            optimizer.zero_grad(set_to_none=True)
            (error + PENALTY * penalty).backward()
            optimizer.step()
    for f in forms:
        f.hard = True


METHOD = Method(
    name="q-diffusion",
    paper="Li et al., ICCV 2023",
    departures=(
        "calibrated at the model's one timestep instead of samples from all",
        "blocks learn from the float model's inputs, and for tens of steps instead of thousands",
    ),
    recipe=recipe,
    transform=split_shortcuts,
    form=form,
    refine=refine,
)
