"""Draws charts for the page: SVG whose colours are the page's, so that light and dark come of themselves."""

from collections.abc import Sequence

from markupsafe import Markup

from labelr.scoring.metrics import FloatArray
from labelr.scoring.report.charts import Line, Panel, tick_text

WIDE = (350, 220, (58, 12, 38, 12))
"""Width, height, and what is left at the left, right, bottom and top, in units of the picture."""
SMALL = (150, 130, (24, 8, 20, 8))
LEVELS = 8
"""Of strength in a heat map."""
NUMBERED, NAMED = 10, 30
"""A square of so many labels has room for its counts, and for the labels' names."""
SVG = Markup('<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{said}">{inside}</svg>')
TEXT = Markup('<text class="{kind}" x="{x}" y="{y}">{said}</text>')


class Place:
    """Where values lie in the picture."""

    def __init__(self, panel: Panel, size: tuple[int, int, tuple[int, int, int, int]]) -> None:
        self.width, self.height, (self.left, right, bottom, self.top) = size
        self.right, self.bottom = self.width - right, self.height - bottom
        self.x_range, self.y_range = panel.x_range, panel.y_range

    def x(self, value: float) -> float:
        """Where a value lies, from the left."""
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Where a value lies, from above."""
        low, high = self.y_range
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)


def draw(panel: Panel, *, small: bool = False) -> Markup:
    """A panel as an SVG element; its title and legend are the page's matter."""
    place = Place(panel, SMALL if small else WIDE)
    parts = [*_axes(panel, place, small=small)]
    for x, low, high in panel.spans:
        parts.append(Markup('<path class="span" d="M{x} {low}V{high}"/>').format(
            x=place.x(x), low=place.y(low), high=place.y(high)
        ))  # fmt: skip
    if panel.rule is not None:
        parts.append(Markup('<path class="rule" d="M{x} {a}V{b}"/>').format(
            x=place.x(panel.rule), a=place.top, b=place.bottom
        ))  # fmt: skip
    parts += [_line(line, place) for line in panel.lines]
    if panel.mark is not None:
        x, y = panel.mark
        parts.append(Markup('<circle class="mark" cx="{x}" cy="{y}" r="4.5"/>').format(x=place.x(x), y=place.y(y)))
    return SVG.format(w=place.width, h=place.height, said=panel.said, inside=Markup("").join(parts))


def _axes(panel: Panel, place: Place, *, small: bool) -> list[Markup]:
    lines = Markup("").join(
        Markup("M{a} {y}H{b}").format(a=place.left, y=place.y(tick), b=place.right) for tick in panel.y_ticks
    )
    parts = [Markup('<path class="grid" d="{lines}"/>').format(lines=lines)]
    parts += [TEXT.format(kind="yt", x=place.left - 4, y=place.y(t) + 3.5, said=tick_text(t)) for t in panel.y_ticks]
    parts += [TEXT.format(kind="xt", x=place.x(t), y=place.bottom + 13, said=tick_text(t)) for t in panel.x_ticks]
    if not small:
        middle = (place.left + place.right) / 2
        parts.append(TEXT.format(kind="xl", x=middle, y=place.height - 6, said=panel.x_label))
        height = (place.top + place.bottom) / 2
        turned = Markup('<text class="xl" transform="translate(9 {y}) rotate(-90)">{said}</text>')
        parts.append(turned.format(y=height, said=panel.y_label))
    return parts


def _line(line: Line, place: Place) -> Markup:
    where = [(place.x(x), place.y(y)) for x, y in line.points]
    path = "M" + "L".join(f"{x:g} {y:g}" for x, y in where)
    drawn = Markup('<path class="line {role}" d="{path}"/>').format(role=line.role, path=path)
    if line.dots:
        dots = [
            Markup('<circle class="dot {r}" cx="{x}" cy="{y}" r="3"/>').format(r=line.role, x=x, y=y) for x, y in where
        ]
        drawn += Markup("").join(dots)
    return drawn


def heat_map(counts: FloatArray, names: Sequence[str], said: str) -> Markup:
    """Counts of pairs ``(L, L)`` as a square of squares, the stronger the more; named and numbered where there is room.

    Args:
        counts: How many images have both labels, shape ``(L, L)``.
        names: Of the L labels.
        said: The chart in a sentence.
    """
    size = len(counts)
    edge, left = (30, 120) if size <= NUMBERED else (12, 120) if size <= NAMED else (12, 2)
    most = max(float(counts.max(initial=0)), 1.0)
    paths: list[list[str]] = [[] for _ in range(LEVELS)]
    texts: list[Markup] = []
    for row, column in zip(*(axis.tolist() for axis in counts.nonzero()), strict=True):
        count = float(counts[row, column])
        level = min(LEVELS - 1, int((count / most) ** 0.5 * LEVELS))
        x, y, inner = left + column * edge, row * edge, edge - 1
        paths[level].append(f"M{x} {y}h{inner}v{inner}h-{inner}z")
        if size <= NUMBERED:
            kind = "count over" if level >= LEVELS // 2 else "count"
            texts.append(TEXT.format(kind=kind, x=x + inner / 2, y=y + edge / 2 + 3.5, said=f"{count:.0f}"))
    cells = [
        Markup('<path class="heat" style="opacity:{o}" d="{d}"/>').format(o=(level + 1) / LEVELS, d="".join(path))
        for level, path in enumerate(paths)
        if path
    ]
    if size <= NAMED:
        shown = [name if len(name) <= 18 else f"{name[:17]}…" for name in names]
        texts += [
            TEXT.format(kind="yt", x=left - 5, y=(row + 0.5) * edge + 3.5, said=one) for row, one in enumerate(shown)
        ]
    frame = Markup('<rect class="frame" x="{x}" y="0" width="{s}" height="{s}"/>').format(x=left, s=size * edge)
    width, height = left + size * edge + 2, size * edge + 2
    drawn = SVG.format(w=width, h=height, said=said, inside=frame + Markup("").join([*cells, *texts]))
    return Markup('<div style="max-width:{most}px">{drawn}</div>').format(most=round(1.3 * width), drawn=drawn)
