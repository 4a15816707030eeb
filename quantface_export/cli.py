"""Command line: ``quantface-export build | verify | restore``."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from quantface_export.errors import QuantfaceError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Turn a one-step diffusion face restorer into a verified 4-bit ONNX bundle.",
)
console = Console(stderr=True)

Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write the result as JSON here; - for standard output."),
]


@contextmanager
def _steps(title: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on, on a terminal; plain lines elsewhere."""
    if not console.is_terminal:
        yield lambda text: console.print(f"{title}: {text}", highlight=False)
        return
    with console.status(title) as status:
        yield lambda text: status.update(f"{title}: {text}")


def _write_json(target: Path | None, result: dict[str, Any]) -> None:
    if target is None:
        return
    text = json.dumps(result, indent=1, default=str)
    if str(target) == "-":
        print(text)
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")
    except OSError as e:
        raise QuantfaceError(
            f"{target} can't be written ({e.strerror}); choose another --json"
        ) from e


def _print_verified(result: dict[str, Any]) -> None:
    table = Table(title="parity, ONNX Runtime against the reference")
    for column in ("stage", "Hadamard by", "optimizations", "integers off", "by", "SQNR", ""):
        table.add_column(column)
    for s in result["stages"]:
        table.add_row(
            s["name"],
            s["variant"],
            s["optimization"],
            f"{s['mismatch_fraction']:.1e}",
            str(s["lsb_max"]),
            f"{s['sqnr_db']:.1f} dB",
            "ok" if s["passed"] else f"FAILED {s['worst_layer']}",
        )
    console.print(table)
    e, f = result["end_to_end"], result["fusion"]
    console.print(
        f"end to end {e['psnr_db']:.1f} dB (noise floor {e['noise_floor_psnr_db']:.1f} dB, needed "
        f"{e['needed_psnr_db']:.1f} dB); {f['fused']} of {f['planned']} layers run on integers"
    )
    console.print("[green]passed[/]" if result["passed"] else "[red]FAILED[/]")


@app.command(
    epilog="Examples: `quantface-export build` builds the embedded model; "
    "`quantface-export build --recipe w4a6 --calib faces/ --out my-bundle --json -`"
)
def build(
    model: Annotated[str, typer.Option(help="Model to build.")] = "nano",
    recipe: Annotated[str, typer.Option(help="w4a4, w4a6 or w6a6.")] = "w4a4",
    calib: Annotated[
        Path | None,
        typer.Option(help="Folder of face images to calibrate on; generated if left out."),
    ] = None,
    calib_count: Annotated[int, typer.Option(help="Number of calibration images.")] = 16,
    seed: Annotated[int, typer.Option(help="Seeds calibration images and rotations.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Bundle folder; build/MODEL-RECIPE if left out.")
    ] = None,
    json: Json = None,
) -> None:
    """Quantize a model, lower it to ONNX, verify it and write the bundle."""
    from quantface_export.pipeline import build as run_build
    from quantface_export.settings import BuildSettings

    settings = BuildSettings(
        model=model,
        recipe=recipe,
        calib=calib,
        calib_count=calib_count,
        seed=seed,
        out=Path(f"build/{model}-{recipe}") if out is None else out,
    )
    with _steps("build") as step:
        result = run_build(settings, step)
    _print_verified(result["verify"])
    size = result["bytes"]
    console.print(
        f"{result['bundle']}: {size['bundle'] / 1e6:.1f} MB, {size['ratio']:.3f} of float32, "
        f"in {result['seconds']:.0f} s"
    )
    _write_json(json, result)


@app.command(epilog="Example: `quantface-export verify build/nano-w4a4 --json parity.json`")
def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    json: Json = None,
) -> None:
    """Compare what ONNX Runtime computes with the bundle's reference. Needs no torch."""
    from quantface_export.bundle import load_bundle
    from quantface_export.verify import verify as run_verify

    with _steps("verify") as step:
        result = run_verify(load_bundle(bundle), step)
    _print_verified(result)
    _write_json(json, result)
    if not result["passed"]:
        raise typer.Exit(1)


@app.command(
    epilog="Examples: `quantface-export restore photo.jpg --out restored`; "
    "`quantface-export restore crops/ --aligned --out restored`"
)
def restore(
    images: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    bundle: Annotated[Path, typer.Option(help="Bundle folder.")] = Path("build/nano-w4a4"),
    out: Annotated[Path, typer.Option(help="Folder, or a file for a single photograph.")] = Path(
        "restored"
    ),
    aligned: Annotated[
        bool, typer.Option("--aligned", help="The images are face crops already.")
    ] = False,
    detector: Annotated[
        Path | None,
        typer.Option(help="YuNet ONNX file to find faces with; the built-in one if left out."),
    ] = None,
    json: Json = None,
) -> None:
    """Find the faces in photographs, restore them and paste them back. Needs no torch."""
    from quantface_export.bundle import load_bundle
    from quantface_export.photo.batch import restore_files
    from quantface_export.photo.detect import load_detector
    from quantface_export.runner import Runner

    loaded = load_bundle(bundle)
    report = restore_files(
        images,
        out,
        Runner(loaded).restore_face,
        loaded.size,
        aligned=aligned,
        detector=load_detector(detector),
    )
    for done in report.outputs:
        console.print(
            f"{done['output']}: {done['faces']} faces, {done['seconds']:.1f} s", soft_wrap=True
        )
    for failure in report.failed:
        console.print(f"[red]{failure['input']}[/]: {failure['error']}", soft_wrap=True)
    _write_json(json, {"outputs": report.outputs, "failed": report.failed})
    if report.exit_code:
        raise typer.Exit(report.exit_code)


class Interrupted(QuantfaceError):
    """The user or the system asked the command to stop."""

    exit_code = 130


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(f"interrupted by {signal.Signals(number).name}; nothing half-written is left")


def main() -> None:
    """Entry point: one clear line for what a person can mend, and its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except QuantfaceError as e:
        print(f"quantface-export: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
