"""Train the embedded model: ``python -m quantface_export.nano.train --help``.

All four stages learn together from the restored image, the VAE's reconstruction of the
clean image, and the VRE's reconstruction of the clean image through its codebook (by a
small decoder that is thrown away). Late in a long run a critic of patches adds sharpness.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from quantface_export.nano.data import Batches, rendered_faces
from quantface_export.nano.evaluate import evaluate, held_out_faces, held_out_photograph, sheet
from quantface_export.nano.training import CPU_HOUR, GPU, ROBUST, Schedule, Training
from quantface_export.nano.weights import WEIGHTS, load_nano, save_nano
from quantface_export.osdface.config import NANO
from quantface_export.osdface.model import Osdface

SAVE_EVERY = 100
REPORT_EVERY = 0.1


def train(
    schedule: Schedule,
    *,
    seed: int,
    device: str,
    workers: int,
    checkpoint: Path,
    weights: Path,
    start: Path | None = None,
    resume: bool = False,
) -> Osdface:
    """Train nano; returns the moving average of its weights.

    Args:
        schedule: Length and pace.
        seed: Of the faces, the pairs and the initial weights.
        device: ``cpu`` or ``cuda``.
        workers: Processes that render and degrade; 0 for this one.
        checkpoint: File to go on from, rewritten every 100 steps and at the end.
        weights: File for the averaged weights so far, rewritten every tenth of the run.
        start: Weights to start from; None starts as the schedule says.
        resume: Go on from the checkpoint, with the same seed and schedule.
    """
    cv2.setNumThreads(1)  # here: a forked worker that changes it waits for ever
    faces = rendered_faces(seed, schedule.faces, NANO.size, workers)
    training = Training(schedule, seed, device)
    if start is not None:
        training.start_from(load_nano(start))
    if resume:
        training.load(checkpoint)
    batches = Batches(seed, faces, schedule.batch, training.number).loader(workers)
    judged = held_out_faces(16, NANO.size)
    began, reported = time.monotonic() - training.seconds, training.share
    columns = BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn()
    with Progress(TextColumn("{task.description}"), *columns) as progress:
        task = progress.add_task("training nano", total=1.0, state="")
        for degraded, clean in batches:
            loss = training.step(degraded, clean)
            training.seconds, share = time.monotonic() - began, training.share
            if training.number % 10 == 0:
                state = f"step {training.number}, loss {loss.item():.3f}"
                progress.update(task, completed=share, state=state)
            if share >= reported + REPORT_EVERY:
                reported = share
                save_nano(training.trained(), weights)
                gain = evaluate(training.trained(), judged).gain_db
                speed = training.number / training.seconds
                progress.print(
                    f"{share:.0%}, step {training.number}, {training.seconds:.0f} s "
                    f"({speed:.2f} steps/s): loss {loss.item():.3f}, {gain:+.2f} dB"
                )
            if training.number % SAVE_EVERY == 0 or share >= 1:
                training.save(checkpoint)
            if share >= 1:
                break
    return training.trained()


def main() -> None:
    """Train, evaluate, save weights and a sheet of pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cuda = torch.cuda.is_available()
    usual = GPU if cuda else CPU_HOUR
    if "--start" in sys.argv:
        usual = ROBUST
    for field in fields(Schedule):
        default = getattr(usual, field.name)
        kind = float if field.name in ("minutes", "trunk") else type(default)
        parser.add_argument(
            f"--{field.name}", type=kind, default=default, help=f"default {default}"
        )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=15 if cuda else 1)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    parser.add_argument(
        "--work", type=Path, default=Path("build/nano"), help="folder for checkpoint and pictures"
    )
    parser.add_argument("--start", type=Path, help="weights to start from; see --trunk if left out")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    model = train(
        Schedule(**{field.name: getattr(args, field.name) for field in fields(Schedule)}),
        seed=args.seed,
        device="cuda" if cuda else "cpu",
        workers=args.workers,
        checkpoint=args.work / "checkpoint.pt",
        weights=args.out,
        start=args.start,
        resume=args.resume,
    )
    save_nano(model, args.out)
    print(f"trained in {time.monotonic() - began:.0f} s")
    faces = evaluate(model, held_out_faces(64, NANO.size))
    photograph = evaluate(model, held_out_photograph(NANO.size, 8))
    for name, result in (("64 held-out faces", faces), ("held-out photograph", photograph)):
        before, after = (result.psnr(x).mean() for x in (result.degraded, result.restored))
        print(f"{name}: {before:.2f} -> {after:.2f} dB ({result.gain_db:+.2f})")
    picture = sheet(faces, photograph)
    cv2.imwrite(str(args.work / "sheet.png"), np.ascontiguousarray(picture[..., ::-1]))


if __name__ == "__main__":
    main()
