"""What a quantization method decides. The rest of the line is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from calibration.observe import Site
from calibration.progress import Progress
from calibration.quantize import Form, Plan, SitePlan, plan_site, stored_form
from calibration.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageData:
    """What a method may look at after a stage was quantized.

    Attributes:
        name: The stage's.
        reference: The stage in float.
        inputs: Arguments of the stage, one tuple per calibration image.
        sites: Samples of the float activations.
        plans: The decisions by site.
        seed: Of everything random.
        progress: Told of the work.
    """

    name: str
    reference: nn.Module
    inputs: Sequence[tuple[Tensor, ...]]
    sites: dict[str, Site]
    plans: dict[str, SitePlan]
    seed: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method.

    Attributes:
        name: Name on the command line.
        paper: Where it was published.
        departures: What is done otherwise here, and why.
        recipe: Settings for weight and activation bits.
        transform: Changes a float stage before it is observed; exact in real arithmetic.
        plan: Chooses balance and grid of a site.
        form: Makes a layer's weight form.
        refine: Improves a quantized stage on the calibration data, in place.
        distilled: Whether the forms are then trained end to end on the float model's images.
    """

    name: str
    paper: str
    departures: tuple[str, ...] = ()
    recipe: Callable[[int, int], Recipe]
    transform: Callable[[nn.Module], None] | None = None
    plan: Plan = plan_site
    form: Form = stored_form
    refine: Callable[[nn.Module, StageData], None] | None = None
    distilled: bool = False
