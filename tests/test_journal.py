"""The journal: results and written files survive, and orphans are found."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from labelr.errors import LabelrError
from labelr.tagging.journal import FOLDER, Journal
from labelr.tagging.pipeline import Result

PROBS = np.array([0.25, 1.0, 0.0], np.float32)


def result(name: str, reason: str = "") -> Result:
    return Result(name, (7, 8, 9), "d" * 64, 640, 480, reason, PROBS)


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
    assert found[0][:-1] == result("b.png")[:-1]
    np.testing.assert_array_equal(found[0].probs, PROBS)


def test_new_run_knows_previous_results_but_has_found_nothing(journal: Journal) -> None:
    for name in ("a.png", "b.png"):
        journal.put(result(name))
    journal.finish({"labels.csv": "1234"})
    assert journal.is_complete
    journal.start({"top k": 3})
    assert (journal.settings, journal.is_complete, journal.table_digest("labels.csv")) == ({"top k": 3}, False, None)
    assert journal.get("a.png") is not None
    journal.put(result("b.png"))
    assert (journal.count_vanished(), journal.names()) == (1, {"a.png", "b.png"})
    journal.finish({})
    assert (journal.get("a.png"), journal.names()) == (None, {"b.png"})


def test_files_of_images_that_are_gone_or_failed_are_orphans(output: Path, journal: Journal) -> None:
    for name in ("gone", "failed", "good", "shared"):
        journal.put_file(output / name, f"{name}.png", () if name == "shared" else ("1", "2"))
    journal.put(result("failed.png", reason="damaged"))
    journal.put(result("good.png"))
    assert set(journal.files()) == {output / "gone", output / "failed", output / "good"}
    assert set(journal.files(orphans=True)) == {output / "gone", output / "failed"}
    journal.finish({})
    assert journal.files() == {output / "good": ("1", "2")}


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
    with pytest.raises(LabelrError, match="cannot write"):
        Journal(output)
