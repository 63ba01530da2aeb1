"""The chart files of the report, drawn with matplotlib figures: no display, and no trace in its global state."""

import logging
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelr import files
from labelr.errors import pluralize
from labelr.progress import Track, untracked
from labelr.scoring.metrics import FloatArray
from labelr.scoring.report import charts
from labelr.scoring.report.charts import Panel, shorten, tick_texts
from labelr.scoring.report.sections import MakeThumbnail, example, random_rows
from labelr.scoring.results import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHARTS = ("history", "predictions", "confusion", "pr_curves")
COLOURS = {"first": "#0072b2", "second": "#c04f00", "third": "#00785a", "guide": "#7d828a"}
"""After Okabe and Ito (2008): distinct for any colour vision."""
DASHES = {"first": "-", "second": "--", "third": ":", "guide": (0, (4, 4))}
INK, SOFT, EDGE = "#1d1f23", "#5b6068", "#dcd9d2"
DPI = 110
MAX_LABELS = 120
"""The most labels that are drawn, the most frequent ones."""
DEFAULT_FONT = "DejaVu Sans"
"""Included in matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew and more."""
PLACEHOLDER_FONTS = ("Last Resort", "LastResort", ".LastResort")
"""Fonts that have every character, but show only its script."""
MAX_NAME_LENGTH = 28

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fonts:
    """The fonts of a chart."""

    families: tuple[str, ...] = (DEFAULT_FONT,)  # a character is drawn with the first one that has it
    missing: frozenset[str] = frozenset()  # characters that no installed font has

    def shorten(self, name: str, number: int, length: int = MAX_NAME_LENGTH) -> str:
        """A name on one line of at most `length` characters, shortened in its middle.

        The `number` of a name with missing characters, which are drawn as empty boxes, distinguishes it from others.
        """
        text = printable(name)
        if self.missing & set(text):
            text = f"{number}: {text}"
        return shorten(text, length)


def left_to_right(before: str, name: str, after: str) -> str:
    """A line that runs from left to right even where the name in it is Arabic or Hebrew."""
    mark = "\N{LEFT-TO-RIGHT MARK}" if any(unicodedata.bidirectional(char) in ("R", "AL") for char in name) else ""
    return f"{mark}{before}{name}{mark}{after}"


def printable(name: str) -> str:
    """A name without line breaks, control characters and characters that have no glyph of their own."""
    spaced = re.sub(r"\s+", " ", name)
    visible = (char for char in spaced if unicodedata.category(char) not in ("Cc", "Cs", "Cf", "Co", "Cn"))
    return "".join(char for char in visible if not "\ufe00" <= char <= "\ufe0f").strip()


def find_fonts(names: Iterable[str]) -> Fonts:
    """Installed fonts that together have all characters of some names, or as many of them as possible."""
    from matplotlib import font_manager

    wanted = set("".join(map(printable, names)))
    entries = [
        (entry.name, entry.fname)
        for entry in font_manager.fontManager.ttflist
        if entry.style == "normal" and not entry.name.startswith(PLACEHOLDER_FONTS)
    ]
    default = next((path for name, path in entries if name == DEFAULT_FONT), None)
    missing = wanted - (_covered(default, wanted) if default else set())
    families, seen = [DEFAULT_FONT], {DEFAULT_FONT}
    for name, path in sorted(entries, key=lambda entry: (not entry[0].startswith("Noto Sans"), entry)):
        if not missing:
            break
        if name in seen:
            continue
        seen.add(name)
        covered = _covered(path, missing)
        if covered:
            families.append(name)
            missing -= covered
    return Fonts(tuple(families), frozenset(missing))


def _covered(path: str, characters: set[str]) -> set[str]:
    """The characters that a font has; none where matplotlib cannot use it, such as a bitmap font."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        font.set_size(10, 72)
        covered = {char for char in characters if font.get_char_index(ord(char))}
        for char in sorted(covered)[:1]:
            font.load_char(ord(char))
    except (RuntimeError, OSError, ValueError):  # damaged, deleted, or without outlines
        return set()
    return covered


def write_charts(
    folder: Path,
    evaluation: Evaluation,
    history: Sequence[Panel],
    thumbnail: MakeThumbnail,
    plot_format: str,
    track: Track = untracked,
) -> None:
    """Writes the chart files into an existing folder; one that has nothing to show is left out.

    Raises:
        LabelrError: If a file cannot be written.
    """
    with _default_style():
        rows = random_rows(len(evaluation.probs))
        fonts = find_fonts([*evaluation.labels, *(evaluation.files[row] for row in rows)])
        if fonts.missing and plot_format == "png":
            log.info(
                "no installed font has %s of the names of labels and files: the charts show empty boxes "
                "in their place; report.html shows the characters, and so do charts with `--plot-format svg`",
                pluralize(len(fonts.missing), "character"),
            )
        drawn: dict[str, Callable[[], Figure]] = {}
        if history:
            drawn["history"] = lambda: draw_history(history)
        if rows:
            drawn["predictions"] = lambda: draw_predictions(evaluation, thumbnail, rows, fonts)
            drawn["confusion"] = lambda: draw_confusion(evaluation, fonts)
            drawn["pr_curves"] = lambda: draw_curves(evaluation, fonts)
        for name, draw in track(drawn.items(), "writing report images", len(drawn)):
            _save(draw(), folder / f"{name}.{plot_format}", fonts)


@contextmanager
def _default_style() -> Iterator[None]:
    """Draws with matplotlib's default style, whatever the user has configured, and without its warnings."""
    logger, level = logging.getLogger("matplotlib"), logging.getLogger("matplotlib").level
    logger.setLevel(logging.ERROR)  # it would log that it builds its font cache
    from matplotlib import style

    own: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "labelr", "font.size": 9, "text.color": INK, "text.parse_math": False,
        "axes.edgecolor": EDGE, "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT,
    }  # fmt: skip
    try:
        with style.context(["default", own]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # an SVG keeps the text
            yield
    finally:
        logger.setLevel(level)


def _save(figure: "Figure", path: Path, fonts: Fonts) -> None:
    import matplotlib as mpl

    buffer = BytesIO()
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with mpl.rc_context({"font.family": list(fonts.families)}):
        figure.savefig(buffer, format=path.suffix[1:], dpi=DPI, facecolor="white", metadata=metadata)
    files.write_atomically(path, buffer.getvalue(), durable=False)


def _grid(
    number: int, columns: int, cell: tuple[float, float], margins: tuple[float, float, float, float], caption: str = ""
) -> tuple["Figure", list["Axes"]]:
    """A figure with `number` axes in rows of at most `columns` above a caption.

    The margins are fixed: matplotlib's layout engines measure every text, which takes seconds with 90 labels.

    Args:
        number: How many axes.
        columns: How many of them in a row, at most.
        cell: Width and height of each with its margins, in inches.
        margins: At the left, right, bottom and top of each, in inches.
        caption: The caption.
    """
    from matplotlib.figure import Figure

    columns, (left, right, bottom, top) = max(1, min(columns, number)), margins
    rows = -(-number // columns)
    foot = 0.15 * (caption.count("\n") + 1) + 0.2 if caption else 0.0
    width, height = columns * cell[0], rows * cell[1] + foot
    figure = Figure(figsize=(width, height))
    grid = figure.add_gridspec(
        rows, columns, left=left / width, right=1 - right / width, bottom=(foot + bottom) / height,
        top=1 - top / height, wspace=(left + right) / (cell[0] - left - right),
        hspace=(bottom + top) / (cell[1] - bottom - top),
    )  # fmt: skip
    all_axes = [figure.add_subplot(grid[index]) for index in range(number)]
    figure.text(0.1 / width, 0.1 / height, caption, fontsize=9, color=SOFT, va="bottom")
    return figure, all_axes


def _grid_of_labels(
    evaluation: Evaluation, columns: int, cell: tuple[float, float], margins: tuple[float, float, float, float],
    caption: str,
) -> tuple["Figure", dict[int, "Axes"]]:  # fmt: skip
    """A `_grid` with axes for each of the most frequent labels, by their columns; more in a row if there are many."""
    shown, total = charts.most_frequent(evaluation, MAX_LABELS), len(evaluation.labels)
    if total > MAX_LABELS:
        caption += f"\nThe {MAX_LABELS} most frequent of {total:,} labels."
    figure, all_axes = _grid(len(shown), columns if len(shown) <= 3 * columns else 2 * columns, cell, margins, caption)
    return figure, dict(zip(shown, all_axes, strict=True))


def draw_history(panels: Sequence[Panel]) -> "Figure":
    """The training history."""
    figure, all_axes = _grid(len(panels), 3, (4.1, 2.8), (0.75, 0.2, 0.5, 0.35))
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_panel(axes, panel)
        axes.set_title(panel.title, fontsize=10, loc="left", fontweight="bold")
        axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
        if len(panel.lines) > 1:
            axes.legend(frameon=False, fontsize=8)
    return figure


def draw_curves(evaluation: Evaluation, fonts: Fonts) -> "Figure":
    """The precision-recall curve of each label, its threshold marked."""
    caption = "Dot: threshold in use. Dashed: random guessing."
    figure, axes_of = _grid_of_labels(evaluation, 4, (2.25, 2.2), (0.5, 0.15, 0.4, 0.3), caption)
    panels = charts.curve_panels(evaluation, list(axes_of))
    for panel, (column, axes) in zip(panels, axes_of.items(), strict=True):
        _set_title(axes, fonts.shorten(evaluation.labels[column], column + 1), fonts)
        if panel is None:
            axes.text(0.5, 0.5, "not evaluable", ha="center", va="center", color=SOFT, transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
            continue
        _draw_panel(axes, panel)
        axes.set_xlabel(panel.x_label, fontsize=8, labelpad=2)
        axes.set_ylabel(panel.y_label, fontsize=8, labelpad=2)
    return figure


def _draw_panel(axes: "Axes", panel: Panel) -> None:
    for line in panel.lines:
        xs, ys = zip(*line.points, strict=True)
        axes.plot(
            xs, ys, color=COLOURS[line.role], linestyle=DASHES[line.role], label=line.name or None,
            linewidth=1.0 if line.role == "guide" else 1.8, marker="o" if line.dots else None, markersize=4,
        )  # fmt: skip
    if panel.rule is not None:
        axes.axvline(panel.rule, color=SOFT, linewidth=0.8, linestyle=":")
    if panel.mark is not None:
        axes.plot(
            *panel.mark, marker="o", markersize=7, color=COLOURS["second"], markeredgecolor="white", clip_on=False
        )
    pads = [0.02 * (high - low) for low, high in (panel.x_range, panel.y_range)]
    axes.set_xlim(panel.x_range[0] - pads[0], panel.x_range[1] + pads[0])
    axes.set_ylim(panel.y_range[0] - pads[1], panel.y_range[1] + pads[1])
    axes.set_xticks(panel.x_ticks, tick_texts(panel.x_ticks, log=panel.x_log), fontsize=8)
    axes.set_yticks(panel.y_ticks, tick_texts(panel.y_ticks), fontsize=8)
    axes.grid(axis="y", color=EDGE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _set_title(axes: "Axes", text: str, fonts: Fonts) -> None:
    axes.set_title(text, fontsize=8, loc="left", family=list(fonts.families))


def draw_confusion(evaluation: Evaluation, fonts: Fonts) -> "Figure":
    """The confusion matrix of each label."""
    rows = {row["label"]: row for row in evaluation.label_rows}
    caption = "Blue: correct. Orange: wrong."
    figure, axes_of = _grid_of_labels(evaluation, 5, (1.8, 1.75), (0.45, 0.15, 0.35, 0.3), caption)
    for column, axes in axes_of.items():
        row = rows[evaluation.labels[column]]
        counts = np.array([[row["tp"], row["fn"]], [row["fp"], row["tn"]]])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # of the positives, and of the negatives
        axes.imshow(_shades(shares), aspect="auto")
        for (y, x), count in np.ndenumerate(counts):
            colour = "white" if shares[y, x] > 0.6 else INK
            axes.text(x, y, f"{count:,}", ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks([0, 1], ["yes", "no"], fontsize=7)
        axes.set_yticks([0, 1], ["yes", "no"], fontsize=7)
        axes.tick_params(length=0, pad=2)
        axes.set_xlabel("predicted", fontsize=7, labelpad=1)
        axes.set_ylabel("given", fontsize=7, labelpad=1)
        axes.spines[:].set_visible(False)
        _set_title(axes, fonts.shorten(evaluation.labels[column], column + 1, 20), fonts)
    return figure


def _shades(shares: FloatArray) -> FloatArray:
    """The colours ``(2, 2, 3)`` of a confusion matrix: blue where correct, orange where wrong, darker for more."""
    from matplotlib.colors import to_rgb

    correct, wrong = (np.array(to_rgb(COLOURS[role])) for role in ("first", "second"))
    full = np.array([[correct, wrong], [wrong, correct]])
    depth = 0.06 + 0.94 * shares[..., None]
    shades: FloatArray = 1 - depth * (1 - full)
    return shades


def draw_predictions(evaluation: Evaluation, thumbnail: MakeThumbnail, rows: Sequence[int], fonts: Fonts) -> "Figure":
    """Some images with their most relevant labels, and whether these are predicted correctly."""
    figure, all_axes = _grid(len(rows), 4, (2.9, 3.9), (0.15, 0.15, 1.1, 0.3))
    for axes, row in zip(all_axes, rows, strict=True):
        shown = example(evaluation, thumbnail, row)
        pixels = shown["thumbnail"].pixels
        if pixels is None:
            axes.text(0.5, 0.5, "no image", ha="center", va="center", color=SOFT, transform=axes.transAxes)
        else:
            axes.imshow(pixels)
            height, width = pixels.shape[:2]
            edge = max(height, width)  # each image is at the foot of a square
            axes.set(
                xlim=((width - edge) / 2 - 0.5, (width + edge) / 2 - 0.5), ylim=(height - 0.5, height - edge - 0.5)
            )
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        _set_title(axes, fonts.shorten(shown["file"], row + 1, 34), fonts)
        for number, label in enumerate(shown["labels"][:5]):
            text, colour = _label_line(label, evaluation.labels.index(label["label"]) + 1, fonts)
            axes.text(0, -0.03 - 0.075 * number, text, transform=axes.transAxes, va="top", fontsize=8, color=colour,
                      family=list(fonts.families))  # fmt: skip
    return figure


def _label_line(label: dict[str, Any], number: int, fonts: Fonts) -> tuple[str, str]:
    """A line such as ``✗ sea 61 %: not given``, and its colour."""
    signs = {
        "correct": ("✓", COLOURS["first"]),
        "wrong": ("✗", COLOURS["second"]),
        "unknown": ("?", SOFT),
        "negative": ("-", SOFT),
    }
    sign, colour = signs[label["kind"]]
    verdict = f": {label['verdict']}" if label["kind"] == "wrong" else ""
    name = fonts.shorten(label["label"], number, 20)
    return left_to_right(f"{sign} ", name, f" {label['percent']}{verdict}"), colour
