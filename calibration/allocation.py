"""Adaptive bit-width allocation (section 3.4): which activation gets how many bits.

    minimize  sum_i sum_b a_ib L_ib,    paper: L_ib = w_i^2 ||W X - Q(W) Q_b(X)||_F^2
    so that   sum_b a_ib = 1 for each i,    sum_i sum_b a_ib b M_i <= budget sum_i M_i

with ``a_ib`` in {0, 1}, ``w_i = 2^B_i - 1`` from the sensitivity sweep and M_i the site's
multiply-accumulates. Further budgets (seconds, bytes) are further rows of the same form.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pulp

WIDTHS = (3, 4, 5, 6)
TIME_LIMIT = 120  # seconds for the solver


class InfeasibleBudgetError(ValueError):
    """No allocation fits a budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One activation that gets a width.

    Attributes:
        name: ``stage/site``.
        macs: Multiply-accumulates of the layers that read it, for one image.
        error: L_ib by width.
    """

    name: str
    macs: int
    error: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One more budget: ``sum_i cost_i(b_i) <= most``.

    Attributes:
        name: What is limited, with its unit, e.g. ``seconds``.
        cost: Of each item by width.
        most: The budget.
    """

    name: str
    cost: Mapping[str, Mapping[int, float]]
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """The solution.

    Attributes:
        bits: Width by item.
        mean_bits: Average weighted by multiply-accumulates.
        error: The objective.
        gap: How far the objective is at most from the optimum, relative; 0 for proven optimal.
        seconds: What the solver took.
    """

    bits: dict[str, int]
    mean_bits: float
    error: float
    gap: float
    seconds: float


@dataclass(slots=True)
class _Program:
    items: Sequence[Item]
    budget: float
    limits: Sequence[Limit]
    widths: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.widths = tuple(sorted(self.items[0].error))

    def solve(self, *, relaxed: bool) -> tuple[float, dict[str, int], bool]:
        """The objective, the widths, and whether they are proven optimal."""
        problem = pulp.LpProblem("bits", pulp.LpMinimize)
        kind = pulp.LpContinuous if relaxed else pulp.LpBinary
        a = {
            (item.name, b): pulp.LpVariable(f"a_{i}_{b}", 0, 1, kind)
            for i, item in enumerate(self.items)
            for b in self.widths
        }
        # the solver's tolerances are absolute: errors of a usual site become about 1
        scale = statistics.median(max(item.error.values()) for item in self.items) or 1.0
        problem += pulp.lpSum(
            item.error[b] / scale * a[item.name, b] for item in self.items for b in self.widths
        )
        for item in self.items:
            problem += pulp.lpSum(a[item.name, b] for b in self.widths) == 1
        total = sum(item.macs for item in self.items)
        problem += (
            pulp.lpSum(
                item.macs / total * b * a[item.name, b] for item in self.items for b in self.widths
            )
            <= self.budget
        )
        for limit in self.limits:
            costs = [
                limit.cost[item.name][b] / limit.most * a[item.name, b]
                for item in self.items
                for b in self.widths
            ]
            problem += pulp.lpSum(costs) <= 1
        problem.solve(pulp.PULP_CBC_CMD(msg=False, timeLimit=TIME_LIMIT, gapRel=1e-6))
        if pulp.LpStatus[problem.status] == "Infeasible":
            raise InfeasibleBudgetError(
                f"no allocation of {', '.join(map(str, self.widths))} bits fits all budgets "
                f"({', '.join(('bits', *(limit.name for limit in self.limits)))}); raise one"
            )
        if problem.status != pulp.LpStatusOptimal:
            raise InfeasibleBudgetError(
                f"the solver found no allocation in {TIME_LIMIT} s; raise a budget"
            )
        chosen = {
            item.name: max(self.widths, key=lambda b, n=item.name: a[n, b].value() or 0.0)  # type: ignore[misc]
            for item in self.items
        }
        proven = problem.sol_status == pulp.LpSolutionOptimal
        return float(pulp.value(problem.objective) or 0.0) * scale, chosen, proven

    def spend(self, bits: dict[str, int]) -> None:
        """Widen, in place, what still fits: the solver leaves gains below its tolerance lying."""
        total = sum(item.macs for item in self.items)
        left = self.budget * total - sum(item.macs * bits[item.name] for item in self.items)
        spent = {
            limit.name: sum(limit.cost[name][b] for name, b in bits.items())
            for limit in self.limits
        }
        steps = [
            ((item.error[low] - item.error[high]) / (item.macs * (high - low)), item, low, high)
            for item in self.items
            for low, high in pairwise(self.widths)
        ]
        for gain, item, low, high in sorted(steps, key=lambda step: -step[0]):
            cost = item.macs * (high - low)
            more = {
                limit.name: limit.cost[item.name][high] - limit.cost[item.name][low]
                for limit in self.limits
            }
            fits = all(spent[k.name] + more[k.name] <= k.most for k in self.limits)
            if gain > 0 and bits[item.name] == low and cost <= left and fits:
                bits[item.name], left = high, left - cost
                spent = {name: spent[name] + more[name] for name in spent}


def require_feasible(budget: float, widths: Sequence[int] = WIDTHS) -> None:
    """Raise InfeasibleBudgetError if not even the smallest width everywhere keeps the budget."""
    if not budget >= min(widths):
        raise InfeasibleBudgetError(
            f"a budget of {budget:g} bits is below the smallest width; the least feasible budget "
            f"is {min(widths)}"
        )


def allocate(items: Sequence[Item], budget: float, limits: Sequence[Limit] = ()) -> Allocation:
    """Solve the integer program.

    Args:
        items: Activations, all with the same widths.
        budget: Bits on average, weighted by multiply-accumulates.
        limits: Further budgets.

    Raises:
        InfeasibleBudgetError: ``budget`` is below the smallest width, or the limits exclude
            every allocation; says the least feasible figure.
    """
    began = time.monotonic()
    program = _Program(items, budget, limits)
    require_feasible(budget, program.widths)
    for limit in limits:
        least = sum(min(limit.cost[item.name].values()) for item in items)
        if least > limit.most:
            raise InfeasibleBudgetError(
                f"{limit.most:g} {limit.name} can't be reached; the least feasible is {least:g}"
            )
    error, bits, proven = program.solve(relaxed=False)
    bound = error if proven else program.solve(relaxed=True)[0]
    program.spend(bits)
    error = min(error, sum(item.error[bits[item.name]] for item in items))
    total = sum(item.macs for item in items)
    return Allocation(
        bits=bits,
        mean_bits=sum(item.macs * bits[item.name] for item in items) / total,
        error=error,
        gap=max(0.0, (error - bound) / error) if error else 0.0,
        seconds=time.monotonic() - began,
    )
