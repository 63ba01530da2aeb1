"""Draws charts as inline SVG for HTML reports; the style sheet sets the colours, which makes dark mode work."""

from collections.abc import Sequence

from markupsafe import Markup

from labelr.scoring.metrics import FloatArray
from labelr.scoring.report.charts import Line, Panel, axis_fraction, tick_text

WIDE = (350, 220, (58, 12, 38, 12))
"""Width, height, and margins at the left, right, bottom and top, in SVG units."""
SMALL = (150, 130, (24, 8, 20, 8))
LETTER_WIDTH = 5.9
"""An upper bound of the mean."""
MAX_NAME_LENGTH = 18
HEAT_LEVELS = 8
MAX_NUMBERED, MAX_NAMED = 10, 30
"""The most labels for which a heat map has room for counts, and for names."""
SVG = Markup('<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{description}">{content}</svg>')
TEXT = Markup('<text class="{kind}" x="{x}" y="{y}">{text}</text>')
SLANTED = Markup('<text class="yt" transform="translate({x} {y}) rotate(-35)">{text}</text>')
TOOLTIP = Markup("<title>{}</title>")

Size = tuple[int, int, tuple[int, int, int, int]]


class Plane:
    """Maps values to SVG coordinates."""

    def __init__(self, panel: Panel, size: Size) -> None:
        self.width, self.height, (self.left, right, bottom, self.top) = size
        self.right, self.bottom = self.width - right, self.height - bottom
        self.x_range, self.y_range, self.x_log = panel.x_range, panel.y_range, panel.x_log

    def x(self, value: float) -> float:
        """The horizontal coordinate of a value."""
        return round(self.left + axis_fraction(value, self.x_range, log=self.x_log) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """The vertical coordinate of a value."""
        return round(self.bottom - axis_fraction(value, self.y_range) * (self.bottom - self.top), 1)


def draw(panel: Panel, *, small: bool = False) -> Markup:
    """A panel as an SVG element, without its title and legend, which are HTML."""
    plane = Plane(panel, SMALL if small else _size(panel))
    parts = [*_axes(panel, plane, small=small)]
    for x, low, high in panel.intervals:
        parts.append(Markup('<path class="interval" d="M{x} {low}V{high}"/>').format(
            x=plane.x(x), low=plane.y(low), high=plane.y(high)
        ))  # fmt: skip
    if panel.rule is not None:
        parts.append(Markup('<path class="rule" d="M{x} {a}V{b}"/>').format(
            x=plane.x(panel.rule), a=plane.top, b=plane.bottom
        ))  # fmt: skip
    parts += [_line(line, plane) for line in panel.lines]
    if panel.mark is not None:
        x, y = panel.mark
        parts.append(Markup('<circle class="mark" cx="{x}" cy="{y}" r="4.5"/>').format(x=plane.x(x), y=plane.y(y)))
    content = Markup("").join(parts)
    return SVG.format(w=plane.width, h=plane.height, description=panel.description, content=content)


def _size(panel: Panel) -> Size:
    """The size of a chart, higher where long tick names have to be slanted."""
    if not _is_slanted(panel):
        return WIDE
    width, height, (left, right, bottom, top) = WIDE
    extra = round(0.5 * LETTER_WIDTH * max(len(shorten(name)) for name in panel.x_names))
    return width, height + extra, (left, right, bottom + extra, top)


def _is_slanted(panel: Panel) -> bool:
    width, _, (left, right, _, _) = WIDE
    room = (width - left - right) / LETTER_WIDTH
    return bool(panel.x_names) and max(map(len, panel.x_names)) + 1 > room / len(panel.x_names)


def shorten(name: str) -> str:
    """A name with at most `MAX_NAME_LENGTH` characters."""
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}…"


def _axes(panel: Panel, plane: Plane, *, small: bool) -> list[Markup]:
    lines = Markup("").join(
        Markup("M{a} {y}H{b}").format(a=plane.left, y=plane.y(tick), b=plane.right) for tick in panel.y_ticks
    )
    parts = [Markup('<path class="grid" d="{lines}"/>').format(lines=lines)]
    parts += [TEXT.format(kind="yt", x=plane.left - 4, y=plane.y(t) + 3.5, text=tick_text(t)) for t in panel.y_ticks]
    names = panel.x_names or [tick_text(tick) for tick in panel.x_ticks]
    slanted = not small and _is_slanted(panel)
    for tick, name in zip(panel.x_ticks, names, strict=True):
        template, shift = (SLANTED, 3) if slanted else (TEXT, 0)
        parts.append(template.format(kind="xt", x=plane.x(tick) + shift, y=plane.bottom + 13, text=shorten(name)))
    if not small:
        middle = (plane.left + plane.right) / 2
        parts.append(TEXT.format(kind="xl", x=middle, y=plane.height - 6, text=panel.x_label))
        height = (plane.top + plane.bottom) / 2
        turned = Markup('<text class="xl" transform="translate(9 {y}) rotate(-90)">{text}</text>')
        parts.append(turned.format(y=height, text=panel.y_label))
    return parts


def _line(line: Line, plane: Plane) -> Markup:
    points = [(plane.x(x), plane.y(y)) for x, y in line.points]
    drawing = Markup("")
    if line.joined:
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        drawing = Markup('<path class="line {role}" d="{path}"/>').format(role=line.role, path=path)
    if line.dots:
        tooltips = [TOOLTIP.format(text) for text in line.tooltips] or [Markup("")] * len(points)
        dot = Markup('<circle class="dot {role}" cx="{x}" cy="{y}" r="3">{tooltip}</circle>')
        for (x, y), tooltip in zip(points, tooltips, strict=True):
            drawing += dot.format(role=line.role, x=x, y=y, tooltip=tooltip)
    return drawing


def heat_map(counts: FloatArray, names: Sequence[str], description: str) -> Markup:
    """The number of images with both labels of each pair, ``(L, L)``, as a heat map with names where there is room."""
    size = len(counts)
    edge, left = (30, 120) if size <= MAX_NUMBERED else (12, 120) if size <= MAX_NAMED else (12, 2)
    highest = max(float(counts.max(initial=0)), 1.0)
    paths: list[list[str]] = [[] for _ in range(HEAT_LEVELS)]
    texts: list[Markup] = []
    for row, column in zip(*(axis.tolist() for axis in counts.nonzero()), strict=True):
        count = float(counts[row, column])
        level = min(HEAT_LEVELS - 1, int((count / highest) ** 0.5 * HEAT_LEVELS))
        x, y, inner = left + column * edge, row * edge, edge - 1
        paths[level].append(f"M{x} {y}h{inner}v{inner}h-{inner}z")
        if size <= MAX_NUMBERED:
            kind = "count on-dark" if level >= HEAT_LEVELS // 2 else "count"
            texts.append(TEXT.format(kind=kind, x=x + inner / 2, y=y + edge / 2 + 3.5, text=f"{count:.0f}"))
    cells = [
        Markup('<path class="heat" style="opacity:{o}" d="{d}"/>').format(o=(level + 1) / HEAT_LEVELS, d="".join(path))
        for level, path in enumerate(paths)
        if path
    ]
    if size <= MAX_NAMED:
        texts += [
            TEXT.format(kind="yt", x=left - 5, y=(row + 0.5) * edge + 3.5, text=shorten(name))
            for row, name in enumerate(names)
        ]
    frame = Markup('<rect class="frame" x="{x}" y="0" width="{s}" height="{s}"/>').format(x=left, s=size * edge)
    width, height = left + size * edge + 2, size * edge + 2
    content = frame + Markup("").join([*cells, *texts])
    drawing = SVG.format(w=width, h=height, description=description, content=content)
    return Markup('<div style="max-width:{most}px">{drawing}</div>').format(most=round(1.3 * width), drawing=drawing)
