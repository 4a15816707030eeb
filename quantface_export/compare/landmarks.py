"""Where the landmarks of a face are, and how far two sets of them lie apart.

The landmark distance (LMD) of face restoration is measured with a landmark detector. Here it
is a small network for the 70 points of `calibration.faces.landmarks`, trained on generated
faces by `quantface_export.nano.train_landmarks`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from calibration.faces import COUNT

SIDE = 128
"""Pixels per side of the faces that the network was trained on."""

WEIGHTS = Path(__file__).parents[1] / "nano" / "landmarks.safetensors"

_WIDTHS = (16, 32, 48, 60)


class Convolution(nn.Sequential):
    """Convolution, batch normalization, ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        )


class LandmarkNet(nn.Module):
    """An hourglass to 1/16 of the side and back to 1/4, then a soft-argmax per landmark.

        p_k = sum_uv softmax(h_k)_uv c_uv

    with ``h_k`` the heat map of landmark k and ``c_uv`` the centre of cell u, v in pixels (the
    expectation of Sun et al., "Integral Human Pose Regression", ECCV 2018). The mean of
    the coarsest features is added to each of them, so that hidden points (a jaw under hair)
    follow from the rest of the face.
    """

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = _WIDTHS
        self.stem = Convolution(3, a, 5, 2)
        self.quarter = nn.Sequential(Convolution(a, b, 3, 2), Convolution(b, b, 3))
        self.eighth = nn.Sequential(Convolution(b, c, 3, 2), Convolution(c, c, 3))
        self.sixteenth = nn.Sequential(Convolution(c, d, 3, 2), Convolution(d, d, 3))
        self.context = nn.Linear(d, d)
        self.to_eighth, self.to_quarter = nn.Conv2d(d, c, 1), nn.Conv2d(c, b, 1)
        self.at_eighth, self.at_quarter = Convolution(c, c, 3), Convolution(b, b, 3)
        self.heat = nn.Conv2d(b, COUNT, 1)

    def heat_maps(self, image: Tensor) -> Tensor:
        """(N, 3, 128, 128) in [-1, 1] to unnormalized heat maps (N, 70, 32, 32)."""
        quarter = self.quarter(self.stem(image))
        eighth = self.eighth(quarter)
        coarse = self.sixteenth(eighth)
        coarse = coarse + F.relu(self.context(coarse.mean((2, 3))))[..., None, None]
        eighth = self.at_eighth(eighth + F.interpolate(self.to_eighth(coarse), scale_factor=2))
        up = F.interpolate(self.to_quarter(eighth), scale_factor=2)
        return self.heat(self.at_quarter(quarter + up))

    def forward(self, image: Tensor) -> Tensor:
        """Locate the landmarks.

        Args:
            image: (N, 3, s, s) in [-1, 1]; resized to 128 x 128 where s is another.

        Returns:
            (N, 70, 2) x, y in pixels of ``image``, 0 at the centre of the first pixel.
        """
        side = image.shape[-1]
        if image.shape[1:] != (3, side, side):
            raise ValueError(f"images must be (N, 3, s, s), got {tuple(image.shape)}")
        if side != SIDE:
            image = F.interpolate(
                image, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False
            )
        heat = self.heat_maps(image)
        cells = heat.shape[-1]
        share = heat.flatten(2).softmax(-1).unflatten(2, (cells, cells))
        centre = torch.arange(cells, device=heat.device, dtype=heat.dtype) + 0.5
        x, y = (share.sum(2) * centre).sum(-1), (share.sum(3) * centre).sum(-1)
        return torch.stack([x, y], dim=-1) * (side / cells) - 0.5


def load_landmark_net(path: Path = WEIGHTS) -> LandmarkNet:
    """The trained network in evaluation mode, float32."""
    net = LandmarkNet()
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def save_landmark_net(net: LandmarkNet, path: Path = WEIGHTS) -> None:
    """Write the network's parameters as float16."""
    state = {
        k: v.detach().to("cpu", torch.float16 if v.is_floating_point() else v.dtype).contiguous()
        for k, v in net.state_dict().items()
    }
    save_file(state, path)


def lmd(predicted: NDArray[np.floating], truth: NDArray[np.floating]) -> NDArray[np.float64]:
    """Landmark distance, the mean Euclidean distance over landmarks.

        lmd_n = mean_k || p_nk - t_nk ||

    Args:
        predicted: (N, K, 2) in pixels.
        truth: (N, K, 2) in pixels.

    Returns:
        (N,) pixels.

    Raises:
        ValueError: The shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"landmarks have shape {predicted.shape}, the true ones {truth.shape}")
    offset = predicted.astype(np.float64) - truth.astype(np.float64)
    return np.asarray(np.linalg.norm(offset, axis=-1).mean(axis=-1), np.float64)
