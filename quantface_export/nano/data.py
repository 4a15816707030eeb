"""Training pairs for nano: (degraded, clean), each a function of its number alone."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from calibration.degradation import degrade
from calibration.faces import face
from calibration.photographs import crops

Image = NDArray[np.uint8]

PHOTOGRAPHS = 0.25
"""Share of training images that are crops of photographs; the others are rendered faces."""

HELD_OUT = 1_000_000_000
"""Face seeds from here on are never trained on."""

_SMALLEST_CROP = 0.75  # of a face's picture
_GAMMA = 0.25  # largest change of a channel's exponent, natural log
_TOGETHER = 16  # faces that a worker sends at once
_CHUNK = 1 << 20  # faces between two training seeds


class _Faces(Dataset[Image]):
    def __init__(self, first: int, count: int, size: int) -> None:
        self.first, self.count, self.size = first, count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Image:
        return face(self.first + i, self.size).image


def rendered_faces(seed: int, count: int, size: int, workers: int) -> Image:
    """The ``count`` faces that training with this seed draws from, (count, size, size, 3).

    Raises:
        ValueError: The faces would be held-out ones.
    """
    first = seed * _CHUNK
    if not 0 <= first <= first + count <= min(HELD_OUT, first + _CHUNK):
        raise ValueError(f"seed must be in 0..{HELD_OUT // _CHUNK - 1}, got {seed}")
    faces = np.empty((count, size, size, 3), np.uint8)
    loader = DataLoader(_Faces(first, count, size), _TOGETHER, num_workers=workers)
    for i, images in enumerate(track(loader, description="rendering faces")):
        faces[i * _TOGETHER : (i + 1) * _TOGETHER] = images
    return faces


def varied(image: Image, rng: np.random.Generator) -> Image:
    """A random crop of a picture at the picture's size, each channel with its own gamma."""
    size = image.shape[0]
    side = int(size * rng.uniform(_SMALLEST_CROP, 1.0))
    top, left = rng.integers(0, size - side + 1, 2)
    crop = image[top : top + side, left : left + side]
    if side < size:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    exponent = np.exp(rng.uniform(-_GAMMA, _GAMMA) + rng.uniform(-_GAMMA, _GAMMA, 3) / 2)
    table = 255 * np.linspace(0, 1, 256)[:, None] ** exponent
    return cv2.LUT(crop, np.rint(table).astype(np.uint8)[None]).astype(np.uint8)


def pair(seed: int, number: int, faces: Image) -> tuple[Image, Image]:
    """Training pair ``number``: degraded and clean, each (size, size, 3) RGB."""
    rng = np.random.default_rng([seed, number])
    if rng.random() < PHOTOGRAPHS:
        clean = next(crops(rng, faces.shape[1]))
    else:
        clean = faces[rng.integers(len(faces))]
        if rng.random() < 0.5:
            clean = varied(clean, rng)
    if rng.random() < 0.5:
        clean = clean[:, ::-1]
    clean = np.ascontiguousarray(clean)
    return degrade(clean, rng), clean


def to_tensor(images: Tensor | Image) -> Tensor:
    """(..., h, w, 3) uint8 to (..., 3, h, w) float32 in [-1, 1]."""
    return torch.as_tensor(images).movedim(-1, -3).float() / 127.5 - 1


def same_square(side: int, *images: Tensor) -> list[Tensor]:
    """The same random square of every picture, at multiples of 8 pixels: (..., s, s, 3)."""
    places = (images[0].shape[-2] - side) // 8 + 1
    top, left = (int(i) * 8 for i in torch.randint(places, (2,)))
    return [x[..., top : top + side, left : left + side, :] for x in images]


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches from number ``start`` on without end, the same for any number of workers.

    Yields:
        Degraded and clean, each (batch, size, size, 3) uint8.
    """

    def __init__(self, seed: int, faces: Image, batch: int, start: int = 0) -> None:
        self.seed, self.faces, self.batch, self.start = seed, faces, batch, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        offset, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        number = self.start + offset
        while True:
            first = number * self.batch
            pairs = [pair(self.seed, first + i, self.faces) for i in range(self.batch)]
            degraded, clean = (
                torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True)
            )
            yield degraded, clean
            number += stride

    def loader(self, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
        """Batches in order, made by this many processes (0: in this one)."""
        ahead = 4 if workers else None
        return DataLoader(
            self,
            None,
            num_workers=workers,
            prefetch_factor=ahead,
            pin_memory=workers > 0 and torch.cuda.is_available(),
        )
