"""Commands that make, check and use a bundle: ``build``, ``verify``, ``restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantface_export.commands.app import Inception, Json, Lpips, LpipsLinear, app
from quantface_export.console import (
    console,
    print_integers,
    print_verified,
    reporting,
    write_json,
)
from quantface_export.errors import QuantfaceError
from quantface_export.settings import (
    CACHE,
    CALIB_COUNT,
    TRAIN_RATE,
    TRAIN_STEPS,
    BuildSettings,
    Profile,
)


@app.command(
    epilog="Examples: `quantface-export build` builds the embedded model; "
    "`quantface-export build --recipe w4a6 --calib faces/ --out my-bundle --json -`; "
    "`quantface-export build --model osdface --weights checkpoint/`"
)
def build(
    model: Annotated[str, typer.Option(help="Model to build.")] = "nano",
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder of the model's files: Stable Diffusion 2.1-base and OSDFace's."),
    ] = None,
    sd: Annotated[
        Path | None,
        typer.Option(help="Stable Diffusion 2.1-base: diffusers folder, .safetensors or .ckpt."),
    ] = None,
    osdface: Annotated[
        Path | None, typer.Option(help="Folder of OSDFace's own three files.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Side of the images in pixels, or WIDTHxHEIGHT; the model's own if left out."
        ),
    ] = None,
    dynamic: Annotated[
        bool,
        typer.Option(
            "--dynamic", help="Graphs take other sizes too; `restore --size` then picks one."
        ),
    ] = False,
    profile: Annotated[
        Profile,
        typer.Option(help="cpu, or portable: standard ops only, for other execution providers."),
    ] = "cpu",
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
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder of finished stages: a killed build goes on from it. Beside the bundle, "
            "if left out, for models from files."
        ),
    ] = None,
    keep_unstable: Annotated[
        bool,
        typer.Option(
            "--keep-unstable",
            help="Write the bundle even if rounding ties spread in this model so far that its "
            "picture can't be within 40 dB of the reference; every layer must be right.",
        ),
    ] = False,
    with_pre_post: Annotated[
        bool,
        typer.Option(
            "--with-pre-post",
            help="Also write models from a JPEG's or PNG's bytes and to a PNG's, for apps with "
            "onnxruntime-extensions.",
        ),
    ] = False,
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

    out = Path(f"build/{model}-{Path(recipe).stem}") if out is None else out
    if work is None and any(path is not None for path in (weights, sd, osdface)):
        work = out.with_name(f".{out.name}.work")
    settings = BuildSettings(
        model=model,
        recipe=recipe,
        size=size,
        dynamic=dynamic,
        profile=profile,
        calib=calib,
        calib_count=calib_count,
        seed=seed,
        out=out,
        keep_unstable=keep_unstable,
        with_pre_post=with_pre_post,
        work=work,
        train_steps=train_steps,
        train_rate=train_rate,
        checkpoint=checkpoint,
        cache=CACHE,
        adapter=adapter,
        lpips=lpips,
        lpips_linear=lpips_linear,
        inception=inception,
        weights=weights,
        sd=sd,
        osdface=osdface,
    )
    with reporting("build") as progress:
        result = run_build(settings, progress)
    print_verified(result["verify"])
    stored = result["bytes"]
    console.print(
        f"{result['bundle']}: {stored['bundle'] / 1e6:.1f} MB, {stored['ratio']:.3f} of float32, "
        f"in {result['seconds']:.0f} s"
    )
    write_json(json, result)


@app.command(
    epilog="Examples: `quantface-export verify build/nano-w4a4 --json parity.json`; "
    "`quantface-export verify my-bundle --integers`, on another machine than it was built on"
)
def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only as apps run it, not with optimizations off and so on."),
    ] = False,
    native: Annotated[
        bool, typer.Option("--native", help="Only with the native kernels, as apps that ship them.")
    ] = False,
    integers: Annotated[
        bool,
        typer.Option(
            "--integers",
            help="Only whether the integer kernels give the same bytes as where it was built.",
        ),
    ] = False,
    images: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures to compare end to end; all if left out."),
    ] = None,
    json: Json = None,
) -> None:
    """Compare what ONNX Runtime computes with the bundle's reference. Needs no torch."""
    from onnx_ops.library import library_path, why_missing
    from quantface_export.bundle import load_bundle
    from quantface_export.verify import NATIVE, QUICK_CASES, verify_integers
    from quantface_export.verify import verify as run_verify

    if quick + native + integers > 1:
        raise QuantfaceError("--quick, --native and --integers exclude each other; give one")
    if native and library_path() is None:
        raise QuantfaceError(why_missing())
    loaded = load_bundle(bundle)
    with reporting("verify") as progress:
        if integers:
            found = verify_integers(loaded)
            result = {"passed": found["passed"], "integers": found}
        else:
            cases = QUICK_CASES if quick else (NATIVE,) if native else None
            result = run_verify(loaded, progress, cases=cases, images=images)
    if integers:
        print_integers(result["integers"])
    else:
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
    size: Annotated[
        int | None,
        typer.Option(help="Side that faces are restored at, for bundles of `build --dynamic`."),
    ] = None,
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
        loaded.side(size),
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
    epilog="Examples: `quantface-export demo`; `quantface-export demo my-bundle --port 9000 "
    "--no-open`"
)
def demo(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")] = Path("build/nano-w4a4"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = True,
    page: Annotated[
        Path | None,
        typer.Option(help="Folder of the built page; mobile_demo/web/dist if left out."),
    ] = None,
    json: Json = None,
) -> None:
    """Serve the browser page with a bundle to this machine, until Ctrl-C. Needs no torch."""
    import webbrowser

    from quantface_export.bundle import load_bundle
    from quantface_export.demo import built_page, open_server
    from quantface_export.interrupt import Interrupted

    folder = built_page() if page is None else page
    with open_server(folder, load_bundle(bundle), port) as server:
        url = f"http://localhost:{server.server_port}/"
        console.print(f"{url} restores faces with {bundle}; Ctrl-C ends it", soft_wrap=True)
        write_json(json, {"url": url, "bundle": str(bundle), "page": str(folder)})
        if browser:
            webbrowser.open(url)
        try:
            server.serve_forever()
        except Interrupted:
            console.print("ended")
