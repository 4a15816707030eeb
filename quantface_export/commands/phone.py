"""The command that prepares a bundle for a phone: ``package``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantface_export.commands.app import Json, app
from quantface_export.console import console, reporting, write_json


@app.command(
    epilog="Examples: `quantface-export package my-bundle --out my-package`; "
    "`quantface-export package my-bundle --function-bodies --out my-package`"
)
def package(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")] = Path("build/nano-w4a4"),
    out: Annotated[Path, typer.Option(help="A new folder.")] = Path("build/package"),
    bodies: Annotated[
        bool,
        typer.Option(
            "--function-bodies",
            help="Write the ops' function bodies into the graphs, for apps without the op library.",
        ),
    ] = False,
    json: Json = None,
) -> None:
    """Convert a bundle to ORT format for reduced builds of ONNX Runtime. Needs no torch."""
    from quantface_export.bundle import load_bundle
    from quantface_export.phone.package import package as run_package

    with reporting("package") as progress:
        result = run_package(load_bundle(bundle), out, native=not bodies, progress=progress)
    for i, part in enumerate(result["download"], 1):
        stages = ", ".join(part["stages"])
        console.print(f"download {i}: {stages}, {part['bytes'] / 1e6:.1f} MB", highlight=False)
    for name, found in result["usability"].items():
        console.print(f"{name}: ONNX Runtime's check says {found['verdict']}", highlight=False)
    write_json(json, result)
