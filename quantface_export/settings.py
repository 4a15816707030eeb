"""What one build depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Profile = Literal["cpu", "portable"]

CALIB_COUNT = 64
TRAIN_STEPS = 200
TRAIN_RATE = 4e-4

CACHE = Path("build/cache")
"""Where finished sensitivity sweeps are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What one build depends on.

    Attributes:
        model: Name of the model.
        recipe: Name of the recipe.
        size: Side of the images in pixels, or WIDTHxHEIGHT; None for the model's own.
        profile: What the graphs are written for: ``cpu``, or ``portable`` in standard ops only.
        calib: Folder of calibration images; None generates them.
        calib_count: How many calibration images.
        seed: Seeds calibration images, samples and rotations.
        out: Where the bundle goes.
        train_steps: Steps of end-to-end training; 0 keeps the untrained branch.
        train_rate: Peak learning rate.
        checkpoint: File of the training state; None keeps none.
        cache: Folder of finished sensitivity sweeps; None keeps none.
        adapter: Folder for the LoRA branches as PEFT adapters, by stage; None writes none.
        lpips, lpips_linear: Files of LPIPS; None takes the VAE encoder's features.
        inception: File of Inception-v3 for Frechet distances; None takes the VRE's latents.
        weights: Folder with the model's files; None takes the embedded model's.
        sd: Stable Diffusion's folder or file, where it is not in ``weights``.
        osdface: Folder of OSDFace's own files, where they are not in ``weights``.
        keep_unstable: Write a bundle whose every layer is right, though its picture is further
            from the reference's than 40 dB because the reference itself is.
        dynamic: Graphs take any possible size, not only that of the calibration images.
        work: Folder of finished stages, which a killed build goes on from; None keeps none.
        with_pre_post: Also write the two models from and to the bytes of image files.
    """

    model: str
    recipe: str
    calib: Path | None
    calib_count: int
    seed: int
    out: Path
    train_steps: int = TRAIN_STEPS
    train_rate: float = TRAIN_RATE
    checkpoint: Path | None = None
    cache: Path | None = None
    adapter: Path | None = None
    lpips: Path | None = None
    lpips_linear: Path | None = None
    inception: Path | None = None
    weights: Path | None = None
    sd: Path | None = None
    osdface: Path | None = None
    keep_unstable: bool = False
    work: Path | None = None
    size: str | None = None
    dynamic: bool = False
    profile: Profile = "cpu"
    with_pre_post: bool = False

    @property
    def command(self) -> str:
        """The command line that makes the same bundle; words in capitals stand for paths."""
        paths = {
            "--weights": self.weights,
            "--sd": self.sd,
            "--osdface": self.osdface,
            "--calib": self.calib,
            "--lpips": self.lpips,
            "--lpips-linear": self.lpips_linear,
            "--inception": self.inception,
        }
        given = "".join(f" {o} {o[2:].upper()}" for o, path in paths.items() if path is not None)
        given += " --keep-unstable" if self.keep_unstable else ""
        given += " --with-pre-post" if self.with_pre_post else ""
        size = "" if self.size is None else f" --size {self.size}"
        size += " --dynamic" if self.dynamic else ""
        size += "" if self.profile == "cpu" else f" --profile {self.profile}"
        return (
            f"quantface-export build --model {self.model}{size} --recipe {Path(self.recipe).name}"
            f"{given} --calib-count {self.calib_count} --seed {self.seed} "
            f"--train-steps {self.train_steps} --train-rate {self.train_rate:g}"
        )
