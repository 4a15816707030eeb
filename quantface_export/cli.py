"""Command line: ``quantface-export build | verify | restore | allocate | compare | cost``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from quantface_export.console import console, make_folder, print_verified, reporting, write_json
from quantface_export.errors import QuantfaceError
from quantface_export.interrupt import stop_on_signals
from quantface_export.settings import CACHE, CALIB_COUNT, TRAIN_RATE, TRAIN_STEPS, BuildSettings

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


@app.command(
    epilog="Examples: `quantface-export build` builds the embedded model; "
    "`quantface-export build --recipe w4a6 --calib faces/ --out my-bundle --json -`"
)
def build(
    model: Annotated[str, typer.Option(help="Model to build.")] = "nano",
    recipe: Annotated[
        str,
        typer.Option(
            help="w4a4, w4a6, w6a6, w4a4-mp, a method with its bits (svdquant-w4a4), or a "
            "recipe file (.json)."
        ),
    ] = "w4a4",
    calib: Annotated[
        Path | None,
        typer.Option(help="Folder of face images to calibrate on; generated if left out."),
    ] = None,
    calib_count: Annotated[int, typer.Option(help="Number of calibration images.")] = CALIB_COUNT,
    seed: Annotated[int, typer.Option(help="Seeds calibration images and rotations.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Bundle folder; build/MODEL-RECIPE if left out.")
    ] = None,
    train_steps: Annotated[
        int, typer.Option(min=0, help="Steps of QD-LoRA training; 0 keeps the SVD branch.")
    ] = TRAIN_STEPS,
    train_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = TRAIN_RATE,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File of the training state: a killed build goes on from it."),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(help="Folder to write the LoRA branches to, as PEFT adapters by stage."),
    ] = None,
    lpips: Lpips = None,
    lpips_linear: LpipsLinear = None,
    inception: Inception = None,
    json: Json = None,
) -> None:
    """Quantize a model, lower it to ONNX, verify it and write the bundle."""
    from quantface_export.pipeline import build as run_build

    settings = BuildSettings(
        model=model,
        recipe=recipe,
        calib=calib,
        calib_count=calib_count,
        seed=seed,
        out=Path(f"build/{model}-{Path(recipe).stem}") if out is None else out,
        train_steps=train_steps,
        train_rate=train_rate,
        checkpoint=checkpoint,
        cache=CACHE,
        adapter=adapter,
        lpips=lpips,
        lpips_linear=lpips_linear,
        inception=inception,
    )
    with reporting("build") as progress:
        result = run_build(settings, progress)
    print_verified(result["verify"])
    size = result["bytes"]
    console.print(
        f"{result['bundle']}: {size['bundle'] / 1e6:.1f} MB, {size['ratio']:.3f} of float32, "
        f"in {result['seconds']:.0f} s"
    )
    write_json(json, result)


@app.command(epilog="Example: `quantface-export verify build/nano-w4a4 --json parity.json`")
def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    json: Json = None,
) -> None:
    """Compare what ONNX Runtime computes with the bundle's reference. Needs no torch."""
    from quantface_export.bundle import load_bundle
    from quantface_export.verify import verify as run_verify

    with reporting("verify") as progress:
        result = run_verify(load_bundle(bundle), progress)
    print_verified(result)
    write_json(json, result)
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
    from quantface_export.session import fastest_variant

    loaded = load_bundle(bundle)
    report = restore_files(
        images,
        out,
        Runner(loaded, variant=fastest_variant()).restore_face,
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
    write_json(json, {"outputs": report.outputs, "failed": report.failed})
    if report.exit_code:
        raise typer.Exit(report.exit_code)


@app.command(
    epilog="Examples: `quantface-export allocate`; `quantface-export allocate --budget 4.5 "
    "--out my-recipe.json --no-pareto`, then `quantface-export build --recipe my-recipe.json`"
)
def allocate(
    recipe: Annotated[str, typer.Option(help="Recipe whose activation bits change.")] = "w4a4",
    budget: Annotated[
        float, typer.Option(help="Activation bits on average, weighted by operations.")
    ] = 3.98,
    seed: Annotated[int, typer.Option(help="Seeds images, samples and rotations.")] = 0,
    out: Annotated[Path, typer.Option(help="Recipe file to write.")] = Path("build/w4a4-mp.json"),
    limit: Annotated[
        list[Path] | None,
        typer.Option(
            help="JSON file of one more budget, e.g. measured milliseconds: "
            '{"name": ..., "most": ..., "cost": {STAGE/LAYER: {bits: cost}}}.'
        ),
    ] = None,
    pareto: Annotated[
        bool, typer.Option(help="Also measure several budgets and draw them beside the recipe.")
    ] = True,
    lpips: Lpips = None,
    lpips_linear: LpipsLinear = None,
    inception: Inception = None,
    json: Json = None,
) -> None:
    """Choose activation bits per layer by integer programming; write a recipe to edit."""
    from quantface_export.limits import read_limit
    from quantface_export.pareto import allocate_command

    limits = [read_limit(path) for path in limit or ()]
    settings = BuildSettings(
        model="nano",
        recipe=recipe,
        calib=None,
        calib_count=8,
        seed=seed,
        out=out,
        cache=CACHE,
        lpips=lpips,
        lpips_linear=lpips_linear,
        inception=inception,
    )
    with reporting("allocate") as progress:
        result = allocate_command(settings, budget, limits=limits, pareto=pareto, progress=progress)
    console.print(
        f"{out}: {result['mean_bits']:.3f} bits on average, optimality gap "
        f"{result['gap']:.1e}, solved in {result['seconds']:.1f} s"
    )
    for kept in result["limits"]:
        console.print(f"{kept['name']}: {kept['used']:g} of {kept['most']:g}")
    if pareto:
        console.print(f"budget against quality: {out.with_suffix('.png')}")
    write_json(json, result)


@app.command(
    epilog="Examples: `quantface-export compare`; `quantface-export compare --methods "
    "svdquant,quantface --bits 4/4,6/6 --images 16 --no-ablation --json -`"
)
def compare(
    methods: Annotated[
        str, typer.Option(help="Comma-separated; all methods if left out.")
    ] = "maxmin,q-diffusion,efficientdm,passionsr,svdquant,quantface,quantface-mp",
    bits: Annotated[str, typer.Option(help="Comma-separated W/A.")] = "4/4",
    images: Annotated[int, typer.Option(min=2, help="Held-out faces.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the held-out faces and the bootstrap.")] = 0,
    ablation: Annotated[bool, typer.Option(help="The steps of the paper's Table 4 too.")] = True,
    train_steps: Annotated[int, typer.Option(min=0, help="Steps of training.")] = TRAIN_STEPS,
    calib_count: Annotated[int, typer.Option(help="Calibration images.")] = CALIB_COUNT,
    out: Annotated[Path, typer.Option(help="Folder for table and pictures.")] = Path(
        "build/compare"
    ),
    lpips: Lpips = None,
    lpips_linear: LpipsLinear = None,
    inception: Inception = None,
    json: Json = None,
) -> None:
    """Run quantization methods side by side on held-out faces, in ONNX Runtime."""
    import cv2

    from quantface_export.compare import run
    from quantface_export.compare.sheet import draw_sheet
    from quantface_export.compare.table import markdown, terminal, terminal_ablation

    wanted = run.requested(methods.split(","), bits.split(","))
    make_folder(out)
    settings = BuildSettings(
        model="nano",
        recipe="",
        calib=None,
        calib_count=calib_count,
        seed=0,
        out=out,
        train_steps=train_steps,
        cache=CACHE,
        lpips=lpips,
        lpips_linear=lpips_linear,
        inception=inception,
    )
    with reporting("compare") as progress:
        result, columns = run.compare(
            settings,
            wanted=wanted,
            images=images,
            seed=seed,
            ablation=ablation,
            progress=progress,
        )
    for side in ("truth", "fp32"):
        console.print(terminal(result["rows"], side))
    if result["ablation"]:
        console.print(terminal_ablation(result["ablation"]))
    note = (
        f"Perceptual distance: {result['perceptual']}. Frechet distance: on "
        f"{result['frechet_features']}. {images} held-out faces, seed {seed}."
    )
    (out / "compare.md").write_text(markdown(result["rows"], result["ablation"], note=note))
    picture = draw_sheet({name: column[:6] for name, column in columns.items()})
    cv2.imwrite(str(out / "compare.png"), picture[..., ::-1])
    console.print(f"table: {out / 'compare.md'}, pictures: {out / 'compare.png'}")
    write_json(json if json is not None else out / "compare.json", result)


@app.command(
    epilog="Examples: `quantface-export cost`; `quantface-export cost --size 1024 --recipe "
    "w4a4,w4a6`; `quantface-export cost --model nano --recipe my-recipe.json --json -`"
)
def cost(
    model: Annotated[str, typer.Option(help="osdface or nano.")] = "osdface",
    size: Annotated[
        int | None, typer.Option(help="Side of the image in pixels; the model's own if left out.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Recipes, comma-separated or repeated; the named four if left out."),
    ] = None,
    json: Json = None,
) -> None:
    """Count parameters and operations, in the form of the paper's Table 2. Loads no weights."""
    from quantface_export.cost import run, table

    result = run.cost(model, size, run.requested(recipe or []))
    for shown in (table.compression(result), table.breakdown(result)):
        console.print(shown)
    write_json(json, result)


def main() -> None:
    """Entry point: one clear line for what a person can mend, and its exit code."""
    stop_on_signals()
    try:
        app()
    except QuantfaceError as e:
        print(f"quantface-export: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
