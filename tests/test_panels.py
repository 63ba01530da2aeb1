"""What charts are made of: axes and their ticks."""

import math

import pytest

from labelr.scoring.report.panels import along, inner_ticks, nice_ticks, tick_text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, (0, 0.25, 0.5, 0.75, 1)), (0, 0.0007, (0, 0.0002, 0.0004, 0.0006, 0.0008)), (1, 30, (0, 10, 20, 30))],
)
def test_ticks_are_round_and_hold_all(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_ticks_are_short() -> None:
    assert [tick_text(value) for value in (0.0, 0.25, 1e-5, 30.0)] == ["0", "0.25", "1e-5", "30"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e-4, 1e-1, [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]),
        (1e-3, 1e-2, [0.001, 0.002, 0.005, 0.01]),
        (1e-8, 1.0, [1e-8, 1e-6, 1e-4, 1e-2, 1.0]),
        (1.1, 1.4, [1.1, 1.2, 1.3, 1.4]),
        (0.0011, 0.0012, [0.0011, 0.001125, 0.00115, 0.001175, 0.0012]),
    ],
)
def test_ticks_of_ratios_are_round_and_few(low: float, high: float, expected: list[float]) -> None:
    assert list(inner_ticks(low, high, log=True)) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(0.13, 0.87), (0.0, 0.6), (3, 7), (-2.5, 1e4), (0.30001, 0.30002)])
@pytest.mark.parametrize("log", [False, True])
def test_inner_ticks_lie_inside_whatever_the_ends(low: float, high: float, log: bool) -> None:
    ticks = inner_ticks(max(low, 0.01) if log else low, high, log=log)
    assert 2 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert list(ticks) == sorted(set(ticks))


def test_equal_ratios_are_equally_far_apart_on_an_axis_of_ratios() -> None:
    places = [along(value, (1e-4, 1.0), log=True) for value in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)]
    assert places == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert along(0.25, (0.0, 0.5)) == 0.5
    assert math.isclose(along(0.5, (1.0, 0.0)), 0.5)
