"""Metrics that need what this package does not bring: pyiqa's, and ArcFace for ``deg``.

Nothing here is imported unless asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantface_export.compare.arcface import load_arcface
from quantface_export.compare.metrics import Images, Values
from quantface_export.errors import QuantfaceError

PYIQA = ("lpips", "dists", "clipiqa", "maniqa", "musiq", "niqe")
"""Metrics by pyiqa's names."""

FULL_REFERENCE = ("lpips", "dists")
DEGREES = "deg"


def extra_metrics(
    restored: Images,
    clean: Images,
    landmarks: NDArray[np.floating],
    *,
    names: Sequence[str],
    arcface: Path | None = None,
    device: str = "cpu",
) -> dict[str, Values]:
    """The optional metrics that are asked for, one value per image.

    Args:
        restored: (N, 3, s, s) in [0, 1].
        clean: (N, 3, s, s) in [0, 1], the ground truth.
        landmarks: (N, 70, 2) true landmarks in pixels; both images of a pair are aligned by them.
        names: Of `PYIQA`, and ``deg`` for the angle between ArcFace embeddings in degrees.
        arcface: ArcFace ONNX file, needed for ``deg``.
        device: Where pyiqa runs.

    Returns:
        (N,) values by name.

    Raises:
        QuantfaceError: A name is unknown, or what a metric needs is missing.
    """
    if unknown := [name for name in names if name not in (*PYIQA, DEGREES)]:
        raise QuantfaceError(
            f"there is no metric {unknown[0]!r}; choose from {', '.join((*PYIQA, DEGREES))}"
        )
    found = {}
    for name in names:
        if name == DEGREES:
            found[name] = load_arcface(arcface).degrees(restored, clean, landmarks)
        else:
            found[name] = _pyiqa(name, restored, clean, device)
    return found


@torch.inference_mode()
def _pyiqa(name: str, restored: Images, clean: Images, device: str) -> Values:
    metric = _create(name, device)
    reference = (clean,) if name in FULL_REFERENCE else ()
    values = []
    for images in zip(restored, *reference, strict=True):
        tensors = [torch.from_numpy(image.astype(np.float32))[None].to(device) for image in images]
        values.append(float(metric(*tensors)))
    return np.array(values)


def _create(name: str, device: str) -> Any:
    try:
        pyiqa = importlib.import_module("pyiqa")
    except ImportError as e:
        raise QuantfaceError(
            f"{name} needs pyiqa ({e}); run `pip install pyiqa`, or leave {name} out"
        ) from e
    try:
        return pyiqa.create_metric(name, device=torch.device(device))
    except Exception as e:  # pyiqa passes on whatever its download meets
        reason = " ".join(str(e).split()) or type(e).__name__
        raise QuantfaceError(
            f"pyiqa can't load the weights of {name} ({reason}); run "
            f"`python -c \"import pyiqa; pyiqa.create_metric('{name}')\"` once with "
            f"internet access, or leave {name} out"
        ) from e
