"""The charts as files, drawn by matplotlib's objects: no display, and nothing that other figures could feel."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labelr import files
from labelr.scoring.metrics import FloatArray
from labelr.scoring.report import charts
from labelr.scoring.report.examples import Thumbnail, random_rows
from labelr.scoring.report.fonts import Lettering, choose_lettering, left_to_right, tell_missing
from labelr.scoring.report.panels import Panel, tick_text
from labelr.scoring.report.sections import shot
from labelr.scoring.report.source import Source, read_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHARTS = ("history", "predictions", "confusion", "pr_curves")
COLOURS = {"first": "#0072b2", "second": "#c04f00", "third": "#00785a", "guide": "#7d828a"}
"""After Okabe and Ito (2008), whom people of any colour vision can tell apart."""
DASHES = {"first": "-", "second": "--", "third": ":", "guide": (0, (4, 4))}
INK, SOFT, EDGE = "#1d1f23", "#5b6068", "#dcd9d2"
DPI = 110
LABELS_DRAWN = 120
"""So many are drawn at most: the most frequent ones."""


def write_charts(folder: Path, source: Source, album: Callable[[int], Thumbnail], plot_format: str) -> None:
    """Writes the charts into a folder; one that has nothing to show is left out.

    Args:
        folder: It is there already.
        source: What they are made from.
        album: Gives the thumbnail of an image by its row.
        plot_format: ``"png"`` or ``"svg"``.

    Raises:
        LabelrError: If they cannot be written.
    """
    with _own_style():
        rows = random_rows(len(source.evaluation.probs))
        names = [*source.evaluation.labels, *(source.evaluation.files[row] for row in rows)]
        lettering = choose_lettering(names)
        tell_missing(lettering, plot_format)
        panels = charts.history_panels(read_history(source.model.path), source.model.info.best_epoch)
        if panels:
            _save(draw_history(panels), folder / f"history.{plot_format}", lettering)
        if rows:
            drawn = {
                "predictions": draw_predictions(source, album, rows, lettering),
                "confusion": draw_confusion(source, lettering),
                "pr_curves": draw_curves(source, lettering),
            }
            for name, figure in drawn.items():
                _save(figure, folder / f"{name}.{plot_format}", lettering)


@contextmanager
def _own_style() -> Iterator[None]:
    """Draws as the style of matplotlib's own defaults says, whatever the user's is, and without its remarks."""
    chatty, level = logging.getLogger("matplotlib"), logging.getLogger("matplotlib").level
    chatty.setLevel(logging.ERROR)  # where it keeps its list of fonts is of no interest, nor that it makes one
    import matplotlib as mpl

    defaults: dict[str, Any] = {
        name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith("backend")
    }
    own = {"svg.fonttype": "none", "svg.hashsalt": "labelr", "font.size": 9, "text.color": INK, "axes.edgecolor": EDGE,
           "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "text.parse_math": False}  # fmt: skip
    style: Any = {**defaults, **own}
    try:
        with mpl.rc_context(style), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")  # an SVG keeps the text all the same
            yield
    finally:
        chatty.setLevel(level)


def _save(figure: "Figure", path: Path, lettering: Lettering) -> None:
    import matplotlib as mpl

    buffer = BytesIO()
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with mpl.rc_context({"font.family": list(lettering.families)}):
        figure.savefig(buffer, format=path.suffix[1:], dpi=DPI, facecolor="white", metadata=metadata)
    files.write_atomically(path, buffer.getvalue(), durable=False)


class Pads(NamedTuple):
    """What is left free around each pair of axes, in inches."""

    left: float
    right: float
    bottom: float
    top: float


def _grid(
    number: int, columns: int, size: tuple[float, float], pads: Pads, *, foot: float = 0.0
) -> tuple["Figure", list["Axes"]]:
    """A figure of `number` axes in rows, each of a width and height in inches, and some inches below them.

    They are placed by hand: a layout that measures every text takes seconds with 90 labels.
    """
    from matplotlib.figure import Figure

    columns = max(1, min(columns, number))
    width, height = columns * size[0], -(-number // columns) * size[1] + foot
    figure = Figure(figsize=(width, height))
    every = []
    for index in range(number):
        row, column = divmod(index, columns)
        left, bottom = column * size[0] + pads.left, height - (row + 1) * size[1] + pads.bottom
        inner = (size[0] - pads.left - pads.right, size[1] - pads.bottom - pads.top)
        every.append(figure.add_axes((left / width, bottom / height, inner[0] / width, inner[1] / height)))
    return figure, every


def _left_out(source: Source) -> str:
    """That there are more labels than are drawn, as the end of a caption; nothing where there are not."""
    total = len(source.evaluation.labels)
    return f"\nThe {LABELS_DRAWN} most frequent of {total:,} labels." if total > LABELS_DRAWN else ""


def _caption(figure: "Figure", text: str) -> None:
    """A line at the foot of a figure."""
    figure.text(0.1 / figure.get_figwidth(), 0.1 / figure.get_figheight(), text, fontsize=9, color=SOFT, va="bottom")


def draw_history(panels: Sequence[Panel]) -> "Figure":
    """How training went."""
    figure, every = _grid(len(panels), 3, (4.1, 2.8), Pads(0.75, 0.2, 0.5, 0.35))
    for axes, panel in zip(every, panels, strict=True):
        _draw(axes, panel)
        axes.set_title(panel.title, fontsize=10, loc="left", fontweight="bold")
        axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
        if len(panel.lines) > 1:
            axes.legend(frameon=False, fontsize=8)
    return figure


def draw_curves(source: Source, lettering: Lettering) -> "Figure":
    """The precision-recall curve of each label, its threshold marked."""
    columns = charts.most_frequent(source.evaluation, LABELS_DRAWN)
    figure, every = _grid(
        len(columns), 4 if len(columns) <= 12 else 8, (2.15, 2.1), Pads(0.4, 0.15, 0.3, 0.3), foot=0.5
    )
    for axes, panel, column in zip(every, charts.curve_panels(source.evaluation, columns), columns, strict=True):
        _title(axes, lettering.write(source.evaluation.labels[column], column + 1), lettering)
        if panel is None:
            axes.text(0.5, 0.5, "not evaluable", ha="center", va="center", color=SOFT, transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
            continue
        _draw(axes, panel)
    _caption(figure, f"Up: precision. Along: recall. Dot: threshold in use.{_left_out(source)}")
    return figure


def _draw(axes: "Axes", panel: Panel) -> None:
    """A panel's lines, points and axes."""
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
    margins = [0.02 * (high - low) for low, high in (panel.x_range, panel.y_range)]
    axes.set_xlim(panel.x_range[0] - margins[0], panel.x_range[1] + margins[0])
    axes.set_ylim(panel.y_range[0] - margins[1], panel.y_range[1] + margins[1])
    axes.set_xticks(panel.x_ticks, [tick_text(tick) for tick in panel.x_ticks], fontsize=8)
    axes.set_yticks(panel.y_ticks, [tick_text(tick) for tick in panel.y_ticks], fontsize=8)
    axes.grid(axis="y", color=EDGE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _title(axes: "Axes", text: str, lettering: Lettering) -> None:
    axes.set_title(text, fontsize=8, loc="left", family=list(lettering.families))


def draw_confusion(source: Source, lettering: Lettering) -> "Figure":
    """What was written beside what is true, four counts a label."""
    rows = {row["label"]: row for row in source.evaluation.per_label}
    columns = charts.most_frequent(source.evaluation, LABELS_DRAWN)
    labels = [source.evaluation.labels[column] for column in columns]
    figure, every = _grid(
        len(labels), 5 if len(labels) <= 15 else 10, (1.8, 1.65), Pads(0.4, 0.15, 0.25, 0.3), foot=0.8
    )
    for axes, label, column in zip(every, labels, columns, strict=True):
        counts = np.array([[rows[label]["tp"], rows[label]["fn"]], [rows[label]["fp"], rows[label]["tn"]]])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # of the true ones, and of the others
        axes.imshow(_shades(shares), aspect="auto")
        for (down, along), count in np.ndenumerate(counts):
            colour = "white" if shares[down, along] > 0.6 else INK
            axes.text(along, down, f"{count:,}", ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks([0, 1], ["written", "not"], fontsize=7)
        axes.set_yticks([0, 1], ["true", "not"], fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        _title(axes, lettering.write(label, column + 1, 22), lettering)
    _caption(figure, "Rows: true or not.\nColumns: written or not.\nBlue: right. Orange: wrong." + _left_out(source))
    return figure


def _shades(shares: FloatArray) -> FloatArray:
    """Colours ``(2, 2, 3)`` of a confusion matrix: blue where right and orange where wrong, the deeper the more."""
    from matplotlib.colors import to_rgb

    right, wrong = (np.array(to_rgb(COLOURS[role])) for role in ("first", "second"))
    full = np.array([[right, wrong], [wrong, right]])
    depth = 0.06 + 0.94 * shares[..., None]
    shades: FloatArray = 1 - depth * (1 - full)
    return shades


def draw_predictions(
    source: Source, album: Callable[[int], Thumbnail], rows: Sequence[int], lettering: Lettering
) -> "Figure":
    """Images drawn at random, with their probabilities against the truth."""
    evaluation = source.evaluation
    numbers = {label: number for number, label in enumerate(evaluation.labels, start=1)}
    figure, every = _grid(len(rows), 4, (2.9, 3.9), Pads(0.15, 0.15, 1.1, 0.3))
    for axes, row in zip(every, rows, strict=True):
        one = shot(evaluation, album, row)
        pixels = one["thumbnail"].pixels
        if pixels is None:
            axes.text(0.5, 0.5, "no picture", ha="center", va="center", color=SOFT, transform=axes.transAxes)
        else:
            axes.imshow(pixels)
            height, width = pixels.shape[:2]
            edge = max(height, width)  # a square for each, at whose foot the picture stands
            axes.set(
                xlim=((width - edge) / 2 - 0.5, (width + edge) / 2 - 0.5), ylim=(height - 0.5, height - edge - 0.5)
            )
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        _title(axes, lettering.write(one["file"], row + 1, 34), lettering)
        lines = _said(one["says"], numbers, lettering)
        for line, (text, colour) in enumerate(lines):
            place = -0.03 - 0.075 * line
            axes.text(0, place, text, transform=axes.transAxes, va="top", fontsize=8, color=colour,
                      family=list(lettering.families))  # fmt: skip
    return figure


def _said(says: Sequence[dict[str, Any]], numbers: dict[str, int], lettering: Lettering) -> list[tuple[str, str]]:
    """A line a label, as ``✗ sea 61 %, but not given``, with its colour."""
    signs = {
        "right": ("✓", COLOURS["first"]),
        "wrong": ("✗", COLOURS["second"]),
        "unknown": ("?", SOFT),
        "quiet": ("-", SOFT),
    }
    lines = []
    for say in says[:5]:
        sign, colour = signs[say["kind"]]
        name = lettering.write(say["label"], numbers[say["label"]], 20)
        wrong = f": {say['verdict']}" if say["kind"] == "wrong" else ""
        lines.append((left_to_right(f"{sign} ", name, f" {say['percent']}{wrong}"), colour))
    return lines
