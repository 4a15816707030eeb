"""Enough disk and memory, asked for before the work starts rather than found missing in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

from quantface_export.errors import QuantfaceError


class ResourceError(QuantfaceError):
    """The disk or the memory is too small for what was asked."""


def require_disk(folder: Path, needed: int, what: str) -> None:
    """Refuse to write ``needed`` bytes to a disk that lacks them.

    Args:
        folder: Where they would go; it need not exist yet.
        needed: Bytes.
        what: What they are, for the message.

    Raises:
        ResourceError: Fewer are free.
    """
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ResourceError(
            f"{what} needs {needed:,} bytes of disk, {there} has {free:,} free; free space or "
            "choose another folder"
        )


def require_memory(needed: int, what: str) -> None:
    """Refuse to load ``needed`` bytes into a memory that lacks them.

    Raises:
        ResourceError: Fewer are available.
    """
    available = psutil.virtual_memory().available
    if available < needed:
        raise ResourceError(
            f"{what} needs {needed:,} bytes of memory, {available:,} are available; close other "
            "programs or use a machine with more"
        )
