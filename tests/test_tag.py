"""Tagging: what is written, and that every file is accounted for."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli

from labelr.model.predict import Model
from labelr.settings import SettingError
from labelr.tagging.tag import tag


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
    assert "1 of 5 images could not be opened" in result.err
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == [
        "a.png.csv", "deep/b.png.csv", "deep/er/d.PNG.csv", "errors.csv", "labels.csv", "probabilities.csv",
        "summary.json", "z.png.csv",
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
    assert {row[0] for row in read(tmp_path / "out" / "labels.csv")[1:]} == set(names)
    assert all((tmp_path / "out" / f"{name}.csv").is_file() for name in names)


def test_existing_results_are_replaced_only_by_force_and_nothing_else_is_deleted(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tag(photos, output=out)
    (out / "notes.csv").write_text("my own notes\n")
    (photos / "z.png").unlink()
    refused = cli("tag", photos, "-o", out)
    assert refused.code == 1
    assert "--force" in refused.err
    assert (out / "z.png.csv").exists()
    assert cli("tag", photos, "-o", out, "--force").code == 3
    assert not (out / "z.png.csv").exists()
    assert (out / "notes.csv").read_text() == "my own notes\n"


def test_folder_with_other_files_is_never_written_into(cli: Cli, photos: Path) -> None:
    for options in ([], ["--force"]):
        result = cli("tag", photos, "-o", photos, *options)
        assert result.code == 1
        assert "no results of labelr" in result.err
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
    assert "no results of labelr" in result.err
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
