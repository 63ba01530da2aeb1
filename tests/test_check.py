"""The audit of a data set, from Python and through the command."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, put
from PIL import Image

from labelr.data.check import check, suspicious_labels
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError


@pytest.fixture
def data(shapes: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic data set, free to be spoilt."""
    return Path(shutil.copytree(shapes, tmp_path / "data"))


def rewrite(data: Path, old: str, new: str) -> None:
    text = (data / "labels.csv").read_text()
    assert old in text
    (data / "labels.csv").write_text(text.replace(old, new, 1))


def row_of(data: Path, name: str) -> str:
    return next(line for line in (data / "labels.csv").read_text().splitlines() if line.startswith(name))


def test_sound_data_set_needs_no_attention(cli: Cli, tmp_path: Path) -> None:
    data = make_synthetic_dataset(tmp_path / "shapes", 200, 3)
    result = cli("check", data)
    assert result.code == 0
    assert "Nothing needs attention." in result.out
    assert "split: 160 train, 20 val, 20 test" in result.out
    assert "formats: 200 PNG" in result.out


def test_counts_are_those_of_the_label_file(data: Path) -> None:
    rows = [line.split(",") for line in (data / "labels.csv").read_text().splitlines()]
    found = check(data).to_json()
    assert found["labels"] == rows[0][1:]
    for column, row in enumerate(found["per_label"], start=1):
        marks = [cells[column] for cells in rows[1:]]
        assert (row["positives"], row["negatives"], row["unknown"]) == (marks.count("1"), marks.count("0"), 0)
        assert row["train"] + row["val"] + row["test"] == row["positives"]
    assert found["images"] == sum(found["split"].values()) == 60
    assert found["sizes"] == {"smallest": [64, 64], "median": [64, 64], "largest": [64, 64]}
    assert found["modes"] == {"RGB": 60}


def test_everything_wrong_is_told_at_once(cli: Cli, data: Path) -> None:
    images = data / "images"
    (images / "00000.png").unlink()
    (images / "00001.png").write_bytes(b"no image")
    shutil.copy(images / "00002.png", images / "extra.png")
    rewrite(data, row_of(data, "00003.png"), "00003.png,,,")
    rewrite(data, row_of(data, "00004.png"), "00004.png,1,perhaps,0")
    copied = row_of(data, "00005.png").split(",")[1:]
    flipped = ",".join("0" if cell == "1" else "1" for cell in copied)
    shutil.copy(images / "00005.png", images / "00006.png")
    rewrite(data, row_of(data, "00006.png"), f"00006.png,{flipped}")
    result = cli("check", data, "--json")
    assert result.code == 3
    found = json.loads(result.out)
    assert found["missing"] == ["00000.png"]
    assert [one["file"] for one in found["unreadable"]] == ["00001.png"]
    assert found["unlisted"] == ["extra.png"]
    assert found["unlabelled"] == ["00003.png"]
    assert len(found["invalid"]) == 1
    assert 'got "perhaps"' in found["invalid"][0]
    assert found["duplicates"] == [["00005.png", "00006.png"]]
    assert found["disagreeing"] == [{"files": ["00005.png", "00006.png"], "labels": found["labels"]}]
    assert found["images"] == 56
    text = cli("check", data)
    assert text.code == 3
    for said in (
        "images that are listed but do not exist, on which `fit` stops without `--skip-missing` (1): 00000.png",
        "images that cannot be opened (1): 00001.png (not an image",
        "images that are not listed (1): extra.png",
        "images without a known label (1): 00003.png",
        "copies or near-duplicates whose labels differ (1): 00005.png and 00006.png on",
    ):
        assert f"Attention: {said}" in text.out


def test_folders_that_cannot_be_listed_and_near_misses_are_told(data: Path, forbid: Callable[[Path], None]) -> None:
    put(data, "images/private/a.png")
    shutil.move(data / "images" / "00000.png", data / "images" / "0.png")
    forbid(data / "images" / "private")
    found = check(data).to_json()
    assert found["unreadable_folders"] == [{"folder": "images/private", "reason": "permission denied"}]
    assert found["similar"] == {"00000.png": "there is images/0.png"}
    assert "folders that cannot be listed (1): images/private (permission denied)" in found["problems"]
    assert any("(1): 00000.png (there is images/0.png)" in problem for problem in found["problems"])


def test_row_that_cannot_be_understood_does_not_stop_the_audit_from_python(data: Path) -> None:
    rewrite(data, row_of(data, "00004.png"), "00004.png,1,perhaps,0")
    found = check(data).to_json()
    assert found["images"] == 59
    assert len(found["invalid"]) == 1
    assert any(problem.startswith("rows that cannot be understood") for problem in found["problems"])


def test_near_duplicates_and_those_that_differ_are_told(data: Path) -> None:
    with Image.open(data / "images" / "00007.png") as image:
        image.resize((80, 80)).save(data / "images" / "00008.png")
    rewrite(data, row_of(data, "00008.png"), row_of(data, "00007.png").replace("00007", "00008"))
    found = check(data).to_json()
    assert found["duplicates"] == []
    assert ["00007.png", "00008.png"] in found["near_duplicates"]
    assert found["disagreeing"] == []


def test_rare_labels_are_told(data: Path) -> None:
    lines = (data / "labels.csv").read_text().splitlines()
    marks = ["rare", *("1" if number < 2 else "0" for number in range(60))]
    (data / "labels.csv").write_text("\n".join(f"{line},{mark}" for line, mark in zip(lines, marks, strict=True)))
    found = check(data).to_json()
    assert "rare" in found["rare"]
    assert any(
        problem.startswith("labels without a positive or a negative to score (1): rare")
        for problem in found["problems"]
    )


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("17", "a number"),
        ("0.5", "a number"),
        ("yes", "the value of a cell"),
        ("n/a", "the value of a cell"),
        *((word, "means that there is nothing") for word in ("none", "Keine", "rien", "-", "–", "no label", "Nothing")),
        *((word, "means that it is not known") for word in ("unknown", "Unidentified")),
        ("Unnamed: 0", "a column without a name"),
        ("dog|cat", "contains a separator"),
        ("['dog'", "starts or ends with a quote or bracket"),
        ("a.jpg", "a file or URL"),
        ("x" * 61, "longer than 60 characters"),
    ],
)
def test_odd_names_of_labels_are_told(label: str, reason: str) -> None:
    assert suspicious_labels(["dog", label]) == [{"label": label, "reason": reason}]


@pytest.mark.parametrize("label", ["empty", "Blank"])
def test_label_of_images_without_an_animal_is_no_odd_name(label: str) -> None:
    assert suspicious_labels(["dog", label]) == []


def test_labels_that_differ_only_in_case_or_spaces_are_told() -> None:
    told = suspicious_labels(["Big dog", "cat", "big_dog"])
    assert told == [{"label": name, "reason": "like Big dog, big_dog"} for name in ("Big dog", "big_dog")]


def test_labels_are_written_in_the_canonical_layout(cli: Cli, tmp_path: Path) -> None:
    for number, name in enumerate(["dog/a.png", "dog/b.png", "cat/c.png"]):
        Image.fromarray(np.full((40, 40, 3), 60 * number, np.uint8)).save(put(tmp_path / "data", name))
    file = tmp_path / "all.csv"
    assert cli("check", tmp_path / "data", "--write-labels", file).code == 3
    assert file.read_text() == "filename,cat,dog\ncat/c.png,1,0\ndog/a.png,0,1\ndog/b.png,0,1\n"
    refused = cli("check", tmp_path / "data", "--write-labels", file)
    assert refused.code == 1
    assert "--force" in refused.err
    assert cli("check", tmp_path / "data", "--labels", file, "--write-labels", file, "--force").code == 3
    assert file.read_text().startswith("filename,cat,dog\n")


def test_nothing_is_changed(cli: Cli, data: Path, home: Path) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    cli("check", data)
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    assert not (home / "models").exists()


def test_images_of_which_none_opens_are_an_error(tmp_path: Path) -> None:
    put(tmp_path, "labels.csv", "filename,dog\na.jpg,1\nb.jpg,0\n")
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    with pytest.raises(LabelrError, match="none of 2 images can be opened"):
        check(tmp_path)


def test_check_does_not_wait_for_torch(data: Path) -> None:
    code = f"import sys, labelr\nlabelr.check({str(data)!r}).to_json()\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_table_of_labels_is_that_of_the_json_by_label(data: Path) -> None:
    found = check(data)
    table = found.per_label
    assert table.index.name == "label"
    assert table.reset_index().to_dict("records") == found.to_json()["per_label"]


def test_audit_shows_its_problems(data: Path) -> None:
    rewrite(data, row_of(data, "00004.png"), "00004.png,1,perhaps,0")
    found = check(data)
    assert repr(found) == f"<Check of {data / 'labels.csv'}: 59 images, 3 labels>"
    assert "rows that cannot be understood" in found._repr_html_()
