"""The error of everything that reads a checkpoint."""

from __future__ import annotations

from quantface_export.errors import QuantfaceError


class CheckpointError(QuantfaceError):
    """A checkpoint file that is missing, unreadable, or of another model."""
