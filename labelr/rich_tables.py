"""Tables of rows whose keys are the headings: for a terminal of some width, or whole, as text."""

from collections.abc import Iterable, Mapping, Sequence

from rich.box import Box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from labelr.errors import printable

SHORT = 16
"""Cells of at most this many characters are never wrapped."""
BORDER = 3
"""Characters of a column besides its text."""


def visible(text: str) -> Text:
    """Text as it may be shown: names and labels may contain anything, also what rich takes for markup."""
    return Text(printable(text))


def whole_table(rows: Sequence[Mapping[str, object]], box: Box) -> str:
    """The text of a table of all rows and columns, as wide as needed; rich would take minutes for 100,000 rows."""
    names = list(rows[0])
    table = [[printable(text) for text in (name, *(format_cell(row[name]) for row in rows))] for name in names]
    widths = [max(map(cell_len, column)) for column in table]
    edges = [width + BORDER - 1 for width in widths]
    for position, (name, column) in enumerate(zip(names, table, strict=True)):
        pads = (" " * (widths[position] - cell_len(text)) for text in column)
        is_text = isinstance(rows[0][name], str)
        table[position] = [text + pad if is_text else pad + text for text, pad in zip(column, pads, strict=True)]
    head, *body = zip(*table, strict=True)
    lines = [box.get_top(edges), _line(head, box.head_left, box.head_vertical, box.head_right)]
    lines.append(box.get_row(edges, "head"))
    lines += [_line(cells, box.mid_left, box.mid_vertical, box.mid_right) for cells in body]
    return "".join(f"{line}\n" for line in [*lines, box.get_bottom(edges)])


def _line(cells: Iterable[str], left: str, between: str, right: str) -> str:
    return f"{left} {f' {between} '.join(cells)} {right}"


def make_tables(rows: Sequence[Mapping[str, object]], title: str, width: int) -> list[Table]:
    """One table, or as many as are needed to show all columns within a width."""
    return [
        _make_table([{name: row[name] for name in names} for row in rows], title if number == 0 else "")
        for number, names in enumerate(_split_columns(rows, width))
    ]


def _split_columns(rows: Sequence[Mapping[str, object]], width: int) -> list[list[str]]:
    """The columns of each table that is needed to show all columns within a width."""
    if not rows:
        return [[]]
    first, *others = rows[0]
    room = width - 1 - min(_column_width(rows, first), max(SHORT, width // 3))
    tables, left = [[first]], room
    for name in others:
        needed = _column_width(rows, name)
        if isinstance(rows[0][name], str):  # which can be wrapped
            needed = min(needed, SHORT + BORDER)
        if needed > left and len(tables[-1]) > 1:
            tables.append([first])
            left = room
        tables[-1].append(name)
        left -= needed
    return tables


def _column_width(rows: Sequence[Mapping[str, object]], name: str) -> int:
    return BORDER + max(cell_len(printable(text)) for text in (name, *(format_cell(row[name]) for row in rows)))


def _make_table(rows: Sequence[Mapping[str, object]], title: str) -> Table:
    table = Table(title=visible(title) if title else None, title_justify="left")
    for name, value in (rows[0] if rows else {}).items():
        is_text = isinstance(value, str)
        is_short = all(len(str(row[name])) <= SHORT for row in rows)
        table.add_column(
            visible(name), justify="left" if is_text else "right", overflow="fold", no_wrap=is_short or not is_text
        )
    for row in rows:
        table.add_row(*(visible(format_cell(value)) for value in row.values()))
    return table


def format_cell(value: object) -> str:
    """A value as a table shows it: floats with three decimals, integers with separators of thousands."""
    if value is None:
        return "not evaluable"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("\n", "\\n")
