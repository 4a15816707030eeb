"""How much of a head a face restorer expects to see around a face box."""

from __future__ import annotations

FFHQ_MARGIN = 1.7
"""Side of the FFHQ frame over the side of a brow-to-chin box (``Box``)."""
FFHQ_LIFT = 0.05
"""How far that frame lies above the box's centre, in sides of the box."""
