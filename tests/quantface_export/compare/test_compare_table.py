import io

import pytest
from rich.console import Console

from quantface_export.compare.ranking import by_bits, cells, places
from quantface_export.compare.table import markdown, terminal, terminal_ablation

KEYS = ("psnr_db", "ssim", "perceptual", "frechet", "lmd")


def row(values, **more):
    figures = dict(zip(KEYS, values, strict=True))
    return {**figures, "vs_fp32": figures, **more}


@pytest.fixture
def rows():
    cost = {"act_bits_mean": 4.06, "bytes": 9_200_000, "seconds": 12.34}
    ends = {key: [0.5, 1.5] for key in KEYS}
    return [
        row((20, 0.60, 0.5, 9.0, 4.0), method="maxmin", bits="4/4", **cost),
        row((24, 0.70, 0.3, 5.0, 2.0), method="svdquant", bits="4/4", ci95=ends, **cost),
        row((25, 0.75, 0.2, 4.0, 2.0), method="quantface", bits="4/4", **cost),
        row((25.5, 0.74, 0.1, 3.0, 1.0), method="quantface-mp", bits="4/3.98"),
        row((25.7, 0.76, 0.1, 2.0, 1.1), method="quantface", bits="6/6"),
        row((25.6, 0.77, 0.1, 2.5, 1.2), method="svdquant", bits="6/6"),
        row((26, 0.80, 0.05, 1.0, 0.9), method="nano", bits="32/32"),
    ]


def lines(text, heading):
    part = text.split(f"### {heading}")[1].split("###")[0]
    table = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


@pytest.mark.parametrize(
    ("values", "sign", "expected"),
    [
        ([1.0, 2.0, 3.0], 1, [0, 2, 1]),
        ([1.0, 2.0, 3.0], -1, [1, 2, 0]),
        ([1.0, 1.0, 3.0, 2.0], -1, [1, 1, 0, 2]),
        ([None, 1.0, float("nan"), 2.0], 1, [0, 2, 0, 1]),
        ([None, 1.0], 1, [0, 0]),
        ([], 1, []),
    ],
)
def test_places(values, sign, expected):
    assert places(values, sign) == expected


def test_groups_come_from_many_bits_to_few(rows):
    names = [[r["method"] for r in group] for group in by_bits(rows)]
    assert names == [
        ["nano"],
        ["quantface", "svdquant"],
        ["maxmin", "svdquant", "quantface", "quantface-mp"],
    ]


def test_best_and_second_best_of_each_group(rows):
    table = lines(markdown(rows), "Methods, against the ground truth")
    head, _, nano, six, six_svd, maxmin, svd, quantface, mp = table
    assert head[:4] == ["Bits (W/A)", "Method", "PSNR (dB) ↑", "SSIM ↑"]
    assert nano[2] == "26.00"  # alone in its group
    assert (six[2], six_svd[2]) == ("**25.70**", "*25.60*")
    assert (six[3], six_svd[3]) == ("*0.7600*", "**0.7700**")
    assert (six[4], six_svd[4]) == ("**0.1000**", "**0.1000**")
    assert [r[2].split()[0] for r in (maxmin, svd, quantface, mp)] == [
        "20.00",
        "24.00",
        "*25.00*",
        "**25.50**",
    ]
    assert [r[6].split()[0] for r in (maxmin, svd, quantface, mp)] == [
        "4.000",
        "*2.000*",
        "*2.000*",
        "**1.000**",
    ]
    assert [r[0] for r in table[2:]] == ["32/32", "6/6", "", "4/4", "", "", "4/3.98"]


def test_intervals_costs_and_dashes(rows):
    table = lines(markdown(rows), "Methods, against the ground truth")
    svd, mp = table[6], table[8]
    assert svd[2] == "24.00 <sub>0.50–1.50</sub>"
    assert svd[-3:] == ["4.06", "9.20 MB", "12.3"]
    assert mp[-3:] == ["–", "–", "–"]
    other = lines(markdown(rows), "Methods, against the float32 model's output")
    assert all(len(line) == 7 for line in other)


def test_each_side_shows_its_own_figures(rows):
    rows[0]["vs_fp32"] = dict.fromkeys(KEYS, 77.0)
    rows[0]["psnr_db"] = None
    truth, fp32 = (cells([rows[0]], side)[0] for side in ("truth", "fp32"))
    assert (truth[0].text, fp32[0].text) == ("–", "77.00")


def test_ablation_and_note():
    steps = [
        row((20, 0.6, 0.5, 9.0, 4.0), name="base"),
        row((24, 0.7, 0.3, 5.0, 2.0), name="+ rotation | scaling"),
        row((25, 0.8, 0.2, 4.0, 1.0), name="+ QD-LoRA"),
    ]
    text = markdown([], steps, note="Perceptual: LPIPS (AlexNet)")
    assert text.endswith("\nPerceptual: LPIPS (AlexNet)\n")
    assert "rotation \\| scaling" in text
    table = lines(text, "Ablation, against the float32 model's output")
    assert [line[1] for line in (table[2], table[4])] == ["20.00", "**25.00**"]
    assert "Ablation" not in markdown([])


def printed(table):
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()


def test_terminal_tables(rows):
    text = printed(terminal(rows))
    assert "against the ground truth" in text
    assert text.count("quantface") == 3
    assert "9.20 MB" in text
    table = terminal(rows)
    styles = [str(cell.style) for cell in table.columns[2].cells if not isinstance(cell, str)]
    assert styles.count("bold green") == styles.count("underline") == 2
    assert "+ MP" in printed(terminal_ablation([row((1, 1, 1, 1, 1), name="+ MP")]))
