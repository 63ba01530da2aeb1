"""How results become DataFrames and show themselves in notebooks. pandas is imported only when they do."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 20
"""A longer table shows its first and last rows."""
MAX_NAMES = 10
"""Labels in a line."""


def text_index(texts: Sequence[str], name: str) -> "pd.Index[str]":
    """An index of texts; names of files that are not valid UTF-8 make it one of Python objects."""
    import pandas as pd

    try:
        return pd.Index(list(texts), name=name)
    except UnicodeEncodeError:
        return pd.Index(list(texts), name=name, dtype=object)


def format_number(value: float) -> str:
    """A number with three decimals, or two significant digits if it is small; ``NaN`` if it is not evaluable."""
    if math.isnan(value):
        return "NaN"
    return f"{value:.3f}" if not value or abs(value) >= 0.01 else f"{value:.2g}"


def as_html(title: str, facts: Mapping[str, object], *tables: "pd.DataFrame", points: Iterable[str] = ()) -> str:
    """A result as HTML for a notebook, in the notebook's own fonts and colours; all text is escaped.

    Args:
        title: What it is.
        facts: Names and values, one line each; a value of None is left out.
        tables: Shown with their index, the first and last rows of long ones.
        points: Sentences of a list.
    """
    lines = [f"<strong>{escape(title)}</strong>"]
    lines += [f"{escape(name)}: {escape(str(value))}" for name, value in facts.items() if value is not None]
    listed = "".join(f"<li>{escape(point)}</li>" for point in points)
    parts = [f"<p>{'<br>'.join(lines)}</p>", f"<ul>{listed}</ul>" if listed else "", *map(_table, tables)]
    return f"<div>{''.join(parts)}</div>"


def _table(table: "pd.DataFrame") -> str:
    """A table whose index is its first column, so that it has a single row of headings; a wide one can be scrolled."""
    is_long = len(table) > MAX_ROWS
    shown = table.reset_index().to_html(
        index=False, border=0, max_rows=MAX_ROWS, float_format=format_number, show_dimensions=is_long
    )
    return f'<div style="overflow-x: auto">{shown}</div>'
