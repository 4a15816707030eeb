"""Methods and bits side by side on held-out faces: each is quantized, lowered and run in ORT."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.degradation import degrade
from calibration.faces import face
from calibration.layers import quant_layers
from calibration.methods import METHODS
from calibration.progress import SILENT, Progress
from calibration.recipe import RECIPES, Recipe
from quantface_export.bundle import Bundle
from quantface_export.clock import Clock
from quantface_export.compare.landmarks import load_landmark_net
from quantface_export.compare.scores import Judge, Scores
from quantface_export.errors import QuantfaceError
from quantface_export.features import features_name, load_features
from quantface_export.models import find_source, image_size
from quantface_export.nano.data import HELD_OUT
from quantface_export.nano.weights import load_nano
from quantface_export.osdface.config import NANO
from quantface_export.osdface.prepare import prepare
from quantface_export.pipeline import calibration_images
from quantface_export.pixels import to_input, to_pictures
from quantface_export.quantize_stages import lower_stages, quantize_model
from quantface_export.quantized import QuantizedModel
from quantface_export.reference import run_stages, to_tensors
from quantface_export.runner import Runner
from quantface_export.settings import BuildSettings
from quantface_export.student import perceptual_distance

Images = NDArray[np.float32]

MIXED, FOLDED = "quantface-mp", "quantface-fold"
NAMES = (*METHODS, MIXED, FOLDED)
"""Methods of the table, in the order of the paper's."""

FACES_PER_SEED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """Held-out faces of one seed, all (n, ...).

    Attributes:
        degraded, clean: (n, s, s, 3) uint8 RGB.
        landmarks: (n, 70, 2) true positions, pixels.
        fp32: (n, 3, s, s) the float model's pictures in [0, 1].
    """

    degraded: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    fp32: Images


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One method at one width.

    Attributes:
        method: Name in the table.
        recipe: What was done.
        act_bits_mean: Activation bits, weighted by multiply-accumulates, edges left out.
        restored: (n, 3, s, s) pictures that ONNX Runtime gave, in [0, 1].
        bytes: Of the four models.
        seconds: Of one face, median.
        build_seconds: Of quantizing and training.
    """

    method: str
    recipe: Recipe
    act_bits_mean: float
    restored: Images
    bytes: int
    seconds: float
    build_seconds: float

    @property
    def bits(self) -> str:
        """``W/A`` as in the paper's Table 1."""
        mean = round(self.act_bits_mean, 2)
        return f"{self.recipe.weight_bits}/{mean:g}"


def held_out(count: int, size: int, seed: int) -> Faces:
    """Faces that nano never saw, nor any calibration, and what the float model makes of them."""
    first = HELD_OUT + 100_000_000 + seed * FACES_PER_SEED
    faces = [face(first + i, size) for i in range(count)]
    degraded = np.stack(
        [degrade(f.image, np.random.default_rng([seed, i])) for i, f in enumerate(faces)]
    )
    model = load_nano()
    prepare(model)
    with torch.inference_mode():
        fp32 = run_stages(model.stages(), to_tensors(list(degraded)))["restored"]
    return Faces(
        degraded=degraded,
        clean=np.stack([f.image for f in faces]),
        landmarks=np.stack([f.landmarks for f in faces]).astype(np.float32),
        fp32=fp32.numpy(),
    )


def judge(faces: Faces, settings: BuildSettings, seed: int) -> Judge:
    """What every method's pictures are held against."""
    model = load_nano()
    distance = perceptual_distance(model.vae_encoder.encoder, settings.lpips, settings.lpips_linear)
    net = load_landmark_net()
    clean = np.moveaxis(faces.clean, -1, 1).astype(np.float32) / 255
    return Judge(
        faces.fp32,
        clean,
        faces.landmarks,
        distance=distance,
        features=load_features(model.vre, settings.inception, pooled=True),
        regressor=net,
        seed=seed,
    )


def recipe_of(method: str, bits: str) -> Recipe:
    """The recipe of a table's row.

    Raises:
        QuantfaceError: An unknown method, or bits that are no ``W/A``.
    """
    weight, _, activation = bits.partition("/")
    if not (weight.isdigit() and activation.isdigit()):
        raise QuantfaceError(f"bits must be W/A such as 4/4, got {bits!r}")
    try:
        return _recipe_of(method, int(weight), int(activation))
    except ValueError as e:
        raise QuantfaceError(f"{method} at {bits}: {e}") from e


def _recipe_of(method: str, weight: int, activation: int) -> Recipe:
    plain = METHODS["quantface"].recipe
    if method == MIXED:
        made = plain(weight, activation)
        budget = RECIPES["w4a4-mp"].budget if activation == 4 else float(activation)
        return dataclasses.replace(made, name=f"{made.name}-mp", budget=budget)
    if method == FOLDED:
        made = plain(weight, activation)
        return dataclasses.replace(made, name=f"{made.name}-fold", fold=True)
    if method not in METHODS:
        raise QuantfaceError(f"unknown method {method!r}; expected one of {', '.join(NAMES)}")
    return METHODS[method].recipe(weight, activation)


def requested(methods: Sequence[str], bits: Sequence[str]) -> list[tuple[str, Recipe]]:
    """Methods x bits with their recipes.

    Args:
        methods: Some of :data:`NAMES`.
        bits: ``W/A`` each.

    Raises:
        QuantfaceError: An unknown method, or bits that are no ``W/A``.
    """
    return [(name, recipe_of(name, width)) for width in bits for name in methods]


def run_recipe(
    name: str, recipe: Recipe, faces: Faces, settings: BuildSettings, progress: Progress
) -> Outcome:
    """Quantize nano by ``recipe``, lower it, and restore the faces with ONNX Runtime."""
    source = find_source(settings)
    images, _ = calibration_images(settings, image_size(source.config, None))
    clock = Clock()
    done = quantize_model(source.model(), recipe, to_tensors(images), settings, clock, progress)
    built = clock.total
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        lower_stages(done.modules, done.values, path, progress)
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        runner = Runner(Bundle(path=path, manifest={"size": source.config.size}))
        restored, seconds = [], []
        for image in progress.track(faces.degraded, "restoring held-out faces"):
            started = time.perf_counter()
            restored.append(runner(to_input(image[None])))
            seconds.append(time.perf_counter() - started)
    return Outcome(
        method=name,
        recipe=done.recipe,
        act_bits_mean=mean_bits(done),
        restored=np.concatenate(restored),
        bytes=size,
        seconds=statistics.median(seconds),
        build_seconds=built,
    )


def mean_bits(done: QuantizedModel) -> float:
    """Activation bits weighted by multiply-accumulates; first and last layers are left out."""
    pairs = [
        (stage.sites[layer.site].positions[layer.name] * layer.shape.numel(), layer.x_grid.bits)
        for stage in done.stages.values()
        for layer in quant_layers(stage.module).values()
        if not layer.edge
    ]
    return sum(macs * bits for macs, bits in pairs) / sum(macs for macs, _ in pairs)


def row(outcome: Outcome, scores: Scores) -> dict[str, Any]:
    """One row of the JSON."""
    return {
        "method": outcome.method,
        "bits": outcome.bits,
        "act_bits_mean": outcome.act_bits_mean,
        **scores.as_json(),
        "bytes": outcome.bytes,
        "seconds": outcome.seconds,
        "build_seconds": outcome.build_seconds,
    }


def ablation_recipes() -> dict[str, Recipe]:
    """The steps of the paper's Table 4 at 4/4, and either half of the balance alone."""
    full = METHODS["quantface"].recipe(4, 4)
    base = dataclasses.replace(full, method="svdquant", rank=0, rotate=False, scale=False)
    return {
        "base": base,
        "+ scaling only": dataclasses.replace(base, scale=True),
        "+ rotation only": dataclasses.replace(base, rotate=True),
        "+ rotation-scaling": dataclasses.replace(base, scale=True, rotate=True),
        "+ QD-LoRA": full,
        "+ MP": recipe_of(MIXED, "4/4"),
    }


def compare(
    settings: BuildSettings,
    *,
    wanted: Sequence[tuple[str, Recipe]],
    images: int,
    seed: int,
    ablation: bool,
    progress: Progress = SILENT,
) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
    """Run methods x bits, and the ablation.

    Args:
        settings: Calibration and training; the model is nano.
        wanted: What :func:`requested` gave.
        images: Held-out faces.
        seed: Of the held-out faces and the bootstrap.
        ablation: Whether to run the steps of Table 4 as well.
        progress: Told of everything.

    Returns:
        The JSON of the command, and columns of pictures for the sheet.
    """
    progress.step("rendering held-out faces")
    faces = held_out(images, NANO.size, seed)
    held = judge(faces, settings, seed)
    known: list[tuple[Recipe, Outcome, Scores]] = []

    def outcome(name: str, recipe: Recipe) -> tuple[Outcome, Scores]:
        key = dataclasses.replace(recipe, name="")
        for same, made, scores in known:
            if same == key:
                return made, scores
        made = run_recipe(name, recipe, faces, settings, progress)
        known.append((key, made, held.score(made.restored)))
        return known[-1][1:]

    rows, columns = [], {"degraded": faces.degraded, "fp32": to_pictures(faces.fp32)}
    for i, (name, recipe) in enumerate(wanted):
        progress.step(f"{i + 1} of {len(wanted)}: {recipe.name}")
        made, scores = outcome(name, recipe)
        rows.append({**row(made, scores), "method": name})
        columns[f"{name}\n{made.bits}"] = to_pictures(made.restored)
    steps = []
    for name, recipe in ablation_recipes().items() if ablation else ():
        made, scores = outcome(name, recipe)
        steps.append({"name": name, **row(made, scores)})
    columns["clean"] = faces.clean
    result = {
        "seed": seed,
        "n": images,
        "perceptual": held.distance.name,
        "frechet_features": features_name(settings.inception),
        "rows": rows,
        "ablation": steps,
    }
    return result, columns
