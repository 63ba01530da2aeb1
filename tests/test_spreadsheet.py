"""Spreadsheets, Parquet and Feather files, and DataFrames, written by the programs' own libraries."""

import datetime as dt
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from conftest import assert_table, error_of, put, read_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl.worksheet.worksheet import Worksheet
from pyarrow import feather

import labelr
from labelr.config import ReadOptions
from labelr.data.formats.layouts import read_source
from labelr.data.formats.source import Source
from labelr.data.formats.spreadsheet import read_spreadsheet, table_of_frame

EXPORTS = Path(__file__).parent / "exports"
NAN = float("nan")


def make_sheet(
    folder: Path, rows: list[list[object]], name: str = "labels.xlsx"
) -> tuple[openpyxl.Workbook, Worksheet]:
    """A workbook with a sheet of some rows, which is saved, and an empty file for each image that they name."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert isinstance(sheet, Worksheet)
    sheet.title = "photos"
    for row in rows:
        sheet.append(row)
    book.save(folder / name)
    for row in rows:
        for cell in row:
            if str(cell).endswith(".jpg"):
                put(folder, str(cell))
    return book, sheet


def write_ods(frame: pd.DataFrame, path: Path) -> None:
    with pd.ExcelWriter(path, engine="odf") as writer:
        frame.to_excel(writer, index=False)


ROWS: list[list[object]] = [["filename", "dog", "cat"], ["a.jpg", True, 0], ["b.jpg", False, 1.0]]


def test_sheet_is_read_where_a_csv_is(tmp_path: Path) -> None:
    make_sheet(tmp_path, ROWS)
    table = read_table(tmp_path)
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])
    assert table.layout == 'one column a label, sheet "photos"'


def test_spreadsheet_is_recognised_by_its_content(tmp_path: Path) -> None:
    make_sheet(tmp_path, ROWS)
    (tmp_path / "labels.xlsx").rename(tmp_path / "labels.csv")
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])


def test_text_that_is_called_a_spreadsheet_is_read(tmp_path: Path) -> None:
    put(tmp_path, "labels.xls", "filename\tdog\na.jpg\t1\nb.jpg\t0\n")
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])


def test_old_excel_file_is_read() -> None:
    table = read_spreadsheet(EXPORTS / "spreadsheets" / "labels.xls")
    assert table.rows == [["filename", "dog"], ["a.jpg", "true"], ["b.jpg", "0"]]


def test_cells_are_what_a_spreadsheet_shows(tmp_path: Path) -> None:
    rows: list[list[object]] = [["name", "a", "b"], ["0001", dt.date(2024, 5, 1), "NA"], [7, dt.time(13, 5), 0.25]]
    _, sheet = make_sheet(tmp_path, rows)
    sheet["A3"].number_format = "0000"
    sheet.parent.save(tmp_path / "labels.xlsx")
    table = read_spreadsheet(tmp_path / "labels.xlsx")
    assert table.body == [["0001", "2024-05-01", "NA"], ["0007", "13:05:00", "0.25"]]


def test_row_number_in_a_message_is_that_of_the_spreadsheet(tmp_path: Path) -> None:
    make_sheet(tmp_path, [["Photos of May"], [None], *ROWS, [None], ["c.jpg", "yess", 0]])
    error = error_of(tmp_path)
    assert 'labels.xlsx, row 7, column "dog": expected 0, 1 or nothing, got "yess"' in error.message


@pytest.mark.parametrize("before", [[], [None], [None, None]])
def test_title_above_the_header_is_left_out_and_said(before: list[None], tmp_path: Path) -> None:
    rows: list[list[object]] = [["Photos of May"], [None], *ROWS]
    make_sheet(tmp_path, [[*before, *cells] for cells in rows])
    table = read_table(tmp_path)
    assert table.labels == ("dog", "cat")
    assert "rows above the header, left out: Photos of May" in table.findings.notes


def test_several_sheets_are_an_error_that_names_them(tmp_path: Path) -> None:
    book, _ = make_sheet(tmp_path, ROWS)
    book.create_sheet("notes 2").append(["anything"])
    book.create_sheet("empty")
    book.save(tmp_path / "labels.xlsx")
    error = error_of(tmp_path)
    assert "has 2 sheets: photos, notes 2" in error.message
    assert error.hint == "name one with `--sheet photos`"
    assert read_table(tmp_path, sheet="photos").labels == ("dog", "cat")
    assert "its sheets are photos, notes 2, empty" in error_of(tmp_path, sheet="foto").hint


def test_hidden_sheet_is_not_read(tmp_path: Path) -> None:
    book, _ = make_sheet(tmp_path, ROWS)
    book.create_sheet("codes").append([1, 2])
    book["codes"].sheet_state = "hidden"
    book.save(tmp_path / "labels.xlsx")
    assert "hidden sheets, not read: codes" in read_table(tmp_path).findings.notes


def test_hidden_rows_and_columns_are_read_and_said(tmp_path: Path) -> None:
    _, sheet = make_sheet(tmp_path, ROWS)
    sheet.column_dimensions["C"].hidden = True
    sheet.row_dimensions[2].hidden = True
    sheet.parent.save(tmp_path / "labels.xlsx")
    table = read_table(tmp_path)
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat"], [[1, 0], [0, 1]])
    assert {"hidden columns, read like the others: C", "hidden rows, read like the others: 1"} <= {
        *table.findings.notes
    }


def test_value_of_merged_cells_counts_for_each_of_their_rows(tmp_path: Path) -> None:
    _, sheet = make_sheet(tmp_path, [*ROWS, ["c.jpg", None, 1]])
    sheet.merge_cells("B3:B4")
    sheet.parent.save(tmp_path / "labels.xlsx")
    table = read_table(tmp_path)
    assert_table(table, ["a.jpg", "b.jpg", "c.jpg"], ["dog", "cat"], [[1, 0], [0, 1], [0, 1]])
    assert "merged cells, whose value counts for each of their rows: 1" in table.findings.notes


def test_groups_of_columns_in_merged_cells_are_left_out(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        ["filename", "Animals", None, "Plants", None], [None, "dog", "cat", "tree", "rose"],
        ["a.jpg", 1, 0, 1, 0], ["b.jpg", 0, 1, 0, 1],
    ]  # fmt: skip
    _, sheet = make_sheet(tmp_path, rows)
    for cells in ("A1:A2", "B1:C1", "D1:E1"):
        sheet.merge_cells(cells)
    sheet.parent.save(tmp_path / "labels.xlsx")
    table = read_table(tmp_path)
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "cat", "tree", "rose"], [[1, 0, 1, 0], [0, 1, 0, 1]])
    assert "names of groups of columns above the header, left out: Animals, Plants" in table.findings.notes


@pytest.mark.parametrize("header", ["filename", "Datei"])
def test_file_name_that_is_a_formula_without_a_stored_value_is_explained(header: str, tmp_path: Path) -> None:
    formulas = [f'=HYPERLINK("D:\\photos\\{name}","{name}")' for name in ("a.jpg", "b.jpg")]
    make_sheet(tmp_path, [[header, "dog"], [formulas[0], 1], [formulas[1], 0]])
    error = error_of(tmp_path)
    assert "row 2: no file name (1 more row that cannot be read); formulas without a stored value" in error.message
    assert error.message.endswith(": A2, A3")
    assert error.hint.startswith("open the spreadsheet in Excel or LibreOffice and save it")


def test_formula_without_a_stored_value_is_unknown_and_said(tmp_path: Path) -> None:
    make_sheet(tmp_path, [*ROWS, ["c.jpg", "=1=0", 1]])
    table = read_table(tmp_path)
    assert_table(table, ["a.jpg", "b.jpg", "c.jpg"], ["dog", "cat"], [[1, 0], [0, 1], [NAN, 1]])
    (note,) = (note for note in table.findings.notes if "formulas" in note)
    assert "without a stored value" in note
    assert note.endswith("B4")


def test_hidden_column_of_an_ods_is_said(tmp_path: Path) -> None:
    from odf.opendocument import load
    from odf.table import TableColumn

    frame = pd.DataFrame({"filename": ["a.jpg"], "dog": [True], "cat": [False]})
    write_ods(frame, tmp_path / "labels.ods")
    document = load(tmp_path / "labels.ods")
    sheet = document.spreadsheet.firstChild
    for visibility in ("visible", "collapse", "visible"):
        sheet.insertBefore(TableColumn(visibility=visibility), sheet.firstChild)
    document.save(tmp_path / "labels.ods")
    table = read_spreadsheet(tmp_path / "labels.ods")
    assert table.rows == [["filename", "dog", "cat"], ["a.jpg", "true", "false"]]
    assert table.notes == ("hidden columns, read like the others: B",)


def test_spreadsheet_and_the_csv_saved_from_it_are_one_table(tmp_path: Path) -> None:
    make_sheet(tmp_path, [["filename", "dog"], ["a.jpg", 1], ["b.jpg", 0]])
    put(tmp_path, "labels.csv", "filename,dog\na.jpg,1\nb.jpg,0\n")
    assert read_table(tmp_path).labels == ("dog",)
    put(tmp_path, "labels.csv", "filename,dog\na.jpg,0\nb.jpg,0\n")
    assert "2 files in" in error_of(tmp_path).message


def test_lock_file_of_excel_is_no_label_file(tmp_path: Path) -> None:
    make_sheet(tmp_path, ROWS)
    put(tmp_path, "~$labels.xlsx", b"\x05Anna")
    assert read_table(tmp_path).labels == ("dog", "cat")


def test_protected_or_damaged_spreadsheet_is_told(tmp_path: Path) -> None:
    put(tmp_path, "labels.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
    put(tmp_path, "a.jpg")
    error = error_of(tmp_path)
    assert "labels.xlsx cannot be read" in error.message
    assert "save the sheet as CSV" in error.hint


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(
        st.text(st.characters(categories=["L"]), min_size=1, max_size=8), min_size=1, max_size=3, unique=True
    ),
    cells=st.lists(st.lists(st.sampled_from([True, False, None]), min_size=3, max_size=3), min_size=2, max_size=6),
)
def test_table_written_by_pandas_reads_to_the_same_labels_in_every_format(
    labels: list[str], cells: list[list[bool | None]], tmp_path: Path
) -> None:
    cells = [[True, False, True], [False, True, False], *cells]  # every column says yes and no
    frame = pd.DataFrame({"filename": [f"{row:03}.jpg" for row in range(len(cells))]})
    for column, label in enumerate(labels):
        frame[f"the {label}"] = pd.array([row[column] for row in cells], dtype="boolean")
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    write_ods(frame, tmp_path / "t.ods")
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_feather(tmp_path / "t.feather")
    expected = [[float(mark) if mark is not None else NAN for mark in row[: len(labels)]] for row in cells]
    for suffix in ("csv", "tsv", "xlsx", "ods", "parquet", "feather"):
        table = read_source(Source(tmp_path / f"t.{suffix}", tmp_path, ReadOptions()))
        assert table.labels == tuple(f"the {label}" for label in labels), suffix
        assert table.names == tuple(frame["filename"]), suffix
        assert str(table.targets.tolist()) == str(expected), suffix


# --- DataFrames ------------------------------------------------------------------------------------------------------


FRAME = pd.DataFrame({"filename": ["a.jpg", "b.jpg"], "dog": [1, 0]})


def write_arrow_stream(frame: pd.DataFrame, path: Path) -> None:
    table = pa.Table.from_pandas(frame)
    with path.open("wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def write_feather_1(frame: pd.DataFrame, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        feather.write_feather(frame, path, version=1)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("labels.pq", pd.DataFrame.to_parquet),
        ("labels.arrow", pd.DataFrame.to_feather),
        ("labels.arrow", write_arrow_stream),
        ("labels.feather", write_feather_1),
    ],
)
def test_file_of_arrow_is_read_under_each_name_and_version(
    name: str, write: Callable[[pd.DataFrame, Path], None], tmp_path: Path
) -> None:
    write(FRAME, tmp_path / name)
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])


def test_bytes_are_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"filename": [b"a.jpg", "ü.jpg".encode()], "label": [b"dog", "Käfer".encode()]})
    put(tmp_path, "a.jpg")
    put(tmp_path, "ü.jpg")
    assert labelr.read(_written(frame, tmp_path)).columns.tolist() == ["Käfer", "dog"]
    assert table_of_frame(frame, Path("DataFrame")).rows[2] == ["ü.jpg", "Käfer"]


def _written(frame: pd.DataFrame, folder: Path) -> Path:
    frame.to_parquet(folder / "labels.parquet")
    return folder


def test_images_inside_a_parquet_file_are_an_error_that_says_so(tmp_path: Path) -> None:
    images = [{"bytes": b"\xff\xd8\xff", "path": "a.jpg"}, {"bytes": b"\xff\xd8\xff", "path": "b.jpg"}]
    put(tmp_path, "a.png")
    error = error_of(_written(pd.DataFrame({"image": images, "label": [0, 1]}), tmp_path))
    assert 'the column "image" holds the images themselves' in error.message
    assert "write each image into a file" in error.hint


def test_paths_of_images_that_are_not_inside_a_parquet_file_are_their_names(tmp_path: Path) -> None:
    images = [{"bytes": None, "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}]
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    _written(pd.DataFrame({"image": images, "label": ["dog", "cat"]}), tmp_path)
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg"], ["cat", "dog"], [[0, 1], [1, 0]])


def test_folder_of_parquet_files_is_an_error_that_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    FRAME.to_parquet(tmp_path / "labels.parquet", partition_cols=["dog"])
    error = error_of(tmp_path)
    assert "a folder of several: labels.parquet" in error.message
    assert "to_csv" in error.hint


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("labels.xls", "<html><table><tr><td>filename</td><td>dog</td></tr></table></html>", "a web page"),
        ("labels.xls", "\n<!DOCTYPE html>\n<html></html>", "a web page"),
        (
            "labels.xls", '<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"/>',
            "XML of Excel 2003",
        ),
        ("labels.fods", '<?xml version="1.0"?>\n<office:document xmlns:office="x"/>', "a flat XML spreadsheet"),
    ],
)  # fmt: skip
def test_what_programs_open_as_a_spreadsheet_is_named(name: str, content: str, kind: str, tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, name, content)
    error = error_of(tmp_path)
    assert f"{name} is {kind}, which labelr does not read" in error.message
    assert "save it as .xlsx or CSV" in error.hint


def test_data_frame_is_checked_like_a_file(shapes: Path) -> None:
    frame = pd.read_csv(shapes / "labels.csv")
    from_frame, from_file = labelr.check(frame, images=shapes / "images").dataset, labelr.check(shapes).dataset
    assert from_frame.labels == from_file.labels
    assert from_frame.files == from_file.files
    assert (from_frame.targets == from_file.targets).all()


def test_index_of_file_names_is_the_column_of_files(shapes: Path) -> None:
    frame = pd.read_csv(shapes / "labels.csv").set_index("filename")
    assert labelr.check(frame, images=shapes / "images").dataset.files == labelr.check(shapes).dataset.files


def test_note_on_splits_names_no_file_of_a_data_frame(shapes: Path) -> None:
    frame = pd.DataFrame({"filename": ["00000.png", "00001.png"], "dog": [1, 0], "Type": ["train", "test"]})
    notes = labelr.check(frame, images=shapes / "images").dataset.findings.notes
    assert any(note.startswith("columns that hold no labels, ignored: Type") for note in notes)
    assert not any("--splits" in note for note in notes)


def test_lists_of_tags_in_a_data_frame_are_tags(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(tmp_path, name, (Path(__file__).parent / "exports" / "spreadsheets" / "pixel.png").read_bytes())
    frame = pd.DataFrame({"image": ["a.jpg", "b.jpg", "c.jpg"], "tags": [["dog", "cat"], [], ["dog"]]})
    dataset = labelr.check(frame, images=tmp_path).dataset
    assert_table(dataset, ["a.jpg", "b.jpg", "c.jpg"], ["cat", "dog"], [[1, 1], [0, 0], [0, 1]])


def test_data_frame_needs_the_folder_of_its_images(shapes: Path) -> None:
    with pytest.raises(labelr.LabelrError, match="the folder of the images") as caught:
        labelr.check(pd.read_csv(shapes / "labels.csv"))
    assert "images=" in caught.value.hint


@pytest.mark.slow
def test_model_is_trained_and_evaluated_with_a_data_frame(shapes: Path, tmp_path: Path) -> None:
    from conftest import TINY

    frame = pd.read_csv(shapes / "labels.csv")
    result = labelr.fit(frame, TINY, images=shapes / "images", output=tmp_path / "model")
    evaluation = labelr.evaluate(frame, result.model, images=shapes / "images", split="test")
    assert set(evaluation.labels) == set(frame.columns[1:])


def test_table_of_read_knows_the_folder_of_its_images(shapes: Path) -> None:
    assert labelr.check(labelr.read(shapes)).dataset.files == labelr.check(shapes).dataset.files


def test_merged_cells_and_leading_zeros_of_an_ods(tmp_path: Path) -> None:
    from odf.opendocument import OpenDocumentSpreadsheet
    from odf.table import CoveredTableCell, Table, TableCell, TableRow
    from odf.text import P

    document = OpenDocumentSpreadsheet()
    sheet = Table(name="photos")
    for cells in (
        [TableCell(), TableCell()],
        [TableCell(valuetype="float", value="7"), TableCell(valuetype="string", numberrowsspanned=2)],
        [TableCell(valuetype="float", value="12"), CoveredTableCell()],
    ):
        row = TableRow()
        for cell in cells:
            row.addElement(cell)
        sheet.addElement(row)
    texts = (("filename", "label"), ("0007", "dog"), ("0012",))
    for row, own in zip(sheet.childNodes, texts, strict=True):
        for cell, text in zip(row.childNodes, own, strict=False):
            cell.addElement(P(text=text))
            if text in ("filename", "label"):
                cell.setAttribute("valuetype", "string")
    document.spreadsheet.addElement(sheet)
    document.save(tmp_path / "labels.ods")
    table = read_spreadsheet(tmp_path / "labels.ods")
    assert table.rows == [["filename", "label"], ["0007", "dog"], ["0012", "dog"]]
    assert table.notes == ("merged cells, whose value counts for each of their rows: 1",)


def test_text_of_a_number_format_is_shown(tmp_path: Path) -> None:
    _, sheet = make_sheet(tmp_path, [["file", "dog"], [7, 1], [12, 0]])
    sheet["A2"].number_format = sheet["A3"].number_format = '"IMG_"0000".jpg"'
    sheet.parent.save(tmp_path / "labels.xlsx")
    assert read_spreadsheet(tmp_path / "labels.xlsx").body == [["IMG_0007.jpg", "1"], ["IMG_0012.jpg", "0"]]


def test_number_that_a_spreadsheet_rounds_is_an_error(tmp_path: Path) -> None:
    make_sheet(tmp_path, [["id", "dog"], [12345678901234567, 1]])
    error = error_of(tmp_path)
    assert 'labels.xlsx, column "id": spreadsheets round numbers' in error.message
    assert "as text" in error.hint


def test_rounded_number_beside_the_labels_does_not_matter(tmp_path: Path) -> None:
    make_sheet(tmp_path, [["filename", "dog", "tweet_id"], ["a.jpg", 1, 12345678901234567890], ["b.jpg", 0, 7]])
    assert read_table(tmp_path).labels == ("dog",)


def test_index_of_the_name_of_a_column_gives_way_to_it(shapes: Path) -> None:
    frame = pd.read_csv(shapes / "labels.csv").set_index("filename", drop=False)
    assert labelr.check(frame, images=shapes / "images").dataset.files == labelr.check(shapes).dataset.files


@pytest.mark.parametrize("data", [3, {"filename": ["a.jpg"]}])
def test_data_that_is_no_table_is_refused(data: object) -> None:
    with pytest.raises(labelr.LabelrError, match="expected a folder, several, or a DataFrame"):
        labelr.check(data)  # type: ignore[arg-type]


def edit_part(path: Path, part: str, old: str, new: str) -> None:
    """Replaces a text in a part of a spreadsheet."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    assert parts[part].decode().count(old) == 1
    parts[part] = parts[part].decode().replace(old, new).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_formula_whose_stored_value_is_an_empty_text_has_a_value(tmp_path: Path) -> None:
    make_sheet(tmp_path, [*ROWS, ["c.jpg", '=IF(A1=0,"x","")', 1]])
    edit_part(tmp_path / "labels.xlsx", "xl/worksheets/sheet1.xml", '<c r="B4">', '<c r="B4" t="str">')
    assert read_spreadsheet(tmp_path / "labels.xlsx").notes == ("formulas, whose stored values are read: 1",)


def test_errors_of_an_xlsx_are_counted(tmp_path: Path) -> None:
    make_sheet(tmp_path, [*ROWS, ["c.jpg", "#DIV/0!", "#N/A"]])
    table = read_spreadsheet(tmp_path / "labels.xlsx")
    assert table.rows[3] == ["c.jpg", "", ""]
    assert table.notes == ("cells with an error, taken as empty: 2 (#DIV/0!, #N/A)",)


def test_errors_of_an_ods_are_counted(tmp_path: Path) -> None:
    write_ods(pd.DataFrame({"filename": ["a.jpg", "b.jpg"], "dog": [1, 7]}), tmp_path / "labels.ods")
    cell = '<table:table-cell office:value-type="float" office:value="7"><text:p>7</text:p>'
    error = (
        '<table:table-cell xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0" '
        'office:value-type="string" office:string-value="" calcext:value-type="error"><text:p>#DIV/0!</text:p>'
    )
    edit_part(tmp_path / "labels.ods", "content.xml", cell, error)
    table = read_spreadsheet(tmp_path / "labels.ods")
    assert table.rows[2] == ["b.jpg", ""]
    assert table.notes == ("cells with an error, taken as empty: 1 (#DIV/0!)",)


def test_cells_merged_across_columns_are_said_unless_they_are_a_title(tmp_path: Path) -> None:
    book, sheet = make_sheet(tmp_path, [["Our photos"], *ROWS])
    for cells in ("A1:C1", "B3:C3"):
        sheet.merge_cells(cells)
    book.save(tmp_path / "labels.xlsx")
    assert "cells merged across columns, whose value counts for the first of them: 1" in (
        read_spreadsheet(tmp_path / "labels.xlsx").notes
    )


def test_sheet_of_spaces_is_no_second_sheet(tmp_path: Path) -> None:
    book, _ = make_sheet(tmp_path, ROWS)
    book.create_sheet("Sheet2").append([" "])
    book.save(tmp_path / "labels.xlsx")
    assert read_table(tmp_path).labels == ("dog", "cat")


@pytest.mark.parametrize(
    ("name", "text"),
    [("labels.csv", "filename,dog\na.jpg,1\n"), ("labels.jsonl", '{"file_name": "a.jpg", "labels": ["dog"]}\n')],
)
def test_sheet_of_a_file_without_sheets_is_refused(name: str, text: str, tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, name, text)
    error = error_of(tmp_path, sheet="Sheet1")
    assert (error.message, error.hint) == (f"{tmp_path / name} has no sheets", "leave `--sheet` out")


def test_frame_whose_columns_have_several_levels_is_refused(tmp_path: Path) -> None:
    columns = pd.MultiIndex.from_tuples([("animal", "dog"), ("animal", "cat")])
    frame = pd.DataFrame([[1, 0]], index=pd.Index(["a.jpg"], name="filename"), columns=columns)
    with pytest.raises(labelr.LabelrError, match="the columns have names of 2 levels, such as"):
        labelr.check(frame, images=str(put(tmp_path, "a.jpg").parent))
