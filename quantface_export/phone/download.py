"""In which order an app downloads a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantface_export.stages import STAGES


def download_plan(folder: Path) -> list[dict[str, Any]]:
    """Two parts: all stages but the largest, smallest first, and then the largest.

    With the first part an app can already check that the models load and run on this device, before
    it asks for the rest.

    Returns:
        For each part ``stages``, ``files`` by name as in the manifest, and their ``bytes``.
    """
    files = {name: sorted((folder / name).iterdir()) for name in STAGES}
    size = {name: sum(file.stat().st_size for file in files[name]) for name in STAGES}
    ordered = sorted(STAGES, key=lambda name: size[name])
    return [
        {
            "stages": part,
            "files": [f.relative_to(folder).as_posix() for name in part for f in files[name]],
            "bytes": sum(size[name] for name in part),
        }
        for part in (ordered[:-1], ordered[-1:])
    ]
