"""Tagging: what is written, and that every file is accounted for."""

import csv
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Cli
from filelock import FileLock
from PIL import Image
from scipy.special import logit

from labelr import signals
from labelr.config import ReadOptions
from labelr.data.load import read_labels
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model.predict import Model
from labelr.progress import Description, Total
from labelr.tagging.tag import tag
from labelr.training.fit import fit


@pytest.fixture(autouse=True)
def _model(trained: Model, home: Path) -> None:
    shutil.copytree(trained.path, home / "models" / "small")


@pytest.fixture
def photos(drawn: Path, tmp_path: Path) -> Path:
    """Four images, two of them in a subfolder, and a broken one between them."""
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    for name, source in {"a.png": 0, "deep/b.png": 1, "deep/er/d.PNG": 2, "z.png": 3}.items():
        shutil.copy(drawn / "images" / f"{source:05d}.png", folder / name)
    (folder / "deep" / "broken.jpg").write_bytes(b"no image")
    return folder


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))


def test_results_mirror_the_tree_and_account_for_every_file(cli: Cli, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli("tag", photos, "--threshold", "0.3", "-o", out)
    assert result.code == 3
    assert result.out == f"{out}\n"
    assert "1 of 5 images could not be tagged" in result.err
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == [
        ".labelr/journal.sqlite", ".labelr/lock", "a.png.csv", "deep/b.png.csv", "deep/er/d.PNG.csv", "errors.csv",
        "labels.csv", "probabilities.csv", "summary.json", "z.png.csv",
    ]  # fmt: skip
    reason = "not an image in a format that labelr reads, or damaged at its beginning"
    assert read(out / "errors.csv") == [["filename", "reason"], ["deep/broken.jpg", reason]]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["found"], summary["ok"], summary["failed"], summary["skipped"]) == (5, 4, 1, 0)
    assert (summary["model"], summary["threshold"], summary["complete"]) == ("small", 0.3, True)


def test_every_row_is_of_the_image_it_names(photos: Path, tmp_path: Path, trained: Model) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out, threshold=0.3)
    order = ["a.png", "deep/b.png", "deep/er/d.PNG", "z.png"]
    probs = trained.predict([photos / name for name in order]).probs
    table = read(out / "probabilities.csv")
    assert table[0] == ["filename", *trained.labels]
    assert [row[0] for row in table[1:]] == order
    assert np.array([row[1:] for row in table[1:]], dtype=float) == pytest.approx(probs, abs=1e-6)
    marks = read(out / "labels.csv")
    assert [[row[0], *map(int, row[1:])] for row in marks[1:]] == [
        [name, *(int(prob >= 0.3) for prob in row)] for name, row in zip(order, probs, strict=True)
    ]


def test_file_of_an_image_lists_its_labels_with_the_most_probable_first(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    tag(photos, trained, output=tmp_path / "out", threshold=0)
    rows = read(tmp_path / "out" / "a.png.csv")
    probs = dict(zip(trained.labels, trained.predict(photos / "a.png").probs[0], strict=True))
    assert rows[0] == ["label", "probability"]
    assert [row[0] for row in rows[1:]] == sorted(probs, key=lambda label: -probs[label])
    assert [float(row[1]) for row in rows[1:]] == pytest.approx(sorted(probs.values(), reverse=True), abs=1e-6)


def test_image_without_labels_gets_a_file_with_a_header_alone(photos: Path, tmp_path: Path) -> None:
    summary = tag(photos, output=tmp_path / "out", threshold=1)
    assert (tmp_path / "out" / "a.png.csv").read_text() == "label,probability\n"
    assert set(summary.per_label.values()) == {0}


def test_summary_counts_how_often_each_label_was_written(photos: Path, tmp_path: Path) -> None:
    summary = tag(photos, output=tmp_path / "out", threshold=0.3)
    marks = np.array([row[1:] for row in read(tmp_path / "out" / "labels.csv")[1:]], dtype=int)
    assert list(summary.per_label.values()) == marks.sum(axis=0).tolist()


def test_results_go_beside_the_caller_under_the_folders_name(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    assert cli("tag", ".").out == "photos_labels\n"
    assert (photos / "photos_labels" / "labels.csv").is_file()


def test_subfolders_can_be_left_out(photos: Path, tmp_path: Path) -> None:
    assert tag(photos, output=tmp_path / "out", recursive=False).found == 2


def test_files_and_several_inputs_are_named_from_their_common_folder(photos: Path, tmp_path: Path) -> None:
    tag([photos / "a.png", photos / "deep"], output=tmp_path / "out")
    assert [row[0] for row in read(tmp_path / "out" / "labels.csv")[1:]] == ["a.png", "deep/b.png", "deep/er/d.PNG"]


def test_same_run_twice_gives_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        tag(photos, output=tmp_path / name)
    for path in (tmp_path / "one").rglob("*.csv"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_strange_names_are_written_as_they_are(drawn: Path, tmp_path: Path) -> None:
    names = ['quo"te.png', "new\nline.png", "=x.png", "[set].png", "-o.png", os.fsdecode(b"caf\xe9.png"), "鳥.png"]
    folder = tmp_path / "strange [1]"
    folder.mkdir()
    for name in names:
        shutil.copy(drawn / "images" / "00000.png", folder / name)
    summary = tag(folder, output=tmp_path / "out")
    assert summary.ok == len(names)
    written = {"./=x.png" if name == "=x.png" else "./-o.png" if name == "-o.png" else name for name in names}
    assert {row[0] for row in read(tmp_path / "out" / "labels.csv")[1:]} == written
    assert all((tmp_path / "out" / f"{name}.csv").is_file() for name in names)


def test_existing_results_are_replaced_only_by_force_and_nothing_else_is_deleted(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tag(photos, output=out)
    (out / "notes.csv").write_text("my own notes\n")
    (photos / "z.png").unlink()
    refused = cli("tag", photos, "-o", out, "--threshold", "0.5")
    assert refused.code == 1
    assert "the results in" in refused.err
    assert re.search(r"threshold was auto \(\w+\) and is 0\.5", refused.err)
    assert "--force" in refused.err
    assert (out / "z.png.csv").exists()
    assert cli("tag", photos, "-o", out, "--threshold", "0.5", "--force").code == 3
    assert not (out / "z.png.csv").exists()
    assert (out / "notes.csv").read_text() == "my own notes\n"


def test_folder_with_other_files_is_never_written_into(cli: Cli, photos: Path) -> None:
    for options in ([], ["--force"]):
        result = cli("tag", photos, "-o", photos, *options)
        assert result.code == 1
        assert "not results of labelr" in result.err
    assert len(list(photos.rglob("*"))) == 7


def test_on_error_fail_stops_and_leaves_no_table(cli: Cli, photos: Path, tmp_path: Path) -> None:
    result = cli("tag", photos, "-o", tmp_path / "out", "--on-error", "fail")
    assert result.code == 1
    assert "deep/broken.jpg: not an image" in result.err
    assert not list((tmp_path / "out").glob("*labels.csv*"))
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["complete"] is False


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_tag_is_an_error(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    result = cli("tag", tmp_path / name, "-o", tmp_path / "out")
    assert result.code == 1
    assert ("no images in" if name == "empty" else "does not exist") in result.err
    assert not (tmp_path / "out").exists()


def test_image_files_are_never_changed(photos: Path, tmp_path: Path) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*") if path.is_file()}
    tag(photos, output=tmp_path / "out")
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*") if path.is_file()}
    assert after == before


def test_json_summary_is_the_one_in_the_file(cli: Cli, photos: Path, tmp_path: Path) -> None:
    result = cli("tag", photos, "-o", tmp_path / "out", "--json")
    assert json.loads(result.out) == json.loads((tmp_path / "out" / "summary.json").read_text())


def test_name_that_leaves_no_room_for_its_file_is_listed_and_stops_nothing(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    long = f"{'b' * 250}.png"
    for name in (long, "a.png", "z.png"):
        shutil.copy(drawn / "images" / "00000.png", folder / name)
    summary = tag(folder, output=tmp_path / "out")
    assert (summary.found, summary.ok, summary.failed) == (3, 2, 1)
    (row,) = read(tmp_path / "out" / "errors.csv")[1:]
    assert row[0] == long
    assert "File name too long" in row[1]
    assert [row[0] for row in read(tmp_path / "out" / "labels.csv")[1:]] == ["a.png", "z.png"]


def test_folder_with_a_summary_of_something_else_is_never_written_into(cli: Cli, photos: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "summary.json").write_text("{}")
    (project / "labels.csv").write_text("my own labels\n")
    result = cli("tag", photos, "-o", project, "--force")
    assert result.code == 1
    assert "not results of labelr" in result.err
    assert (project / "labels.csv").read_text() == "my own labels\n"


def test_output_directory_that_is_not_utf8_gives_valid_json(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / os.fsdecode(b"caf\xe9")
    tag(photos, output=output)
    assert json.loads((output / "summary.json").read_bytes())["output"] == str(output)


@pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"threshold": 7}, {"max_pixels": 0}])
def test_values_that_cannot_be_are_refused_from_python_too(
    photos: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    with pytest.raises(SettingError):
        tag(photos, output=tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="at least one"):
        tag([], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_control_characters_of_a_name_do_not_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    result = cli("tag", tmp_path / "\x1b[31mred", "-o", tmp_path / "out")
    assert "\x1b" not in result.err
    assert "\\x1b[31mred" in result.err


def tree(folder: Path) -> dict[str, bytes]:
    """All results by name, but for the account and the journal."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".labelr" not in path.parts and path.name != "summary.json"
    }


def account(folder: Path) -> dict[str, int]:
    said = json.loads((folder / "summary.json").read_text())
    return {name: said[name] for name in ("found", "ok", "failed", "skipped", "unchanged", "vanished")}


ALL = ("csv", "table", "jsonl", "txt")


def test_same_command_again_tags_nothing_again(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    tag(photos, output=out, format=ALL)
    before = tree(out)
    tag(photos, output=out, format=ALL)
    assert account(out) == {"found": 5, "ok": 4, "failed": 1, "skipped": 0, "unchanged": 4, "vanished": 0}
    assert tree(out) == before


def test_folder_that_has_changed_ends_like_a_fresh_run(photos: Path, drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tag(photos, output=out, format=ALL)
    images = drawn / "images"
    shutil.copy(images / "00007.png", photos / "b_new.png")  # new
    shutil.copy(images / "00008.png", photos / "a.png")  # another content
    shutil.copy(images / "00009.png", photos / "deep" / "broken.jpg")  # mended
    (photos / "deep" / "er" / "d.PNG").unlink()  # gone, and its folder with it
    os.utime(photos / "z.png", (1, 1))  # touched
    (out / "deep" / "b.png.csv").unlink()  # deleted by hand
    tag(photos, output=out, format=ALL)
    assert account(out) == {"found": 5, "ok": 5, "failed": 0, "skipped": 0, "unchanged": 1, "vanished": 1}
    tag(photos, output=tmp_path / "fresh", format=ALL)
    assert tree(out) == tree(tmp_path / "fresh")
    assert not (out / "deep" / "er").exists()


def test_folder_that_has_become_empty_as_one_that_is_not_mounted_keeps_its_results(
    photos: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out"
    tag(photos, output=out, format=ALL)
    before = tree(out)
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(LabelrError, match="no images in"):
        tag(photos, output=out, format=ALL, force=True)
    for more in ((), ("--dry-run",)):
        result = cli("tag", photos, "-o", out, *(f"--format={name}" for name in ALL), "--json", *more)
        assert (result.code, json.loads(result.out)["found"]) == (0, 0)
        assert f"Warning: no images are left in {photos}: keeping the results" in result.err
    assert tree(out) == before
    with pytest.raises(LabelrError, match="no images in"):
        tag(photos, output=tmp_path / "new")


def test_folder_that_is_called_like_a_table_costs_its_images_and_no_others(photos: Path, tmp_path: Path) -> None:
    (photos / "labels.csv").mkdir()
    shutil.copy(photos / "z.png", photos / "labels.csv" / "1.png")
    out = tmp_path / "out"
    summary = tag(photos, output=out, format=ALL)
    assert summary.complete
    why = dict(read(out / "errors.csv")[1:])["labels.csv/1.png"]
    assert why == "the name of the folder labels.csv is reserved for a table of the results"
    assert len(read(out / "labels.csv")) == summary.ok + 1


def test_content_that_has_only_been_touched_is_not_opened_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tag(photos, output=out)
    database = sqlite3.connect(out / ".labelr" / "journal.sqlite")
    with database:  # a mark that only a result from before can have
        database.execute("UPDATE results SET width = 12345 WHERE name = ?", (b"z.png",))
    database.close()
    os.utime(photos / "z.png", (1, 1))
    tag(photos, output=out)
    database = sqlite3.connect(out / ".labelr" / "journal.sqlite")
    row = database.execute("SELECT width, mtime_ns FROM results WHERE name = ?", (b"z.png",)).fetchone()
    database.close()
    assert row == (12345, 1_000_000_000)


def test_run_that_was_stopped_goes_on_to_the_same_files(photos: Path, drawn: Path, tmp_path: Path) -> None:
    for number in range(10, 60):
        shutil.copy(drawn / "images" / f"{number:05d}.png", photos / f"n{number}.png")
    tag(photos, output=tmp_path / "calm", format=ALL)
    before = signal.getsignal(signal.SIGTERM)
    signals.install_handlers(signal.SIGTERM, first=lambda: None)

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        for count, item in enumerate(items):
            if count == 20:
                signal.raise_signal(signal.SIGTERM)
            yield item

    with pytest.raises(signals.Stopped) as caught:
        tag(photos, output=tmp_path / "out", format=ALL, track=track)
    signal.signal(signal.SIGTERM, before)
    assert caught.value.resume_option == ""
    assert not (tmp_path / "out" / "labels.csv").exists()
    tag(photos, output=tmp_path / "out", format=ALL)
    assert account(tmp_path / "out")["unchanged"] >= 19
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 0.3}, r"threshold was auto \(\w+\) and is 0\.3"),
        ({"top_k": 2}, "top k was none and is 2"),
        ({"format": ("txt",)}, "formats was csv, table and is txt"),
        ({"exclude": ("disc",)}, "labels was horizontal_stripes, disc, triangle and is horizontal_stripes, triangle"),
    ],
)
def test_results_of_another_kind_are_refused_with_the_difference(
    photos: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    tag(photos, output=tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(LabelrError, match=said) as caught:
        tag(photos, output=tmp_path / "out", **options)
    assert "--force" in caught.value.hint
    assert tree(tmp_path / "out") == before
    tag(photos, output=tmp_path / "out", force=True, **options)
    tag(photos, output=tmp_path / "fresh", **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_photos_of_another_folder_do_not_replace_the_results_of_this_one(
    photos: Path, drawn: Path, tmp_path: Path
) -> None:
    tag(photos, output=tmp_path / "out")
    with pytest.raises(LabelrError, match=r"photos was .*photos and is .*images"):
        tag(drawn / "images", output=tmp_path / "out")


def test_second_run_on_one_output_is_refused(photos: Path, tmp_path: Path) -> None:
    tag(photos, output=tmp_path / "out")
    with (
        FileLock(tmp_path / "out" / ".labelr" / "lock"),
        pytest.raises(LabelrError, match="another run is writing to"),
    ):
        tag(photos, output=tmp_path / "out")


def test_lists_of_lines_and_of_nul_bytes_name_images(cli: Cli, photos: Path, tmp_path: Path) -> None:
    paths = [photos / "a.png", photos / "deep", photos / "missing.jpg"]
    (tmp_path / "lines").write_text("\n".join(map(str, paths)) + "\n\n")
    (tmp_path / "nul").write_text("\0".join(map(str, paths)) + "\0")
    results = []
    for name in ("lines", "nul"):
        done = cli("tag", "--files-from", tmp_path / name, "-o", tmp_path / f"out-{name}")
        assert done.code == 3
        results.append(tree(tmp_path / f"out-{name}"))
    assert results[0] == results[1]
    assert [row[0] for row in read(tmp_path / "out-nul" / "labels.csv")[1:]] == ["a.png", "deep/b.png", "deep/er/d.PNG"]
    assert ["missing.jpg", "no such file or directory"] in read(tmp_path / "out-nul" / "errors.csv")
    refused = cli("tag", "--files-from", tmp_path / "lines")
    assert (refused.code, "--output DIR" in refused.err) == (2, True)


def test_list_comes_from_stdin(cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = b"\n".join(os.fsencode(photos / name) for name in ("a.png", "z.png"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names)))
    monkeypatch.chdir(tmp_path)
    assert cli("tag", "--files-from", "-", "-o", "out")[:2] == (0, "out\n")
    assert [row[0] for row in read(tmp_path / "out" / "labels.csv")[1:]] == ["a.png", "z.png"]


def test_ignored_images_are_skipped_and_counted(photos: Path, tmp_path: Path) -> None:
    summary = tag(photos, output=tmp_path / "out", ignore=("deep/er/*", "z.*"))
    assert (summary.found, summary.ok, summary.failed, summary.skipped) == (5, 2, 1, 2)
    assert [row[0] for row in read(tmp_path / "out" / "labels.csv")[1:]] == ["a.png", "deep/b.png"]


def test_folder_whose_name_looks_like_an_option_or_a_pattern_is_a_folder(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    for name in ("[set]", "-x"):
        (tmp_path / name).mkdir()
        shutil.copy(drawn / "images" / "00000.png", tmp_path / name / "a.png")
    done = cli("tag", "-o", tmp_path / "out", "--", tmp_path / "[set]", tmp_path / "-x")
    assert done.code == 0
    assert [row[0] for row in read(tmp_path / "out" / "labels.csv")[1:]] == ["[set]/a.png", "./-x/a.png"]


def test_json_lines_say_all_of_each_image(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, output=tmp_path / "out", format=("jsonl",), threshold=0.3)
    lines = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["a.png", "deep/b.png", "deep/broken.jpg", "deep/er/d.PNG", "z.png"]
    first = lines[0]
    assert (first["size"], first["error"], first["model"]) == ([64, 64], None, trained.info.digest)
    assert set(first["labels"]) == {label for label, prob in first["probabilities"].items() if prob >= 0.3}
    assert list(first["probabilities"]) == list(trained.labels)
    assert lines[2]["labels"] is None
    assert "not an image" in lines[2]["error"]
    assert not (tmp_path / "out" / "labels.csv").exists()


def test_text_files_hold_the_labels_as_training_tools_read_them(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, output=tmp_path / "out", format=("txt",), threshold=0)
    probs = dict(zip(trained.labels, trained.predict(photos / "a.png").probs[0], strict=True))
    assert (tmp_path / "out" / "a.txt").read_text() == ", ".join(sorted(probs, key=lambda label: -probs[label])) + "\n"


def test_text_files_beside_the_images_keep_a_persons_tags_only_when_asked(photos: Path, tmp_path: Path) -> None:
    (photos / "a.txt").write_text("disc, holiday\n")
    summary = tag(photos, output=tmp_path / "out", format=("txt",), in_place=True, threshold=0)
    assert (summary.ok, summary.failed) == (3, 2)
    assert (photos / "a.txt").read_text() == "disc, holiday\n"
    tag(photos, output=tmp_path / "out", format=("txt",), in_place=True, threshold=0)  # again: it is still a person's
    assert (photos / "a.txt").read_text() == "disc, holiday\n"
    assert "a.txt already exists" in dict(read(tmp_path / "out" / "errors.csv")[1:])["a.png"]
    assert (photos / "deep" / "b.txt").exists()
    for _ in range(2):  # a second time adds nothing
        tag(photos, output=tmp_path / "other", format=("txt",), in_place=True, append=True, threshold=0)
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
def test_tags_are_added_in_the_way_that_those_before_are_written(
    photos: Path, tmp_path: Path, trained: Model, before: bytes, after: bytes
) -> None:
    (photos / "a.txt").write_bytes(before)
    assert tag(photos, output=tmp_path / "out", **APPEND).ok == 4
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
def test_text_file_whose_tags_cannot_be_told_apart_is_kept(
    photos: Path, tmp_path: Path, content: bytes, reason: str
) -> None:
    (photos / "a.txt").write_bytes(content)
    tag(photos, output=tmp_path / "out", **APPEND)
    assert reason in dict(read(tmp_path / "out" / "errors.csv")[1:])["a.png"]
    assert (photos / "a.txt").read_bytes() == content


def test_label_that_holds_what_divides_tags_is_not_added(photos: Path, drawn: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn, data)
    (data / "labels.csv").write_text((drawn / "labels.csv").read_text().replace("horizontal_", "wide ", 1))
    (photos / "a.txt").write_text("long_hair solo")
    tag(photos, fit(data, TINY).model, output=tmp_path / "out", **APPEND)
    reason = dict(read(tmp_path / "out" / "errors.csv")[1:])["a.png"]
    assert reason == '"wide stripes" cannot be added to a.txt, where spaces divide tags'


def test_new_text_files_are_divided_as_those_that_are_there(photos: Path, tmp_path: Path) -> None:
    (photos / "a.txt").write_text("long_hair solo\n")
    tag(photos, output=tmp_path / "out", **APPEND)
    table = read_labels([photos], ReadOptions(labels=(str(photos),), layout="sidecar"))
    assert set(table.labels) == {"long_hair", "solo", "disc", "triangle", "horizontal_stripes"}


def test_tags_of_a_person_survive_force(photos: Path, tmp_path: Path) -> None:
    (photos / "a.txt").write_text("holiday\n")
    for threshold in (0, 1):
        tag(
            photos, output=tmp_path / "out", format=("txt",), in_place=True, append=True, threshold=threshold,
            force=bool(threshold),
        )  # fmt: skip
    assert (photos / "a.txt").read_text().startswith("holiday, ")


def test_text_file_of_an_image_is_not_overwritten_by_that_of_another(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg.png", "a.jpg.webp"):
        shutil.copy(drawn / "images" / "00000.png", folder / name)
    summary = tag(folder, output=tmp_path / "out", format=("txt",), threshold=0)
    assert (summary.ok, summary.failed) == (1, 1)
    assert "already belongs to a.jpg.png" in read(tmp_path / "out" / "errors.csv")[1][1]
    (folder / "a.jpg.png").unlink()  # as if it had been given another ending
    assert tag(folder, output=tmp_path / "out", format=("txt",), threshold=0).ok == 1
    assert (tmp_path / "out" / "a.jpg.txt").exists()
    assert tag(folder, output=tmp_path / "out", format=("txt",), threshold=0).unchanged == 1
    assert (tmp_path / "out" / "a.jpg.txt").exists()


def test_tags_of_two_images_are_not_added_to_one_text_file(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "a.png"):
        shutil.copy(drawn / "images" / "00000.png", folder / name)
    (folder / "a.txt").write_text("holiday\n")
    assert tag(folder, output=tmp_path / "out", **APPEND).failed == 1
    assert "a.txt already belongs to a.jpg" in read(tmp_path / "out" / "errors.csv")[1][1]
    for name in ("a.jpg", "a.png"):
        (folder / name).unlink()
    shutil.copy(drawn / "images" / "00000.png", folder / "b.png")
    tag(folder, output=tmp_path / "out", **APPEND)
    assert (folder / "a.txt").read_text().startswith("holiday, ")


def test_swapped_images_of_the_same_size_and_time_are_tagged_again(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, number in (("a.bmp", 1), ("b.bmp", 2)):
        with Image.open(drawn / "images" / f"{number:05d}.png") as image:
            image.convert("RGB").save(folder / name)
        os.utime(folder / name, (1, 1))
    tag(folder, output=tmp_path / "out")
    before = read(tmp_path / "out" / "probabilities.csv")
    (folder / "a.bmp").rename(folder / "c")
    (folder / "b.bmp").rename(folder / "a.bmp")
    (folder / "c").rename(folder / "b.bmp")
    tag(folder, output=tmp_path / "out")
    after = read(tmp_path / "out" / "probabilities.csv")
    assert after[1][1:] == before[2][1:] != before[1][1:] == after[2][1:]


def test_image_that_does_not_open_any_more_keeps_no_old_labels(photos: Path, tmp_path: Path) -> None:
    tag(photos, output=tmp_path / "out")
    (photos / "a.png").write_bytes(b"junk")
    assert tag(photos, output=tmp_path / "out").failed == 2
    assert not (tmp_path / "out" / "a.png.csv").exists()


@pytest.mark.parametrize("name", ["labels.csv", "uncertain.csv"])
def test_table_that_a_person_has_changed_is_not_lost(photos: Path, tmp_path: Path, name: str) -> None:
    tag(photos, output=tmp_path / "out", uncertain=2)
    with (tmp_path / "out" / name).open("a") as file:
        file.write("z.png,1,1,1\n")
    with pytest.raises(LabelrError, match=rf"{name} was edited after labelr wrote it") as caught:
        tag(photos, output=tmp_path / "out", uncertain=2)
    assert "--force" in caught.value.hint
    tag(photos, output=tmp_path / "out", uncertain=2, force=True)
    tag(photos, output=tmp_path / "out", uncertain=2)


def test_table_of_a_run_that_was_killed_before_its_end_is_not_taken_for_a_persons(photos: Path, tmp_path: Path) -> None:
    tag(photos, output=tmp_path / "out")
    (photos / "a.png").unlink()

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        yield from items
        (tmp_path / "out" / "labels.csv").write_text("as if it had just been written")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tag(photos, output=tmp_path / "out", track=track)
    assert tag(photos, output=tmp_path / "out").ok == 3


def test_touched_image_leaves_a_corrected_file_alone(photos: Path, tmp_path: Path) -> None:
    tag(photos, output=tmp_path / "out", format=("txt",))
    (tmp_path / "out" / "a.txt").write_text("corrected\n")
    os.utime(photos / "a.png", (1, 1))
    tag(photos, output=tmp_path / "out", format=("txt",))
    assert (tmp_path / "out" / "a.txt").read_text() == "corrected\n"


def test_file_that_a_person_has_changed_is_not_overwritten_when_its_image_changes(
    photos: Path, drawn: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tag(photos, output=out)
    (out / "a.png.csv").write_text("label,probability\ndisc,1\n")
    for name, number in (("a.png", 8), ("z.png", 9)):
        shutil.copy(drawn / "images" / f"{number:05d}.png", photos / name)
    for _ in range(2):
        assert (tag(photos, output=out).failed, (out / "z.png.csv").exists()) == (2, True)
        assert (out / "a.png.csv").read_text() == "label,probability\ndisc,1\n"
        assert "a.png" in dict(read(out / "errors.csv")[1:])
    (out / "a.png.csv").unlink()
    assert tag(photos, output=out).failed == 1
    tag(photos, output=tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")


def test_file_that_a_person_has_changed_is_kept_when_its_image_is_gone(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    tag(photos, output=out)
    (out / "a.png.csv").write_text("label,probability\ndisc,1\n")
    for name in ("a.png", "z.png"):
        (photos / name).unlink()
    assert tag(photos, output=out).vanished == 2
    assert (out / "a.png.csv").read_text() == "label,probability\ndisc,1\n"
    assert not (out / "z.png.csv").exists()
    assert f"because they were edited: {out / 'a.png.csv'}" in caplog.text


def test_file_whose_writing_was_cut_off_is_not_taken_for_a_persons(
    photos: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    tag(photos, output=out)
    shutil.copy(drawn / "images" / "00008.png", photos / "a.png")
    replace = Path.replace

    def cut_off(path: Path, target: Path) -> Path:
        if target.name == "a.png.csv":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            tag(photos, output=out)
    assert tag(photos, output=out).failed == 1
    tag(photos, output=tmp_path / "fresh")
    assert tree(out) == tree(tmp_path / "fresh")


@pytest.mark.parametrize("damage", ["version", "noise"])
def test_journal_that_cannot_be_used_is_replaced_by_force(photos: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    tag(photos, output=out)
    before = tree(out)
    if damage == "version":
        database = sqlite3.connect(out / ".labelr" / "journal.sqlite")
        with database:
            database.execute("UPDATE facts SET value = 99 WHERE name = 'format'")
        database.close()
    else:
        (out / ".labelr" / "journal.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(LabelrError):
        tag(photos, output=out)
    tag(photos, output=out, force=True)
    assert tree(out) == before


def test_caption_is_kept_word_for_word_and_a_folder_in_its_place_is_an_error_of_that_image(
    photos: Path, tmp_path: Path
) -> None:
    (photos / "a.txt").write_text("A photo, of me.\nSecond sentence\n")
    (photos / "z.txt").mkdir()
    summary = tag(photos, output=tmp_path / "out", format=("txt",), in_place=True, append=True, threshold=0)
    assert (photos / "a.txt").read_text().startswith("A photo, of me.\nSecond sentence, ")
    assert (summary.ok, summary.failed) == (3, 2)
    assert "z.txt" in dict(read(tmp_path / "out" / "errors.csv")[1:])["z.png"]


def test_folders_of_photographs_are_never_deleted(photos: Path, tmp_path: Path) -> None:
    tag(photos, output=tmp_path / "out", in_place=True)
    (photos / "deep" / "er" / "d.PNG").unlink()
    tag(photos, output=tmp_path / "out", in_place=True)
    assert not (photos / "deep" / "er" / "d.PNG.csv").exists()
    assert (photos / "deep" / "er").is_dir()


def test_images_that_failed_say_nothing_when_json_lines_are_learned_from(photos: Path, tmp_path: Path) -> None:
    tag(photos, output=tmp_path / "out", format=("jsonl",), threshold=0.3)
    table = read_labels([photos], ReadOptions(labels=(str(tmp_path / "out" / "labels.jsonl"),)))
    assert table.files == ("a.png", "deep/b.png", "deep/er/d.PNG", "z.png")


def test_name_with_a_carriage_return_is_written_so_that_it_can_be_read(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(drawn / "images" / "00000.png", folder / "c\rd.png")
    tag(folder, output=tmp_path / "out", threshold=0)
    assert read(tmp_path / "out" / "labels.csv")[1] == ["c\rd.png", "1", "1", "1"]


def test_csv_beside_an_image_that_is_not_labelrs_is_kept(photos: Path, tmp_path: Path) -> None:
    (photos / "a.png.csv").write_text("my,own\n")
    summary = tag(photos, output=tmp_path / "out", in_place=True)
    assert summary.failed == 2
    assert (photos / "a.png.csv").read_text() == "my,own\n"
    assert (photos / "z.png.csv").exists()
    assert (tmp_path / "out" / "labels.csv").exists()


def test_labels_are_chosen_by_number_and_by_name(photos: Path, tmp_path: Path, trained: Model) -> None:
    probs = trained.predict(photos / "a.png").probs[0]
    best = [trained.labels[index] for index in np.argsort(-probs)]
    tag(photos, output=tmp_path / "two", threshold=0, top_k=2)
    assert [row[0] for row in read(tmp_path / "two" / "a.png.csv")[1:]] == best[:2]
    tag(photos, output=tmp_path / "one", threshold=1, min_labels=1)
    assert [row[0] for row in read(tmp_path / "one" / "a.png.csv")[1:]] == best[:1]
    tag(photos, output=tmp_path / "only", threshold=0, only=("disc",))
    assert read(tmp_path / "only" / "labels.csv")[0] == ["filename", "disc"]
    tag(photos, output=tmp_path / "without", threshold=0, exclude=("disc",))
    assert read(tmp_path / "without" / "labels.csv")[0] == ["filename", "horizontal_stripes", "triangle"]
    with pytest.raises(SettingError, match="no label 'disk'") as caught:
        tag(photos, output=tmp_path / "wrong", only=("disk",))
    assert "`disc`" in caught.value.hint


@pytest.mark.parametrize(
    "arguments",
    [["--format", "xml"], ["--append"], ["--in-place", "--format", "table"], ["--top-k", "1", "--min-labels", "2"],
     ["--top-k", "0"], ["-o", "-", "--format", "csv"], ["-o", "-", "--json"], ["-o", "-", "--force"],
     ["-o", "-", "--in-place"], ["--uncertain", "-1"]],
)  # fmt: skip
def test_options_that_make_no_sense_are_wrong_usage(cli: Cli, photos: Path, arguments: list[str]) -> None:
    done = cli("tag", photos, *arguments)
    assert (done.code, done.out) == (2, "")


def test_table_and_json_lines_go_to_stdout(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = cli("tag", photos, "-o", "-", "--threshold", "0.3")
    assert done.code == 3
    rows = list(csv.reader(done.out.splitlines()))
    assert rows[0] == ["filename", "horizontal_stripes", "disc", "triangle"]
    assert [row[0] for row in rows[1:]] == ["a.png", "deep/b.png", "deep/er/d.PNG", "z.png"]
    assert "deep/broken.jpg: not an image" in done.err
    done = cli("tag", photos, "-o", "-", "--threshold", "0.3", "--format", "jsonl", "--quiet")
    assert [json.loads(line)["path"] for line in done.out.splitlines()][2] == "deep/broken.jpg"
    assert sorted(path for path in tmp_path.rglob("*") if "home" not in path.parts) == [
        path for path in before if "home" not in path.parts
    ]


def test_reader_that_has_read_enough_is_no_error(photos: Path) -> None:
    command = f"{sys.executable} -m labelr tag {photos} -o - | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "filename,horizontal_stripes,disc,triangle\n"
    assert done.returncode in (0, 3, 141)  # as much as there is may fit the pipe
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_dry_run_counts_and_writes_nothing(cli: Cli, photos: Path, tmp_path: Path) -> None:
    done = cli("tag", photos, "-o", tmp_path / "out", "--dry-run", "--ignore", "z.*")
    assert done.code == 0
    assert "5 images found: 4 would be tagged, 0 have not changed, 1 would be skipped" in done.err
    assert not (tmp_path / "out").exists()
    tag(photos, output=tmp_path / "out")
    before = tree(tmp_path / "out")
    (photos / "z.png").unlink()
    os.utime(photos / "a.png", (1, 1))
    done = cli("tag", photos, "-o", tmp_path / "out", "--dry-run", "--json")
    said = json.loads(done.out)
    assert (said["found"], said["unchanged"], said["vanished"], said["complete"]) == (4, 2, 1, False)
    assert tree(tmp_path / "out") == before


KILLED = """
import os, signal, sys, labelr
def track(items, description, total=None):
    for number, item in enumerate(items):
        yield item
        if number == 20:
            os.kill(os.getpid(), signal.SIGKILL)
labelr.tag(sys.argv[1], output=sys.argv[2], track=track)
"""


def test_dry_run_after_a_kill_says_what_is_left_and_writes_nothing(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    photos, out = drawn / "images", tmp_path / "out"
    assert subprocess.run([sys.executable, "-c", KILLED, photos, out], check=False).returncode == -signal.SIGKILL
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    done = cli("tag", photos, "-o", out, "--dry-run", "--json")
    assert (done.code, json.loads(done.out)["found"]) == (0, 60)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_names_that_a_spreadsheet_would_compute_are_guarded_and_read_again(drawn: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn / "images", data / "images")
    shutil.copy(drawn / "images" / "00000.png", data / "images" / "=1+1.png")
    text = (drawn / "labels.csv").read_text().replace("disc", "@disc", 1)
    (data / "labels.csv").write_text(text + "=1+1.png,1,0,1\n")
    model = fit(data, TINY).model
    tag(data / "images", model, output=tmp_path / "out", threshold=0)
    rows = read(tmp_path / "out" / "labels.csv")
    assert rows[0] == ["filename", "horizontal_stripes", "'@disc", "triangle"]
    assert rows[-1][0] == "./=1+1.png" or "./=1+1.png" in [row[0] for row in rows]
    assert ["'@disc"] in [row[:1] for row in read(tmp_path / "out" / "00000.png.csv")]
    table = read_labels([data], ReadOptions(labels=(str(tmp_path / "out" / "labels.csv"),)))
    assert table.labels == ("horizontal_stripes", "@disc", "triangle")
    assert "=1+1.png" in table.files
    table = read_labels([data], ReadOptions(labels=(str(tmp_path / "out"),)))
    assert "@disc" in table.labels


def test_most_uncertain_images_come_as_a_table_to_fill_in(
    photos: Path, drawn: Path, tmp_path: Path, trained: Model
) -> None:
    for number in range(10, 40):
        shutil.copy(drawn / "images" / f"{number:05d}.png", photos / f"n{number}.png")
    shutil.copy(photos / "n10.png", photos / "n10_copy.png")
    tag(photos, output=tmp_path / "out", uncertain=9)
    rows = read(tmp_path / "out" / "uncertain.csv")
    assert rows[0] == ["filename", *trained.labels]
    assert len(rows) == 10
    assert len({row[0] for row in rows}) == 10
    assert all(cell == "" for row in rows[1:] for cell in row[1:])
    assert not {"n10.png", "n10_copy.png"} <= {row[0] for row in rows}
    names = [line[0] for line in read(tmp_path / "out" / "probabilities.csv")[1:]]
    probs = np.array([line[1:] for line in read(tmp_path / "out" / "probabilities.csv")[1:]], float)
    distance = np.abs(logit(probs) - logit(trained.thresholds()))
    nearest = {names[row] for row in distance.argmin(axis=0)}
    assert nearest - {"n10_copy.png", "n10.png"} <= {row[0] for row in rows[1:4]} | {"n10.png", "n10_copy.png"}
    filled = [[row[0], "1", "0", "1"] for row in rows[1:]]
    lines = [",".join(row) for row in [rows[0], *filled]]
    (tmp_path / "filled.csv").write_text("\n".join(lines) + "\n")
    table = read_labels([photos], ReadOptions(labels=(str(tmp_path / "filled.csv"),)))
    assert len(table.files) == 9


def test_uncertain_images_are_no_copies_of_one_beyond_the_usual_limit_of_pixels(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.radial_gradient("L").resize((20_001, 10_000), Image.Resampling.NEAREST).save(folder / "a.jpg")
    shutil.copy(folder / "a.jpg", folder / "b.jpg")
    tag(folder, output=tmp_path / "out", uncertain=2, max_pixels=300_000_000)
    assert len(read(tmp_path / "out" / "uncertain.csv")[1:]) == 1


def test_progress_says_how_many_there_are_and_how_long_it_takes(photos: Path, tmp_path: Path) -> None:
    said: list[tuple[str, int | None]] = []

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        for item in items:
            yield item
            assert callable(description)
            assert callable(total)
            said.append((description(), total()))

    tag(photos, output=tmp_path / "out", track=track)
    assert len(said) == 5
    text, total = said[-1]
    assert total == 5
    assert re.fullmatch(r"tagging  [\d.]+ images/s  1 failed  0:00 left", text)


def test_clock_that_stands_still_stops_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        for item in items:
            assert callable(description)
            assert "images/s" in description()
            yield item

    assert tag(photos, output=tmp_path / "out", track=track).seconds == 0


def command(photos: Path, out: Path) -> list[str]:
    """Tags a folder in every format."""
    options = ["-o", str(out), "--threads", "1", "-j", "1", "--quiet", *(f"--format={name}" for name in ALL)]
    return [sys.executable, "-m", "labelr", "tag", str(photos), *options]


def num_written(folder: Path, since: float) -> int:
    """How many images have got their file since a time."""
    if not folder.is_dir():
        return 0
    return sum(one.stat().st_mtime >= since for one in os.scandir(folder) if one.name.endswith(".png.csv"))


@pytest.mark.slow
def test_run_that_is_killed_again_and_again_ends_with_the_files_of_a_calm_one(cli: Cli, tmp_path: Path) -> None:
    photos, calm, out = (
        make_synthetic_dataset(tmp_path / "many", 2000, 3) / "images",
        tmp_path / "calm",
        tmp_path / "out",
    )
    assert cli(*command(photos, calm)[3:]).code == 0
    for images in (1, 600, 300):
        start = time.time()
        with subprocess.Popen(command(photos, out), stdout=subprocess.DEVNULL) as running:
            while running.poll() is None and num_written(out, start) < images:
                time.sleep(0.01)
            running.kill()
        assert running.returncode == -signal.SIGKILL, "it came to its end before"
    assert cli(*command(photos, out)[3:]).code == 0
    assert tree(out) == tree(calm)
    assert not list(out.rglob("*.tmp"))
