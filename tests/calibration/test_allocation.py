"""The integer program against brute force, its budgets, and what it says when there is no way."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest

from calibration.allocation import WIDTHS, InfeasibleBudgetError, Item, Limit, allocate

TOLERANCE = 1e-6
"""What the solver takes for equal."""


def items(seed: int, count: int = 5) -> list[Item]:
    """Errors that fall by about 4 per bit, with magnitudes over three decades."""
    rng = np.random.default_rng(seed)
    return [
        Item(
            name=f"unet/{i}",
            macs=int(rng.integers(1_000, 1_000_000)),
            error={
                b: float(w * 4.0 ** (3 - b) * rng.uniform(0.7, 1.3))
                for b, w in zip(WIDTHS, [10 ** rng.uniform(0, 3)] * 4, strict=True)
            },
        )
        for i in range(count)
    ]


def mean_bits(of: list[Item], bits: Mapping[str, int]) -> float:
    return sum(i.macs * bits[i.name] for i in of) / sum(i.macs for i in of)


def error(of: list[Item], bits: Mapping[str, int]) -> float:
    return sum(i.error[bits[i.name]] for i in of)


def best(of: list[Item], budget: float, limits: tuple[Limit, ...] = ()) -> float | None:
    """The least error over all combinations that keep every budget."""
    found = None
    for widths in product(WIDTHS, repeat=len(of)):
        bits = dict(zip((i.name for i in of), widths, strict=True))
        if mean_bits(of, bits) > budget + 1e-12:
            continue
        if any(sum(limit.cost[n][b] for n, b in bits.items()) > limit.most for limit in limits):
            continue
        if found is None or error(of, bits) < found:
            found = error(of, bits)
    return found


@pytest.mark.parametrize("budget", [3.2, 3.98, 5.1])
@pytest.mark.parametrize("seed", range(3))
def test_optimum_is_the_one_of_brute_force(seed: int, budget: float) -> None:
    of = items(seed)
    found = allocate(of, budget)
    assert set(found.bits) == {i.name for i in of}
    assert set(found.bits.values()) <= set(WIDTHS)
    assert error(of, found.bits) == pytest.approx(best(of, budget), rel=TOLERANCE)
    assert found.error == pytest.approx(error(of, found.bits), rel=TOLERANCE)
    assert found.mean_bits == pytest.approx(mean_bits(of, found.bits), rel=1e-12)
    assert found.mean_bits <= budget + TOLERANCE
    assert found.gap == 0
    assert found.seconds > 0


def test_ends_of_the_budget() -> None:
    of = items(7)
    assert set(allocate(of, 3).bits.values()) == {3}
    assert set(allocate(of, 6).bits.values()) == {6}
    assert set(allocate(of, 9).bits.values()) == {6}


def test_a_larger_perceptual_weight_gets_more_bits() -> None:
    falls = {3: 64.0, 4: 16.0, 5: 4.0, 6: 1.0}
    of = [
        Item(name=name, macs=1000, error={b: weight * e for b, e in falls.items()})
        for name, weight in (("a", 3**2), ("b", 7**2), ("c", 63**2))
    ]
    bits = allocate(of, 4.4).bits
    assert bits["a"] <= bits["b"] < bits["c"]
    assert bits["a"] < bits["c"]


def test_bits_go_where_they_are_cheap() -> None:
    falls = {3: 64.0, 4: 16.0, 5: 4.0, 6: 1.0}
    of = [Item(name=n, macs=m, error=falls) for n, m in (("small", 10), ("large", 1000))]
    bits = allocate(of, 3.5).bits
    assert bits == {"small": 6, "large": 3}


def test_two_widths_and_equal_errors() -> None:
    of = [Item(name=str(i), macs=1, error={4: 0.0, 8: 0.0}) for i in range(3)]
    found = allocate(of, 6)
    assert found.error == 0
    assert found.gap == 0


def seconds(of: list[Item], most: float) -> Limit:
    """Items whose time at 3 and 4 bits is that of 8-bit kernels; 5 and 6 cost twice."""
    cost = {i.name: {3: 1.0, 4: 1.0, 5: 2.0, 6: 2.0} for i in of}
    return Limit(name="seconds", cost=cost, most=most)


@pytest.mark.parametrize("most", [5.0, 6.0, 8.5])
def test_a_further_limit_is_kept(most: float) -> None:
    of = items(1)
    limit = seconds(of, most)
    found = allocate(of, 5, (limit,))
    spent = sum(limit.cost[n][b] for n, b in found.bits.items())
    assert spent <= most * (1 + TOLERANCE)
    assert error(of, found.bits) == pytest.approx(best(of, 5, (limit,)), rel=TOLERANCE)
    assert error(of, found.bits) > error(of, allocate(of, 5).bits), "the limit must bind"


def test_two_further_limits() -> None:
    of = items(2)
    peak = Limit(name="bytes", cost={i.name: {b: b * 1e6 for b in WIDTHS} for i in of}, most=21e6)
    limits = (seconds(of, 7), peak)
    found = allocate(of, 6, limits)
    assert error(of, found.bits) == pytest.approx(best(of, 6, limits), rel=TOLERANCE)


def test_a_budget_below_the_smallest_width_says_the_least() -> None:
    with pytest.raises(InfeasibleBudgetError, match=r"2\.5 bits .*least feasible.* 3") as e:
        allocate(items(0), 2.5)
    assert "\n" not in str(e.value)


def test_an_infeasible_limit_is_named_with_its_least() -> None:
    of = items(0)
    with pytest.raises(InfeasibleBudgetError, match=r"4\.5 seconds .*least feasible is 5") as e:
        allocate(of, 5, (seconds(of, 4.5),))
    assert "\n" not in str(e.value)


def test_budgets_that_exclude_each_other_are_named() -> None:
    of = items(0)
    # narrow activations need a slow conversion: time wants wide ones, bits narrow ones
    slow = Limit(name="seconds", cost={i.name: {3: 9, 4: 9, 5: 1, 6: 1} for i in of}, most=6)
    with pytest.raises(InfeasibleBudgetError, match="seconds") as e:
        allocate(of, 3.5, (slow,))
    assert best(of, 3.5, (slow,)) is None
    assert "\n" not in str(e.value)


def test_budgets_that_only_fractions_of_widths_fit() -> None:
    of = [Item(name="a", macs=1, error=dict.fromkeys(WIDTHS, 1.0))]
    slow = Limit(name="seconds", cost={"a": {3: 9.0, 4: 5.0, 5: 5.0, 6: 1.0}}, most=4)
    with pytest.raises(InfeasibleBudgetError, match="seconds"):
        allocate(of, 5.5, (slow,))


def test_a_budget_is_spent_where_errors_span_many_orders() -> None:
    """Gains far below the solver's tolerance are still worth the bits that are left."""
    items = [
        Item(name=f"s{i}", macs=1000, error={b: 10.0 ** (i - 12) * 4.0**-b for b in (3, 4, 5, 6)})
        for i in range(20)
    ]
    found = allocate(items, 4.0)
    assert found.mean_bits == pytest.approx(4.0)
    widths = [found.bits[f"s{i}"] for i in range(20)]
    assert widths == sorted(widths)
