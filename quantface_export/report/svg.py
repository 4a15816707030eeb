"""Inline SVG whose text keeps its size at every width.

A chart is as wide as its column: horizontal positions are percentages, vertical ones pixels.
Colours come from CSS classes, so one drawing serves light and dark.
"""

from __future__ import annotations

import math

from markupsafe import Markup

from quantface_export.report.wording import number


def element(tag: str, *content: str, **attributes: str | float) -> Markup:
    """One element; content and attributes are escaped unless they are Markup.

    Args:
        tag: Its name.
        content: Text or elements inside.
        attributes: By name, with ``_`` for ``-`` and ``class_`` for ``class``.

    >>> element("text", "a<b", x=1.50, class_="tick")
    Markup('<text x="1.5" class="tick">a&lt;b</text>')
    """
    opened = Markup(" ").join(
        [
            Markup(tag),
            *(
                Markup('{}="{}"').format(
                    name.rstrip("_").replace("_", "-"),
                    value if isinstance(value, str) else decimal(value),
                )
                for name, value in attributes.items()
            ),
        ]
    )
    return Markup("<{}>{}</{}>").format(opened, Markup("").join(content), Markup(tag))


def decimal(value: float) -> str:
    """Two decimals, no trailing zeros.

    >>> decimal(3.0), decimal(1 / 3), decimal(-0.001)
    ('3', '0.33', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def share(fraction: float) -> str:
    """A horizontal position: ``share(0.25) == "25%"``."""
    return f"{decimal(100 * fraction)}%"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values from ``low`` to ``high``, about ``count`` of them.

    >>> ticks(-0.7, 3.1)
    [0.0, 1.0, 2.0, 3.0]
    >>> ticks(0, 43, 5)
    [0.0, 10.0, 20.0, 30.0, 40.0]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(i * step) for i in range(first, last + 1)]


def gridline(y: float, value: float, unit: str = "") -> Markup:
    """A line across the plot with its value in the left margin."""
    return element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid") + element(
        "text", number(value) + unit, x=-8, y=y + 4, class_="tick y"
    )
