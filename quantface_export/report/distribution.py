"""The paper's figure 4: how a layer's input spreads over its channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from quantface_export.report.data import PANELS, Distribution
from quantface_export.report.svg import decimal, element, gridline, share, ticks
from quantface_export.report.wording import number

HEIGHT = 180.0
TITLES = {
    "original": "Original",
    "scaled": "Scaled",
    "rotated": "Rotated",
    "both": "Rotation-scaling",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One drawn panel: its title, the chart, and what can be read from it."""

    title: str
    chart: Markup
    note: str


def draw_panels(distribution: Distribution) -> list[Panel]:
    """The four panels in the paper's order, each with a vertical range of its own."""
    grids = distribution.grid_ranges or {}
    return [
        Panel(
            title=TITLES[name] + (", exported" if name == distribution.chosen else ""),
            chart=_chart(TITLES[name], getattr(distribution, name), grids.get(name)),
            note=_note(getattr(distribution, name), grids.get(name)),
        )
        for name in PANELS
    ]


def unevenness(ranges: NDArray[np.float32]) -> float:
    """Largest channel's ``max|x|`` over the median channel's; 1 if all are alike."""
    peaks = np.abs(ranges).max(axis=1).astype(np.float64)
    median = float(np.median(peaks))
    return float(peaks.max()) / median if median > 0 else float("nan")


def _note(ranges: NDArray[np.float32], grid: tuple[float, float] | None) -> str:
    words = (
        f"{number(float(ranges.min()))} to {number(float(ranges.max()))}; "
        f"the largest channel is {number(unevenness(ranges))} times the median one."
    )
    if grid is None:
        return words
    beyond = int(((ranges[:, 0] < grid[0]) | (ranges[:, 1] > grid[1])).sum())
    return (
        f"{words} The grid holds {number(grid[0])} to {number(grid[1])}; "
        f"{beyond} of {len(ranges)} channels reach beyond it."
    )


def _chart(title: str, ranges: NDArray[np.float32], grid: tuple[float, float] | None) -> Markup:
    limits = [0.0, float(ranges.min()), float(ranges.max()), *(grid or ())]
    low, high = min(limits), max(limits)
    margin = 0.04 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def y(value: float) -> float:
        return HEIGHT * (high - value) / (high - low)

    drawn = [gridline(y(value), value) for value in ticks(low, high)]
    if grid is not None:
        top, bottom = y(grid[1]), y(grid[0])
        drawn.append(
            element("rect", x="0", width="100%", y=top, height=bottom - top, class_="holds")
        )
    drawn.append(_bars(np.array([[y(a), y(b)] for a, b in ranges.astype(np.float64)])))
    if grid is not None:
        drawn += [
            element("line", x1="0", x2="100%", y1=edge, y2=edge, class_="holds edge")
            for edge in (top, bottom)
        ]
    last = len(ranges) - 1
    for channel in sorted({0, last // 2, last}):
        anchor = "start" if channel == 0 else "end" if channel == last else "middle"
        drawn.append(
            element(
                "text",
                str(channel),
                x=share(channel / last if last else 0.0),
                y=HEIGHT + 17,
                class_="tick",
                text_anchor=anchor,
            )
        )
    return element(
        "svg",
        *drawn,
        class_="chart",
        height=HEIGHT + 24,
        role="img",
        aria_label=f"{title}: range of each input channel",
    )


def _bars(edges: NDArray[np.float64]) -> Markup:
    """One outline around every channel's range; it may stretch, as it has no stroke."""
    upper = "".join(f"V{decimal(top)}h1" for _, top in edges)
    lower = "".join(f"V{decimal(bottom)}h-1" for bottom, _ in edges[::-1])
    outline = element("path", d=f"M0 {decimal(edges[0, 1])}{upper}{lower}Z", class_="ranges")
    return element(
        "svg",
        outline,
        width="100%",
        height=HEIGHT,
        viewBox=f"0 0 {len(edges)} {decimal(HEIGHT)}",
        preserveAspectRatio="none",
    )
