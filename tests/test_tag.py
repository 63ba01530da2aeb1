"""The main path of `labelr tag`: every file is accounted for, and runs are resumed and updated."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from conftest import Cli, put
from tag_results import ALL_FORMATS, counts, read_csv, reason_of, tree

from labelr import signals
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model.predict import Model
from labelr.progress import Description, Total
from labelr.tagging.tag import tag


def test_results_mirror_the_tree_and_account_for_every_file(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model
) -> None:
    out = tmp_path / "out"
    result = cli("tag", "--model", trained.path, photos, "--threshold", "0.3", "-o", out)
    assert result.code == 3
    assert result.out == f"{out}\n"
    assert "Warning: 1 image could not be tagged: deep/broken.jpg (not an image" in result.err
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == [
        ".labelr/journal.sqlite", "a.png.csv", "deep/b.png.csv", "deep/er/d.PNG.csv", "errors.csv",
        "labels.csv", "probabilities.csv", "summary.json", "z.png.csv",
    ]  # fmt: skip
    reason = "not an image in a format that labelr reads, or damaged at its beginning"
    assert read_csv(out / "errors.csv") == [["filename", "reason"], ["deep/broken.jpg", reason]]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["found"], summary["ok"], summary["failed"], summary["skipped"]) == (5, 4, 1, 0)
    assert (summary["model"], summary["threshold"], summary["complete"]) == ("trained", 0.3, True)


def test_every_row_belongs_to_the_image_that_it_names(photos: Path, tmp_path: Path, trained: Model) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out, threshold=0.3)
    order = ["a.png", "deep/b.png", "deep/er/d.PNG", "z.png"]
    probs = trained.predict([photos / name for name in order]).probs
    table = read_csv(out / "probabilities.csv")
    assert table[0] == ["filename", *trained.labels]
    assert [row[0] for row in table[1:]] == order
    assert np.array([row[1:] for row in table[1:]], dtype=float) == pytest.approx(probs, abs=1e-6)
    marks = read_csv(out / "labels.csv")
    assert [[row[0], *map(int, row[1:])] for row in marks[1:]] == [
        [name, *(int(prob >= 0.3) for prob in row)] for name, row in zip(order, probs, strict=True)
    ]


def test_summary_counts_images_of_each_label(photos: Path, tmp_path: Path, trained: Model) -> None:
    summary = tag(photos, trained, output=tmp_path / "out", threshold=0.3)
    marks = np.array([row[1:] for row in read_csv(tmp_path / "out" / "labels.csv")[1:]], dtype=int)
    assert list(summary.per_label.values()) == marks.sum(axis=0).tolist()


def test_default_output_is_named_after_the_folder_in_the_working_directory(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Model
) -> None:
    monkeypatch.chdir(photos)
    assert cli("tag", "--model", trained.path, ".").out == "photos_labels\n"
    assert (photos / "photos_labels" / "labels.csv").is_file()


def test_same_run_twice_gives_the_same_bytes(photos: Path, tmp_path: Path, trained: Model) -> None:
    for name in ("one", "two"):
        tag(photos, trained, output=tmp_path / name)
    for path in (tmp_path / "one").rglob("*.csv"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_on_error_fail_stops_and_leaves_no_table(cli: Cli, photos: Path, tmp_path: Path, trained: Model) -> None:
    result = cli("tag", "--model", trained.path, photos, "-o", tmp_path / "out", "--on-error", "fail")
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


def test_image_files_are_never_changed(photos: Path, tmp_path: Path, trained: Model) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*") if path.is_file()}
    tag(photos, trained, output=tmp_path / "out")
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.rglob("*") if path.is_file()}
    assert after == before


def test_json_on_stdout_is_the_summary_file(cli: Cli, photos: Path, tmp_path: Path, trained: Model) -> None:
    result = cli("tag", "--model", trained.path, photos, "-o", tmp_path / "out", "--json")
    assert json.loads(result.out) == json.loads((tmp_path / "out" / "summary.json").read_text())


def test_output_directory_that_is_not_utf8_gives_valid_json(photos: Path, tmp_path: Path, trained: Model) -> None:
    output = tmp_path / os.fsdecode(b"caf\xe9")
    tag(photos, trained, output=output)
    assert json.loads((output / "summary.json").read_bytes())["output"] == str(output)


@pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"threshold": 7}, {"max_pixels": 0}])
def test_invalid_values_are_refused_from_python_too(
    photos: Path, tmp_path: Path, options: dict[str, object], trained: Model
) -> None:
    with pytest.raises(SettingError):
        tag(photos, trained, output=tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="no images to tag"):
        tag([], trained, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_control_characters_of_a_name_do_not_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    result = cli("tag", tmp_path / "\x1b[31mred", "-o", tmp_path / "out")
    assert "\x1b" not in result.err
    assert "\\x1b[31mred" in result.err


def test_same_command_again_tags_nothing_again(photos: Path, tmp_path: Path, trained: Model) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out, format=ALL_FORMATS)
    before = tree(out)
    tag(photos, trained, output=out, format=ALL_FORMATS)
    assert counts(out) == {"found": 5, "ok": 4, "failed": 1, "skipped": 0, "unchanged": 4, "vanished": 0}
    assert tree(out) == before


def test_results_of_a_changed_folder_are_those_of_a_fresh_run(
    photos: Path, shapes: Path, tmp_path: Path, trained: Model
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out, format=ALL_FORMATS)
    images = shapes / "images"
    shutil.copy(images / "00007.png", photos / "b_new.png")  # new
    shutil.copy(images / "00008.png", photos / "a.png")  # another content
    shutil.copy(images / "00009.png", photos / "deep" / "broken.jpg")  # fixed
    (photos / "deep" / "er" / "d.PNG").unlink()  # gone, and its folder with it
    os.utime(photos / "z.png", (1, 1))  # touched
    (out / "deep" / "b.png.csv").unlink()  # deleted by hand
    tag(photos, trained, output=out, format=ALL_FORMATS)
    assert counts(out) == {"found": 5, "ok": 5, "failed": 0, "skipped": 0, "unchanged": 1, "vanished": 1}
    tag(photos, trained, output=tmp_path / "fresh", format=ALL_FORMATS)
    assert tree(out) == tree(tmp_path / "fresh")
    assert not (out / "deep" / "er").exists()


def test_results_are_kept_if_the_folder_is_empty_like_an_unmounted_one(
    photos: Path, tmp_path: Path, cli: Cli, trained: Model
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out, format=ALL_FORMATS)
    before = tree(out)
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(LabelrError, match="no images in"):
        tag(photos, trained, output=out, format=ALL_FORMATS, force=True)
    for more in ((), ("--dry-run",)):
        formats = (f"--format={name}" for name in ALL_FORMATS)
        result = cli("tag", "--model", trained.path, photos, "-o", out, *formats, "--json", *more)
        assert (result.code, json.loads(result.out)["found"]) == (0, 0)
        assert f"Warning: no images are left in {photos}: keeping the results" in result.err
    assert tree(out) == before
    with pytest.raises(LabelrError, match="no images in"):
        tag(photos, trained, output=tmp_path / "new")


def test_resumed_run_writes_the_files_of_an_uninterrupted_one(
    photos: Path, shapes: Path, tmp_path: Path, trained: Model
) -> None:
    for number in range(10, 60):
        shutil.copy(shapes / "images" / f"{number:05d}.png", photos / f"n{number}.png")
    tag(photos, trained, output=tmp_path / "uninterrupted", format=ALL_FORMATS)
    before = signal.getsignal(signal.SIGTERM)
    signals.install_handlers(signal.SIGTERM, first=lambda: None)

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        for count, item in enumerate(items):
            if count == 20:
                signal.raise_signal(signal.SIGTERM)
            yield item

    with pytest.raises(signals.Stopped) as caught:
        tag(photos, trained, output=tmp_path / "out", format=ALL_FORMATS, track=track)
    signal.signal(signal.SIGTERM, before)
    assert caught.value.resume_option == ""
    assert not (tmp_path / "out" / "labels.csv").exists()
    tag(photos, trained, output=tmp_path / "out", format=ALL_FORMATS)
    assert counts(tmp_path / "out")["unchanged"] >= 19
    assert tree(tmp_path / "out") == tree(tmp_path / "uninterrupted")


def test_lists_of_lines_and_of_nul_bytes_name_images(cli: Cli, photos: Path, tmp_path: Path, trained: Model) -> None:
    paths = [photos / "a.png", photos / "deep", photos / "missing.jpg"]
    (tmp_path / "lines").write_text("\n".join(map(str, paths)) + "\n\n")
    (tmp_path / "nul").write_text("\0".join(map(str, paths)) + "\0")
    results = []
    for name in ("lines", "nul"):
        done = cli("tag", "--model", trained.path, "--files-from", tmp_path / name, "-o", tmp_path / f"out-{name}")
        assert done.code == 3
        results.append(tree(tmp_path / f"out-{name}"))
    assert results[0] == results[1]
    names = [row[0] for row in read_csv(tmp_path / "out-nul" / "labels.csv")[1:]]
    assert names == ["a.png", "deep/b.png", "deep/er/d.PNG"]
    assert ["missing.jpg", "no such file or directory"] in read_csv(tmp_path / "out-nul" / "errors.csv")
    refused = cli("tag", "--model", trained.path, "--files-from", tmp_path / "lines")
    assert (refused.code, "--output DIR" in refused.err) == (2, True)


def test_ignored_images_are_skipped_and_counted(photos: Path, tmp_path: Path, trained: Model) -> None:
    summary = tag(photos, trained, output=tmp_path / "out", ignore=("deep/er/*", "z.*"))
    assert (summary.found, summary.ok, summary.failed, summary.skipped) == (5, 2, 1, 2)
    assert [row[0] for row in read_csv(tmp_path / "out" / "labels.csv")[1:]] == ["a.png", "deep/b.png"]


def test_what_is_left_out_is_printed_and_in_the_summary(cli: Cli, photos: Path, tmp_path: Path, trained: Model) -> None:
    for name in ("IMG_1.CR2", "@eaDir/a.png", "old/a.png"):
        put(photos, name)
    done = cli("tag", photos, "--model", trained.path, "-o", tmp_path / "out", "--ignore", "old")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["found"], summary["skipped"], summary["ignored_folders"]) == (5, 0, 1)
    assert (summary["other_formats"], summary["system_folders"]) == ({".cr2": 1}, {"@eaDir": 1})
    assert len(summary["notes"]) == 3
    for note in summary["notes"]:
        assert f"  {note}\n" in done.err


def test_pages_and_bands_that_are_not_used_are_in_the_summary_also_of_unchanged_images(
    tmp_path: Path, trained: Model
) -> None:
    (tmp_path / "photos").mkdir()
    for name in "ab":
        pages = np.full((3, 16, 16), ord(name), np.uint8)
        tifffile.imwrite(tmp_path / "photos" / f"{name}.tif", pages, photometric="minisblack")
    bands = np.ones((16, 16, 5), np.float32)
    tifffile.imwrite(tmp_path / "photos" / "c.tif", bands, photometric="minisblack", planarconfig="contig")
    for unchanged in (0, 3):
        summary = tag(tmp_path / "photos", trained, output=tmp_path / "out")
        assert (summary.unchanged, summary.unread_pages) == (unchanged, {".tif": 4})
        assert summary.notes[0] == "further pages and frames, not read: 4 .tif"
        assert re.fullmatch(r"the first three of 5 bands .* \(1 image\)", summary.notes[1])


def test_other_files_are_counted_by_ending_and_labelrs_own_are_not(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model
) -> None:
    for name in ("v.MP4", "deep/w.mp4", "a.xmp", "README", "deep/notes.txt", "a.png.json", "._a.png"):
        put(photos, name)
    expected = {".mp4": 2, ".xmp": 1, "(none)": 1, ".txt": 1, ".json": 1}
    options = ["--format", "csv", "--format", "txt", "--format", "table"]
    for out, more in ((photos / "out", []), (tmp_path / "beside", ["--in-place"])):
        for _ in range(2):
            done = cli("tag", photos, "--model", trained.path, *options, *more, "-o", out)
            summary = json.loads((out / "summary.json").read_text())
            assert (summary["other_files"], summary["hidden_images"]) == (expected, 1)
            (line,) = (line for line in done.err.splitlines() if "other files" in line)
            assert line.startswith("  other files, left out: 2 .mp4, 1 ")
        shutil.rmtree(photos / "out", ignore_errors=True)


def test_nothing_but_pictures_of_other_formats_says_so(cli: Cli, tmp_path: Path) -> None:
    put(tmp_path, "photos/a.dng")
    done = cli("tag", tmp_path / "photos", "-o", tmp_path / "out")
    assert done.code == 1
    assert "photos; pictures in formats that labelr does not read, left out: 1 .dng" in done.err


def test_raw_file_that_is_given_itself_fails_with_its_reason(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model
) -> None:
    shutil.copy(photos / "a.png", tmp_path / "b.NEF")
    out = tmp_path / "out"
    assert cli("tag", photos / "a.png", tmp_path / "b.NEF", "--model", trained.path, "-o", out).code == 3
    assert '\nb.NEF,"labelr does not read .nef files: ' in (out / "errors.csv").read_text()


def test_stdout_is_no_output_directory(photos: Path, trained: Model) -> None:
    with pytest.raises(SettingError, match="only the command line writes to stdout"):
        tag(photos, trained, output="-")


# --- failures that are new, and those of the previous run ------------------------------------------------------------


@pytest.mark.slow
def test_only_failures_that_are_new_end_with_exit_code_3(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model
) -> None:
    command = ["tag", photos, "--model", trained.path, "-o", tmp_path / "out", "--quiet", "--json"]

    def run() -> tuple[int, int, int, str]:
        done = cli(*command)
        said = json.loads(done.out)
        assert said["failed"] == said["new_failures"] + said["known_failures"]
        return done.code, said["new_failures"], said["known_failures"], done.err

    reason = "not an image in a format that labelr reads, or damaged at its beginning"
    told = f"Warning: 1 image could not be tagged: {{}} ({reason}); see {tmp_path / 'out' / 'errors.csv'}\n"
    assert run() == (3, 1, 0, told.format("deep/broken.jpg"))
    assert run() == (0, 0, 1, "")
    put(photos, "new.jpg", b"no image either")
    assert run() == (3, 1, 1, told.format("new.jpg"))
    put(photos, "deep/broken.jpg", b"other content")
    assert run() == (3, 1, 1, told.format("deep/broken.jpg"))
    assert run() == (0, 0, 2, "")
    command += ["--force"]
    assert run() == (0, 0, 2, "")
    put(photos, "new.jpg", b"yet another content")
    assert run() == (3, 1, 1, told.format("new.jpg"))


def test_empty_list_of_files_is_a_warning_and_keeps_earlier_results(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model
) -> None:
    out, listed = tmp_path / "out", put(tmp_path, "list", b"\n")
    command = ["tag", "--files-from", listed, "--model", trained.path, "-o"]
    done = cli(*command, out)
    assert (done.code, done.out, out.exists()) == (0, "", False)
    assert done.err.startswith("Warning: the list of files is empty: nothing is tagged or deleted\n")
    assert cli(*command, "-").out == "filename,horizontal_stripes,disc,triangle\n"
    put(tmp_path, "list", os.fsencode(photos / "a.png"))
    assert cli(*command, out).code == 0
    before = tree(out)
    put(tmp_path, "list")
    done = cli(*command, out, "--force")
    assert (done.code, done.out) == (0, f"{out}\n")
    assert tree(out) == before


def test_failure_of_an_interrupted_run_is_still_new(photos: Path, tmp_path: Path, trained: Model) -> None:
    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        yield from items
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tag(photos, trained, output=tmp_path / "out", track=track)
    assert [tag(photos, trained, output=tmp_path / "out").new_failures for _ in range(2)] == [1, 0]


def test_known_failures_are_named_in_the_summary_for_people(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model
) -> None:
    for _ in range(2):
        done = cli("tag", photos, "--model", trained.path, "-o", tmp_path / "out")
    assert (
        "4 tagged (4 of them in an earlier run), 1 failed (1 of them in the previous run too), 0 skipped\n" in done.err
    )


# --- folders that cannot be listed -----------------------------------------------------------------------------------


def test_folder_that_cannot_be_listed_has_failed_and_stops_nothing(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model, forbid: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    put(photos, "m/a.png")
    forbid(photos / "m")
    done = cli("tag", photos, "--model", trained.path, "-o", out)
    assert done.code == 3
    assert counts(out) == {"found": 6, "ok": 4, "failed": 2, "skipped": 0, "unchanged": 0, "vanished": 0}
    assert reason_of(out, "m") == "the folder cannot be listed: permission denied"
    done = cli("tag", photos, "--model", trained.path, "-o", "-", "--format", "jsonl")
    assert json.loads(done.out.splitlines()[-1])["error"] == "the folder cannot be listed: permission denied"
    with pytest.raises(LabelrError, match="m: the folder cannot be listed"):
        tag(photos, trained, output=tmp_path / "other", on_error="fail", ignore=("broken.jpg",))


def test_results_of_images_in_a_folder_that_cannot_be_listed_any_more_are_kept(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model, forbid: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    before = tree(out)
    forbid(photos / "deep" / "er")
    done = cli("tag", photos, "--model", trained.path, "-o", out, "--dry-run")
    assert "6 images found: 1 to tag, 4 unchanged" in done.err
    assert "results to delete: 0; 1 folder cannot be listed" in done.err
    assert done.code == 3
    tag(photos, trained, output=out)
    assert counts(out) == {"found": 6, "ok": 4, "failed": 2, "skipped": 0, "unchanged": 4, "vanished": 0}
    after = tree(out)
    assert sorted(after) == sorted(before)
    assert sorted(after["labels.csv"].splitlines()) == sorted(before["labels.csv"].splitlines())
    assert cli("tag", photos, "--model", trained.path, "-o", out, "--dry-run").code == 0


def test_nothing_is_written_into_a_folder_that_cannot_be_listed(
    photos: Path, tmp_path: Path, trained: Model, forbid: Callable[[Path], None]
) -> None:
    options: dict[str, Any] = {"output": tmp_path / "out", "in_place": True, "append": True, "format": ("csv", "txt")}
    tag(photos, trained, **options)
    forbid(photos / "deep" / "er")
    assert (summary := tag(photos, trained, **options)).failed == 2
    assert summary.ok == summary.unchanged == 4


def test_folder_that_can_be_listed_again_is_not_counted_as_a_vanished_image(
    photos: Path, tmp_path: Path, trained: Model, forbid: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    forbid(photos / "deep")
    tag(photos, trained, output=out)
    assert counts(out) == {"found": 3, "ok": 2, "failed": 1, "skipped": 0, "unchanged": 0, "vanished": 0}
    (photos / "deep").chmod(0o755)
    tag(photos, trained, output=out)
    assert counts(out) == {"found": 5, "ok": 4, "failed": 1, "skipped": 0, "unchanged": 2, "vanished": 0}


def test_folder_whose_name_looks_like_an_option_or_a_pattern_is_a_folder(
    cli: Cli, shapes: Path, tmp_path: Path, trained: Model
) -> None:
    for name in ("[set]", "-x"):
        (tmp_path / name).mkdir()
        shutil.copy(shapes / "images" / "00000.png", tmp_path / name / "a.png")
    done = cli("tag", "--model", trained.path, "-o", tmp_path / "out", "--", tmp_path / "[set]", tmp_path / "-x")
    assert done.code == 0
    assert [row[0] for row in read_csv(tmp_path / "out" / "labels.csv")[1:]] == ["[set]/a.png", "./-x/a.png"]


@pytest.mark.parametrize(
    "arguments",
    [["--format", "xml"], ["--append"], ["--in-place", "--format", "table"], ["--top-k", "1", "--min-labels", "2"],
     ["--top-k", "0"], ["-o", "-", "--format", "csv"], ["-o", "-", "--json"], ["-o", "-", "--force"],
     ["-o", "-", "--in-place"], ["--uncertain", "-1"]],
)  # fmt: skip
def test_contradictory_options_are_wrong_usage(cli: Cli, photos: Path, arguments: list[str]) -> None:
    done = cli("tag", photos, *arguments)
    assert (done.code, done.out) == (2, "")


def test_table_and_json_lines_go_to_stdout(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Model
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = cli("tag", "--model", trained.path, photos, "-o", "-", "--threshold", "0.3")
    assert done.code == 3
    rows = list(csv.reader(done.out.splitlines()))
    assert rows[0] == ["filename", "horizontal_stripes", "disc", "triangle"]
    assert [row[0] for row in rows[1:]] == ["a.png", "deep/b.png", "deep/er/d.PNG", "z.png"]
    assert "deep/broken.jpg: not an image" in done.err
    done = cli("tag", "--model", trained.path, photos, "-o", "-", "--threshold", "0.3", "--format", "jsonl", "--quiet")
    assert [json.loads(line)["path"] for line in done.out.splitlines()][2] == "deep/broken.jpg"
    assert sorted(path for path in tmp_path.rglob("*") if "home" not in path.parts) == [
        path for path in before if "home" not in path.parts
    ]


@pytest.mark.slow
def test_closed_pipe_on_stdout_is_no_error(photos: Path, trained: Model) -> None:
    labelr = f"{sys.executable} -m labelr tag {photos} --model {trained.path}"
    command = f"{labelr} -o - | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "filename,horizontal_stripes,disc,triangle\n"
    assert done.returncode in (0, 3, 141)  # all lines may fit into the pipe
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_dry_run_counts_and_writes_nothing(cli: Cli, photos: Path, tmp_path: Path, trained: Model) -> None:
    done = cli("tag", "--model", trained.path, photos, "-o", tmp_path / "out", "--dry-run", "--ignore", "z.*")
    assert done.code == 0
    assert "5 images found: 4 to tag, 0 unchanged, 1 to skip" in done.err
    assert not (tmp_path / "out").exists()
    tag(photos, trained, output=tmp_path / "out")
    before = tree(tmp_path / "out")
    (photos / "z.png").unlink()
    os.utime(photos / "a.png", (1, 1))
    done = cli("tag", "--model", trained.path, photos, "-o", tmp_path / "out", "--dry-run", "--json")
    summary = json.loads(done.out)
    assert (summary["found"], summary["unchanged"], summary["vanished"], summary["complete"]) == (4, 2, 1, False)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("force", [False, True])
def test_dry_run_counts_a_folder_that_cannot_be_listed_as_the_run_does(
    photos: Path, tmp_path: Path, trained: Model, forbid: Callable[[Path], None], force: bool
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    forbid(photos / "deep")
    preview = tag(photos, trained, output=out, dry_run=True, force=force)
    done = tag(photos, trained, output=out, force=force)
    assert (preview.found, preview.failed) == (done.found, done.failed)
    assert preview.vanished == (3 if force else 0)


def test_progress_names_rate_and_failures_and_the_number_of_images(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    reports: list[tuple[str, int | None]] = []

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        for item in items:
            yield item
            assert callable(description)
            assert callable(total)
            reports.append((description(), total()))

    tag(photos, trained, output=tmp_path / "out", track=track)
    assert len(reports) == 5
    text, total = reports[-1]
    assert total == 5
    assert re.fullmatch(r"tagging images  [\d.]+ images/s  1 failed", text)


def test_clock_that_does_not_advance_is_no_error(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Model
) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        for item in items:
            assert callable(description)
            yield item
            assert "images/s" in description()

    assert tag(photos, trained, output=tmp_path / "out", track=track).seconds == 0


def command(photos: Path, out: Path) -> list[str]:
    """The command that tags a folder in every format."""
    options = ["-o", str(out), "--threads", "1", "-j", "1", "--quiet", *(f"--format={name}" for name in ALL_FORMATS)]
    return [sys.executable, "-m", "labelr", "tag", str(photos), *options]


KILLED = """
import os, signal, sys, labelr
def track(items, description, total=None):
    for number, item in enumerate(items):
        yield item
        if number == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
formats = ["csv", "table", "jsonl", "txt"]
labelr.tag(sys.argv[1], sys.argv[2], output=sys.argv[3], format=formats, threads=1, track=track)
"""


def kill_after(num_images: int, photos: Path, model: Model, out: Path) -> None:
    """Tags a folder in a process that is killed after some images."""
    killed = subprocess.run([sys.executable, "-c", KILLED, photos, model.path, out, str(num_images)], check=False)
    assert killed.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_dry_run_after_a_kill_writes_nothing_and_resumed_runs_write_the_files_of_an_uninterrupted_one(
    shapes: Path, tmp_path: Path, trained: Model
) -> None:
    photos, out = shapes / "images", tmp_path / "out"
    tag(photos, trained, output=tmp_path / "uninterrupted", format=ALL_FORMATS)
    for num_images in (10, 45):
        kill_after(num_images, photos, trained, out)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        preview = tag(photos, trained, output=out, format=ALL_FORMATS, dry_run=True)
        assert (preview.found, preview.complete) == (60, False)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    summary = tag(photos, trained, output=out, format=ALL_FORMATS)
    assert (summary.ok, summary.complete) == (60, True)
    assert tree(out) == tree(tmp_path / "uninterrupted")
    assert not list(out.rglob("*.tmp"))


# --- the results as tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"threshold": 0.3, "top_k": 1}, {"min_labels": 1, "exclude": "disc"}])
def test_tables_are_those_of_the_files_by_file_name(
    photos: Path, tmp_path: Path, trained: Model, options: dict[str, Any]
) -> None:
    summary = tag(photos, trained, output=tmp_path / "out", **options)
    written = {name: pd.read_csv(tmp_path / "out" / f"{name}.csv", index_col=0) for name in ("labels", "probabilities")}
    pd.testing.assert_frame_equal(summary.table, written["labels"], check_dtype=False)
    pd.testing.assert_frame_equal(summary.probabilities, written["probabilities"], check_dtype=False, atol=1e-6, rtol=0)
    assert summary.table.sum().to_dict() == summary.per_label
    assert set(map(str, (*summary.table.dtypes, *summary.probabilities.dtypes))) == {"int8", "float32"}


@pytest.mark.parametrize("format", ["csv", "jsonl", "txt"])
def test_tables_do_not_depend_on_the_format(photos: Path, tmp_path: Path, trained: Model, format: str) -> None:
    plain, other = (tag(photos, trained, output=tmp_path / name, format=name) for name in ("table", format))
    pd.testing.assert_frame_equal(other.table, plain.table)
    pd.testing.assert_frame_equal(other.probabilities, plain.probabilities)


def test_tables_hold_unchanged_images_and_names_that_are_not_utf8(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out")
    name = os.fsdecode(b"caf\xe9.png")
    shutil.copy(photos / "a.png", photos / name)
    summary = tag(photos, trained, output=tmp_path / "out")
    assert summary.unchanged == 4
    assert summary.table.index.tolist() == ["a.png", name, "deep/b.png", "deep/er/d.PNG", "z.png"]
    first, copy, *_ = summary.probabilities.to_numpy().tolist()
    assert first == copy


def test_no_image_that_opens_gives_empty_tables(tmp_path: Path, trained: Model) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no image")
    summary = tag(tmp_path / "photos", trained, output=tmp_path / "out", top_k=1)
    assert summary.table.shape == summary.probabilities.shape == (0, 3)


def test_results_that_are_gone_replaced_or_were_never_written_are_an_error(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    out = tmp_path / "out"
    with pytest.raises(LabelrError, match="this run wrote no results"):
        _ = tag(photos, trained, output=out, dry_run=True).table
    summary = tag(photos, trained, output=out)
    tag(photos, trained, output=out, threshold=0.5, force=True)
    with pytest.raises(LabelrError, match="no longer those of this run"):
        _ = summary.table
    shutil.rmtree(out)
    with pytest.raises(LabelrError, match="are gone"):
        _ = summary.probabilities
    assert not out.exists()


def test_tables_are_not_part_of_the_summary(photos: Path, tmp_path: Path, trained: Model) -> None:
    summary = tag(photos, trained, output=tmp_path / "out")
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary.table) == 4
    assert summary.to_json() == written
    assert "run" not in written
    assert repr(summary) == f"<TagSummary: 5 found, 4 ok, 1 failed, 0 skipped; {tmp_path / 'out'}>"
    assert "4 ok" in summary._repr_html_()


def test_encoding_of_a_table_of_thresholds_can_be_named(photos: Path, trained: Model, tmp_path: Path) -> None:
    table = tmp_path / "thresholds.csv"
    table.write_bytes(f"label,threshold\n{trained.labels[0]},0.5\n".encode("utf-16-be"))  # without a mark
    tag(photos, trained, output=tmp_path / "out", threshold_file=table, encoding="utf-16-be")
    with pytest.raises(LabelrError, match=r"text|thresholds"):
        tag(photos, trained, output=tmp_path / "other", threshold_file=table, encoding="ascii")


def test_output_is_continued_after_its_model_was_renamed(trained: Model, photos: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained.path, tmp_path / "copy"))
    tag(photos, copy, output=tmp_path / "out")
    summary = tag(photos, copy.rename(tmp_path / "renamed"), output=tmp_path / "out")
    assert (summary.unchanged, summary.model) == (4, "renamed")
