"""The benchmark on a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def speed(result: dict[str, Any]) -> Table:
    """One row per row: seconds by stage, memory and disk."""
    size, threads = result["size"], result["threads"]
    table = Table(
        title=f"{result['model']}, {size} px, {threads} thread{'s' * (threads > 1)}, "
        f"milliseconds, median of {result['rounds']} turns",
        caption=", ".join(f"{name} {value:.2f}" for name, value in result["ratios"].items()),
    )
    table.add_column("")
    stages = [stage["name"] for stage in result["rows"][0]["stages"]]
    for name in (
        *(stage.replace("_", "\n") for stage in stages),
        "all",
        "MB of\nmemory",
        "MB on\ndisk",
    ):
        table.add_column(name, justify="right")
    for row in result["rows"]:
        seconds = [*(stage["seconds"] for stage in row["stages"]), row["seconds_median"]]
        table.add_row(
            row["name"],
            *(f"{value * 1e3:,.0f}" for value in seconds),
            *(f"{row[key] / 1e6:,.0f}" for key in ("peak_rss_bytes", "disk_bytes")),
        )
    return table


def profile(result: dict[str, Any]) -> Table:
    """The most expensive op kinds of ours."""
    table = Table(
        title="quantface-w4a4 by op kind",
        caption=f"{result['profile']['not_integer']:.0%} of the time is no integer math; "
        f"the rotations take {result['profile']['rotations']:.1%}",
    )
    for name in ("op", "milliseconds", "share"):
        table.add_column(name, justify="left" if name == "op" else "right")
    for kind in result["profile"]["kinds"]:
        table.add_row(kind["op"], f"{kind['seconds'] * 1e3:,.1f}", f"{kind['share']:.1%}")
    return table
