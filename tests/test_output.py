"""The output directory: what is refused, replaced and kept, and its journal."""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from tag_results import tree

from labelr import files, locks
from labelr.data.predicted import read_predictions
from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.progress import Description, Total
from labelr.tagging import signing
from labelr.tagging.journal import FOLDER, Journal
from labelr.tagging.output import open_output, preview_output
from labelr.tagging.pipeline import Result
from labelr.tagging.tables import TABLES
from labelr.tagging.tag import tag


def test_force_replaces_results_and_deletes_nothing_else(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    (out / "notes.csv").write_text("my own notes\n")
    (photos / "z.png").unlink()
    refused = cli("tag", "--model", trained.path, photos, "-o", out, "--threshold", "0.5")
    assert refused.code == 1
    assert "the results in" in refused.err
    assert re.search(r"threshold was auto \(\w+\) and is 0\.5", refused.err)
    assert "--force" in refused.err
    assert (out / "z.png.csv").exists()
    assert cli("tag", "--model", trained.path, photos, "-o", out, "--threshold", "0.5", "--force").code == 0
    assert not (out / "z.png.csv").exists()
    assert (out / "notes.csv").read_text() == "my own notes\n"


def test_folder_with_other_files_is_refused_even_with_force(cli: Cli, photos: Path) -> None:
    for options in ([], ["--force"]):
        result = cli("tag", photos, "-o", photos, *options)
        assert result.code == 1
        assert "not results of labelr" in result.err
    assert len(list(photos.rglob("*"))) == 7


def test_folder_with_a_summary_of_something_else_is_never_written_into(cli: Cli, photos: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "summary.json").write_text("{}")
    (project / "labels.csv").write_text("my own labels\n")
    result = cli("tag", photos, "-o", project, "--force")
    assert result.code == 1
    assert "not results of labelr" in result.err
    assert (project / "labels.csv").read_text() == "my own labels\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.3}, r"threshold was auto \(\w+\) and is 0\.3"),
        ({"top_k": 2}, "top k was none and is 2"),
        ({"format": ("txt",)}, r"settings: formats were csv, table and are txt\n"),
        ({"append": True, "format": ("txt",)}, "append was off and is on"),
        (
            {"exclude": ("disc",)},
            "settings: labels were horizontal_stripes, disc, triangle and are horizontal_stripes, triangle\n",
        ),
    ],
)
def test_results_of_other_settings_are_refused_with_the_differences(
    photos: Path, tmp_path: Path, options: dict[str, Any], message: str, trained: Model
) -> None:
    tag(photos, trained, output=tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(LabelrError, match=message) as caught:
        tag(photos, trained, output=tmp_path / "out", **options)
    assert "--force" in caught.value.hint
    assert tree(tmp_path / "out") == before
    tag(photos, trained, output=tmp_path / "out", force=True, **options)
    tag(photos, trained, output=tmp_path / "fresh", **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_results_of_another_folder_are_refused(photos: Path, shapes: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out")
    with pytest.raises(LabelrError, match=r"photos were .*photos and are .*images"):
        tag(shapes / "images", trained, output=tmp_path / "out")


def test_fitted_thresholds_of_another_model_are_no_difference_of_their_own(tmp_path: Path) -> None:
    first, second = ({"model": f"m ({digest})", "threshold": f"auto ({digest})"} for digest in ("1a", "2b"))
    with open_output(tmp_path, first, force=False):
        pass
    with pytest.raises(LabelrError) as caught, open_output(tmp_path, second, force=False):
        pass
    assert caught.value.message.endswith("other settings: model was m (1a) and is m (2b)")


def test_same_thresholds_from_another_path_are_no_other_settings(
    photos: Path, tmp_path: Path, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("thresholds.csv").write_text("label,threshold\ndisc,0.3\n")
    tag(photos, trained, output="out", threshold_file="thresholds.csv")
    assert tag(photos, trained, output="out", threshold_file=tmp_path / "thresholds.csv").unchanged == 4
    Path("thresholds.csv").write_text("label,threshold\ndisc,0.31\n")
    with pytest.raises(LabelrError, match="other settings: threshold was"):
        tag(photos, trained, output="out", threshold_file="thresholds.csv")


def test_second_run_at_the_same_time_ends_with_exit_code_75(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model
) -> None:
    tag(photos, trained, output=tmp_path / "out")
    with locks.locked(tmp_path / "out" / FOLDER):
        second = cli("tag", "--model", trained.path, photos, "-o", tmp_path / "out")
    assert second.code == 75
    assert f"Error: another run is writing to {tmp_path / 'out'}\n" in second.err
    assert "`--output`" in second.err


def test_edited_list_of_uncertain_images_stays_in_runs_that_write_none(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    tag(photos, trained, output=tmp_path / "out", uncertain=2)
    edited = tmp_path / "out" / "uncertain.csv"
    edited.write_text(edited.read_text().replace(",,", ",1,", 1))
    before = edited.read_text()
    assert tag(photos, trained, output=tmp_path / "out").complete
    assert edited.read_text() == before


def test_interrupted_replacement_of_results_is_not_called_complete(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)

    def stop(*_: object, **__: object) -> Iterator[Any]:
        assert json.loads((out / "summary.json").read_text())["complete"] is False
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tag(photos, trained, output=out, force=True, track=stop)
    assert json.loads((out / "summary.json").read_text())["complete"] is False


@pytest.mark.parametrize("name", ["labels.csv", "uncertain.csv"])
def test_edited_table_is_replaced_only_by_force(photos: Path, tmp_path: Path, name: str, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out", uncertain=2)
    with (tmp_path / "out" / name).open("a") as file:
        file.write("z.png,1,1,1\n")
    with pytest.raises(LabelrError, match=rf"{name} was edited after labelr wrote it") as caught:
        tag(photos, trained, output=tmp_path / "out", uncertain=2)
    assert "--force" in caught.value.hint
    tag(photos, trained, output=tmp_path / "out", uncertain=2, force=True)
    tag(photos, trained, output=tmp_path / "out", uncertain=2)


def test_table_of_an_interrupted_run_does_not_count_as_edited(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out")
    (photos / "a.png").unlink()

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        yield from items
        (tmp_path / "out" / "labels.csv").write_text("as if it had just been written")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tag(photos, trained, output=tmp_path / "out", track=track)
    assert tag(photos, trained, output=tmp_path / "out").ok == 3


@pytest.mark.parametrize("damage", ["version", "noise"])
def test_unusable_journal_is_replaced_by_force(photos: Path, tmp_path: Path, damage: str, trained: Model) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    before = tree(out)
    if damage == "version":
        database = sqlite3.connect(out / ".labelr" / "journal.sqlite")
        with database:
            database.execute("UPDATE facts SET value = 99 WHERE name = 'format'")
        database.close()
    else:
        (out / ".labelr" / "journal.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(LabelrError):
        tag(photos, trained, output=out)
    tag(photos, trained, output=out, force=True)
    assert tree(out) == before


# --- what comes from elsewhere ----------------------------------------------------------------------------------------


def plant(folder: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    """Changes the journal of an output directory."""
    with closing(sqlite3.connect(folder / ".labelr" / "journal.sqlite")) as database, database:
        for statement in statements:
            database.execute(*((statement,) if isinstance(statement, str) else statement))


@pytest.mark.parametrize("options", [{"force": True}, {}, {"in_place": True, "force": True}])
def test_nothing_is_deleted_that_labelr_did_not_write_whatever_a_journal_says(
    photos: Path, tmp_path: Path, trained: Model, options: dict[str, Any]
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    in_place = bool(options.get("in_place"))
    tag(photos, trained, output=out, in_place=in_place)
    elsewhere.mkdir()
    (out / "linked").symlink_to(elsewhere)
    image_csv = b"label,probability\ndisc,0.900000\n"
    victims = {
        tmp_path / "thesis.doc": ("../thesis.doc", "../thesis.doc"),
        tmp_path / "up.png.csv": ("../up.png.csv", "../up.png"),
        elsewhere / "absolute.png.csv": (str(elsewhere / "absolute.png.csv"), str(elsewhere / "absolute.png")),
        elsewhere / "linked.png.csv": ("linked/linked.png.csv", "linked/linked.png"),
        elsewhere / "around.png.csv": ("linked/../../elsewhere/around.png.csv", "linked/../../elsewhere/around.png"),
        out / "thesis.doc": ("thesis.doc", "thesis"),
        out / "notes.csv": ("notes.csv", "notes"),
        out / "notes.txt": ("notes.txt", "notes.jpg"),
        out / "other.png.csv": ("other.png.csv", "gone.png"),
        out / "gone.png.csv": ("gone.png.csv", "gone.png"),
        out / "gone.txt": ("gone.txt", "gone.jpg"),
        photos / "gone.png.csv": (str(photos / "gone.png.csv"), "gone.png"),
        photos / "tags.txt": (str(photos / "tags.txt"), "tags.jpg"),
        photos / "empty.txt": (str(photos / "empty.txt"), "empty.jpg"),
    }
    contents = {"tags.txt": b"disc\n", "gone.txt": b"disc\n", "empty.txt": b""}
    for victim in victims:
        victim.write_bytes(image_csv if victim.name.endswith(".png.csv") else contents.get(victim.name, b"mine\n"))
    rows = [(os.fsencode(key), os.fsencode(image), files.digest(path)) for path, (key, image) in victims.items()]
    rows += [(b"nul\0.csv", b"nul\0", "0" * 64), (b"", b"", "0" * 64), (b"..", b".", "0" * 64)]
    plant(out, *(("INSERT INTO files VALUES (?, ?, ?)", row) for row in rows))
    before = {victim: victim.read_bytes() for victim in victims}
    assert tag(photos, trained, output=out, **options).complete
    assert {victim: victim.read_bytes() for victim in victims} == before


@pytest.mark.parametrize("damage", ["UPDATE facts SET value = '99' WHERE name = 'format'", None])
def test_force_keeps_files_of_images_that_no_journal_confirms(
    photos: Path, tmp_path: Path, trained: Model, damage: str | None
) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    (out / "mine.csv").write_text("label,probability\nhand made,0.500000\n")
    with (out / "a.png.csv").open("a") as file:
        file.write("holiday,1.000000\n")
    before = tree(out)
    if damage:
        plant(out, damage)
    else:
        (out / FOLDER / "journal.sqlite").write_bytes(b"x" * 5000)
    summary = tag(photos, trained, output=out, force=True)
    assert (summary.ok, summary.failed) == (4, 1)
    after = tree(out)
    assert after["a.png.1.csv"] == before.pop("a.png.csv")
    assert "mine.csv" in before
    assert "z.png.1.csv" not in after  # the content of which is right
    for name in before:
        assert name in TABLES or after[name] == before[name]


def test_files_next_to_images_are_recognized_without_the_journal(
    photos: Path, tmp_path: Path, trained: Model, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"output": out, "in_place": True, "format": ("csv", "txt")}
    tag(photos, trained, **options)
    before = tree(photos)
    (out / FOLDER / "journal.sqlite").unlink()
    assert tag(photos, trained, **options).ok == 4
    assert tree(photos) == before
    assert "is now called" not in caplog.text
    (photos / "a.png").unlink()
    tag(photos, trained, **options)
    assert not (photos / "a.png.csv").exists()
    assert (photos / "a.txt").exists()  # which may be of a person who chose the same tags


def test_files_in_a_moved_folder_are_updated_and_those_of_another_user_kept(
    photos: Path, tmp_path: Path, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"format": ("csv", "txt", "table")}
    tag(photos, trained, output=tmp_path / "out", **options)
    moved, received = (tmp_path / "out").rename(tmp_path / "moved"), tmp_path / "received"
    shutil.copytree(moved, received)
    (photos / "a.png").unlink()
    tag(photos, trained, output=moved, **options)
    assert not {"a.png.csv", "a.txt", "labels.1.csv"} & {*tree(moved)}
    before = tree(received)
    monkeypatch.setenv("LABELR_HOME", str(tmp_path / "other home"))
    tag(photos, trained, output=received, **options)
    after = tree(received)
    assert (after["labels.1.csv"], after["labels.csv"]) == (before["labels.csv"], tree(moved)["labels.csv"])
    for name in before:
        assert name in TABLES or after[name] == before[name]


def test_probabilities_that_are_not_numbers_are_predicted_again(photos: Path, tmp_path: Path, trained: Model) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    before = tree(out)
    plant(out, "UPDATE results SET probs = x'0000c07f0000c07f0000c07f' WHERE name = x'612e706e67'")  # NaN for a.png
    assert tag(photos, trained, output=out).unchanged == 3
    assert tree(out) == before


RESULT = "INSERT INTO results VALUES (x'61', 1, 2, 3, 'd', 4, 5, '', {}, 0, '')"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON found BEGIN DELETE FROM results; END",
        "CREATE VIEW v AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "ALTER TABLE found ADD COLUMN twice INTEGER GENERATED ALWAYS AS (position * 2)",
        "CREATE INDEX i ON results (abs(size))",
        "INSERT INTO files VALUES ('text', 'text', 'text')",
        "INSERT INTO files VALUES (x'61', x'61', NULL)",
        RESULT.format("'text'"),
        RESULT.format("x'000000'"),
        RESULT.format("x'0000000000000000'"),
        RESULT.format("zeroblob(20000000)"),
        "REPLACE INTO facts VALUES ('settings', '[1]')",
        "REPLACE INTO facts VALUES ('settings', '{\"labels\": [1]}')",
        "REPLACE INTO facts VALUES ('settings', '{\"model\": 1}')",
        "REPLACE INTO facts SELECT 'settings', replace(hex(zeroblob(50000)), '0', '[')",
        "REPLACE INTO facts VALUES ('format', x'ff')",
    ],
)
def test_journal_with_anything_else_than_results_is_a_reported_error(tmp_path: Path, statement: str) -> None:
    with open_output(tmp_path, {}, force=False):
        pass
    plant(tmp_path, statement)

    def read() -> None:
        with open_output(tmp_path, {}, force=False) as journal:
            journal.check_lengths(1)
            list(journal.results())
            journal.get("a")

    with pytest.raises(LabelrError) as caught:
        read()
    assert "is damaged: " in caught.value.message
    assert "--force" in caught.value.hint
    with open_output(tmp_path, {}, force=True) as journal:
        assert journal.names() == set()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("name", ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-journal"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "file"])
def test_journal_that_is_no_regular_file_is_a_reported_error(tmp_path: Path, name: str, kind: str) -> None:
    path, victim = tmp_path / "out" / FOLDER / name, tmp_path / "victim"
    path.parent.mkdir(parents=True)
    victim.write_bytes(b"mine")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(victim)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"x" * 5000)
    if (name, kind) != ("journal.sqlite-wal", "file"):  # which belongs to no journal, and SQLite ignores it
        for read in (preview_output(tmp_path / "out", {}), open_output(tmp_path / "out", {}, force=False)):
            with pytest.raises(LabelrError), read:
                pass
        if name == "journal.sqlite":
            with pytest.raises(LabelrError):
                read_predictions(tmp_path / "out")
    assert victim.read_bytes() == b"mine"


def test_folder_of_the_journal_that_is_a_link_is_refused_even_with_force(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / FOLDER).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LabelrError, match="not results of labelr"):
        tag(photos, trained, output=tmp_path / "out", force=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_table_that_labelr_did_not_write_gets_another_name(photos: Path, tmp_path: Path, trained: Model) -> None:
    out = tmp_path / "out"
    (out / FOLDER).mkdir(parents=True)
    for name in ("labels.csv", "labels.1.csv"):
        (out / name).write_text("filename,mine\na.png,1\n")
    tag(photos, trained, output=out)
    tag(photos, trained, output=tmp_path / "other")
    assert (out / "labels.csv").read_bytes() == (tmp_path / "other" / "labels.csv").read_bytes()
    with (out / "labels.csv").open("a") as file:
        file.write("edited\n")
    tag(photos, trained, output=out, force=True)
    assert (out / "labels.3.csv").read_text().endswith("edited\n")
    assert [(out / f"labels.{number}.csv").read_text() for number in (1, 2)] == ["filename,mine\na.png,1\n"] * 2


@pytest.mark.parametrize("what", ["all", "journal", "files"])
def test_what_vanishes_during_a_run_is_written_again(photos: Path, tmp_path: Path, trained: Model, what: str) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=tmp_path / "undisturbed")

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        yield from items
        vanished = {"all": [out], "journal": [out / FOLDER], "files": [out / "deep", out / "a.png.csv"]}
        for path in vanished[what]:
            path.unlink() if path.is_file() else shutil.rmtree(path)

    summary = tag(photos, trained, output=out, track=track)
    assert tree(out) == tree(tmp_path / "undisturbed")
    assert summary.table.shape == (4, 3)
    assert tag(photos, trained, output=out).unchanged == 4
    assert not list((out / FOLDER).glob(".labelr*"))


def test_output_that_is_replaced_during_a_run_is_an_error(photos: Path, tmp_path: Path, trained: Model) -> None:
    out = tmp_path / "out"

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        yield from items
        out.rename(tmp_path / "moved")
        tag(photos, trained, output=out)

    with pytest.raises(LabelrError, match=r"journal\.sqlite was replaced during the run"):
        tag(photos, trained, output=out, track=track)


# --- the journal ------------------------------------------------------------------------------------------------------

PROBS = np.array([0.25, 1.0, 0.0], np.float32)


def result(name: str, reason: str = "") -> Result:
    return Result(name, (7, 8, 9), "d" * 64, 640, 480, reason, PROBS, pages=3, note="the first three of 5 bands")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out" / FOLDER).mkdir(parents=True)
    return tmp_path / "out"


@pytest.fixture
def journal(output: Path) -> Iterator[Journal]:
    with closing(Journal(output)) as journal:
        journal.start({"top k": None})
        yield journal


def test_results_are_read_again_in_order(output: Path, journal: Journal) -> None:
    names = ["b.png", "a.png", os.fsdecode(b"caf\xe9.png")]
    for name in names:
        journal.put(result(name))
    journal.commit()
    journal.close()
    with closing(Journal(output)) as again:
        found = list(again.results())
    assert [image.name for image in found] == names
    assert found[0]._replace(probs=PROBS) == result("b.png")
    np.testing.assert_array_equal(found[0].probs, PROBS)


def test_new_run_knows_previous_results_but_has_found_nothing(journal: Journal) -> None:
    for name in ("a.png", "b.png"):
        journal.put(result(name))
    journal.put_table("labels.csv", "", "1234")
    journal.finish()
    assert journal.is_complete
    journal.start({"top k": 3})
    assert (journal.settings, journal.is_complete) == ({"top k": 3}, False)
    assert journal.table_digests("labels.csv") == ("1234",)
    assert journal.get("a.png") is not None
    journal.put(result("b.png"))
    assert journal.names() == {"a.png", "b.png"}
    assert journal.finish() == 1
    assert (journal.get("a.png"), journal.names()) == (None, {"b.png"})


def test_files_of_images_that_are_gone_or_failed_are_orphans(output: Path, journal: Journal) -> None:
    for name in ("gone", "failed", "good", "shared"):
        journal.put_file(output / name, f"{name}.png", () if name == "shared" else ("1", "2"))
    journal.put(result("failed.png", reason="damaged"))
    journal.put(result("good.png"))
    assert set(journal.files()) == {output / "gone", output / "failed", output / "good"}
    assert set(journal.files(orphans=True)) == {output / "gone", output / "failed"}
    journal.finish()
    assert journal.files() == {output / "good": ("good.png", ("1", "2"))}


def test_files_are_found_after_the_output_directory_was_moved(output: Path, journal: Journal, tmp_path: Path) -> None:
    journal.put_file(output / "a.csv", "a.png", ("1",))
    journal.put_file(tmp_path / "elsewhere.csv", "b.png", ("2",))
    journal.close()
    moved = output.rename(tmp_path / "moved")
    with closing(Journal(moved)) as again:
        assert set(again.files()) == {moved / "a.csv", tmp_path / "elsewhere.csv"}
        assert again.file(moved / "a.csv") == ("a.png", ("1",))


@pytest.mark.parametrize("content", [b"no database", b""])
def test_preview_names_the_journal_that_is_damaged_and_not_its_copy(tmp_path: Path, content: bytes) -> None:
    with open_output(tmp_path, {}, force=False):
        pass
    path = tmp_path / FOLDER / "journal.sqlite"
    if content:
        path.write_bytes(content)
    else:
        plant(tmp_path, "REPLACE INTO facts VALUES ('settings', '[1]')")
    with pytest.raises(LabelrError, match=f"^{re.escape(str(path))} is damaged"), preview_output(tmp_path, {}):
        pass


def test_damaged_database_is_a_reported_error(output: Path) -> None:
    (output / FOLDER / "journal.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(LabelrError, match="is damaged"):
        Journal(output)


def test_key_that_cannot_be_kept_is_a_warning(
    photos: Path, tmp_path: Path, trained: Model, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files.make_folder(home)
    (home / signing.KEY_FILE).write_bytes(b"short")
    tag(photos, trained, output=tmp_path / "out")
    assert "no key can be kept in" in caplog.text
    assert (home / signing.KEY_FILE).read_bytes() == b"short"
    (home / signing.KEY_FILE).unlink()
    with ThreadPoolExecutor() as pool:
        assert len({*pool.map(lambda _: signing.make_key(), range(20))}) == 1


def test_drafts_of_killed_processes_are_deleted(photos: Path, tmp_path: Path, trained: Model, home: Path) -> None:
    draft, output = files.make_folder(home) / ".labelr-1.tmp", tmp_path / "out"
    draft.write_text("half a key")
    for _ in range(2):  # the second run has nothing to do
        tag(photos, trained, output=output)
        assert not draft.exists()
        draft = output / ".labelr-2.tmp"
        draft.write_text("half a summary")
    tag(photos, trained, output=output)
    assert not draft.exists()
