from __future__ import annotations

import base64
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from quantface_export.report import (
    Distribution,
    LayerRow,
    Picture,
    ReportData,
    SizeRow,
    write_report,
)
from quantface_export.report import write as write_module
from quantface_export.report.distribution import unevenness
from quantface_export.report.sqnr import worst_layers
from quantface_export.report.verdict import read_gates

STAGES = ("vre", "vae_encoder", "unet", "vae_decoder")
HOSTILE = "<script>alert('1')</script>\"&'><img src=x onerror=alert(1)>"
VOID = {"meta", "img", "link", "br", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, text outside scripts and styles, and whether tags nest."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def picture(seed: int, *, side: int = 32, clean: bool = True, psnr_db: float = 31.25) -> Picture:
    images = np.random.default_rng(seed).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    return Picture(
        before=images[0],
        fp32=images[1],
        quantized=images[2],
        clean=images[3] if clean else None,
        psnr_db=psnr_db,
        caption=f"Generated face {seed}",
    )


def distribution(channels: int = 40) -> Distribution:
    rng = np.random.default_rng(7)
    panels = {
        name: np.stack([-rng.gamma(2, size=channels), rng.gamma(4, size=channels)], 1).astype(
            np.float32
        )
        for name in ("original", "scaled", "rotated", "both")
    }
    return Distribution(
        layer="unet: down_blocks.1.resnets.1.conv2",
        **panels,
        grid_ranges={"original": (-1.5, 6.0), "both": (-1.0, 3.0)},
    )


def layer(name: str, *, stage: str = "unet", sqnr_db: float = 20.0) -> LayerRow:
    return LayerRow(
        stage=stage,
        name=name,
        kind="conv",
        weight_bits=4,
        activation_bits=4,
        rank=8,
        transform="online",
        sqnr_db=sqnr_db,
    )


def verification(*, passed: bool = True) -> dict[str, object]:
    stages = [
        {
            "name": name,
            "size": "128",
            "variant": variant,
            "optimization": optimization,
            "max_abs": 0.0,
            "sqnr_db": math.inf,
            "mismatch_fraction": 0.0 if passed else 0.25,
            "lsb_max": 0 if passed else 3,
            "worst_layer": None if passed else "mid.conv",
            "passed": passed,
        }
        for name in STAGES
        for variant in ("function", "python")
        for optimization in ("off", "all")
    ]
    return {
        "passed": passed,
        "stages": stages,
        "end_to_end": {
            "psnr_db": 51.0 if passed else 12.0,
            "noise_floor_psnr_db": 53.0,
            "max_abs": 0.02,
            "within_1_255": 0.9871,
        },
        "fusion": {
            "planned": 12,
            "fused": 12 if passed else 11,
            "missing": [] if passed else ["unet: lost.layer"],
        },
    }


@pytest.fixture
def data() -> ReportData:
    rng = np.random.default_rng(3)
    return ReportData(
        model="nano",
        recipe="w4a4",
        seed=11,
        command="quantface-export build --recipe w4a4 --seed 11 --out bundle",
        versions={"torch": "2.13.0", "onnxruntime": "1.23.0"},
        pictures=[picture(0), picture(1, clean=False, psnr_db=math.inf)],
        distribution=distribution(),
        layers=[
            layer(f"blocks.{i}.conv1", stage=stage, sqnr_db=float(rng.normal(20, 4)))
            for stage in STAGES
            for i in range(20)
        ],
        sizes=[SizeRow(stage=s, fp32_bytes=4_000_000, bundle_bytes=500_000) for s in STAGES],
        verify=verification(),
        float_parts={"softmax": "attention stays one fused float op"},
        transforms={"online": 61, "folded into norm": 19},
    )


@pytest.fixture
def page(data, tmp_path) -> Page:
    return render(data, tmp_path)


def render(data, folder) -> Page:
    write_report(folder / "report.html", data)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_nothing_is_requested(data, tmp_path):
    write_report(tmp_path / "report.html", data)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    lean = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", source)
    for address in ("http:", "https:", "//", "@import", "url("):
        assert address not in lean
    page = Page(source)
    policy = next(m for m in page.all("meta") if "http-equiv" in m)["content"]
    assert policy.startswith("default-src 'none'")
    for _, attributes in page.tags:
        assert not {"href", "srcset", "action", "poster", "background"} & set(attributes)
        assert attributes.get("src", "data:").startswith("data:")


def test_pictures_are_the_given_ones_bit_for_bit(page, data):
    images = page.all("img")
    given = [
        image
        for each in data.pictures
        for image in (each.before, each.fp32, each.quantized, each.clean)
        if image is not None
    ]
    assert len(images) == len(given) == 7
    for attributes, expected in zip(images, given, strict=True):
        png = base64.b64decode(attributes["src"].partition(",")[2], validate=True)
        decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decoded[..., ::-1], expected)
        assert attributes["alt"]


@pytest.mark.parametrize(
    ("verify", "word", "absent"),
    [
        (verification(passed=True), "✓ Passed", "✗"),
        (verification(passed=False), "✗ Failed", "✓ Passed"),
        (verification(passed=False) | {"unstable": True}, "– Unstable", "Do not ship"),
        (None, "Not verified", "✓"),
    ],
    ids=["passed", "failed", "unstable", "none"],
)
def test_verdict_is_a_word(data, tmp_path, verify, word, absent):
    text = render(replace(data, verify=verify), tmp_path).text
    assert word in text
    assert absent not in text


def test_failure_names_what_does_not_hold(data, tmp_path):
    text = render(replace(data, verify=verification(passed=False)), tmp_path).text
    assert "This does not hold: layer by layer, end to end, integer kernels" in text
    assert "unet: lost.layer" in text
    assert "11 of 12" in text


def test_a_verdict_is_never_better_than_verify_says(data, tmp_path):
    text = render(replace(data, verify={**verification(), "passed": False}), tmp_path).text
    assert "✗ Failed" in text
    assert "✓ Passed" not in text


@pytest.mark.parametrize(
    ("psnr_db", "floor", "passed"),
    [
        (51.0, 53.0, True),
        (46.0, 53.0, False),  # below 53 - 6.02
        (41.0, 43.0, True),
        (39.0, 43.0, False),  # below 40
        (math.inf, math.inf, True),
        (60.0, math.inf, False),
    ],
)
def test_end_to_end_gate_without_a_verdict_of_its_own(psnr_db, floor, passed):
    result = {"psnr_db": psnr_db, "noise_floor_psnr_db": floor}
    (gate,) = read_gates({"passed": passed, "end_to_end": result})
    assert gate.passed is passed


def test_identical_is_a_word(page):
    assert "identical" in page.text
    assert not re.search(r"\b(inf|nan|None)\b", page.text)


def test_layer_names_are_text(data, tmp_path):
    hostile = replace(
        data,
        model=HOSTILE,
        layers=[layer(HOSTILE, stage=HOSTILE), *data.layers],
        distribution=replace(distribution(), layer=HOSTILE),
        float_parts={HOSTILE: HOSTILE},
        pictures=[replace(picture(0), caption=HOSTILE)],
        command=HOSTILE,
    )
    page = render(hostile, tmp_path)
    assert len(page.all("script")) == 1
    assert len(page.all("img")) == 4
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.text.count(HOSTILE) >= 8


def test_every_layer_has_a_dot_and_a_table_row(page, data):
    dots = [c for c in page.all("circle") if "cx" in c and "%" in c["cx"]]
    assert len(dots) == len(data.layers)
    assert sum(c["class"] == "rank" for c in page.all("text") if "class" in c) == 10
    assert page.text.count("W4 A4") == len(data.layers) + 10  # hover titles and worst ten


def test_order_of_the_page(page):
    order = [attributes["id"] for attributes in page.all("section")]
    assert order == [
        "pictures",
        "sizes",
        "sqnr",
        "distribution",
        "parity",
        "float",
        "reproduce",
    ]


def test_empty_parts_are_left_out(tmp_path):
    bare = ReportData(model="nano", recipe="w4a4", seed=0, command="build")
    page = render(bare, tmp_path)
    assert [attributes["id"] for attributes in page.all("section")] == ["reproduce"]


@pytest.mark.parametrize("sqnr_db", [math.inf, math.nan, -4.0])
def test_odd_values_are_drawn(data, tmp_path, sqnr_db):
    page = render(replace(data, layers=[layer("only", sqnr_db=sqnr_db)]), tmp_path)
    for tag, attributes in page.tags:
        if tag in ("circle", "line", "path", "rect", "text"):
            assert not re.search(r"\b(nan|inf)\b", " ".join(attributes.values()))
    assert not re.search(r"\b(nan|inf)\b", page.text)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_distribution_is_drawn(data, tmp_path, value):
    flat = np.full((1, 2), value, np.float32)
    panels = Distribution(layer="x", original=flat, scaled=flat, rotated=flat, both=flat)
    assert "Rotation-scaling" in render(replace(data, distribution=panels), tmp_path).text


def test_pictures_keep_to_the_budget(data, tmp_path):
    many = [picture(i, side=256) for i in range(8)]  # noise: 200 kB a picture
    page = render(replace(data, pictures=many), tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert 4 <= len(page.all("img")) < 32
    assert f"{8 - len(page.all('img')) // 4} more left out" in page.text


def test_rendering_that_fails_leaves_the_older_file(data, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("older")
    monkeypatch.setattr(write_module, "TEMPLATE", "absent.html.j2")
    with pytest.raises(Exception, match="absent"):
        write_report(path, data)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("older", [True, False])
def test_writing_that_fails_leaves_nothing_half_written(data, tmp_path, monkeypatch, older):
    path = tmp_path / "report.html"
    if older:
        path.write_text("older")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write_module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_report(path, data)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["older"] * older


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"both": np.zeros((3, 3), np.float32)}, "both must be"),
        ({"original": np.full((3, 2), np.nan, np.float32)}, "original holds"),
        ({"grid_ranges": {"neither": (0.0, 1.0)}}, "neither"),
    ],
)
def test_a_wrong_distribution_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(distribution(), **change)


def test_a_wrong_picture_is_refused():
    with pytest.raises(ValueError, match="quantized must be"):
        replace(picture(0), quantized=np.zeros((8, 8), np.uint8))


def test_worst_layers_come_worst_first():
    rows = [layer(str(i), sqnr_db=v) for i, v in enumerate([9.0, math.nan, 3.0, math.inf])]
    assert [row.name for row in worst_layers(rows)] == ["2", "0", "3"]


def test_unevenness_of_channels():
    assert unevenness(np.array([[-1, 1], [-8, 2], [0, 1]], np.float32)) == 8.0


def test_the_report_needs_no_torch():
    code = "import sys, quantface_export.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
