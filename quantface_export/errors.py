"""The one exception a person is meant to read."""

from __future__ import annotations

from typing import ClassVar


class QuantfaceError(Exception):
    """One clear line for a person: what was wrong, what was expected, what to do.

    Attributes:
        exit_code: Status of a command that ends with this error.
    """

    exit_code: ClassVar[int] = 1
