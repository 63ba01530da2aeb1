"""Draws charts for the page: SVG whose colours are the page's, so that light and dark come of themselves."""

from collections.abc import Sequence

from markupsafe import Markup

from labelr.scoring.metrics import FloatArray
from labelr.scoring.report.panels import Line, Panel, Parallel, along, tick_text

WIDE = (350, 220, (58, 12, 38, 12))
"""Width, height, and what is left at the left, right, bottom and top, in units of the picture."""
SMALL = (150, 130, (24, 8, 20, 8))
LETTER = 5.9
"""How wide a letter is at most, about."""
LONGEST = 18
"""Letters of a name, before the rest of it is left out."""
STEP, HIGH = 128, 230
"""Between upright axes, and their height."""
MANY = 120
"""More lines than that are thin ones."""
LEVELS = 8
"""Of strength in a heat map."""
NUMBERED, NAMED = 10, 30
"""A square of so many labels has room for its counts, and for the labels' names."""
SVG = Markup('<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{said}">{inside}</svg>')
TEXT = Markup('<text class="{kind}" x="{x}" y="{y}">{said}</text>')
SLANTED = Markup('<text class="yt" transform="translate({x} {y}) rotate(-35)">{said}</text>')
NOTE = Markup("<title>{}</title>")
THREADS = Markup(
    '<div class="scroll card parallel{many}" style="--least:{least}px;max-width:{most}px" role="group" tabindex="0" '
    'aria-label="{said}">{drawn}</div>'
)

Size = tuple[int, int, tuple[int, int, int, int]]


class Place:
    """Where values lie in the picture."""

    def __init__(self, panel: Panel, size: Size) -> None:
        self.width, self.height, (self.left, right, bottom, self.top) = size
        self.right, self.bottom = self.width - right, self.height - bottom
        self.x_range, self.y_range, self.x_log = panel.x_range, panel.y_range, panel.x_log

    def x(self, value: float) -> float:
        """Where a value lies, from the left."""
        return round(self.left + along(value, self.x_range, log=self.x_log) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Where a value lies, from above."""
        return round(self.bottom - along(value, self.y_range) * (self.bottom - self.top), 1)


def draw(panel: Panel, *, small: bool = False) -> Markup:
    """A panel as an SVG element; its title and legend are the page's matter."""
    place = Place(panel, SMALL if small else _size(panel))
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


def _size(panel: Panel) -> Size:
    """The size of a picture, higher where the names below it must be slanted."""
    if not _is_slanted(panel):
        return WIDE
    width, height, (left, right, bottom, top) = WIDE
    more = round(0.5 * LETTER * max(len(short(name)) for name in panel.x_names))
    return width, height + more, (left, right, bottom + more, top)


def _is_slanted(panel: Panel) -> bool:
    width, _, (left, right, _, _) = WIDE
    room = (width - left - right) / LETTER
    return bool(panel.x_names) and max(map(len, panel.x_names)) + 1 > room / len(panel.x_names)


def short(name: str) -> str:
    """A name of which there is room for so much."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _axes(panel: Panel, place: Place, *, small: bool) -> list[Markup]:
    lines = Markup("").join(
        Markup("M{a} {y}H{b}").format(a=place.left, y=place.y(tick), b=place.right) for tick in panel.y_ticks
    )
    parts = [Markup('<path class="grid" d="{lines}"/>').format(lines=lines)]
    parts += [TEXT.format(kind="yt", x=place.left - 4, y=place.y(t) + 3.5, said=tick_text(t)) for t in panel.y_ticks]
    names = panel.x_names or [tick_text(tick) for tick in panel.x_ticks]
    slanted = not small and _is_slanted(panel)
    for tick, name in zip(panel.x_ticks, names, strict=True):
        text, shift = (SLANTED, 3) if slanted else (TEXT, 0)
        parts.append(text.format(kind="xt", x=place.x(tick) + shift, y=place.bottom + 13, said=short(name)))
    if not small:
        middle = (place.left + place.right) / 2
        parts.append(TEXT.format(kind="xl", x=middle, y=place.height - 6, said=panel.x_label))
        height = (place.top + place.bottom) / 2
        turned = Markup('<text class="xl" transform="translate(9 {y}) rotate(-90)">{said}</text>')
        parts.append(turned.format(y=height, said=panel.y_label))
    return parts


def _line(line: Line, place: Place) -> Markup:
    where = [(place.x(x), place.y(y)) for x, y in line.points]
    drawn = Markup("")
    if line.joined:
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in where)
        drawn = Markup('<path class="line {role}" d="{path}"/>').format(role=line.role, path=path)
    if line.dots:
        notes = [NOTE.format(note) for note in line.notes] or [Markup("")] * len(where)
        drawn += Markup("").join(_dot(line.role, *at, note) for at, note in zip(where, notes, strict=True))
    return drawn


def _dot(role: str, x: float, y: float, note: Markup) -> Markup:
    if role == "failed":
        cross = Markup('<path class="cross" d="M{a} {b}l6 6m0-6l-6 6">{note}</path>')
        return cross.format(a=round(x - 3, 1), b=round(y - 3, 1), note=note)
    if not note:
        return Markup('<circle class="dot {r}" cx="{x}" cy="{y}" r="3"/>').format(r=role, x=x, y=y)
    return Markup('<circle class="dot {r}" cx="{x}" cy="{y}" r="3">{n}</circle>').format(r=role, x=x, y=y, n=note)


def draw_parallel(parallel: Parallel) -> Markup:
    """Upright axes with a line for each point, never narrower than what can be read."""
    left, top, right = 14, 30, 64
    width, height = left + STEP * (len(parallel.axes) - 1) + right, top + HIGH + 12
    lines, texts = [], []
    for number, axis in enumerate(parallel.axes):
        x = left + STEP * number
        lines.append(f"M{x} {top}V{top + HIGH}")
        texts.append(TEXT.format(kind="axis", x=x - 6, y=14, said=short(axis.name)))
        texts += [
            TEXT.format(kind="tick", x=x + 5, y=round(top + HIGH * (1 - at) + 3.5, 1), said=short(name))
            for at, name in axis.ticks
        ]
    threads = []
    for thread in parallel.threads:
        points = (f"{left + STEP * i} {round(top + HIGH * (1 - at), 1):g}" for i, at in enumerate(thread.heights))
        drawn = Markup('<path class="thread {role}" d="M{path}">{note}</path>')
        note = NOTE.format(thread.note) if thread.note else ""
        threads.append(drawn.format(role=thread.role, path="L".join(points), note=note))
    axes = Markup('<path class="axes" d="{d}"/>').format(d="".join(lines))
    drawn = SVG.format(w=width, h=height, said=parallel.said, inside=Markup("").join([*threads, axes, *texts]))
    return THREADS.format(
        many=" many" if len(threads) > MANY else "", said=parallel.title, least=round(0.95 * width),
        most=round(1.35 * width), drawn=drawn,
    )  # fmt: skip


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
        texts += [
            TEXT.format(kind="yt", x=left - 5, y=(row + 0.5) * edge + 3.5, said=short(one))
            for row, one in enumerate(names)
        ]
    frame = Markup('<rect class="frame" x="{x}" y="0" width="{s}" height="{s}"/>').format(x=left, s=size * edge)
    width, height = left + size * edge + 2, size * edge + 2
    drawn = SVG.format(w=width, h=height, said=said, inside=frame + Markup("").join([*cells, *texts]))
    return Markup('<div style="max-width:{most}px">{drawn}</div>').format(most=round(1.3 * width), drawn=drawn)
