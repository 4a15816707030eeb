"""The line as one function.

model -> observe -> balance -> allocate -> train -> merge -> lower -> bundle -> run -> verify
"""

from __future__ import annotations

import dataclasses
import resource
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from calibration.dataset import from_folder, generated
from calibration.progress import SILENT, Progress
from quantface_export.build_report import Faces, report
from quantface_export.bundle import (
    GOLDEN,
    OTHER_GOLDEN,
    REPORT,
    load_bundle,
    new_bundle,
    write_manifest,
)
from quantface_export.clock import Clock
from quantface_export.errors import QuantfaceError
from quantface_export.finished import WorkFolder, belongs_to
from quantface_export.image_size import ImageSize
from quantface_export.integers import integers_sha256
from quantface_export.manifest import make_manifest, stage_sizes, total_bytes
from quantface_export.models import Source, find_source, image_size, possible_sides
from quantface_export.phone.download import download_plan
from quantface_export.phone.usability import check_stage
from quantface_export.pre_post import write_pre_post
from quantface_export.quantize_stages import quantize_stages
from quantface_export.recipes import load_recipe
from quantface_export.reference import to_tensors
from quantface_export.resources import require_disk
from quantface_export.settings import BuildSettings
from quantface_export.stages import STAGES
from quantface_export.verify import MIN_PSNR_DB, QUICK_CASES, verify

Image = NDArray[np.uint8]

GOLDEN_IMAGES = 4

LARGE = 100_000_000
"""Models of so many parameters have one golden image, and the build verifies them quickly."""

DISK_BYTES = 2
"""Free disk that a build asks for, for each parameter: the bundle, and its models once more."""


class VerificationError(QuantfaceError):
    """The bundle that was built does not equal its reference."""


def build(settings: BuildSettings, progress: Progress = SILENT) -> dict[str, Any]:
    """Build, verify and place a bundle.

    Stage after stage is loaded, quantized, lowered and run as its own reference, and let go;
    only training and the allocation of bits need the whole model at once.

    Returns:
        The JSON of the ``build`` command.

    Raises:
        QuantfaceError: Bad settings, a layer that did not fuse, or failed parity; an earlier
            bundle at ``settings.out`` is untouched then.
    """
    clock, recipe, source = Clock(), load_recipe(settings.recipe), find_source(settings)
    counts = source.parameters
    require_disk(settings.out.parent, DISK_BYTES * sum(counts.values()), "the build")
    size = image_size(source.config, settings.size)
    images, clean = calibration_images(settings, size)
    golden, others = to_tensors(images), other_goldens(source, settings)
    with new_bundle(settings.out) as folder:
        key = belongs_to((settings.command, recipe), source.files, np.stack(images))
        work = WorkFolder(settings.work or folder / "work", key)
        large = sum(counts.values()) >= LARGE
        done = quantize_stages(
            source,
            recipe,
            golden,
            settings,
            golden_images=[golden[: 1 if large else GOLDEN_IMAGES], *others.values()],
            work=work,
            clock=clock,
            progress=progress,
        )
        for name in STAGES:
            work.hand_over(name, folder / name)
        (folder / GOLDEN).parent.mkdir()
        named = (str(size), *others)
        own, *rest = (x.stored(s) for x, s in zip(done.goldens, named, strict=True))
        np.savez(folder / GOLDEN, **own.values)  # type: ignore[arg-type]
        for x in rest:
            np.savez(folder / OTHER_GOLDEN.format(size=x.size), **x.values)  # type: ignore[arg-type]
        if settings.with_pre_post:
            write_pre_post(folder, size)
        if settings.work is None:
            work.remove()
        manifest = make_manifest(
            settings,
            done.together.recipe,
            files=source.files,
            images=np.stack(images),
            layers=[row for stage in done.stages.values() for row in stage.rows],
            size=size,
            sides=possible_sides(source.config) if settings.dynamic else None,
            floor=own.floor,
            other_sizes={x.size: x.floor for x in rest},
            counts=counts,
            training=done.together.training,
            allocation=done.together.allocation,
            integers={
                name: integers_sha256(folder / name / "model.onnx", own.inputs(name))
                for name in STAGES
            },
            download=download_plan(folder),
        )
        write_manifest(folder, manifest)
        with clock("verify"):
            cases = QUICK_CASES if large else None
            verified = verify(load_bundle(folder), progress, cases=cases)
        if not (verified["passed"] or (settings.keep_unstable and verified["unstable"])):
            raise VerificationError(_failure(verified))
        # It loads a stage several times over, which takes long for a large one; `package` does so.
        mobile = (
            {} if large else {name: check_stage(folder / name / "model.onnx") for name in STAGES}
        )
        sizes = stage_sizes(folder, counts)
        progress.step("writing the report")
        report(
            folder / REPORT,
            manifest=manifest,
            distribution=done.stages["unet"].distribution,
            faces=Faces(
                before=images,
                clean=clean,
                fp32=done.stages["vae_decoder"].output,
                quantized=own.values["restored"],
            ),
            sizes=sizes,
            verified=verified,
            mobile=mobile,
        )
    work.remove()
    return {
        "bundle": str(settings.out),
        "recipe": recipe.name,
        "seconds": clock.total,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "stages": [{"name": name, "seconds": clock.seconds.get(name, 0.0)} for name in STAGES],
        "phases": [{"name": name, "seconds": s} for name, s in clock.seconds.items()],
        "bytes": total_bytes(sizes),
        "training": done.together.training,
        "mobile": mobile,
        "verify": verified,
    }


def calibration_images(
    settings: BuildSettings, size: ImageSize
) -> tuple[list[Image], list[Image] | None]:
    """Calibration images and, where they are generated, their clean originals.

    They are cut out of squares; of a size that is not square, from the middle.
    """
    if settings.calib_count < 1:
        raise QuantfaceError(f"--calib-count must be at least 1, got {settings.calib_count}")
    if settings.calib is None:
        degraded, clean = generated(settings.calib_count, size.longer, settings.seed)
        return _cut(degraded, size), _cut(clean, size)
    try:
        return _cut(from_folder(settings.calib, settings.calib_count, size.longer), size), None
    except ValueError as e:
        raise QuantfaceError(str(e)) from e


def other_goldens(source: Source, settings: BuildSettings) -> dict[str, Tensor]:
    """Images of another shape by size, which a dynamic bundle is verified with too.

    One, wider than high and smaller than usual.
    """
    if not settings.dynamic:
        return {}
    least, next_one, *_ = possible_sides(source.config)
    size = ImageSize(width=next_one, height=least)
    images, _ = calibration_images(dataclasses.replace(settings, calib_count=1), size)
    return {str(size): to_tensors(images)}


def _cut(squares: list[Image], size: ImageSize) -> list[Image]:
    top, left = (size.longer - size.height) // 2, (size.longer - size.width) // 2
    return [x[top : top + size.height, left : left + size.width] for x in squares]


def _failure(verified: dict[str, Any]) -> str:
    bad = [s for s in verified["stages"] if not s["passed"]]
    if bad:
        s = bad[0]
        return (
            f"parity failed in {s['name']} ({s['variant']}, optimizations {s['optimization']}): "
            f"{s['mismatch_fraction']:.2e} of the integers differ, by up to {s['lsb_max']}, worst "
            f"layer {s['worst_layer']}; at most 1e-4 by 1 were expected; nothing was written"
        )
    e = verified["end_to_end"]
    if verified["unstable"]:
        return (
            f"every layer is right, but rounding ties spread: the picture is {e['psnr_db']:.1f} dB "
            f"from the reference's, which is {e['noise_floor_psnr_db']:.1f} dB from itself in "
            f"float64, and {MIN_PSNR_DB:g} dB are expected; use more bits or training, or "
            "--keep-unstable to have the bundle; nothing was written"
        )
    return (
        f"end-to-end parity failed: {e['psnr_db']:.1f} dB against the reference, expected at least "
        f"{e['needed_psnr_db']:.1f} dB; nothing was written"
    )
