"""The output directory: what is refused, replaced and kept, and its journal."""

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from tag_results import tree

from labelr import files
from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.progress import Description, Total
from labelr.tagging.output import FOLDER, Journal, open_output
from labelr.tagging.pipeline import Result
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


def test_second_run_at_the_same_time_ends_with_exit_code_75(
    cli: Cli, photos: Path, tmp_path: Path, trained: Model
) -> None:
    tag(photos, trained, output=tmp_path / "out")
    with files.locked(tmp_path / "out" / FOLDER):
        second = cli("tag", "--model", trained.path, photos, "-o", tmp_path / "out")
    assert second.code == 75
    assert f"Error: another run is writing to {tmp_path / 'out'}\n" in second.err
    assert "`--output`" in second.err


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


def test_results_of_the_previous_version_are_updated(photos: Path, tmp_path: Path, trained: Model) -> None:
    out = tmp_path / "out"
    tag(photos, trained, output=out)
    before = tree(out)
    with closing(sqlite3.connect(out / ".labelr" / "journal.sqlite")) as database:
        database.executescript(
            "ALTER TABLE results DROP COLUMN pages; ALTER TABLE results DROP COLUMN note; DROP TABLE reported;"
            "UPDATE facts SET value = '3' WHERE name = 'format'"
        )
    assert [tag(photos, trained, output=out).new_failures for _ in range(2)] == [1, 0]
    assert tag(photos, trained, output=out).unchanged == 4
    assert tree(out) == before


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


def test_damaged_database_is_a_reported_error(output: Path) -> None:
    (output / FOLDER / "journal.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(LabelrError, match="is damaged"):
        Journal(output)
