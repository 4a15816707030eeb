"""The command line itself, and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Turn a one-step diffusion face restorer into a verified 4-bit ONNX bundle.",
)

Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write the result as JSON here; - for standard output."),
]
Lpips = Annotated[
    Path | None, typer.Option(help="torchvision's AlexNet or VGG-16 file, for LPIPS.")
]
LpipsLinear = Annotated[Path | None, typer.Option(help="LPIPS' linear weights; needs --lpips.")]
Inception = Annotated[
    Path | None,
    typer.Option(
        help="inception-2015-12-05.pt, for Frechet distances; the visual embedder's features "
        "if left out."
    ),
]
