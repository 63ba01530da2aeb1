"""Label files that would take minutes or gigabytes end at once, in a sentence with the limit and how to raise it."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import error_of, put, read_table

from labelr.data.formats.encodings import find_encodings
from labelr.errors import LabelrError

HEAD = "filename,cat\na.jpg,1\n"
CELLS = '<row r="1"><c r="A1" t="str"><v>filename</v></c></row>'
SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>'
)
WORKBOOK = (
    '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.'
    'openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets>'
    "</workbook>"
)
ODS = (
    '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:table="urn:oasis:'
    'names:tc:opendocument:xmlns:table:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body>'
    '<office:spreadsheet><table:table table:name="S"><table:table-row table:number-rows-repeated="1048576">'
    '<table:table-cell table:number-columns-repeated="16384" office:value-type="string"><text:p>x</text:p>'
    "</table:table-cell></table:table-row></table:table></office:spreadsheet></office:body></office:document-content>"
)


def archive(path: Path, **parts: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name.replace("__", "/") + ".xml", content)


def xlsx(sheet: str) -> Callable[[Path], None]:
    return lambda path: archive(path, xl__workbook=WORKBOOK, xl__worksheets__sheet1=SHEET.format(CELLS + sheet))


def shared_text(path: Path) -> None:
    """An xlsx whose cells refer to one long text."""
    cells = "".join(f'<row r="{n}"><c r="A{n}" t="s"><v>0</v></c></row>' for n in range(1, 50))
    archive(
        path, xl__workbook=WORKBOOK, xl__worksheets__sheet1=SHEET.format(cells),
        xl__sharedStrings=f"<sst><si><t>{'x' * 9_000}</t></si></sst>",
    )  # fmt: skip


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.csv", text(HEAD + "," * 20_000), "has 20,018 cells"),
        ("a.csv", text(HEAD + "\n" * 9_000), "has 9,002 rows"),
        ("a.csv", text("filename" + ",a" * 100), "has 101 columns"),
        ("a.csv", text(f'{HEAD}"{"x" * 15_000}'), "separators in a row, of more than 10,000 characters"),
        ("a.csv", text(HEAD + "x" * 110_000), "at most 0.1 MB are read"),
        ("a.csv", text("filename,tags\n" + "".join(f"{n}.jpg,t{n}\n" for n in range(60))), "60 labels"),
        ("a.csv", text(f"filename,tags\na.jpg,{'x' * 2_000}\n"), "a label of 2,000 characters"),
        ("a.json", text(f"[{'[],' * 9_000}[]]"), "values, with their keys and brackets"),
        ("a.json", text("[" * 9_000), "nested too deeply"),
        ("a.jsonl", text("".join(f'{{"filename":"{n}.jpg","k{n}":1}}\n' for n in range(200))), "201 different keys"),
        ("a.yaml", text("[" * 200), "nested"),
        ("a.yaml", text("[a, b, c]\n" * 300), "1,500 line breaks, commas and brackets"),
        ("a.xml", text("<annotations>" + "<a/>" * 9_000 + "</annotations>"), "tags and attributes"),
        ("a.xlsx", xlsx('<row r="3"><c r="XFD1048576"><v>1</v></c></row>'), "cells, empty ones included"),
        ("a.xlsx", xlsx(f'<row r="3"><c r="A3" t="str"><v>{"x" * 200_000}</v></c></row>'), "uncompressed"),
        ("a.xlsx", shared_text, "with each text as often as it is in a cell"),
        ("a.ods", lambda path: archive(path, content=ODS), "has 17,179,869,184 cells"),
    ],
)
def test_file_over_a_limit_names_it(name: str, make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    make(tmp_path / name)
    error = error_of(tmp_path, labels=[str(tmp_path / name)], max_cells=10_000)
    assert message in error.message
    assert any(word in message for word in ("nested", "a label")) or "--max-cells" in error.hint


def test_limit_can_be_raised_to_what_the_message_says(tmp_path: Path) -> None:
    put(tmp_path, "labels.csv", HEAD)
    put(tmp_path, "a.jpg")
    hint = error_of(tmp_path, max_cells=5).hint
    needed = int(hint.partition("--max-cells ")[2].partition("`")[0])
    while True:  # the next limit may be another one
        try:
            assert read_table(tmp_path, max_cells=needed).files == ("a.jpg",)
            break
        except LabelrError as error:
            raised = int(error.hint.partition("--max-cells ")[2].partition("`")[0])
            assert raised > needed
            needed = raised


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
def test_pipe_is_no_label_file_and_is_not_waited_for(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "labels.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("labels.csv", "zero.csv"):
        assert "not a regular file" in error_of(tmp_path, labels=[str(tmp_path / name)]).message


def test_thousands_of_columns_take_no_longer_each_than_a_few(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "labels.csv", "filename" + "".join(f",l{n}" for n in range(8_000)) + "\na.jpg" + ",1" * 8_000 + "\n")
    assert read_table(tmp_path).targets.shape == (1, 8_000)


def test_long_word_that_is_not_utf8_is_read_in_linear_time() -> None:
    assert find_encodings([b"a" * 2_000_000 + b"\xe9"]) == ["cp1252"]


def test_long_list_as_python_writes_it_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    cell = "['" + "', '".join(f"t{number}" for number in range(20_000)) + "']"
    put(tmp_path, "labels.csv", f'filename,tags\na.jpg,"{cell}"\n')
    assert "that is not JSON" in error_of(tmp_path).message
