"""Perceptual distance of two images: LPIPS where its weights are at hand, the same form otherwise.

    d(a, b) = sum_l mean_hw || w_l * (f_l(a) / |f_l(a)| - f_l(b) / |f_l(b)|) ||^2

with ``f_l`` the features of a frozen network after stage l, normalized over channels at each
position (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric", CVPR 2018, eq. 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Features = Callable[[Tensor], Sequence[Tensor]]

EPS = 1e-10


class PerceptualDistance(nn.Module):
    """The distance above.

    Attributes:
        name: What reports say of it.
        features: Images (N, 3, h, w) in [-1, 1] to features (N, C_l, h_l, w_l).
        weights: (C_l,) per stage, None for ones.
    """

    def __init__(
        self, name: str, features: Features, weights: Sequence[Tensor] | None = None
    ) -> None:
        super().__init__()
        self.name, self.features, self.weights = name, features, weights

    def normalized(self, image: Tensor) -> list[Tensor]:
        """Features of unit length at each position, scaled by the root of the weights."""
        found = [f / (f.norm(dim=1, keepdim=True) + EPS) for f in self.features(image)]
        if self.weights is None:
            return found
        pairs = zip(found, self.weights, strict=True)
        return [f * w.to(f).sqrt()[:, None, None] for f, w in pairs]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(N,) distances >= 0 of images in [-1, 1]."""
        return self.between(self.normalized(a), self.normalized(b))

    @staticmethod
    def between(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        """(N,) distances of images given by their normalized features."""
        pairs = zip(a, b, strict=True)
        return torch.stack([((x - y) ** 2).sum(1).mean((1, 2)) for x, y in pairs]).sum(0)


class EncoderFeatures:
    """What the levels of a VAE encoder see: the input of every down-sampling, and the middle."""

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder

    def __call__(self, image: Tensor) -> list[Tensor]:
        found = []
        x = self.encoder.conv_in(image)  # type: ignore[operator]
        for block in self.encoder.down_blocks:  # type: ignore[union-attr]
            for resnet in block.resnets:
                x = resnet(x, temb=None)
            found.append(x)
            for downsampler in block.downsamplers or ():
                x = downsampler(x)
        return [*found, self.encoder.mid_block(x)]  # type: ignore[operator]


_MEAN, _STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""LPIPS' normalization of images in [-1, 1]."""

_Conv = tuple[int, int, int, int]

_ALEX: tuple[_Conv | None, ...] = (
    *((64, 11, 4, 2), None, (192, 5, 1, 2), None),
    *((384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)),
)
"""Width, kernel, stride and padding of AlexNet's convolutions; None is a pooling."""

_VGG: tuple[_Conv | None, ...] = tuple(
    part
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    for part in (*[(width, 3, 1, 1)] * count, None)
)[:-1]


class _Backbone(nn.Module):
    """AlexNet's or VGG-16's convolutions, with torchvision's key names ``features.N``."""

    def __init__(self, vgg: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for part in _VGG if vgg else _ALEX:
            if part is None:
                layers.append(nn.MaxPool2d(2, 2) if vgg else nn.MaxPool2d(3, 2))
                continue
            width, kernel, stride, padding = part
            layers += [nn.Conv2d(channels, width, kernel, stride, padding), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        pools = [i for i, m in enumerate(layers) if isinstance(m, nn.MaxPool2d)]
        relus = [i for i, m in enumerate(layers) if isinstance(m, nn.ReLU)]
        self.taps = [i - 1 for i in pools] + [len(layers) - 1] if vgg else relus

    def forward(self, image: Tensor) -> list[Tensor]:
        mean, std = (image.new_tensor(v)[:, None, None] for v in (_MEAN, _STD))
        x, found = (image - mean) / std, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                found.append(x)
        return found


def _state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as e:  # whatever unpickling other files runs into
        raise ValueError(f"{path} can't be read as PyTorch weights") from e
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds no weights by name, but a {type(state).__name__}")
    return state


def load_lpips(backbone: Path, linear: Path) -> PerceptualDistance:
    """LPIPS from torchvision's AlexNet or VGG-16 file and LPIPS' file of linear weights.

    Raises:
        ValueError: A file that is neither, with what was expected.
    """
    state, lines = _state(backbone), _state(linear)
    first = state.get("features.0.weight")
    if first is None or first.shape[0] != 64:
        raise ValueError(f"{backbone} is neither torchvision's AlexNet nor its VGG-16")
    network = _Backbone(vgg=first.shape[-1] == 3)
    kept = {k: v for k, v in state.items() if k.startswith("features.")}
    try:
        network.load_state_dict(kept)
    except RuntimeError as e:
        what = "is neither torchvision's AlexNet nor its VGG-16; its layers have other shapes"
        raise ValueError(f"{backbone} {what}") from e
    network.eval().requires_grad_(False)
    keys = [f"lin{i}.model.1.weight" for i in range(len(network.taps))]
    if missing := [k for k in keys if k not in lines]:
        raise ValueError(f"{linear} has no {missing[0]}; LPIPS' linear weights were expected")
    for key, tap in zip(keys, network.taps, strict=True):
        expected = 1, network.features[tap - 1].out_channels, 1, 1
        if lines[key].shape != expected or lines[key].min() < 0:
            raise ValueError(
                f"{linear}: {key} has shape {tuple(lines[key].shape)}; {expected} and no "
                "negative weight were expected"
            )
    name = "LPIPS (VGG-16)" if first.shape[-1] == 3 else "LPIPS (AlexNet)"
    return PerceptualDistance(name, network, [lines[k].flatten() for k in keys])


def encoder_distance(encoder: nn.Module) -> PerceptualDistance:
    """The distance on the features of a frozen float VAE encoder."""
    return PerceptualDistance("LPIPS form on VAE encoder features", EncoderFeatures(encoder))


def mse(a: Tensor, b: Tensor) -> Tensor:
    """(N,) mean squared errors."""
    return F.mse_loss(a, b, reduction="none").mean((1, 2, 3))
