"""Two processes train what one does with both their shares of every step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = """
import sys
from dataclasses import replace

import torch
from accelerate import Accelerator

sys.path.insert(0, sys.argv[1])
from test_distill import SHORT, images, small_distance, student
from calibration.distill import distill

torch.set_num_threads(1)
accelerator = Accelerator(cpu=True)
model, target = student()
schedule = replace(SHORT, steps=3, batch=4 // accelerator.num_processes)
losses = distill(model, (images(),), target, small_distance(), schedule, seed=0,
                 accelerator=accelerator)
accelerator.end_training()
state = {"losses": losses, "parameters": [p.detach() for p in model.parameters()]}
torch.save(state, f"{sys.argv[2]}-{accelerator.num_processes}-{accelerator.process_index}")
"""


def launched(folder: Path, processes: int) -> list[dict[str, object]]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    # what `accelerate launch` runs on several GPUs
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    arguments = [str(script), str(Path(__file__).parent), str(folder / "state")]
    # the sums of more or fewer threads would be others, and a rounding tie with them
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(f"{folder / 'state'}-{processes}-{i}") for i in range(processes)]


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    (one,), two = launched(tmp_path, 1), launched(tmp_path, 2)
    # the third loss shows that the second step's gradients were those of all four images
    assert torch.allclose(torch.tensor(two[0]["losses"]), torch.tensor(one["losses"]), rtol=1e-5)
    for a, b, expected in zip(*(s["parameters"] for s in (*two, one)), strict=True):  # type: ignore[call-overload]
        assert torch.equal(a, b)
        assert (a - expected).abs().mean() < 1e-4
