"""Tables: what their cells mean."""

from pathlib import Path

import pytest
from conftest import assert_table, make_data, read_table

from labelr.data.formats import table
from labelr.data.formats.words import Mark, marks_among

NAN = float("nan")
WORDS = (
    "ИСТИНА/ЛЪЖА", "TEISINGA/NETEISINGA", "GWIR/ANWIR", "참/거짓", "예/아니요", "네/아니오", "有り/無し",
    "あり/なし", "真/偽", "对/错", "對/錯", "是/不是", "√/×", "○/×", "จริง/เท็จ", "ใช่/ไม่ใช่", "نعم/لا",
    "صواب/خطأ", "כן/לא", "אמת/שקר", "بله/خیر", "हाँ/नहीं", "सत्य/असत्य", "Ya/Tidak", "Có/Không", "SI'/NO",
    "S/N", "O/N", "T/N", "✓/✗", "☑/☐", "X/-", "+/-", "נכון/לא נכון",
)  # fmt: skip


@pytest.mark.parametrize("pair", WORDS)
def test_words_and_signs_for_yes_and_no_are_marks(pair: str, tmp_path: Path) -> None:
    yes, no = pair.split("/")
    table = read_table(make_data(tmp_path, f"filename,dog,cat\na.jpg,{yes},{no}\nb.jpg,{no},{yes}\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])


@pytest.mark.parametrize("cells", [("s", "n", "e", "w"), ("o", "n", "s"), ("n", "s")])
def test_letters_of_one_column_or_beside_others_are_no_pair(cells: tuple[str, ...]) -> None:
    assert {"s", "o"}.isdisjoint(marks_among([cells]))


def test_word_without_its_pair_is_a_tick_where_two_columns_hold_nothing_else(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,dog,cat\na.jpg,VERO,\nb.jpg,,VERO\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])


@pytest.mark.parametrize(("cell", "absent"), [("1", 0), ("0", NAN)])
def test_word_without_its_pair_is_a_tick_beside_marks(cell: str, absent: float, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, f"filename,dog,cat\na.jpg,Sí,{cell}\nb.jpg,,{cell}\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, int(cell)], [absent, int(cell)]])


@pytest.mark.parametrize(
    "columns",
    [
        [("vero", "")],  # nothing else says that it is a mark
        [("vero", "uva", ""), ("vero", "")],  # a word among others, and one column that holds it alone
        [("sand", ""), ("1", "0")],  # what a beach is made of
        [("vero",), ("1", "0")],  # of every image
    ],
)
def test_word_without_its_pair_is_no_mark_elsewhere(columns: list[tuple[str, ...]]) -> None:
    assert not {"vero", "sand"} & {word for word, mark in marks_among(columns).items() if mark is Mark.YES}


def test_quotes_around_the_only_cell_of_a_line_belong_to_the_cell(tmp_path: Path) -> None:
    text = 'filename\n"Smith, John.jpg"\n"Doe, Jane.jpg"\n'
    assert table.read_table(tmp_path / "list.csv", text).rows == [["filename"], ["Smith, John.jpg"], ["Doe, Jane.jpg"]]
