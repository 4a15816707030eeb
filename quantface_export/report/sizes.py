"""The bar beside a stage's size."""

from __future__ import annotations

from markupsafe import Markup

from quantface_export.report.svg import element, share
from quantface_export.report.wording import percent


def draw_bar(fp32_bytes: int, bundle_bytes: int) -> Markup:
    """How much of the float32 bytes remains."""
    part = min(bundle_bytes / fp32_bytes, 1.0) if fp32_bytes else 0.0
    return element(
        "svg",
        element("rect", width="100%", height=10, rx=2, class_="whole"),
        element("rect", width=share(part), height=10, rx=2, class_="rest"),
        height=10,
        role="img",
        aria_label=percent(round(part, 3)),
    )
