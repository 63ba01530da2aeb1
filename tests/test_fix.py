"""Corrected label files."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, put

import labelr

TEXT = (
    "filename,title,dog,cat\n{0}.PNG,One,1,0\n{1}.png,Two,yess,1\n{2}.png,A, b,1,0\n{3}.png,D,1,0\n{3}.png,D,1,0\n"
    "missing.png,E,0,0\n{4}.png,F,1,0\n{4}.png,F,0,0\n{5},G,0,1\n"
)


@pytest.fixture
def data(shapes: Path, tmp_path: Path) -> Path:
    """A folder of images and a table with one mistake of each kind."""
    names = [f"{row:05d}" for row in range(6)]
    for name in names:
        put(tmp_path, f"data/{name}.png", (shapes / "images" / f"{name}.png").read_bytes())
    put(tmp_path, "data/labels.csv", TEXT.format(*names))
    return tmp_path / "data"


def read_rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_corrected_sheet_says_what_was_changed_in_each_row(data: Path, tmp_path: Path) -> None:
    labelr.check(data).fixed.write(tmp_path / "fixed.csv")
    assert read_rows(tmp_path / "fixed.csv") == [
        ["filename", "title", "dog", "cat", "changes"],
        ["00000.png", "One", "1", "0", 'file name corrected: "00000.PNG" is 00000.png'],
        ["00001.png", "Two", "", "1", 'emptied: "yess" in the column "dog"'],
        ["00003.png", "D", "1", "0", ""],
        ["00005.png", "G", "0", "1", 'file name corrected: "00005" is 00005.png'],
    ]


def test_corrected_sheet_is_read_without_a_complaint(data: Path, tmp_path: Path, cli: Cli) -> None:
    fixed = tmp_path / "fixed.csv"
    assert cli("check", data, "--fix", fixed).code == 3
    found = labelr.check(data, labels=fixed).to_json()
    assert (found["missing"], found["invalid"], found["fixes"]) == ([], [], [])
    assert found["labels"] == ["dog", "cat"]


def test_json_lists_the_changes_and_the_rows_that_are_left_out(data: Path, cli: Cli) -> None:
    fixes = json.loads(cli("check", data, "--json").out)["fixes"]
    left_out = {fix["row"] for fix in fixes if not fix["filename"]}
    assert left_out == {4, 6, 7, 8, 9}
    assert {fix["row"]: fix["filename"] for fix in fixes if fix["filename"]} == {
        2: "00000.png",
        3: "00001.png",
        10: "00005.png",
    }


def test_folder_column_gets_the_folder_of_the_image(shapes: Path, tmp_path: Path) -> None:
    image = (shapes / "images" / "00000.png").read_bytes()
    put(tmp_path, "North/1.png", image)
    put(tmp_path, "South/1.png", image)
    put(tmp_path, "labels.csv", "folder,file,dog\nnorth,1.png,1\nSouth,1.png,0\n")
    _, *rows = labelr.check(tmp_path).fixed.rows
    assert [row[:3] for row in rows] == [["North", "1.png", "1"], ["South", "1.png", "0"]]


def test_file_that_is_no_table_becomes_one(shapes: Path, tmp_path: Path) -> None:
    image = (shapes / "images" / "00000.png").read_bytes()
    put(tmp_path, "a.png", image)
    put(tmp_path, "labels.json", json.dumps({
        "images": [{"id": 1, "file_name": "A.PNG"}], "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1}],
    }))  # fmt: skip
    assert labelr.check(tmp_path).fixed.rows == [
        ["filename", "dog", "changes"], ["a.png", "1", 'file name corrected: "A.PNG" is a.png'],
    ]  # fmt: skip


def test_existing_file_is_not_replaced_without_force(data: Path, tmp_path: Path, cli: Cli) -> None:
    fixed = put(tmp_path, "fixed.csv", "mine")
    assert "`--force`" in cli("check", data, "--fix", fixed).err
    assert fixed.read_text() == "mine"
    assert "Wrote" in cli("check", data, "--fix", fixed, "--force").err


# --- a corrected table means what the file means ----------------------------------------------------------------------

NAMES = [f"{row:05d}.png" for row in range(4)]
COCO = json.dumps({
    "images": [{"id": row, "file_name": NAMES[row]} for row in (2, 3)],
    "annotations": [{"id": row, "image_id": row, "category_id": row} for row in (2, 3)],
    "categories": [{"id": 2, "name": "dog"}, {"id": 3, "name": "cat"}],
})  # fmt: skip
FIRST, *_, LAST = NAMES


def fixed_rows(shapes: Path, tmp_path: Path, texts: dict[str, str], **options: Any) -> list[list[str]]:
    """The corrected table of some images, of which it says the same as the label files with these texts."""
    data = tmp_path / "data"
    for name in NAMES:
        put(data, name, (shapes / "images" / name).read_bytes())
    for name, text in texts.items():
        put(data, name, text)
    fixed = tmp_path / "fixed.csv"
    labelr.check(data, **options).fixed.write(fixed)
    before = labelr.read(data, skip_invalid=True, skip_missing=True, **options)
    after = labelr.read(data, labels=str(fixed), **options)
    both = [name for name in after.index if name in before.index]  # rows with emptied cells were left out before
    assert after.loc[both].equals(before.loc[both, after.columns])
    assert set(after.columns) == set(before.columns)
    return read_rows(fixed)


@pytest.mark.parametrize(
    "texts",
    [
        {"train.csv": f"filename,dog\n{FIRST},1\n", "val.csv": f"filename,dog\n{LAST},0\n"},
        {"train.json": COCO.replace("00002", "00000").replace("00003", "00001"), "val.json": COCO},
        {"labels.csv": f"train,gs://b/{FIRST},dog\nval,gs://b/{LAST},cat\n"},
        {
            "media.csv": f"mediaID,deploymentID,filePath,split\nm1,d,{FIRST},train\nm2,d,{LAST},val\n",
            "observations.csv": "observationID,deploymentID,mediaID,observationType,scientificName\n"
            "o1,d,m1,animal,fox\no2,d,m2,blank,\n",
        },
    ],
    ids=["tables", "coco", "vertex", "camtrap-dp"],
)
def test_splits_are_kept(texts: dict[str, str], shapes: Path, tmp_path: Path) -> None:
    header, *rows = fixed_rows(shapes, tmp_path, texts)
    assert header[:2] == ["filename", "split"]
    assert {row[0]: row[1] for row in rows}[LAST] == "val"


LABEL_STUDIO = [
    {"id": number, "data": {"image": name}, "annotations": [{"result": [{"value": {"choices": [label]}}]}]}
    for number, (name, label) in enumerate(((FIRST, "dog"), (LAST, "cat")))
]
VERTEX = [
    {"imageGcsUri": f"gs://b/{name}", "classificationAnnotations": [{"displayName": label}]}
    for name, label in ((FIRST, "dog"), (LAST, "cat"))
]
FLAT = "id,image,choice,annotator,annotation_id,created_at,updated_at,lead_time\n"
OPEN_IMAGES = "ImageID,Source,LabelName,Confidence\n"


@pytest.mark.parametrize(
    ("name", "text", "unknown"),
    [
        ("labels.json", json.dumps(LABEL_STUDIO), "0"),
        ("labels.jsonl", "\n".join(map(json.dumps, VERTEX)), "0"),
        ("labels.csv", f"{FLAT}1,{FIRST},dog,1,1,x,x,1\n1,{FIRST},dog,2,2,x,x,1\n2,{LAST},cat,1,3,x,x,1\n", "0"),
        ("labels.csv", f"{OPEN_IMAGES}{FIRST},x,dog,1\n{FIRST},x,cat,0\n{LAST},x,cat,1\n{LAST},x,dog,0\n", "0"),
        ("labels.csv", f"{OPEN_IMAGES}{FIRST},x,dog,1\n{LAST},x,cat,1\n", "?"),
    ],
    ids=["label-studio", "vertex", "csv of label-studio", "open-images", "unknown in open-images"],
)
def test_file_whose_rows_are_no_images_becomes_one_column_a_label(
    name: str, text: str, unknown: str, shapes: Path, tmp_path: Path
) -> None:
    header, *rows = fixed_rows(shapes, tmp_path, {name: text})
    assert header == ["filename", "cat", "dog", "changes"]
    assert [row[:3] for row in rows] == [[FIRST, unknown, "1"], [LAST, "1", unknown]]


def test_folder_that_does_not_exist_leaves_no_label(shapes: Path, tmp_path: Path) -> None:
    text = f"RelativePath,File,dog\n100RECNX,{FIRST},1\n100RECNX,{LAST},0\n"
    assert [row[:3] for row in fixed_rows(shapes, tmp_path, {"labels.csv": text})[1:]] == [
        ["", FIRST, "1"],
        ["", LAST, "0"],
    ]


@pytest.mark.parametrize(
    ("cells", "left_out", "expected"),
    [(("x", ""), "no", ["x", "?"]), (("1", "-1"), "0", ["1", "?"]), (("x", "maybe"), "x", ["x", "?"])],
)
def test_cells_keep_their_meaning_without_the_rows_left_out(
    cells: tuple[str, str], left_out: str, expected: list[str], shapes: Path, tmp_path: Path
) -> None:
    text = f"filename,dog,cat\n{FIRST},{cells[0]},x\n{LAST},{cells[1]},x\nmissing.png,{left_out},x\n"
    text += f"{NAMES[1]},,x\n" if "maybe" in cells else ""
    rows = fixed_rows(shapes, tmp_path, {"labels.csv": text})
    assert [row[1] for row in rows[1:3]] == expected
    assert rows[2][3] == f'written as ?: "{cells[1]}" in the column "dog"'


def test_numbers_below_zero_are_no_formulas(shapes: Path, tmp_path: Path) -> None:
    rows = fixed_rows(shapes, tmp_path, {"labels.csv": f"filename,=dog\n{FIRST},-1\n{LAST},1\n"})
    assert rows[1][1] == "-1"
    assert rows[0][1] == "'=dog"


def test_invalid_cell_of_a_label_column_beside_classes_is_emptied(shapes: Path, tmp_path: Path) -> None:
    text = f"filename,season,dog\n{FIRST},Fall,1\n{LAST},Fall,0\n{NAMES[1]},Fall,maybe\n"
    rows = fixed_rows(shapes, tmp_path, {"labels.csv": text}, label_column=["season", "dog"])
    assert rows[3][2:] == ["", 'emptied: "maybe" in the column "dog"']


def test_image_with_two_names_is_left_out_of_the_corrected_sheet(data: Path, tmp_path: Path) -> None:
    put(tmp_path, "data/labels.csv", "filename,dog\n00000.png,1\n00000,0\n00001.png,0\n00002.png,\n")
    found = labelr.check(data)
    assert any(
        "00000.png (as 00000.png and 00000) is listed more than once" in text for text in found.to_json()["problems"]
    )
    found.fixed.write(tmp_path / "fixed.csv")
    assert read_rows(tmp_path / "fixed.csv")[1:] == [["00001.png", "0", ""], ["00002.png", "", ""]]
    assert "left out: 00000.png is listed under several names" in json.dumps(found.to_json()["fixes"])
