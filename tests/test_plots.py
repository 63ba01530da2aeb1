"""The chart files: any names, any number of labels, and no trace in matplotlib's global state."""

import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from conftest import make_evaluation
from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib.image import imread

from labelr.scoring.report.charts import history_panels
from labelr.scoring.report.plots import (
    CHARTS,
    Fonts,
    draw_confusion,
    find_fonts,
    left_to_right,
    printable,
    write_charts,
)
from labelr.scoring.report.sections import make_thumbnail
from labelr.scoring.results import Evaluation

NAMES = (
    "kissa", "日本語のラベル", "شاطئ البحر", "समुद्र तट", "😀 party", "long " * 24, "$\\frac{1}{2}$ & <b>",
    "line\nbreak\x07",
)  # fmt: skip

HISTORY = {"epoch": [1.0, 2.0], "train_loss": [0.7, 0.5], "val_loss": [0.6, 0.55]}


def write(evaluation: Evaluation, folder: Path, plot_format: str = "png") -> dict[str, Path]:
    write_charts(folder, evaluation, history_panels(HISTORY, 2), make_thumbnail, plot_format)
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("number", [1, pytest.param(90, marks=pytest.mark.slow)])
def test_any_number_of_labels_gives_four_images_of_moderate_size(number: int, shapes: Path, tmp_path: Path) -> None:
    written = write(make_evaluation(shapes, [f"label {index}" for index in range(number)], 6), tmp_path)
    assert set(written) == set(CHARTS)
    for name, path in written.items():
        height, width, _ = imread(path).shape
        assert 150 < width < 3000, name
        assert 150 < height < 4000, name


@pytest.mark.slow
def test_names_in_any_script_are_drawn_without_a_warning(shapes: Path, tmp_path: Path) -> None:
    named = replace(make_evaluation(shapes, NAMES, len(NAMES)), files=NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = write(named, tmp_path)
    assert set(written) == set(CHARTS)


def test_svg_keeps_names_as_text(shapes: Path, tmp_path: Path) -> None:
    written = write(make_evaluation(shapes, ["日本語", "<b>&", "समुद्र"], 3), tmp_path, "svg")
    for name in ("confusion", "pr_curves"):
        text = written[name].read_text(encoding="utf-8")
        assert "&lt;b&gt;&amp;" in text
        assert "日本語" in text  # whether there is a font for it or not
        assert "<b>" not in text


def test_name_with_characters_without_a_font_has_its_number() -> None:
    fonts = Fonts(missing=frozenset("日本"))
    assert fonts.shorten("sea", 1) == "sea"
    assert fonts.shorten("日本 sea", 2) == "2: 日本 sea"


def test_font_that_shows_only_the_script_of_a_character_does_not_count() -> None:
    fonts = find_fonts(["\U00012000", "日", "sea"])  # cuneiform, for which few machines have a font
    assert not [name for name in fonts.families if "Resort" in name]
    assert fonts.missing == {char for char in "\U00012000日" if not any(has(char, name) for name in fonts.families)}


def has(character: str, family: str) -> bool:  # as fontTools reads it
    path = font_manager.findfont(family)
    with TTFont(path, fontNumber=0) as font:
        return ord(character) in font.getBestCmap()


def test_line_with_an_arabic_name_runs_from_left_to_right() -> None:
    assert left_to_right("a ", "sea", " b") == "a sea b"
    assert left_to_right("a ", "شاطئ", " b") == "\u200ea شاطئ\u200e b"


def test_default_font_is_enough_for_european_scripts() -> None:
    assert find_fonts(["sea", "Größe", "море"]) == Fonts(("DejaVu Sans",), frozenset())


def test_long_name_keeps_its_start_and_its_end() -> None:
    shown = Fonts().shorten("a" * 100 + "z" * 20, 1)
    assert len(shown) == 28
    assert (shown[0], shown[-1]) == ("a", "z")
    assert "…" in shown


def test_name_is_one_line_without_control_characters() -> None:
    assert printable(" a\n\tb\x07\u200dc\ufe0f ") == "a bc"


def test_drawing_leaves_matplotlibs_settings_unchanged(shapes: Path, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    write(make_evaluation(shapes, ["sea", "sun"], 3), tmp_path)
    assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_style_of_the_user_does_not_change_the_charts(shapes: Path, tmp_path: Path) -> None:
    evaluation = make_evaluation(shapes, ["sea", "sun"], 3)
    plain = write(evaluation, tmp_path)["pr_curves"].read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True}):
        assert write(evaluation, other)["pr_curves"].read_bytes() == plain


def test_correct_and_wrong_counts_have_different_colours(shapes: Path, tmp_path: Path) -> None:
    evaluation = make_evaluation(shapes, ["all wrong"])
    evaluation.targets[:] = np.where(evaluation.probs >= 0.55, 0, 1)
    draw_confusion(evaluation, Fonts()).savefig(tmp_path / "confusion.png")
    pixels = imread(tmp_path / "confusion.png")[..., :3].reshape(-1, 3)
    blue, orange = np.array([0, 0x72, 0xB2]) / 255, np.array([0xC0, 0x4F, 0]) / 255
    assert (np.abs(pixels - orange).max(axis=1) < 0.02).sum() > 1000
    assert (np.abs(pixels - blue).max(axis=1) < 0.02).sum() == 0
