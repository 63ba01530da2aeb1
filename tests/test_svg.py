"""Charts as inline SVG."""

import re
from dataclasses import replace

import pytest

from labelr.scoring.report.charts import Line, Panel
from labelr.scoring.report.svg import draw

PANEL = Panel(
    title="some", x_label="x", y_label="y", lines=(Line("", ((1.0, 0.0), (10.0, 1.0))),), x_range=(1.0, 100.0),
    y_range=(0.0, 1.0), x_ticks=(1.0, 10.0, 100.0), y_ticks=(0.0, 1.0),
)  # fmt: skip
LEFT, RIGHT, BOTTOM, TOP = 58, 338, 182, 12
"""The ends of the axes of a wide panel."""


def dots_of(drawing: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'class="dot [a-z]+" cx="([\d.]+)" cy="([\d.]+)"', drawing)]


def texts_of(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


def test_points_that_are_not_joined_are_dots_with_tooltips() -> None:
    line = Line("", ((1.0, 0.0), (100.0, 1.0)), dots=True, joined=False, tooltips=("<one>", "other"))
    drawing = draw(replace(PANEL, lines=(line,)))
    assert dots_of(drawing) == [(LEFT, BOTTOM), (RIGHT, TOP)]
    assert 'class="line' not in drawing
    assert "<title>&lt;one&gt;</title>" in drawing
    assert "<title>other</title>" in drawing


def test_log_axis_puts_equal_ratios_at_equal_distances() -> None:
    line = Line("", ((1.0, 0.5), (10.0, 0.5), (100.0, 0.5)), dots=True)
    positions = [x for x, _ in dots_of(draw(replace(PANEL, lines=(line,), x_log=True)))]
    assert positions == [LEFT, (LEFT + RIGHT) / 2, RIGHT]
    linear = [x for x, _ in dots_of(draw(replace(PANEL, lines=(line,))))]
    assert linear[1] == pytest.approx(LEFT + 9 / 99 * (RIGHT - LEFT), abs=0.06)


def test_tick_names_are_slanted_where_they_are_long() -> None:
    named = draw(replace(PANEL, x_names=("auto", "16", "<b>")))
    assert {"auto", "16", "&lt;b&gt;"} <= set(texts_of(named))
    assert "rotate(-35)" not in named
    long = draw(replace(PANEL, x_names=("auto", "letterbox of every size", "crop of the middle")))
    assert long.count("rotate(-35)") == 3
    assert "letterbox of ever…" in texts_of(long)
    heights = [int(re.findall(r'viewBox="0 0 \d+ (\d+)"', drawing)[0]) for drawing in (named, long)]
    assert heights[1] > heights[0] + 30
