"""The output directory: what is refused, replaced and kept."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from filelock import FileLock
from tag_results import tree

from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.progress import Description, Total
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
    assert cli("tag", "--model", trained.path, photos, "-o", out, "--threshold", "0.5", "--force").code == 3
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
        ({"format": ("txt",)}, "formats was csv, table and is txt"),
        ({"exclude": ("disc",)}, "labels was horizontal_stripes, disc, triangle and is horizontal_stripes, triangle"),
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


def test_results_of_another_folder_are_refused(photos: Path, drawn: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out")
    with pytest.raises(LabelrError, match=r"photos was .*photos and is .*images"):
        tag(drawn / "images", trained, output=tmp_path / "out")


def test_second_run_at_the_same_time_is_refused(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out")
    with (
        FileLock(tmp_path / "out" / ".labelr" / "lock"),
        pytest.raises(LabelrError, match="another run is writing to"),
    ):
        tag(photos, trained, output=tmp_path / "out")


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
