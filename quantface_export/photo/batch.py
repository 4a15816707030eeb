"""Restore photograph files one after the other; a bad one does not stop the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from quantface_export.errors import QuantfaceError
from quantface_export.photo.detect import Detector, load_detector
from quantface_export.photo.errors import NoFaceError
from quantface_export.photo.image import read_image
from quantface_export.photo.naming import Job, plan
from quantface_export.photo.progress import track
from quantface_export.photo.report import Failure, Output, Report
from quantface_export.photo.restore import RestoreFace, restore_photo
from quantface_export.photo.write import write_image


def restore_files(
    inputs: Sequence[Path],
    out: Path,
    restore_face: RestoreFace,
    size: int,
    *,
    aligned: bool = False,
    detector: Detector | None = None,
    progress: bool | None = None,
    suffix: str = ".png",
) -> Report:
    """Restore photographs and folders of photographs into ``out``.

    Args:
        inputs: Files and folders; a folder stands for the images directly inside.
        out: A folder, made if missing, or with one photograph a file to write. No
            input is ever overwritten; see ``naming.plan`` for the names.
        restore_face: The model, (size, size, 3) RGB to the same.
        size: The model's side, pixels.
        aligned: Each photograph is one face crop; see ``restore_photo``.
        detector: From ``load_detector``; None means the built-in cascade.
        progress: Draw a bar on stderr; None means with several files on a terminal.
        suffix: Extension of the files written to a folder.

    Returns:
        What became of each photograph.

    Raises:
        QuantfaceError: Nothing to read, or ``out`` cannot take it; no photograph has
            been read then.
    """
    jobs = plan(inputs, out, suffix=suffix)
    protected = [job.input for job in jobs]
    find = load_detector() if detector is None else detector
    report = Report()

    def restore(job: Job) -> Output:
        begin = time.perf_counter()
        photo = read_image(job.input)
        try:
            restored = restore_photo(photo, restore_face, size, aligned=aligned, detector=find)
        except NoFaceError as error:
            raise NoFaceError(f"{job.input} {error}") from None
        write_image(job.output, restored.image, inputs=protected)
        return Output(
            input=str(job.input),
            output=str(job.output),
            faces=restored.faces,
            seconds=round(time.perf_counter() - begin, 3),
        )

    for job in track(jobs, "Restoring", show=progress):
        try:
            report.outputs.append(restore(job))
        except QuantfaceError as error:
            failure = Failure(input=str(job.input), error=str(error), code=error.exit_code)
            report.failed.append(failure)
    return report
