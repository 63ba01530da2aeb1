"""The charts as files: any names, any number of labels, and no trace in the process."""

import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from conftest import make_evaluation, make_source
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.image import imread

from labelr.model.predict import Model
from labelr.scoring.report.fonts import Lettering, choose_lettering, left_to_right, printable
from labelr.scoring.report.plots import CHARTS, draw_confusion, write_charts
from labelr.scoring.report.sections import Album
from labelr.scoring.report.source import Source

NAMES = (
    "kissa", "日本語のラベル", "شاطئ البحر", "समुद्र तट", "😀 party", "long " * 24, "$\\frac{1}{2}$ & <b>",
    "line\nbreak\x07",
)  # fmt: skip


def write(source: Source, folder: Path, plot_format: str = "png") -> dict[str, Path]:
    write_charts(folder, source, Album(source.evaluation), plot_format)
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("number", [1, pytest.param(90, marks=pytest.mark.slow)])
def test_any_number_of_labels_is_drawn_in_four_legible_pictures(
    number: int, drawn: Path, trained: Model, tmp_path: Path
) -> None:
    source = make_source(trained, make_evaluation(drawn, [f"label {index}" for index in range(number)]))
    charts = write(source, tmp_path)
    assert set(charts) == set(CHARTS)
    for name, path in charts.items():
        height, width, _ = imread(path).shape
        assert 150 < width < 3000, name
        assert 150 < height < 4000, name


def test_names_of_any_script_are_drawn_without_a_warning_and_told_apart(
    drawn: Path, trained: Model, tmp_path: Path
) -> None:
    evaluation = make_evaluation(drawn, NAMES)
    named = replace(evaluation, files=tuple(NAMES[row % len(NAMES)] for row in range(40)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charts = write(make_source(trained, named), tmp_path)
    assert set(charts) == set(CHARTS)


def test_svg_keeps_names_as_text(drawn: Path, trained: Model, tmp_path: Path) -> None:
    charts = write(make_source(trained, make_evaluation(drawn, ["日本語", "<b>&", "समुद्र"])), tmp_path, "svg")
    for name in ("confusion", "pr_curves"):
        text = charts[name].read_text(encoding="utf-8")
        assert "&lt;b&gt;&amp;" in text
        assert "<b>" not in text


def test_characters_without_a_font_are_boxes_behind_the_labels_number() -> None:
    lettering = Lettering(missing=frozenset("日本"))
    assert lettering.write("sea", 1) == "sea"
    assert lettering.write("日本 sea", 2) == "2: ▯▯ sea"


def test_font_that_only_shows_of_which_script_a_character_is_does_not_count() -> None:
    lettering = choose_lettering(["\U00012000", "日", "sea"])  # cuneiform, which few machines have a font for
    assert not [name for name in lettering.families if "Resort" in name]
    assert lettering.missing == {
        one for one in "\U00012000日" if not any(has(one, name) for name in lettering.families)
    }


def has(character: str, family: str) -> bool:  # as fontTools reads it
    path = font_manager.findfont(family)
    with TTFont(path, fontNumber=0) as font:
        return ord(character) in font.getBestCmap()


def test_line_with_an_arabic_name_runs_from_left_to_right() -> None:
    assert left_to_right("a ", "sea", " b") == "a sea b"
    assert left_to_right("a ", "شاطئ", " b") == "\u200ea شاطئ\u200e b"


def test_fonts_beyond_the_usual_one_are_taken_only_where_they_are_needed() -> None:
    assert choose_lettering(["sea", "Größe", "море"]).families == ("DejaVu Sans",)
    assert choose_lettering(["sea"]).missing == frozenset()


def test_long_name_keeps_its_beginning_and_its_end() -> None:
    shown = choose_lettering([]).write("a" * 100 + "z" * 20)
    assert len(shown) == 28
    assert (shown[0], shown[-1]) == ("a", "z")
    assert "…" in shown


def test_name_is_one_line_without_control_characters() -> None:
    assert printable(" a\n\tb\x07\u200dc\ufe0f ") == "a bc"


def test_drawing_leaves_no_trace(drawn: Path, trained: Model, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    write(make_source(trained, make_evaluation(drawn, ["sea", "sun"])), tmp_path)
    assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_style_of_the_users_own_does_not_show(drawn: Path, trained: Model, tmp_path: Path) -> None:
    source = make_source(trained, make_evaluation(drawn, ["sea", "sun"]))
    plain = write(source, tmp_path)["pr_curves"].read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True}):
        assert write(source, other)["pr_curves"].read_bytes() == plain


def test_right_and_wrong_counts_have_different_colours(drawn: Path, trained: Model, tmp_path: Path) -> None:
    evaluation = make_evaluation(drawn, ["all wrong"])
    evaluation.targets[:] = np.where(evaluation.probs >= 0.55, 0, 1)
    source = make_source(trained, evaluation)
    draw_confusion(source, Lettering()).savefig(tmp_path / "confusion.png")
    wrong = imread(tmp_path / "confusion.png")[..., :3].reshape(-1, 3)
    blue, orange = np.array([0, 0x72, 0xB2]) / 255, np.array([0xC0, 0x4F, 0]) / 255
    assert (np.abs(wrong - orange).max(axis=1) < 0.02).sum() > 1000
    assert (np.abs(wrong - blue).max(axis=1) < 0.02).sum() == 0
