"""Feature rows that Frechet distances are taken on: Inception's, or the visual embedder's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from quantface_export.errors import QuantfaceError
from quantface_export.osdface.model import VreStage

BATCH = 8
INCEPTION = "inception-2015-12-05.pt"
INCEPTION_FEATURES = 2048


def features_name(inception: Path | None) -> str:
    """What reports call the features that :func:`load_features` gives."""
    return "VRE latents" if inception is None else "Inception-v3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Images (N, 3, s, s) in [-1, 1] to rows (M, D).

    Attributes:
        rows: Of at most ``BATCH`` images.
    """

    rows: Callable[[Tensor], Tensor]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        return torch.cat([self.rows(x) for x in images.split(BATCH)])


def load_features(vre: VreStage, inception: Path | None = None, *, pooled: bool) -> Features:
    """Inception's features if its file is given, the float visual embedder's latents otherwise.

    Args:
        vre: The model's own.
        inception: The TorchScript file ``inception-2015-12-05.pt``, which FID is usually
            computed with.
        pooled: One row per image, for many images; otherwise the embedder gives a row per
            position, so that few images are enough. Inception's are always pooled.

    Raises:
        QuantfaceError: The file can't be read or gives no such features.
    """
    if inception is not None:
        return Features(rows=_inception(inception))
    if pooled:
        return Features(rows=lambda x: vre.latents(x).mean(1))
    return Features(rows=lambda x: vre.latents(x).flatten(0, 1))


def _inception(path: Path) -> Callable[[Tensor], Tensor]:
    wanted = f"expected TorchScript such as {INCEPTION}"
    if not path.is_file():
        raise QuantfaceError(f"{path} does not exist; {wanted}")
    try:
        with warnings.catch_warnings():  # of TorchScript's end; the file exists in no other form
            warnings.simplefilter("ignore", DeprecationWarning)
            net = torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as e:
        raise QuantfaceError(f"{path} can't be read; {wanted}") from e

    def rows(images: Tensor) -> Tensor:
        pixels = ((images * 0.5 + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)
        try:
            found = net(pixels, return_features=True)
        except RuntimeError as e:
            raise QuantfaceError(
                f"{path} does not take uint8 images and return_features=True; {wanted}"
            ) from e
        if found.shape != (len(images), INCEPTION_FEATURES):
            raise QuantfaceError(
                f"{path} gives features of {tuple(found.shape)} for {len(images)} images; "
                f"expected ({len(images)}, {INCEPTION_FEATURES})"
            )
        return found.float()

    return rows
