"""End-to-end distillation: the quantized model learns to give the float model's pictures.

    L = 0.5 perceptual(I_q, I_fp) + 0.5 MSE(I_q, I_fp)                        (eq. 12)

with Adam, on the parameters of the trainable forms alone (section 3.3).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from calibration.layers import QuantLayer
from calibration.perceptual import PerceptualDistance, mse
from calibration.progress import SILENT, Progress


class WrongCheckpointError(ValueError):
    """A training state that belongs to another model, recipe or schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """Length and pace of a training run.

    Attributes:
        steps: Optimizer steps.
        batch: Images per step, for each process.
        rate: Peak learning rate of Adam (warm-up over a twentieth, then cosine to zero).
        perceptual: lambda_1 of eq. 12.
        mse: lambda_2 of eq. 12.
        recompute: Keep only block inputs in the forward pass and compute the rest again in the
            backward pass: less memory, a third more time.
        save_every: Steps between two saved states.
    """

    steps: int
    batch: int = 2
    rate: float = 1e-3
    perceptual: float = 0.5
    mse: float = 0.5
    recompute: bool = False
    save_every: int = 20

    def rate_at(self, step: int) -> float:
        """The learning rate of one step."""
        share = step / self.steps
        return (
            self.rate
            * min(1.0, 20 * (step + 1) / self.steps)
            * 0.5
            * (1 + math.cos(math.pi * share))
        )


@contextmanager
def recomputing(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Within it, every module that owns quantized layers recomputes itself to go backward."""
    owners = [m for m in model.modules() if any(isinstance(c, QuantLayer) for c in m.children())]
    for module in owners if enabled else ():

        def again(*args: Any, _forward: Any = module.forward, **kwargs: Any) -> Any:
            return recomputed(_forward, *args, use_reentrant=False, **kwargs)

        module.forward = again
    try:
        yield
    finally:  # a copy of the model would otherwise run the original's blocks
        for module in owners if enabled else ():
            del module.forward


def fingerprint(
    student: nn.Module, data: Sequence[Tensor], distance: str, settings: Distillation, *seeds: int
) -> str:
    """Tells runs apart: everything frozen, the images, the loss, the schedule and the seeds."""
    digest = hashlib.sha256(repr((settings, distance, *seeds)).encode())
    for name, tensor in (*student.named_buffers(), *(("data", x) for x in data)):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


@dataclass(slots=True, kw_only=True)
class _Run:
    """What changes from step to step, and its file."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Adam
    belongs_to: str
    number: int = 0

    def save(self, path: Path) -> None:
        new = path.with_name(path.name + ".new")
        state = {
            "belongs_to": self.belongs_to,
            "number": self.number,
            "parameters": [p.detach() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, new)
        new.replace(path)

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["belongs_to"] != self.belongs_to:
                raise WrongCheckpointError(
                    f"{path} is the training state of another model, recipe, seed or schedule; "
                    "remove it or choose another --checkpoint"
                )
            for own, saved in zip(self.parameters, state["parameters"], strict=True):
                own.data.copy_(saved)
            self.optimizer.load_state_dict(state["optimizer"])
            self.number = state["number"]
        except WrongCheckpointError:
            raise
        except Exception as e:
            raise WrongCheckpointError(
                f"{path} can't be read as a training state; remove it or choose another"
            ) from e


def batch_at(step: int, batch: int, count: int, seed: int) -> Tensor:
    """Indices of one step's images: every image once before any comes twice."""
    first = step * batch
    rounds = range(first // count, (first + batch - 1) // count + 1)
    orders = []
    for r in rounds:
        generator = torch.Generator().manual_seed(seed * 7919 + r)
        orders.append(torch.randperm(count, generator=generator))
    order = torch.cat(orders)
    start = first - rounds[0] * count
    return order[start : start + batch]


def averaged(
    accelerator: Accelerator | None, loss: Tensor, parameters: Sequence[nn.Parameter]
) -> Tensor:
    """The mean loss of all processes, after their gradients were averaged in place."""
    if accelerator is None or accelerator.num_processes == 1:
        return loss
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = cast(Tensor, accelerator.reduce(parameter.grad, "mean"))
    return cast(Tensor, accelerator.reduce(loss, "mean"))


def distill(
    student: nn.Module,
    inputs: tuple[Tensor, ...],
    target: Tensor,
    distance: PerceptualDistance,
    settings: Distillation,
    *,
    seed: int,
    checkpoint: Path | None = None,
    accelerator: Accelerator | None = None,
    progress: Progress = SILENT,
) -> list[float]:
    """Train every parameter of ``student`` that has a gradient, in place.

    Args:
        student: Takes a batch of each of ``inputs``, gives images in [0, 1].
        inputs: The student's inputs, each (N, ...).
        target: (N, 3, s, s) the float model's images in [0, 1].
        distance: The perceptual part of the loss.
        settings: Length and pace.
        seed: Orders the images.
        checkpoint: Training state, written now and then; a run goes on from it if it exists,
            and gives the same result as one that was never interrupted.
        accelerator: Knows the other processes of a run on several devices. Each takes its share
            of a step's images, gradients are averaged, so all end with the same parameters.
        progress: Told of every step.

    Returns:
        The loss of each step of this call; none if there is nothing to train.

    Raises:
        WrongCheckpointError: ``checkpoint`` holds another run's state, or none.
    """
    parameters = [p for p in student.parameters() if p.requires_grad]
    if not parameters:
        return []
    device = parameters[0].device
    rank, count = (
        (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
    )
    run = _Run(
        parameters=parameters,
        optimizer=torch.optim.Adam(parameters, settings.rate, fused=True),
        belongs_to=fingerprint(student, (*inputs, target), distance.name, settings, seed, count),
    )
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    losses: list[float] = []
    steps = range(run.number, settings.steps)
    with recomputing(student, settings.recompute):
        for number in progress.track(steps, "training the low-rank branches", len(steps)):
            at = batch_at(number, settings.batch * count, len(target), seed)[rank::count]
            wanted = target[at].to(device) * 2 - 1
            with half:
                image = student(*(x[at].to(device) for x in inputs)).float() * 2 - 1
                loss = (
                    settings.perceptual * distance(image, wanted)
                    + settings.mse * mse(image, wanted)
                ).mean()
            run.optimizer.param_groups[0]["lr"] = settings.rate_at(number)
            run.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            loss = averaged(accelerator, loss.detach(), parameters)
            if not torch.isfinite(loss):
                raise ValueError(f"training diverged at step {number}; lower the rate")
            run.optimizer.step()
            run.number = number + 1
            losses.append(float(loss))
            progress.note(f"loss {sum(losses[-10:]) / len(losses[-10:]):.4f}")
            if checkpoint is not None and rank == 0 and run.number % settings.save_every == 0:
                run.save(checkpoint)
    return losses
