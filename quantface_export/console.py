"""What people and machines see: bars on a terminal, lines elsewhere, tables and JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from quantface_export.errors import QuantfaceError

T = TypeVar("T")

console = Console(stderr=True)

SAY_AGAIN = 30.0
"""Seconds between two lines of one phase where there is no terminal."""


class Bars:
    """One bar per phase, each with its units, its note and the time left."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars

    def step(self, text: str) -> None:
        """A phase without units: a bar that only moves."""
        self._finish()
        self.bars.add_task(text, total=None, note="")

    def track(self, items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
        """A bar that moves with ``items``."""
        self._finish()
        if total is None and isinstance(items, Sized):
            total = len(items)
        task = self.bars.add_task(text, total=total, note="")
        for item in items:
            yield item
            self.bars.advance(task)

    def note(self, text: str) -> None:
        """Beside the newest bar."""
        self.bars.update(self.bars.task_ids[-1], note=text)

    def _finish(self) -> None:
        """Finished phases give way; the terminal keeps one line for the phase at work."""
        for task in self.bars.task_ids:
            self.bars.remove_task(task)


class Lines:
    """A line when a phase begins, and one now and then while it lasts."""

    def __init__(self, title: str) -> None:
        self.title, self.said = title, ""

    def step(self, text: str) -> None:
        """One line."""
        console.print(f"{self.title}: {text}", highlight=False)

    def track(self, items: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
        """One line, and another every half minute."""
        self.step(text)
        self.said, spoke = "", time.monotonic()
        of = f" of {len(items)}" if isinstance(items, Sized) else ""
        for i, item in enumerate(items):
            yield item
            if time.monotonic() - spoke > SAY_AGAIN:
                spoke = time.monotonic()
                self.step(f"{text}: {i + 1}{of} {self.said}".rstrip())

    def note(self, text: str) -> None:
        """For the next line."""
        self.said = text


@contextmanager
def reporting(title: str) -> Iterator[Bars | Lines]:
    """Bars on a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield Lines(title)
        return
    columns = (
        TextColumn(f"{title}: {{task.description}}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total}", style="dim"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bars(bars)


def make_folder(path: Path) -> None:
    """Make a folder for results before the work that they take.

    Raises:
        QuantfaceError: It can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise QuantfaceError(f"{path} can't be made ({e.strerror}); choose another --out") from e


def write_json(target: Path | None, result: dict[str, Any]) -> None:
    """Write a command's result where the user asked for it; ``-`` is standard output.

    Raises:
        QuantfaceError: The file can't be written.
    """
    if target is None:
        return
    text = json.dumps(result, indent=1, default=str)
    if str(target) == "-":
        print(text)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")
    except OSError as e:
        raise QuantfaceError(
            f"{target} can't be written ({e.strerror}); choose another --json"
        ) from e


def print_verified(result: dict[str, Any]) -> None:
    """The parity table and the verdict."""
    own = result["stages"][0]["size"]
    table = Table(title="parity, ONNX Runtime against the reference")
    for column in ("stage", "kernels", "optimizations", "integers off", "by", "SQNR", ""):
        table.add_column(column)
    for s in result["stages"]:
        table.add_row(
            s["name"] if s["size"] == own else f"{s['name']}, {s['size']}",
            s["variant"],
            s["optimization"],
            f"{s['mismatch_fraction']:.1e}",
            str(s["lsb_max"]),
            f"{s['sqnr_db']:.1f} dB",
            "ok" if s["passed"] else f"FAILED {s['worst_layer']}",
        )
    console.print(table)
    e, f = result["end_to_end"], result["fusion"]
    console.print(
        f"end to end {e['psnr_db']:.1f} dB (noise floor {e['noise_floor_psnr_db']:.1f} dB, needed "
        f"{e['needed_psnr_db']:.1f} dB); {f['fused']} of {f['planned']} layers run on integers"
    )
    print_integers(result["integers"])
    console.print(_verdict(result))


def print_integers(result: dict[str, Any]) -> None:
    """Whether the integer kernels give what they gave where the bundle was built."""
    said = {
        True: "the same bytes as where the bundle was built",
        False: "[red]other bytes than where the bundle was built[/]",
        None: "nothing to compare with: the bundle is older than this check",
    }
    console.print(f"integer kernels: {said[result['as_built']]}", highlight=False)


def _verdict(result: dict[str, Any]) -> str:
    if result["passed"]:
        return "[green]passed[/]"
    if not result["unstable"]:
        return "[red]FAILED[/]"
    e = result["end_to_end"]
    return (
        "[yellow]unstable[/]: every layer is right, but in this model rounding ties spread; the "
        f"picture is {e['psnr_db']:.1f} dB from the reference's, {e['needed_psnr_db']:.1f} dB are "
        "expected"
    )
