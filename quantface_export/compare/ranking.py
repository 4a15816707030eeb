"""Which figures a table shows, and which rows are best and second best in each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from quantface_export.report.wording import UNKNOWN

Row = Mapping[str, Any]
"""What is known of a method or an ablation step, keyed as in ``compare --json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One figure.

    Attributes:
        key: Its key in a row.
        title: Its name, with an arrow towards the better side.
        sign: 1 if more is better, -1 if less is.
        text: How a value is written.
    """

    key: str
    title: str
    sign: int
    text: Callable[[float], str]


def _small(value: float) -> str:
    """Four digits of a figure of any size; rounding errors of zero are zero."""
    return f"{round(value, 9):.4g}"


COLUMNS = (
    Column(key="psnr_db", title="PSNR (dB) ↑", sign=1, text="{:.2f}".format),
    Column(key="ssim", title="SSIM ↑", sign=1, text="{:.4f}".format),
    Column(key="perceptual", title="Perceptual ↓", sign=-1, text="{:.4f}".format),
    Column(key="frechet", title="Fréchet ↓", sign=-1, text=_small),
    Column(key="lmd", title="LMD (px) ↓", sign=-1, text="{:.3f}".format),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One figure of one row.

    Attributes:
        text: The value.
        interval: ``low–high`` of the 95 % interval; empty if there is none.
        place: 1 for the best of the group, 2 for the second best, 0 for the others.
    """

    text: str
    interval: str
    place: int


def places(values: Sequence[float | None], sign: int) -> list[int]:
    """1 for the best value, 2 for the next, 0 for the others; equal values share a place.

    >>> places([3.0, 1.0, None, 2.0, 1.0], sign=-1)
    [0, 1, 0, 2, 1]

    One row has nothing to be better than:

    >>> places([3.0], sign=1)
    [0]
    """
    known = [v for v in values if v is not None and not math.isnan(v)]
    order = sorted(set(known), key=lambda v: -sign * v) if len(known) > 1 else []
    return [order.index(v) + 1 if v in order[:2] else 0 for v in values]


def cells(rows: Sequence[Row], side: str) -> list[list[Cell]]:
    """The cells of a group of rows, which compete with each other.

    Args:
        rows: The group.
        side: ``truth`` or ``fp32``: what the images are compared with.
    """
    columns = [_column(rows, column, side) for column in COLUMNS]
    return [list(row) for row in zip(*columns, strict=True)]


def by_bits(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows in groups of equal bits; "4/3.98" competes with "4/4".

    >>> rows = [{"bits": "4/4"}, {"bits": "6/6"}, {"bits": "4/3.98"}]
    >>> [[row["bits"] for row in group] for group in by_bits(rows)]
    [['6/6'], ['4/4', '4/3.98']]
    """

    def group(row: Row) -> tuple[int, ...]:
        return tuple(-round(float(bits)) for bits in reversed(row["bits"].split("/")))

    return [list(found) for _, found in groupby(sorted(rows, key=group), group)]


def _column(rows: Sequence[Row], column: Column, side: str) -> list[Cell]:
    values = [_of(row, side).get(column.key) for row in rows]
    # An infinite PSNR is None in JSON; such an image equals its reference and needs no place.
    ends = [_of(row.get("ci95") or {}, side).get(column.key) for row in rows]
    return [
        Cell(text=_text(value, column), interval=_interval(end, column), place=place)
        for value, end, place in zip(values, ends, places(values, column.sign), strict=True)
    ]


def _of(row: Row, side: str) -> Row:
    return row if side == "truth" else row.get("vs_fp32") or {}


def _text(value: float | None, column: Column) -> str:
    return UNKNOWN if value is None or math.isnan(value) else column.text(value)


def _interval(ends: Sequence[float | None] | None, column: Column) -> str:
    if ends is None or any(end is None for end in ends):
        return ""
    return "–".join(_text(end, column) for end in ends)
