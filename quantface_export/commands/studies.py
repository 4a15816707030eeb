"""Commands for those who study a model: ``allocate``, ``bench``, ``compare``, ...."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from quantface_export.commands.app import Inception, Json, Lpips, LpipsLinear, app
from quantface_export.console import console, make_folder, reporting, write_json
from quantface_export.settings import CACHE, CALIB_COUNT, TRAIN_STEPS, BuildSettings


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


@app.command(
    epilog="Examples: `quantface-export fixtures osdface checkpoint/ --seed 1`, then "
    "`quantface-export build --model osdface --weights checkpoint/`"
)
def fixtures(
    model: Annotated[str, typer.Argument(help="osdface, or nano for the same files at its size.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write; new or empty.")],
    seed: Annotated[int, typer.Option(help="Seeds every weight.")] = 0,
    dtype: Annotated[str, typer.Option(help="fp32 or fp16, of Stable Diffusion.")] = "fp32",
    shard: Annotated[
        float | None, typer.Option(min=0.001, help="Split Stable Diffusion's files at so many GB.")
    ] = None,
    json: Json = None,
) -> None:
    """Write random weights in the format of the published checkpoint."""
    from quantface_export.models import find_config
    from quantface_export.osdface.fixtures import FixtureSettings, write_fixtures

    settings = FixtureSettings(
        seed=seed, dtype=dtype, shard=None if shard is None else int(shard * 1e9)
    )
    with reporting("fixtures") as progress:
        result = write_fixtures(find_config(model), folder, settings, progress)
    console.print(f"{folder}: {len(result['files'])} files, {result['bytes'] / 1e6:.1f} MB")
    write_json(json, result)


@app.command(
    epilog="Examples: `quantface-export bench`; `quantface-export bench --model osdface "
    "--random-weights --size 256 --profile`; `quantface-export bench --bundle my-bundle --rows "
    "fp32,quantface-w4a4 --threads 1 --json -`"
)
def bench(
    model: Annotated[str, typer.Option(help="nano or osdface.")] = "nano",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Make weights; speed does not depend on them.")
    ] = False,
    weights: Annotated[Path | None, typer.Option(help="Folder of the model's files.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle to time; one is built, untrained, if left out.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Side or WIDTHxHEIGHT in pixels; the model's own if left out."),
    ] = None,
    rows: Annotated[
        str, typer.Option(help="Comma-separated.")
    ] = "fp32,ort-int8,quantface-w4a4,quantface-w4a4-function",
    threads: Annotated[
        int, typer.Option(min=1, help="Of each session; as many as cores if left out.")
    ] = os.cpu_count() or 1,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of every row.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs of a stage in a turn.")] = 3,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also time the op kinds of quantface-w4a4.")
    ] = False,
    calib_count: Annotated[int, typer.Option(min=1, help="Calibration images.")] = 2,
    work: Annotated[Path, typer.Option(help="Folder of the prepared models.")] = Path(
        "build/bench"
    ),
    json: Json = None,
) -> None:
    """Time a bundle beside float32 and ONNX Runtime's own int8, in turns, a process each."""
    from quantface_export.bench import run, table

    settings = BuildSettings(
        model=model,
        recipe="w4a4",
        calib=None,
        calib_count=calib_count,
        seed=0,
        out=work,
        size=size,
        weights=weights,
    )
    with reporting("bench") as progress:
        result = run.bench(
            settings,
            rows=[row.strip() for row in rows.split(",")],
            random_weights=random_weights,
            bundle=bundle,
            threads=threads,
            rounds=rounds,
            repeats=repeats,
            profile=profile,
            progress=progress,
        )
    console.print(table.speed(result))
    if profile:
        console.print(table.profile(result))
    write_json(json, result)
