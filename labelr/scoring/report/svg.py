"""Draws charts for the page: SVG whose colours are the page's, so that light and dark come of themselves."""

from markupsafe import Markup

from labelr.scoring.metrics import FloatArray
from labelr.scoring.report.charts import Line, Panel, tick_text

WIDE = (350, 220, (58, 12, 38, 12))
"""Width, height, and what is left at the left, right, bottom and top, in units of the picture."""
SMALL = (150, 130, (24, 8, 20, 8))
LEVELS = 8
"""Of darkness in a heat map."""


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
    return Markup('<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{said}">{inside}</svg>').format(
        w=place.width, h=place.height, said=panel.said, inside=Markup("").join(parts)
    )


def _axes(panel: Panel, place: Place, *, small: bool) -> list[Markup]:
    lines = Markup("").join(
        Markup("M{a} {y}H{b}").format(a=place.left, y=place.y(tick), b=place.right) for tick in panel.y_ticks
    )
    parts = [Markup('<path class="grid" d="{lines}"/>').format(lines=lines)]
    text = Markup('<text class="{kind}" x="{x}" y="{y}">{said}</text>')
    parts += [text.format(kind="yt", x=place.left - 4, y=place.y(t) + 3.5, said=tick_text(t)) for t in panel.y_ticks]
    parts += [text.format(kind="xt", x=place.x(t), y=place.bottom + 13, said=tick_text(t)) for t in panel.x_ticks]
    if not small:
        middle = (place.left + place.right) / 2
        parts.append(text.format(kind="xl", x=middle, y=place.height - 6, said=panel.x_label))
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


def heat_map(counts: FloatArray, names: list[str], said: str) -> Markup:
    """Counts of pairs ``(L, L)`` as a square of squares, the darker the more, with names where there is room."""
    size, edge = len(counts), 12
    left = 130 if size <= 30 else 4
    top = max(float(counts.max(initial=0)), 1.0)
    paths: list[list[str]] = [[] for _ in range(LEVELS)]
    for row, column in zip(*counts.nonzero(), strict=True):
        level = int(min(LEVELS - 1, (float(counts[row, column]) / top) ** 0.5 * LEVELS))
        paths[level].append(f"M{left + column * edge} {row * edge}h11v11h-11z")
    cells = [
        Markup('<path class="heat" style="opacity:{o}" d="{d}"/>').format(o=(level + 1) / LEVELS, d="".join(path))
        for level, path in enumerate(paths)
        if path
    ]
    frame = Markup('<rect class="frame" x="{x}" y="0" width="{s}" height="{s}"/>').format(x=left, s=size * edge)
    text = Markup('<text class="yt" x="{x}" y="{y}">{name}</text>')
    if size <= 30:
        cells += [
            text.format(x=left - 4, y=row * edge + 9, name=name if len(name) <= 18 else f"{name[:17]}…")
            for row, name in enumerate(names)
        ]
    return Markup('<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{said}">{inside}</svg>').format(
        w=left + size * edge + 2, h=size * edge + 2, said=said, inside=frame + Markup("").join(cells)
    )
