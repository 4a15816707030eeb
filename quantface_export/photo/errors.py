"""What can be wrong with a photograph, its faces or the detector."""

from __future__ import annotations

from typing import ClassVar

from quantface_export.errors import QuantfaceError


class ImageError(QuantfaceError):
    """A file could not be read as a photograph, or a picture could not be written."""


class DetectorError(QuantfaceError):
    """The face detector's model file cannot be used."""


class NoFaceError(QuantfaceError):
    """A readable photograph in which no face was found."""

    exit_code: ClassVar[int] = 3
