"""The names by which labels are written, and the tags that every image gets."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from tag_results import read_csv

from labelr.config import TagOptions
from labelr.data.predicted import read_predictions
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model.predict import Model
from labelr.tagging.pipeline import written_names
from labelr.tagging.tag import tag


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.csv"
    path.write_text("label,written\ndisc,Round thing\ntriangle,\n")
    return path


def test_renamed_labels_have_their_new_name_in_all_results(
    photos: Path, tmp_path: Path, trained: Model, names: Path
) -> None:
    formats = ("csv", "table", "jsonl", "txt")
    summary = tag(photos, trained, output=tmp_path / "out", format=formats, rename=names, threshold=0)
    expected = ["Round thing" if label == "disc" else label for label in trained.labels]
    assert read_csv(tmp_path / "out" / "labels.csv")[0] == ["filename", *expected]
    assert read_csv(tmp_path / "out" / "probabilities.csv")[0] == ["filename", *expected]
    assert {row[0] for row in read_csv(tmp_path / "out" / "a.png.csv")[1:]} == set(expected)
    assert "Round thing" in (tmp_path / "out" / "a.txt").read_text()
    line = json.loads((tmp_path / "out" / "labels.jsonl").read_text().splitlines()[0])
    assert set(line["labels"]) == set(line["probabilities"]) == set(expected)
    assert list(summary.per_label) == list(summary.table.columns) == expected


def test_options_still_name_the_labels_of_the_model(photos: Path, tmp_path: Path, trained: Model, names: Path) -> None:
    (tmp_path / "thresholds.csv").write_text("label,threshold\ndisc,0\n")
    summary = tag(
        photos, trained, output=tmp_path / "out", rename=names, only="disc", threshold_file=tmp_path / "thresholds.csv"
    )
    assert summary.per_label == {"Round thing": 4}


def test_prefix_is_before_each_label(photos: Path, tmp_path: Path, trained: Model, names: Path) -> None:
    summary = tag(photos, trained, output=tmp_path / "out", rename=names, prefix="auto:", only=["disc", "triangle"])
    assert list(summary.per_label) == ["auto:Round thing", "auto:triangle"]


def test_tags_of_all_images_come_first_in_formats_of_tags(photos: Path, tmp_path: Path, trained: Model) -> None:
    always = ("holiday", "2026", "holiday")
    tag(
        photos, trained, output=tmp_path / "out", format=["txt", "csv", "table"], always=always, threshold=1, prefix="p"
    )
    assert (tmp_path / "out" / "a.txt").read_text() == "holiday, 2026\n"
    assert read_csv(tmp_path / "out" / "labels.csv")[0] == ["filename", *(f"p{label}" for label in trained.labels)]
    assert read_csv(tmp_path / "out" / "a.png.csv") == [["label", "probability"]]


def test_tags_of_all_images_confirm_no_predictions(photos: Path, tmp_path: Path, trained: Model, cli: Cli) -> None:
    out = tmp_path / "out"
    (photos / "deep" / "broken.jpg").unlink()
    tag(photos, trained, output=out, format=["jsonl", "table"], always="holiday", threshold=0)
    assert read_predictions(out)[0].labels == (*trained.labels, "holiday")
    for name in ("labels.jsonl", "labels.csv"):
        found = json.loads(cli("check", photos, "--labels", out / name, "--json").out)
        assert len(found["unconfirmed"]) == 4


def test_stream_has_the_same_names(photos: Path, trained: Model, cli: Cli, names: Path) -> None:
    options = ("--rename", names, "--always", "x", "--format", "jsonl", "--threshold", "0", "--only", "disc")
    done = cli("tag", photos, "--model", trained.path, "-o", "-", *options)
    assert json.loads(done.out.splitlines()[0])["labels"] == ["x", "Round thing"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("label,written\ndisk,x\n", r"names\.csv, row 2: the model has no label 'disk'.*did you mean `disc`"),
        ("label,written\ndisc,x\ndisc,y\n", r"row 3: 'disc' occurs twice"),
        ("label,written\ndisc,x\ntriangle,x\n", r"row 3: 'triangle' and 'disc' would both be written as 'x'"),
        ("label,written\ntriangle,disc\n", r"row 2: 'triangle' and 'disc' would both be written as 'disc'"),
        ('label,written\ndisc,"a\x1bb"\n', r"row 2: 'a\\x1bb' has characters that are not printable"),
        ("label,written\ndisc,filename\n", r"'disc' would be written as 'filename', the column of file names"),
        ("label,name\ndisc,x\n", r"names\.csv is not a table of names.*`written` to `--rename`"),
    ],
)
def test_table_of_names_that_is_wrong_is_refused_with_its_row(
    photos: Path, tmp_path: Path, trained: Model, names: Path, table: str, message: str
) -> None:
    names.write_text(table)
    with pytest.raises(LabelrError, match=f"(?s){message}"):
        tag(photos, trained, output=tmp_path / "out", rename=names)
    assert not (tmp_path / "out").exists()


def test_labels_may_swap_names(photos: Path, tmp_path: Path, trained: Model, names: Path) -> None:
    names.write_text("label,written\ndisc,triangle\ntriangle,disc\n")
    summary = tag(photos, trained, output=tmp_path / "out", rename=names, only=["disc", "triangle"])
    assert sorted(summary.per_label) == ["disc", "triangle"]
    swapped = [{"disc": "triangle", "triangle": "disc"}[label] for label in trained.labels if "stripes" not in label]
    assert list(summary.per_label) == swapped


@pytest.mark.parametrize(
    ("always", "message"),
    [("disc", "`--exclude disc`"), (" ", "the tag is empty"), ("a\nb", "not printable")],
)
def test_tag_of_all_images_that_is_a_label_or_no_text_is_refused(
    photos: Path, tmp_path: Path, trained: Model, always: str, message: str
) -> None:
    with pytest.raises(LabelrError, match=message):
        tag(photos, trained, output=tmp_path / "out", always=always, format="txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"always": "a, b"}, "always: 'a, b' would be several tags"),
        ({"prefix": " a, "}, "prefix: ' a, ' would be several tags"),
        ({"rename": "names.csv"}, "names.csv, row 2: 'a, b' would be several tags"),
    ],
)
def test_comma_in_a_name_is_refused_for_txt_files_alone(
    photos: Path,
    tmp_path: Path,
    trained: Model,
    names: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    names.write_text('label,written\ndisc,"a, b"\n')
    with pytest.raises(LabelrError, match=message):
        tag(photos, trained, output="out", format=["jsonl", "txt"], **options)
    assert not Path("out").exists()
    assert tag(photos, trained, output="out", format="jsonl", **options).ok == 4


@pytest.mark.parametrize("label", ["cat, black", "cat\nblack", "cat\u2028black"])
def test_label_of_the_model_that_txt_files_cannot_hold_is_refused(label: str) -> None:
    with pytest.raises(LabelrError, match="would be several tags") as refused:
        written_names([label, "dog"], [0, 1], TagOptions(format=("txt",)))
    assert "--rename" in refused.value.hint
    assert written_names([label, "dog"], [1], TagOptions(format=("txt",))) == (("dog",), ())
    assert written_names([label, "dog"], [0, 1], TagOptions(format=("csv",))) == ((label, "dog"), ())


def test_label_of_the_model_with_a_comma_is_written_to_txt_under_another_name(tmp_path: Path) -> None:
    table = tmp_path / "names.csv"
    table.write_text('label,written\n"cat, black",black cat\n')
    options = TagOptions(format=("txt",), rename=str(table))
    assert written_names(["cat, black", "dog"], [0, 1], options) == (("black cat", "dog"), ())


@pytest.mark.parametrize("change", [{"prefix": "x"}, {"always": "x"}, {"rename": "names.csv"}])
def test_other_names_in_the_same_directory_need_force(
    photos: Path, tmp_path: Path, trained: Model, names: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    tag(photos, trained, output="out", format="txt", threshold=0)
    before = Path("out/a.txt").read_text()
    with pytest.raises(LabelrError, match="have other settings"):
        tag(photos, trained, output="out", format="txt", threshold=0, **change)
    tag(photos, trained, output="out", format="txt", threshold=0, force=True, **change)
    assert Path("out/a.txt").read_text() != before


def test_tags_without_a_format_of_tags_are_wrong_usage(photos: Path, trained: Model) -> None:
    with pytest.raises(SettingError, match="add a format of tags"):
        tag(photos, trained, always="holiday")
