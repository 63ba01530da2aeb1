"""Charts as inline SVG."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import Browser

from labelr.scoring.report import svg
from labelr.scoring.report.charts import Line, Panel
from labelr.scoring.report.svg import draw, heat_map

STYLE = Path(svg.__file__).with_name("report.css")
PANEL = Panel(
    title="some", x_label="x", y_label="y", lines=(Line("", ((1.0, 0.0), (10.0, 1.0))),), x_range=(1.0, 100.0),
    y_range=(0.0, 1.0), x_ticks=(1.0, 10.0, 100.0), y_ticks=(0.0, 1.0),
)  # fmt: skip
LEFT, RIGHT, BOTTOM, TOP = 64, 332, 176, 18
"""Where the ends of the ranges of a wide panel are."""


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
    assert "letterbox o…y size" in texts_of(long)
    heights = [int(re.findall(r'viewBox="0 0 \d+ (\d+)"', drawing)[0]) for drawing in (named, long)]
    assert heights[1] > heights[0] + 30


def test_outermost_dots_do_not_touch_the_texts_of_the_ticks() -> None:
    drawing = draw(replace(PANEL, lines=(Line("", ((1.0, 0.0), (100.0, 1.0)), dots=True),), mark=(1.0, 0.0)))
    radius = 4.5 + 0.75  # of the mark, with its outline
    texts = re.findall(r'<text class="(?:xt|yt)" x="([\d.]+)" y="([\d.]+)"', drawing)
    right_of_y_texts = max(float(x) for x, _ in texts[:2])
    top_of_x_texts = max(float(y) for _, y in texts) - 10.5
    assert right_of_y_texts < LEFT - radius
    assert top_of_x_texts > BOTTOM + radius


def test_small_panel_has_titles_at_both_axes() -> None:
    assert {"x", "y"} <= set(texts_of(draw(PANEL, small=True)))


def test_heat_map_has_a_header_at_each_row_and_column_with_the_whole_name() -> None:
    names = ["sea", "mountain/landscape/with-snow", "日本語のとても長いラベルの名前です", "<b>"]
    drawing = heat_map(np.arange(16.0).reshape(4, 4), names, "some")
    headers = re.findall(
        r'<text class="(yt|ct)" transform="translate\([^)]*\) rotate\((-?\d+)\)">([^<]*)<title>', drawing
    )
    assert sorted(headers[::2]) == sorted(("yt", "0", text) for _, _, text in headers[::2])
    assert [text for kind, turn, text in headers if (kind, turn) == ("ct", "-90")] == [
        "sea", "mountain/la…h-snow", "日本語のとても長いラベルの名前です", "&lt;b&gt;",
    ]  # fmt: skip
    assert drawing.count(f"<title>{names[1]}</title>") == 2


@pytest.mark.slow
@pytest.mark.browser
def test_headers_of_a_heat_map_are_within_the_drawing(browser: Browser) -> None:
    groups = (["unknown everywhere"], ["日本語のとても長いラベルの名前です"], ["Rindfleischetikettierung", "sea"])
    script = """<script>
      const texts = [...document.querySelectorAll("text")];
      const inside = texts.filter((text) => {
        const [box, frame] = [text.getBoundingClientRect(), text.closest("svg").getBoundingClientRect()];
        return box.left >= frame.left && box.top >= frame.top;
      });
      document.title = [texts.length, inside.length];
    </script>"""
    maps = "".join(heat_map(np.zeros((len(names), len(names))), names, "") for names in groups)
    shown = browser(f"<!doctype html><style>{STYLE.read_text()}</style>{maps}{script}")
    assert re.findall(r"<title>([\d,]+)</title>", shown.page) == ["8,8"]
