"""Numbers as a person reads them."""

from __future__ import annotations

import math

UNKNOWN = "–"


def decibels(value: float | None) -> str:
    """A ratio in dB; infinite means that nothing differs.

    >>> decibels(41.26), decibels(float("inf")), decibels(None)
    ('41.3 dB', 'identical', '–')
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "identical" if value > 0 else "−∞ dB"
    return f"{value:.1f} dB".replace("-", "−")


def size(count: int) -> str:
    """Bytes in decimal units.

    >>> size(999), size(12_340), size(11_900_000), size(3_912_000_000)
    ('999 B', '12.3 kB', '11.9 MB', '3.91 GB')

    >>> size(2_000_000), size(340_000)
    ('2.00 MB', '340 kB')
    """
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{count} B" if unit == "B" else f"{value:#.3g}".rstrip(".") + f" {unit}"


def number(value: float | None) -> str:
    """Three significant digits.

    >>> number(0.0), number(-12.345), number(1234.5), number(3.2e-7)
    ('0', '−12.3', '1234', '3.2e−07')
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    text = f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "−")


def percent(fraction: float | None) -> str:
    """A share of 1.

    >>> percent(0.0), percent(0.000031), percent(0.99987), percent(1.0)
    ('0 %', '0.0031 %', '99.987 %', '100 %')
    """
    if fraction is None or math.isnan(fraction):
        return UNKNOWN
    return f"{100 * fraction:.5g} %"


def ratio(fp32_bytes: int, bundle_bytes: int) -> str:
    """How many times smaller.

    >>> ratio(1000, 149), ratio(6000, 1000), ratio(1000, 0)
    ('6.71 ×', '6.00 ×', '–')
    """
    return f"{fp32_bytes / bundle_bytes:.2f} ×" if bundle_bytes else UNKNOWN
