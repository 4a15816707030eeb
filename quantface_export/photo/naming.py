"""Which files are read and what their restored versions are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from quantface_export.photo.errors import ImageError
from quantface_export.photo.write import ENCODINGS, require_not_input

IMAGE_SUFFIXES = frozenset(ENCODINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One photograph to read and the file its restored version goes to."""

    input: Path
    output: Path


def list_images(inputs: Sequence[Path]) -> list[Path]:
    """Replace each folder by the images directly inside it, sorted by name.

    Files are kept whatever their name, so that a wrong one is reported when read.
    Hidden files in folders are passed over, and a file named twice is listed once.

    Raises:
        ImageError: Nothing was given, or a folder holds no image.
    """
    if not inputs:
        raise ImageError("no input was given; name photographs or folders of photographs")
    files: dict[Path, Path] = {}
    for path in inputs:
        inside = [path]
        if path.is_dir():
            inside = sorted(entry for entry in path.iterdir() if _is_image(entry))
            if not inside:
                known = ", ".join(sorted(IMAGE_SUFFIXES))
                raise ImageError(f"{path} holds no image; expected files ending in {known}")
        for file in inside:
            files.setdefault(file.resolve(), file)
    return list(files.values())


def plan(inputs: Sequence[Path], out: Path, *, suffix: str = ".png") -> list[Job]:
    """Give every image its output.

    Args:
        inputs: Photographs and folders of photographs.
        out: A folder, made if missing. With one photograph also a file to write,
            recognised by its image extension.
        suffix: Extension of the files written to a folder.

    Returns:
        One job per image. ``photo.jpg`` becomes ``photo.png``; if that name is taken
        by another job it becomes ``photo-2.png`` and so on, and if it is an input
        ``photo-restored.png``.

    Raises:
        ImageError: Nothing to read, or ``out`` cannot take it.
    """
    files = list_images(inputs)
    if out.suffix.lower() in IMAGE_SUFFIXES and not out.is_dir():
        if len(inputs) > 1 or inputs[0].is_dir():
            raise ImageError(
                f"{out} is one file, but {len(files)} photographs go there; name a folder"
            )
        require_not_input(out, files)
        _make_folder(out.parent)
        return [Job(input=files[0], output=out)]
    _make_folder(out)
    read = {_key(file) for file in files}
    written: set[str] = set()
    jobs = []
    for file in files:
        clash = _key(out / f"{file.stem}{suffix}") in read
        stem = f"{file.stem}-restored" if clash else file.stem
        output = _free(out, stem, suffix, read | written)
        written.add(_key(output))
        jobs.append(Job(input=file, output=output))
    return jobs


def _free(folder: Path, stem: str, suffix: str, taken: set[str]) -> Path:
    numbers = (f"-{number}" for number in count(2))
    names = (f"{stem}{number}{suffix}" for number in chain([""], numbers))
    return next(folder / name for name in names if _key(folder / name) not in taken)


def _key(path: Path) -> str:
    """What makes two paths one file, also where a file system ignores case."""
    return str(path.resolve()).casefold()


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file()


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ImageError(f"{path} is a file; expected a folder, or a new name") from error
    except OSError as error:
        raise ImageError(
            f"{path} cannot be made: {error.strerror or error}; name another folder"
        ) from error
