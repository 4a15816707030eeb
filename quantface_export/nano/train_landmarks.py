"""Train the landmark network: ``python -m quantface_export.nano.train_landmarks --help``.

It learns the mean distance to the true landmarks, on generated faces that are turned, mirrored,
recoloured and degraded about as restored faces are.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from calibration.degradation import Degradation, degrade
from quantface_export.compare.landmarks import (
    SIDE,
    WEIGHTS,
    LandmarkNet,
    lmd,
    load_landmark_net,
    save_landmark_net,
)
from quantface_export.nano.data import HELD_OUT, to_tensor
from quantface_export.nano.landmark_data import (
    MILD,
    Image,
    Points,
    example,
    first_seed,
    render_faces,
)

WARM_UP = 0.03
REPORT_EVERY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LandmarkSchedule:
    """Length and pace of a training run.

    Attributes:
        steps: Optimizer steps.
        batch: Faces per step.
        faces: Rendered faces that the examples are drawn from.
        rate: Peak learning rate of AdamW (linear warm-up, then cosine to zero).
    """

    steps: int = 2600
    batch: int = 16
    faces: int = 3000
    rate: float = 4e-3

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        share = step / self.steps
        return (
            self.rate * min(1.0, (share + 1e-3) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * share))
        )


def train(schedule: LandmarkSchedule, *, seed: int) -> LandmarkNet:
    """Train on the CPU; the same seed and schedule give the same network.

    Raises:
        ValueError: The faces would be held-out ones.
    """
    first = first_seed(seed, schedule.faces)
    rendered = track(range(first, first + schedule.faces), description="rendering faces")
    images, points = render_faces(rendered, SIDE)
    torch.manual_seed(seed)
    net = LandmarkNet()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), schedule.rate, weight_decay=1e-4)
    every, recent = max(1, round(schedule.steps * REPORT_EVERY)), 0.0
    for step in track(range(schedule.steps), description="training landmarks"):
        loss = distance(net, *batch(seed, step, schedule.batch, images, points))
        optimizer.param_groups[0]["lr"] = schedule.rate_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        recent += loss.item() / every
        if (step + 1) % every == 0:
            print(f"step {step + 1}: {recent:.2f} px", flush=True)
            recent = 0.0
    return net.eval().requires_grad_(False)


def batch(seed: int, step: int, count: int, images: Image, points: Points) -> tuple[Tensor, Tensor]:
    """The examples of a step: (count, 3, s, s) in [-1, 1] and (count, 70, 2) pixels."""
    made = [example(seed, step * count + i, images, points) for i in range(count)]
    pictures, truth = (np.stack(side) for side in zip(*made, strict=True))
    return to_tensor(pictures), torch.from_numpy(truth)


def distance(net: LandmarkNet, pictures: Tensor, truth: Tensor) -> Tensor:
    """Mean distance in pixels over landmarks and faces, smooth at zero."""
    return ((net(pictures) - truth).square().sum(-1) + 1e-4).sqrt().mean()


@torch.inference_mode()
def errors(net: LandmarkNet, images: Image, points: Points) -> NDArray[np.float64]:
    """Landmark distance of each picture, pixels; images (n, s, s, 3) uint8."""
    found = np.concatenate(
        [net(to_tensor(images[i : i + 16])).numpy() for i in range(0, len(images), 16)]
    )
    return lmd(found, points)


def degraded(images: Image, settings: Degradation) -> Image:
    """Each picture degraded by a generator of its own."""
    return np.stack(
        [degrade(image, np.random.default_rng([0, i]), settings) for i, image in enumerate(images)]
    )


def main() -> None:
    """Train, save the weights and measure them on 64 held-out faces."""
    usual = LandmarkSchedule()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=usual.steps, help="default %(default)s")
    parser.add_argument("--batch", type=int, default=usual.batch, help="default %(default)s")
    parser.add_argument("--faces", type=int, default=usual.faces, help="default %(default)s")
    parser.add_argument("--rate", type=float, default=usual.rate, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    began = time.monotonic()
    schedule = LandmarkSchedule(
        steps=args.steps, batch=args.batch, faces=args.faces, rate=args.rate
    )
    save_landmark_net(train(schedule, seed=args.seed), args.out)
    print(f"trained in {time.monotonic() - began:.0f} s")
    net = load_landmark_net(args.out)
    images, points = render_faces(range(HELD_OUT, HELD_OUT + 64), SIDE)
    kinds = {
        "clean": images,
        "mildly degraded": degraded(images, MILD),
        "degraded": degraded(images, Degradation()),
    }
    for name, pictures in kinds.items():
        print(f"64 held-out faces, {name}: {errors(net, pictures, points).mean():.2f} px")


if __name__ == "__main__":
    main()
