"""Render the report and put it in place, whole or not at all."""

from __future__ import annotations

import math
import os
import secrets
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from quantface_export.report import wording
from quantface_export.report.data import ReportData
from quantface_export.report.distribution import draw_panels
from quantface_export.report.picture import encode_rows
from quantface_export.report.sizes import draw_bar
from quantface_export.report.sqnr import draw_sqnr, worst_layers
from quantface_export.report.verdict import read_gates

TEMPLATE = "report.html.j2"


def write_report(path: Path, data: ReportData) -> None:
    """Write one HTML file that needs nothing but itself.

    ``path`` is at every moment absent, its former self, or complete.

    Args:
        path: Where to; its folder must exist.
        data: What to show.

    Raises:
        OSError: The file can't be written.
    """
    text = render_report(data)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def render_report(data: ReportData) -> str:
    """The page's HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        decibels=wording.decibels,
        number=wording.number,
        percent=wording.percent,
        size=wording.size,
    )
    pictures = encode_rows(data.pictures)
    fp32_bytes = sum(row.fp32_bytes for row in data.sizes)
    bundle_bytes = sum(row.bundle_bytes for row in data.sizes)
    psnrs = [picture.psnr_db for picture in data.pictures]
    return environment.get_template(TEMPLATE).render(
        data=data,
        pictures=pictures,
        worst_psnr_db=min(psnrs, default=math.nan),
        gates=read_gates(data.verify) if data.verify else [],
        sqnr=draw_sqnr(data.layers) if data.layers else None,
        worst=worst_layers(data.layers),
        panels=draw_panels(data.distribution) if data.distribution else [],
        fp32_bytes=fp32_bytes,
        bundle_bytes=bundle_bytes,
        ratio=wording.ratio,
        bar=draw_bar,
    )
