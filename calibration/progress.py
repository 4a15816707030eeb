"""How long work says where it is: one phase after the other, each with its units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """What stages of the line report to."""

    def step(self, text: str) -> None:
        """A phase without units begins."""

    def track(self, items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
        """A phase begins that is done when ``items`` are; ``total`` if they have no length."""

    def note(self, text: str) -> None:
        """What is worth saying beside the phase's bar, e.g. a loss."""


class Silent:
    """Reports nothing."""

    def step(self, text: str) -> None:
        """Nothing."""

    def track(self, items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
        """The items."""
        return iter(items)

    def note(self, text: str) -> None:
        """Nothing."""


SILENT = Silent()
