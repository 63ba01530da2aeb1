"""The files of images and the tables: their formats, and which files of a user are kept."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli, read_table
from tag_results import ALL_FORMATS, read_csv, reason_of, tree

from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.tagging.tag import tag


def test_csv_of_an_image_lists_the_most_probable_label_first(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out", threshold=0)
    rows = read_csv(tmp_path / "out" / "a.png.csv")
    probs = dict(zip(trained.labels, trained.predict(photos / "a.png").probs[0], strict=True))
    assert rows[0] == ["label", "probability"]
    assert [row[0] for row in rows[1:]] == sorted(probs, key=lambda label: -probs[label])
    assert [float(row[1]) for row in rows[1:]] == pytest.approx(sorted(probs.values(), reverse=True), abs=1e-6)


def test_image_without_labels_has_a_csv_with_only_a_header(photos: Path, tmp_path: Path, trained: Model) -> None:
    summary = tag(photos, trained, output=tmp_path / "out", threshold=1)
    assert (tmp_path / "out" / "a.png.csv").read_text() == "label,probability\n"
    assert set(summary.per_label.values()) == {0}


def test_unusual_names_are_kept(shapes: Path, tmp_path: Path, trained: Model) -> None:
    names = ['quo"te.png', "new\nline.png", "=x.png", "[set].png", "-o.png", os.fsdecode(b"caf\xe9.png"), "鳥.png"]
    folder = tmp_path / "strange [1]"
    folder.mkdir()
    for name in names:
        shutil.copy(shapes / "images" / "00000.png", folder / name)
    summary = tag(folder, trained, output=tmp_path / "out")
    assert summary.ok == len(names)
    written = {"./=x.png" if name == "=x.png" else "./-o.png" if name == "-o.png" else name for name in names}
    assert {row[0] for row in read_csv(tmp_path / "out" / "labels.csv")[1:]} == written
    assert all((tmp_path / "out" / f"{name}.csv").is_file() for name in names)


def test_too_long_name_fails_only_its_image(shapes: Path, tmp_path: Path, trained: Model) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    long = f"{'b' * 250}.png"
    for name in (long, "a.png", "z.png"):
        shutil.copy(shapes / "images" / "00000.png", folder / name)
    summary = tag(folder, trained, output=tmp_path / "out")
    assert (summary.found, summary.ok, summary.failed) == (3, 2, 1)
    (row,) = read_csv(tmp_path / "out" / "errors.csv")[1:]
    assert row[0] == long
    assert "File name too long" in row[1]
    assert [row[0] for row in read_csv(tmp_path / "out" / "labels.csv")[1:]] == ["a.png", "z.png"]


def test_folder_named_like_a_table_fails_only_its_images(photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "labels.csv").mkdir()
    shutil.copy(photos / "z.png", photos / "labels.csv" / "1.png")
    out = tmp_path / "out"
    summary = tag(photos, trained, output=out, format=ALL_FORMATS)
    assert summary.complete
    reason = reason_of(out, "labels.csv/1.png")
    assert reason == "the name of the folder labels.csv is reserved for a table of the results"
    assert len(read_csv(out / "labels.csv")) == summary.ok + 1


def test_json_lines_describe_each_image(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out", format=("jsonl",), threshold=0.3)
    lines = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["a.png", "deep/b.png", "deep/broken.jpg", "deep/er/d.PNG", "z.png"]
    first = lines[0]
    assert (first["size"], first["error"], first["model"]) == ([64, 64], None, trained.info.digest)
    assert set(first["labels"]) == {label for label, prob in first["probabilities"].items() if prob >= 0.3}
    assert list(first["probabilities"]) == list(trained.labels)
    assert lines[2]["labels"] is None
    assert "not an image" in lines[2]["error"]
    assert not (tmp_path / "out" / "labels.csv").exists()


def test_text_files_hold_labels_separated_by_commas(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out", format=("txt",), threshold=0)
    probs = dict(zip(trained.labels, trained.predict(photos / "a.png").probs[0], strict=True))
    assert (tmp_path / "out" / "a.txt").read_text() == ", ".join(sorted(probs, key=lambda label: -probs[label])) + "\n"


def test_text_files_next_to_images_are_extended_only_by_append(photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "a.txt").write_text("disc, holiday\n")
    summary = tag(photos, trained, output=tmp_path / "out", format=("txt",), in_place=True, threshold=0)
    assert (summary.ok, summary.failed) == (3, 2)
    assert (photos / "a.txt").read_text() == "disc, holiday\n"
    tag(photos, trained, output=tmp_path / "out", format=("txt",), in_place=True, threshold=0)
    assert (photos / "a.txt").read_text() == "disc, holiday\n"
    assert "a.txt already exists" in reason_of(tmp_path / "out", "a.png")
    assert (photos / "deep" / "b.txt").exists()
    for _ in range(2):  # nothing is added a second time
        tag(photos, trained, output=tmp_path / "other", **APPEND)
        tags = (photos / "a.txt").read_text().strip().split(", ")
        assert tags[:2] == ["disc", "holiday"]
        assert sorted(tags) == ["disc", "holiday", "horizontal_stripes", "triangle"]


APPEND: dict[str, Any] = {"format": ("txt",), "in_place": True, "append": True, "threshold": 0}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"long_hair solo disc", b"long_hair solo disc {} {}\n"),
        (b"solo\r\ndisc\r\n", b"solo\r\ndisc\r\n{}\r\n{}\r\n"),
        (b"solo|disc", b"solo|disc| {}| {}\n"),
        (b"(disc:1.2), solo", b"(disc:1.2), solo, {}, {}\n"),
        (b"\xef\xbb\xbfdisc, caf\xc3\xa9", b"\xef\xbb\xbfdisc, caf\xc3\xa9, {}, {}\n"),
        (b"disc, caf\xe9", b"disc, caf\xe9, {}, {}\n"),
        ("disc, café".encode("utf-16"), "disc, café, {}, {}\n".encode("utf-16")),
    ],
)
def test_appended_tags_follow_the_style_of_the_file(
    photos: Path, tmp_path: Path, trained: Model, before: bytes, after: bytes
) -> None:
    (photos / "a.txt").write_bytes(before)
    assert tag(photos, trained, output=tmp_path / "out", **APPEND).ok == 4
    probs = dict(zip(trained.labels, trained.predict(photos / "a.png").probs[0], strict=True))
    added = sorted({"horizontal_stripes", "triangle"}, key=lambda label: -probs[label])
    codec = "utf-16" if before.startswith(b"\xff\xfe") else "latin-1"
    assert (photos / "a.txt").read_bytes().decode(codec) == after.decode(codec).format(*added)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"1girl solo disc", '"1girl solo disc" may be one label, or several that are separated by spaces'),
        (b"solo|1girl;disc", "cells contain `|` and `;`, and any of them may separate tags"),
        (b"['solo', '1girl']", "nothing can be added to a.txt, which holds a list"),
        (b"\x00\x01\x00", "a.txt is not text"),
    ],
)
def test_text_file_with_an_unclear_separator_is_kept(
    photos: Path, tmp_path: Path, content: bytes, reason: str, trained: Model
) -> None:
    (photos / "a.txt").write_bytes(content)
    tag(photos, trained, output=tmp_path / "out", **APPEND)
    assert reason in reason_of(tmp_path / "out", "a.png")
    assert (photos / "a.txt").read_bytes() == content


def relabel(model: Model, old: str, new: str) -> Model:
    """The model with another name of a label."""
    labels = tuple(new if label == old else label for label in model.labels)
    return replace(model, info=replace(model.info, labels=labels))


def test_label_that_contains_the_separator_is_not_appended(photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "a.txt").write_text("long_hair solo")
    tag(photos, relabel(trained, "horizontal_stripes", "wide stripes"), output=tmp_path / "out", **APPEND)
    reason = reason_of(tmp_path / "out", "a.png")
    assert reason == '"wide stripes" cannot be added to a.txt, where spaces separate tags'


def test_new_text_files_use_the_separator_of_existing_ones(photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "a.txt").write_text("long_hair solo\n")
    tag(photos, trained, output=tmp_path / "out", **APPEND)
    table = read_table(photos, labels=[str(photos)], layout="sidecar")
    assert set(table.labels) == {"long_hair", "solo", "disc", "triangle", "horizontal_stripes"}


def test_tags_of_a_user_survive_force(photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "a.txt").write_text("holiday\n")
    for threshold in (0, 1):
        tag(photos, trained, output=tmp_path / "out", **{**APPEND, "threshold": threshold}, force=bool(threshold))
    assert (photos / "a.txt").read_text().startswith("holiday, ")


def test_text_file_of_an_image_is_not_overwritten_by_another_image(
    shapes: Path, tmp_path: Path, trained: Model
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg.png", "a.jpg.webp"):
        shutil.copy(shapes / "images" / "00000.png", folder / name)
    summary = tag(folder, trained, output=tmp_path / "out", format=("txt",), threshold=0)
    assert (summary.ok, summary.failed) == (1, 1)
    assert "already belongs to a.jpg.png" in read_csv(tmp_path / "out" / "errors.csv")[1][1]
    (folder / "a.jpg.png").unlink()  # as if its suffix had changed
    assert tag(folder, trained, output=tmp_path / "out", format=("txt",), threshold=0).ok == 1
    assert (tmp_path / "out" / "a.jpg.txt").exists()
    assert tag(folder, trained, output=tmp_path / "out", format=("txt",), threshold=0).unchanged == 1
    assert (tmp_path / "out" / "a.jpg.txt").exists()


def test_tags_of_two_images_are_not_added_to_one_text_file(shapes: Path, tmp_path: Path, trained: Model) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "a.png"):
        shutil.copy(shapes / "images" / "00000.png", folder / name)
    (folder / "a.txt").write_text("holiday\n")
    assert tag(folder, trained, output=tmp_path / "out", **APPEND).failed == 1
    assert "a.txt already belongs to a.jpg" in read_csv(tmp_path / "out" / "errors.csv")[1][1]
    for name in ("a.jpg", "a.png"):
        (folder / name).unlink()
    shutil.copy(shapes / "images" / "00000.png", folder / "b.png")
    tag(folder, trained, output=tmp_path / "out", **APPEND)
    assert (folder / "a.txt").read_text().startswith("holiday, ")


def test_files_of_an_image_that_no_longer_opens_are_deleted(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out")
    (photos / "a.png").write_bytes(b"junk")
    assert tag(photos, trained, output=tmp_path / "out").failed == 2
    assert not (tmp_path / "out" / "a.png.csv").exists()


def test_edited_file_of_a_touched_image_is_kept(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out", format=("txt",))
    (tmp_path / "out" / "a.txt").write_text("corrected\n")
    os.utime(photos / "a.png", (1, 1))
    tag(photos, trained, output=tmp_path / "out", format=("txt",))
    assert (tmp_path / "out" / "a.txt").read_text() == "corrected\n"


def test_edited_file_of_a_changed_image_is_kept(photos: Path, shapes: Path, tmp_path: Path, trained: Model) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    (out / "a.png.csv").write_text("label,probability\ndisc,1\n")
    for name, number in (("a.png", 8), ("z.png", 9)):
        shutil.copy(shapes / "images" / f"{number:05d}.png", photos / name)
    for _ in range(2):
        assert (tag(photos, trained, output=out).failed, (out / "z.png.csv").exists()) == (2, True)
        assert (out / "a.png.csv").read_text() == "label,probability\ndisc,1\n"
        assert "a.png" in dict(read_csv(out / "errors.csv")[1:])
    (out / "a.png.csv").unlink()
    assert tag(photos, trained, output=out).failed == 1
    tag(photos, trained, output=tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")


def test_edited_file_of_a_deleted_image_is_kept(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, trained: Model
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    (out / "a.png.csv").write_text("label,probability\ndisc,1\n")
    for name in ("a.png", "z.png"):
        (photos / name).unlink()
    assert tag(photos, trained, output=out).vanished == 2
    assert (out / "a.png.csv").read_text() == "label,probability\ndisc,1\n"
    assert not (out / "z.png.csv").exists()
    assert f"edited or not written by labelr: {out / 'a.png.csv'}" in caplog.text


def test_file_of_an_interrupted_write_does_not_count_as_edited(
    photos: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Model
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    shutil.copy(shapes / "images" / "00008.png", photos / "a.png")
    replace_file = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if target.name == "a.png.csv":
            raise KeyboardInterrupt
        return replace_file(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tag(photos, trained, output=out)
    assert tag(photos, trained, output=out).failed == 1
    tag(photos, trained, output=tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")


def test_caption_is_kept_and_a_folder_in_its_place_fails_the_image(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    (photos / "a.txt").write_text("A photo, of me.\nSecond sentence\n")
    (photos / "z.txt").mkdir()
    summary = tag(photos, trained, output=tmp_path / "out", **APPEND)
    assert (photos / "a.txt").read_text().startswith("A photo, of me.\nSecond sentence, ")
    assert (summary.ok, summary.failed) == (3, 2)
    assert "z.txt" in reason_of(tmp_path / "out", "z.png")


def test_folders_of_images_are_never_deleted(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out", in_place=True)
    (photos / "deep" / "er" / "d.PNG").unlink()
    tag(photos, trained, output=tmp_path / "out", in_place=True)
    assert not (photos / "deep" / "er" / "d.PNG.csv").exists()
    assert (photos / "deep" / "er").is_dir()


def test_failed_images_in_json_lines_are_not_labelled(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out", format=("jsonl",), threshold=0.3)
    table = read_table(photos, labels=[str(tmp_path / "out" / "labels.jsonl")])
    assert table.files == ("a.png", "deep/b.png", "deep/er/d.PNG", "z.png")


def test_name_with_a_carriage_return_is_read_again(shapes: Path, tmp_path: Path, trained: Model) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(shapes / "images" / "00000.png", folder / "c\rd.png")
    tag(folder, trained, output=tmp_path / "out", threshold=0)
    assert read_csv(tmp_path / "out" / "labels.csv")[1] == ["c\rd.png", "1", "1", "1"]


def test_csv_of_a_user_next_to_an_image_is_kept(photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "a.png.csv").write_text("my,own\n")
    summary = tag(photos, trained, output=tmp_path / "out", in_place=True)
    assert summary.failed == 2
    assert (photos / "a.png.csv").read_text() == "my,own\n"
    assert (photos / "z.png.csv").exists()
    assert (tmp_path / "out" / "labels.csv").exists()


def test_names_like_formulas_are_escaped_and_read_again(photos: Path, tmp_path: Path, trained: Model) -> None:
    shutil.copy(photos / "a.png", photos / "=1+1.png")
    tag(photos, relabel(trained, "disc", "@disc"), output=tmp_path / "out", threshold=0)
    rows = read_csv(tmp_path / "out" / "labels.csv")
    assert rows[0] == ["filename", "horizontal_stripes", "'@disc", "triangle"]
    assert rows[1][0] == "./=1+1.png"
    assert ["'@disc"] in [row[:1] for row in read_csv(tmp_path / "out" / "a.png.csv")]
    table = read_table(photos, labels=[str(tmp_path / "out" / "labels.csv")])
    assert table.labels == ("horizontal_stripes", "@disc", "triangle")
    assert "=1+1.png" in table.files
    assert "@disc" in read_table(photos, labels=[str(tmp_path / "out")]).labels


# --- CSV files for Excel ---------------------------------------------------------------------------------------------

EXCEL: dict[str, Any] = {"csv_style": "excel", "threshold": 0.3, "uncertain": 2}


def test_every_csv_for_excel_has_semicolons_and_a_mark(photos: Path, tmp_path: Path, trained: Model) -> None:
    plain, excel = tmp_path / "plain", tmp_path / "excel"
    tag(photos, trained, output=plain, **{**EXCEL, "csv_style": "plain"})
    tag(photos, trained, output=excel, **EXCEL)
    names = {path.relative_to(excel) for path in excel.rglob("*.csv")}
    assert len(names) == 8
    for name in names:
        content = (excel / name).read_bytes()
        assert content.startswith(b"\xef\xbb\xbf")
        assert content.count(b"\xef\xbb\xbf") == 1
        rows = list(csv.reader(content.decode("utf-8-sig").splitlines(), delimiter=";"))
        assert rows == read_csv(plain / name)


def test_csv_for_excel_is_kept_by_a_second_run_and_replaced_only_by_force(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out, **EXCEL)
    before = tree(out)
    assert tag(photos, trained, output=out, **EXCEL).unchanged == 4
    assert tree(out) == before
    with pytest.raises(LabelrError, match="csv style was excel and is plain"):
        tag(photos, trained, output=out, **{**EXCEL, "csv_style": "plain"})
    tag(photos, trained, output=out, force=True, format="table")
    assert not list(out.rglob("*.png.csv"))


def test_csv_for_excel_is_read_as_labels(photos: Path, tmp_path: Path, trained: Model) -> None:
    model = relabel(trained, "disc", "Größe; groß")
    tag(photos, model, output=tmp_path / "out", **EXCEL)
    tag(photos, model, output=tmp_path / "plain", **{**EXCEL, "csv_style": "plain"})
    (photos / "deep" / "broken.jpg").unlink()
    for name in ("", "labels.csv"):
        tables = [read_table(photos, labels=[str(tmp_path / run / name)]) for run in ("plain", "out")]
        assert "Größe; groß" in tables[1].labels
        assert tables[0].labels == tables[1].labels
        np.testing.assert_array_equal(tables[0].targets, tables[1].targets)


def test_csv_for_excel_goes_to_stdout_with_one_mark(cli: Cli, photos: Path, trained: Model) -> None:
    done = cli("tag", photos, "--model", trained.path, "-o", "-", "--csv-style", "excel")
    assert done.out.startswith("\ufefffilename;horizontal_stripes;disc;triangle\na.png;")
    assert done.out.count("\ufeff") == 1


@pytest.mark.parametrize("name", ["labels", "Probabilities", ".labelr/1.png", "SUMMARY.JSON/1.png"])
def test_image_whose_file_would_be_one_of_the_results_fails(
    photos: Path, tmp_path: Path, name: str, trained: Model
) -> None:
    image = photos / name
    image.parent.mkdir(exist_ok=True)
    shutil.copy(photos / "z.png", image)
    tag([photos, image], trained, output=tmp_path / "out")
    assert "reserved for a table of the results" in reason_of(tmp_path / "out", name)
    header = (tmp_path / "out" / "labels.csv").read_text().splitlines()[0]
    assert header.startswith("filename,")


def test_nothing_is_written_behind_a_link_in_the_output(photos: Path, tmp_path: Path, trained: Model) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    tag(photos / "a.png", trained, output=out, files_from=None)
    (out / "deep").symlink_to(elsewhere)
    shutil.rmtree(out / ".labelr")
    (out / ".labelr").mkdir()
    tag(photos, trained, output=out)
    assert "behind a link" in reason_of(out, "deep/b.png")
    assert list(elsewhere.iterdir()) == []
