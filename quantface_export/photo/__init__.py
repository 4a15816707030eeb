"""From photograph files to aligned face crops and back: no model, no torch."""
