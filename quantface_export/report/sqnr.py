"""Signal to quantization noise, layer by layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from markupsafe import Markup

from quantface_export.report.data import LayerRow
from quantface_export.report.svg import element, gridline, share, ticks
from quantface_export.report.wording import decibels

HEIGHT = 260.0
RADIUS = 3.5
LABELLED = 10
COLOURS = 4
"""Stages beyond this many begin again with the first colour."""
LABEL_SHIFTS = (16.0, -8.0, 29.0, -21.0, 42.0)
"""Where a label may stand below (+) or above (-) its dot, pixels, the best first."""


def worst_layers(layers: Sequence[LayerRow]) -> list[LayerRow]:
    """The layers with the most noise, the worst first."""
    known = [row for row in layers if not math.isnan(row.sqnr_db)]
    return sorted(known, key=lambda row: row.sqnr_db)[:LABELLED]


def draw_sqnr(layers: Sequence[LayerRow]) -> Markup:
    """Dots over the layers, grouped and coloured by stage, the worst ones numbered.

    Args:
        layers: At least one, neighbours in a stage side by side.
    """
    finite = [row.sqnr_db for row in layers if math.isfinite(row.sqnr_db)] or [0.0]
    low, high = min(0.0, *finite), max(10.0, *finite)
    low, high = low - 0.06 * (high - low), high + 0.04 * (high - low)

    def y(value: float) -> float:
        return HEIGHT * (high - min(max(value, low), high)) / (high - low)

    drawn = [gridline(y(value), value, " dB") for value in ticks(low, high, 5)]
    ranks = {id(row): i for i, row in enumerate(worst_layers(layers), 1)}
    dots, labels = [], []
    placed: list[tuple[float, float]] = []
    start = 0
    for stage, (name, group) in enumerate(itertools.groupby(layers, lambda row: row.stage)):
        rows = list(group)
        colour = f"s{stage % COLOURS}"
        if start:
            edge = share(start / len(layers))
            drawn.append(element("line", x1=edge, x2=edge, y1=0, y2=HEIGHT, class_="border"))
        drawn.append(
            _stage_name(
                name,
                start=start,
                count=len(rows),
                total=len(layers),
                line=stage % 2,
                colour=colour,
            )
        )
        for i, row in enumerate(rows, start):
            if math.isnan(row.sqnr_db):
                continue
            x = (i + 0.5) / len(layers)
            dots.append(_dot(row, x, y(row.sqnr_db), colour))
            if id(row) in ranks:
                place = _place(x, y(row.sqnr_db), placed)
                placed.append((x, place))
                label = str(ranks[id(row)])
                labels.append(element("text", label, x=share(x), y=place, class_="rank"))
        start += len(rows)
    return element(
        "svg",
        *drawn,
        *dots,
        *labels,
        class_="chart wide",
        height=HEIGHT + 44,
        role="img",
        aria_label="SQNR of each quantized layer; the table below holds the same values",
    )


def _stage_name(name: str, *, start: int, count: int, total: int, line: int, colour: str) -> Markup:
    """Under its layers, on alternating lines, and never beyond the chart's ends."""
    at, anchor = start + count / 2, "middle"
    if start == 0:
        at, anchor = 0.0, "start"
    elif start + count == total:
        at, anchor = float(total), "end"
    return element(
        "text",
        name,
        x=share(at / total),
        y=HEIGHT + 20 + 16 * line,
        text_anchor=anchor,
        class_=f"stage {colour}",
    )


def _dot(row: LayerRow, x: float, y: float, colour: str) -> Markup:
    title = (
        f"{row.stage}: {row.name}\n{decibels(row.sqnr_db)}, {row.kind}, "
        f"W{row.weight_bits} A{row.activation_bits}, rank {row.rank}, transform {row.transform}"
    )
    return element(
        "circle",
        element("title", title),
        cx=share(x),
        cy=y,
        r=RADIUS,
        class_=f"dot {row.kind} {colour}",
    )


def _place(x: float, y: float, placed: Sequence[tuple[float, float]]) -> float:
    """Height of a label that keeps clear of the labels before it, on a phone too."""
    free = (
        y + shift
        for shift in LABEL_SHIFTS
        if 10 < y + shift < HEIGHT
        and all(abs(x - a) > 0.05 or abs(y + shift - b) > 12 for a, b in placed)
    )
    return next(free, y + LABEL_SHIFTS[0])
