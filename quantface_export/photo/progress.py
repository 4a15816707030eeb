"""A progress bar, where someone is there to see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def track(items: Sequence[T], doing: str, *, show: bool | None = None) -> Iterator[T]:
    """Yield the items, drawing a bar on stderr meanwhile.

    Args:
        items: What is worked through.
        doing: What is done to them, one or two words.
        show: Draw the bar; None means with more than one item on a terminal.
    """
    console = Console(stderr=True)
    wanted = len(items) > 1 and console.is_terminal if show is None else show
    if not wanted:
        yield from items
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        yield from bar.track(items, description=doing)
