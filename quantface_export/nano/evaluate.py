"""How much nano restores: PSNR gain on held-out generated faces and on a photograph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.degradation import degrade
from calibration.faces import face
from calibration.photographs import astronaut_face
from quantface_export.nano.data import HELD_OUT, to_tensor
from quantface_export.osdface.model import Osdface


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """Images (n, s, s, 3) uint8 and mean PSNR in dB against the clean ones."""

    degraded: NDArray[np.uint8]
    restored: NDArray[np.uint8]
    clean: NDArray[np.uint8]

    def psnr(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """PSNR of each image against its clean one, dB."""
        error = (images.astype(np.float64) - self.clean) ** 2
        return 10 * np.log10(255**2 / error.mean(axis=(1, 2, 3)))

    @property
    def gain_db(self) -> float:
        """Mean PSNR of the restored images less that of the degraded ones."""
        return float((self.psnr(self.restored) - self.psnr(self.degraded)).mean())


def held_out_faces(count: int, size: int) -> NDArray[np.uint8]:
    """(count, size, size, 3) generated faces that training never sees."""
    return np.stack([face(HELD_OUT + i, size).image for i in range(count)])


def held_out_photograph(size: int, degradations: int) -> NDArray[np.uint8]:
    """The held-out photograph's face, repeated for several degradations."""
    return np.stack([astronaut_face(size)] * degradations)


@torch.inference_mode()
def evaluate(model: Osdface, clean: NDArray[np.uint8], seed: int = 0) -> Restoration:
    """Degrade, restore and compare."""
    device = next(model.parameters()).device
    degraded = np.stack(
        [degrade(image, np.random.default_rng([seed, i])) for i, image in enumerate(clean)]
    )
    restored = [
        model(to_tensor(degraded[i : i + 8]).to(device)).permute(0, 2, 3, 1).cpu().numpy()
        for i in range(0, len(clean), 8)
    ]
    return Restoration(
        degraded=degraded,
        restored=np.rint(np.concatenate(restored) * 255).astype(np.uint8),
        clean=clean,
    )


def sheet(faces: Restoration, photograph: Restoration, rows: int = 8) -> NDArray[np.uint8]:
    """Degraded, restored and clean side by side, generated faces left of the photograph."""
    sides = ("degraded", "restored", "clean")
    return np.concatenate(
        [
            np.concatenate([getattr(r, s)[i] for r in (faces, photograph) for s in sides], axis=1)
            for i in range(rows)
        ]
    )
