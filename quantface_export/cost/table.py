"""The count on a terminal: the paper's Table 2, and where parameters and operations are."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from quantface_export.report.wording import UNKNOWN


def compression(result: dict[str, Any]) -> Table:
    """One row per recipe: the paper's form, the paper's figures, and the exporter's plan."""
    table = Table(
        title=f"{result['model']}, {result['size']}x{result['size']}",
        caption="Params / M and Ops / G as float32 equivalents: bits / 32 and "
        "sqrt(weight bits x activation bits) / 32. Ops: two a multiply-accumulate of convolutions "
        "and linear layers in VAE and UNet. Params, Ops: the paper's form, plus branches (32 bits "
        "of parameters, 16 of operations) and online rotations. Exported: the exporter's plan, "
        "layer by layer.",
    )
    table.add_column("")
    for side in ("", "\npaper", "\nexported"):
        for what in ("Params", "Ops"):
            table.add_column(f"{what}{side}", justify="right")
    full = {k: result[k] for k in ("params", "ops")} | dict.fromkeys(
        ("params_reduction", "ops_reduction"), 0.0
    )
    table.add_row("float32", *_cells(full), *_cells(result["paper"]), *_cells(None))
    for row in result["rows"]:
        cells = (*_cells(row), *_cells(row["paper"]), *_cells(row["exported"]))
        table.add_row(row["recipe"], *cells)
    return table


def breakdown(result: dict[str, Any]) -> Table:
    """The float model by stage and layer kind."""
    table = Table(
        title="float32 by stage and layer kind",
        caption="other: norms, codebook; attention's products and the codebook's search. "
        "In brackets: operations that are not in the total.",
    )
    for column in ("stage", "kind"):
        table.add_column(column)
    for column in ("layers", "Params / M", "Ops / G"):
        table.add_column(column, justify="right")
    for row in result["stages"]:
        ops = f"{row['ops'] / 1e9:,.2f}"
        table.add_row(
            row["stage"] if row["kind"] == "conv" else "",
            row["kind"],
            UNKNOWN if row["layers"] is None else str(row["layers"]),
            f"{row['params'] / 1e6:,.2f}",
            ops if row["counted"] else f"({ops})",
            end_section=row["kind"] == "other",
        )
    return table


def _cells(count: dict[str, float] | None) -> tuple[str, str]:
    if count is None:
        return UNKNOWN, UNKNOWN
    params, ops = (f"{count[key] / unit:,.1f}" for key, unit in (("params", 1e6), ("ops", 1e9)))
    return params + _percent(count["params_reduction"]), ops + _percent(count["ops_reduction"])


def _percent(reduction: float) -> str:
    return f"\n-{reduction:.2f} %" if reduction else ""
