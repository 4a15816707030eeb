"""The comparison as tables: Markdown in the form of the paper's tables 1 and 4, and a terminal's.

Rows stand in groups of equal bits. In each group and column the best value is bold, the second
best italic (underlined on a terminal).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from quantface_export.compare.ranking import COLUMNS, Cell, Row, by_bits, cells
from quantface_export.report.wording import UNKNOWN, size

SIDES = {"truth": "against the ground truth", "fp32": "against the float32 model's output"}

_COSTS = ("Activation bits, mean", "Size", "Seconds")
_TERMINAL_STYLES = {0: "", 1: "bold green", 2: "underline"}


def markdown(rows: Sequence[Row], ablation: Sequence[Row] = (), *, note: str = "") -> str:
    """The report's tables.

    Args:
        rows: One per method and bits: ``method``, ``bits`` ("4/4"), the figures of `COLUMNS`,
            the same under ``vs_fp32``, intervals under ``ci95``, ``act_bits_mean``, ``bytes``
            and ``seconds``; whatever a row lacks is a dash.
        ablation: One per step: ``name`` and the figures.
        note: A line under the tables, such as which perceptual distance it was.
    """
    parts = []
    for side, against in SIDES.items():
        costs = side == "truth"
        titles = ["Bits (W/A)", "Method", *[c.title for c in COLUMNS], *(_COSTS if costs else ())]
        parts += [f"### Methods, {against}", _grid(titles, 2, _method_rows(rows, side, costs))]
    for side, against in SIDES.items() if ablation else ():
        titles = ["Step", *[c.title for c in COLUMNS]]
        lines = [
            [str(row["name"]), *map(_marked, found)]
            for row, found in zip(ablation, cells(ablation, side), strict=True)
        ]
        parts += [f"### Ablation, {against}", _grid(titles, 1, lines)]
    return "\n\n".join([*parts, *([note] if note else [])]) + "\n"


def terminal(rows: Sequence[Row], side: str = "truth") -> Table:
    """The methods for a terminal; ``side`` is ``truth`` or ``fp32``."""
    table = Table(title=f"Methods, {SIDES[side]}")
    table.add_column("bits")
    table.add_column("method")
    for title in (*[c.title for c in COLUMNS], "size", "s"):
        table.add_column(title, justify="right")
    for group in by_bits(rows):
        for row, found in zip(group, cells(group, side), strict=True):
            shown = [Text(cell.text, _TERMINAL_STYLES[cell.place]) for cell in found]
            _, *costs = _costs(row)
            table.add_row(str(row["bits"]), str(row["method"]), *shown, *costs)
        table.add_section()
    return table


def terminal_ablation(ablation: Sequence[Row], side: str = "fp32") -> Table:
    """The ablation for a terminal."""
    table = Table(title=f"Ablation, {SIDES[side]}")
    table.add_column("step")
    for column in COLUMNS:
        table.add_column(column.title, justify="right")
    for row, found in zip(ablation, cells(ablation, side), strict=True):
        shown = [Text(cell.text, _TERMINAL_STYLES[cell.place]) for cell in found]
        table.add_row(str(row["name"]), *shown)
    return table


def _method_rows(rows: Sequence[Row], side: str, costs: bool) -> list[list[str]]:
    """Table lines; the bits stand in the first line of those that share them."""
    lines, last = [], None
    for group in by_bits(rows):
        for row, found in zip(group, cells(group, side), strict=True):
            bits = "" if row["bits"] == last else str(row["bits"])
            last = row["bits"]
            tail = _costs(row) if costs else []
            lines.append([bits, str(row["method"]), *map(_marked, found), *tail])
    return lines


def _costs(row: Row) -> list[str]:
    bits, count, seconds = (row.get(key) for key in ("act_bits_mean", "bytes", "seconds"))
    return [
        UNKNOWN if bits is None else f"{bits:.2f}",
        UNKNOWN if count is None else size(count),
        UNKNOWN if seconds is None else f"{seconds:.1f}",
    ]


def _marked(cell: Cell) -> str:
    mark = {0: "", 1: "**", 2: "*"}[cell.place]
    interval = f" <sub>{cell.interval}</sub>" if cell.interval else ""
    return f"{mark}{cell.text}{mark}{interval}"


def _grid(titles: Sequence[str], left: int, lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first ``left`` columns are aligned left, the others right."""
    rule = [":--" if i < left else "--:" for i in range(len(titles))]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
        for line in (titles, rule, *lines)
    )
