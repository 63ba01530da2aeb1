"""How results become tables and HTML."""

import os
import re

import numpy as np
import pandas as pd
import pytest
from pages import HOSTILE, Elements

from labelr.frames import MAX_ROWS, as_html, format_number, text_index


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.000"), (0.88449, "0.884"), (-2.5, "-2.500"), (0.00016, "0.00016"), (np.nan, "NaN"), (1234.5, "1234.500")],
)
def test_numbers_keep_three_decimals_and_small_ones_two_digits(value: float, text: str) -> None:
    assert format_number(value) == text


def test_index_of_texts_is_named_and_holds_file_names_that_are_not_utf8() -> None:
    names = ["a.png", os.fsdecode(b"caf\xe9.png")]
    for texts in (names, names[:1], []):
        index = text_index(texts, "filename")
        assert (index.tolist(), index.name) == (texts, "filename")


def test_all_text_is_escaped() -> None:
    table = pd.DataFrame({HOSTILE[0]: [1]}, index=text_index([HOSTILE[1]], HOSTILE[2]))
    page = Elements(as_html(HOSTILE[0], {HOSTILE[1]: HOSTILE[2]}, table, points=HOSTILE))
    assert {tag for tag, _ in page.elements} == {
        "div", "p", "strong", "br", "ul", "li", "table", "thead", "tbody", "tr", "th", "td",
    }  # fmt: skip
    assert all(page.text.count(text) >= 1 for text in HOSTILE)


def test_facts_without_a_value_and_empty_lists_are_left_out() -> None:
    assert as_html("Title", {"a": 1, "b": None}) == "<div><p><strong>Title</strong><br>a: 1</p></div>"


def test_long_table_shows_its_first_and_last_rows_and_its_size() -> None:
    table = pd.DataFrame({"value": range(100)}, index=text_index([f"row {row}" for row in range(100)], "name"))
    text = Elements(as_html("Title", {}, table)).text
    assert re.findall(r"row \d+", text) == [f"row {row}" for row in (*range(10), *range(90, 100))]
    assert "100 rows" in text
    assert "rows" not in Elements(as_html("Title", {}, table[:MAX_ROWS])).text
