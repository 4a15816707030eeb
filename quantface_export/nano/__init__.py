"""The embedded model: OSDFace's four stages at small width, with trained weights."""
