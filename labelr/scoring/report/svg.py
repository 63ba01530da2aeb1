"""Draws charts as inline SVG for HTML reports; the style sheet sets the colours, which makes dark mode work."""

import unicodedata
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from labelr.scoring.metrics import FloatArray
from labelr.scoring.report.charts import Line, Panel, axis_fraction, shorten, tick_texts

WIDE = (350, 220, (58, 12, 38, 12))
"""Width, height, and margins at the left, right, bottom and top, in SVG units."""
SMALL = (150, 140, (38, 4, 30, 4))
INSET = 6
"""The room between the ends of an axis and the outermost values, so that dots do not touch the texts of the ticks."""
LETTER_WIDTH, WIDE_LETTER = 7.0, 10.5
"""An upper bound of the mean in most names, and the width of an East Asian character."""
MAX_NAME_LENGTH = 18
HEAT_LEVELS = 8
MAX_NUMBERED, MAX_NAMED = 10, 30
"""The most labels for which a heat map has room for counts, and for their names."""
SVG = Markup('<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{description}">{content}</svg>')
TEXT = Markup('<text class="{kind}" x="{x}" y="{y}">{text}</text>')
SLANTED = Markup('<text class="yt" transform="translate({x} {y}) rotate(-35)">{text}</text>')
HEADER = Markup('<text class="{kind}" transform="translate({x} {y}) rotate({turn})">{text}<title>{name}</title></text>')
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
        fraction = axis_fraction(value, self.x_range, log=self.x_log)
        return round(self.left + INSET + fraction * (self.right - self.left - 2 * INSET), 1)

    def y(self, value: float) -> float:
        """The vertical coordinate of a value."""
        height = self.bottom - self.top - 2 * INSET
        return round(self.bottom - INSET - axis_fraction(value, self.y_range) * height, 1)


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
    extra = round(0.5 * max(text_width(shorten(name, MAX_NAME_LENGTH)) for name in panel.x_names))
    return width, height + extra, (left, right, bottom + extra, top)


def _is_slanted(panel: Panel) -> bool:
    width, _, (left, right, _, _) = WIDE
    names = panel.x_names
    return bool(names) and max(map(text_width, names)) + LETTER_WIDTH > (width - left - right) / len(names)


def text_width(text: str) -> float:
    """An upper bound of the width of most texts in SVG units; Chinese, Japanese and Korean characters are wide."""
    return sum(WIDE_LETTER if unicodedata.east_asian_width(char) in "WF" else LETTER_WIDTH for char in text)


def _axes(panel: Panel, plane: Plane, *, small: bool) -> list[Markup]:
    lines = Markup("").join(
        Markup("M{a} {y}H{b}").format(a=plane.left, y=plane.y(tick), b=plane.right) for tick in panel.y_ticks
    )
    parts = [Markup('<path class="grid" d="{lines}"/>').format(lines=lines)]
    for tick, text in zip(panel.y_ticks, tick_texts(panel.y_ticks), strict=True):
        parts.append(TEXT.format(kind="yt", x=plane.left - 4, y=plane.y(tick) + 3.5, text=text))
    names = panel.x_names or tick_texts(panel.x_ticks, log=panel.x_log)
    slanted = not small and _is_slanted(panel)
    for tick, name in zip(panel.x_ticks, names, strict=True):
        template, shift = (SLANTED, 3) if slanted else (TEXT, 0)
        text = shorten(name, MAX_NAME_LENGTH)
        parts.append(template.format(kind="xt", x=plane.x(tick) + shift, y=plane.bottom + 13, text=text))
    middle, height = (plane.left + plane.right) / 2, (plane.top + plane.bottom) / 2
    parts.append(TEXT.format(kind="xl", x=middle, y=plane.height - (3 if small else 6), text=panel.x_label))
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
    """The number of images with both labels of each pair, ``(L, L)``, as a heat map with a name at each row and column.

    The counts are in the cells where there is room.
    """
    size = len(counts)
    edge = 30 if size <= MAX_NUMBERED else 13
    short = [shorten(name, MAX_NAME_LENGTH) for name in names]
    margin = round(max(map(text_width, short), default=0)) + 8  # left of the rows, and above the columns
    texts = list(_headers(names, short, margin, edge))
    highest = max(float(counts.max(initial=0)), 1.0)
    paths: list[list[str]] = [[] for _ in range(HEAT_LEVELS)]
    for row, column in zip(*(axis.tolist() for axis in counts.nonzero()), strict=True):
        count = float(counts[row, column])
        level = min(HEAT_LEVELS - 1, int((count / highest) ** 0.5 * HEAT_LEVELS))
        x, y, inner = margin + column * edge, margin + row * edge, edge - 1
        paths[level].append(f"M{x} {y}h{inner}v{inner}h-{inner}z")
        if size <= MAX_NUMBERED:
            kind = "count on-dark" if level >= HEAT_LEVELS // 2 else "count"
            texts.append(TEXT.format(kind=kind, x=x + inner / 2, y=y + edge / 2 + 3.5, text=f"{count:.0f}"))
    cells = [
        Markup('<path class="heat" style="opacity:{o}" d="{d}"/>').format(o=(level + 1) / HEAT_LEVELS, d="".join(path))
        for level, path in enumerate(paths)
        if path
    ]
    frame = Markup('<rect class="frame" x="{m}" y="{m}" width="{s}" height="{s}"/>').format(m=margin, s=size * edge)
    content = frame + Markup("").join([*cells, *texts])
    edges = margin + size * edge + 2
    drawing = SVG.format(w=edges, h=edges, description=description, content=content)
    return Markup('<div class="scroll"><div style="min-width:{w}px;max-width:{most}px">{drawing}</div></div>').format(
        w=edges, most=round(1.3 * edges), drawing=drawing
    )


def _headers(names: Sequence[str], short: Sequence[str], margin: int, edge: int) -> Iterator[Markup]:
    """The short names of the rows and, turned, of the columns of a heat map, with the full ones as tooltips."""
    for index, (name, text) in enumerate(zip(names, short, strict=True)):
        middle = margin + (index + 0.5) * edge + 3.5
        yield HEADER.format(kind="yt", x=margin - 5, y=middle, turn=0, name=name, text=text)
        yield HEADER.format(kind="ct", x=middle, y=margin - 5, turn=-90, name=name, text=text)
