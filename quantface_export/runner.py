"""Run a bundle: one face in, one face out. Never imports torch."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from quantface_export.bundle import Bundle
from quantface_export.pixels import to_input, to_pictures
from quantface_export.session import (
    Optimization,
    Variant,
    open_session,
    return_memory,
    run,
    small,
)
from quantface_export.stages import STAGES

Image = NDArray[np.uint8]


class Runner:
    """The four stages of a bundle, opened when first used.

    Small models stay open. Of large ones a stage is let go before the next one is opened, so
    that memory holds one at a time.
    """

    def __init__(
        self, bundle: Bundle, *, variant: Variant = "function", optimization: Optimization = "all"
    ) -> None:
        self.bundle, self.variant, self.optimization = bundle, variant, optimization
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._small = small(bundle.path)

    def stage(self, name: str, *inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Output of one stage."""
        if name not in self._sessions:
            if not self._small:
                self._sessions.clear()
                return_memory()
            self._sessions[name] = open_session(
                self.bundle.stage(name),
                variant=self.variant,
                optimization=self.optimization,
            )
        return run(self._sessions[name], *inputs)[0].astype(np.float32)

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Restored image (1, 3, s, s) in [0, 1] for an image in [-1, 1]."""
        vre, encoder, unet, decoder = STAGES
        prompt, z = self.stage(vre, image), self.stage(encoder, image)
        return self.stage(decoder, self.stage(unet, z, prompt))

    def restore_face(self, image: Image) -> Image:
        """One aligned face crop, uint8 in and out."""
        return to_pictures(self(to_input(image[None])))[0]
