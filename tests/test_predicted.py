"""Predictions of `labelr tag` are told from labels that somebody corrected or confirmed."""

import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_OPTIONS, Cli, error_of, read_table

import labelr
from labelr.data.predicted import JOURNAL
from labelr.model.predict import Model

Change = Callable[[list[str]], list[str]]


@pytest.fixture(scope="module")
def tag_output(trained: Model, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `labelr tag` writes in every format; nobody changes it."""
    output = tmp_path_factory.mktemp("tag") / "output"
    labelr.tag(
        shapes / "images", trained, output=output, threshold=0.4, format=("csv", "table", "jsonl", "txt"), uncertain=5
    )
    return output


@pytest.fixture
def tagged(tag_output: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(tag_output, tmp_path / "tagged"))


def edit(path: Path, change: Change, *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """Changes each row's cells, the header's too."""
    lines = [change(line.split(",")) for line in path.read_text().splitlines()]
    path.write_text("\n".join(delimiter.join(cells) for cells in lines), encoding)
    return path


def flip_first(cells: list[str]) -> list[str]:
    """Corrects the row of one image."""
    return [cells[0], str(1 - int(cells[1])), *cells[2:]] if cells[0] == "00000.png" else cells


def confirm_second(cells: list[str]) -> list[str]:
    """Confirms the row of another image."""
    return [*cells, {"filename": "Confirmed", "00001.png": "1"}.get(cells[0], "")]


def kept(shapes: Path, labels: Path) -> tuple[str, ...]:
    """The images whose labels are not mere predictions."""
    return read_table(shapes, labels=[str(labels)], trust_predictions=False).files


@pytest.mark.parametrize("named", ["", "labels.csv", "labels.jsonl"])
def test_unchanged_output_is_an_error_that_names_the_choices(named: str, tagged: Path, shapes: Path) -> None:
    error = error_of(shapes, labels=[str(tagged / named)])
    assert "the labels of 60 of 60 images are predictions of labelr that nobody corrected or confirmed" in error.message
    for choice in ("`--trust-predictions`", "`--no-trust-predictions`", "`confirmed`"):
        assert choice in error.hint
    error = error_of(shapes, labels=[str(tagged / named)], trust_predictions=False)
    assert "60 rows, all of them predictions" in error.message


def test_changed_and_confirmed_rows_are_labels(tagged: Path, shapes: Path) -> None:
    path = edit(edit(tagged / "labels.csv", flip_first), confirm_second)
    assert "the labels of 58 of 60 images" in error_of(shapes, labels=[str(path)]).message
    assert kept(shapes, path) == ("00000.png", "00001.png")
    table = read_table(shapes, labels=[str(path)], trust_predictions=False)
    assert table.labels == ("horizontal_stripes", "disc", "triangle")
    assert "predictions that nobody corrected or confirmed, left out: 58 rows" in table.findings.notes


def test_predictions_can_be_trusted(tagged: Path, shapes: Path) -> None:
    table = read_table(shapes, labels=[str(tagged / "labels.csv")], trust_predictions=True)
    assert len(table) == 60
    assert "predictions that nobody corrected or confirmed, used as labels: 60 rows" in table.findings.notes


def test_table_may_be_renamed_sorted_and_saved_by_a_spreadsheet(tagged: Path, shapes: Path) -> None:
    words = {"0": "FALSE", "1": "TRUE"}
    path = edit(tagged / "labels.csv", lambda cells: [words.get(cell, cell) for cell in flip_first(cells)])
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]))
    path = edit(path, list, delimiter=";", encoding="utf-8-sig").rename(tagged / "corrected.csv")
    assert kept(shapes, path) == ("00000.png",)


def test_new_label_is_a_persons_but_does_not_confirm_the_predicted_ones(tagged: Path, shapes: Path) -> None:
    cells_of = {"filename": "red", "00003.png": "0", "00004.png": "1"}
    path = edit(tagged / "labels.csv", lambda cells: [*cells, cells_of.get(cells[0], "")])
    assert "the labels of 60 of 60 images" in error_of(shapes, labels=[str(path)]).message
    table = read_table(shapes, labels=[str(path)], trust_predictions=False)
    assert table.files == ("00003.png", "00004.png")
    assert table.targets[:, table.labels.index("red")].tolist() == [0, 1]
    assert np.isnan(table.targets).sum() == 2 * 3
    assert "labels that were not predicted count as yours, and confirm no others: red" in table.findings.notes


def test_renamed_columns_and_a_column_filled_on_every_row_confirm_nothing(tagged: Path, shapes: Path) -> None:
    new = {"filename": ["filename", "Horizontal Stripes", "Disc", "triangle", "red"]}
    path = edit(edit(tagged / "labels.csv", flip_first), lambda cells: new.get(cells[0], [*cells, "0"]))
    assert "the labels of 59 of 60 images" in error_of(shapes, labels=[str(path)]).message


def test_table_with_other_labels_alone_is_a_persons(tagged: Path, shapes: Path) -> None:
    new = {"filename": ["filename", "red"]}
    path = edit(tagged / "labels.csv", lambda cells: new.get(cells[0], cells[:2]))
    assert len(read_table(shapes, labels=[str(path)])) == 60


def test_predictions_are_known_after_other_models_have_tagged_the_same_images(
    tagged: Path, shapes: Path, trained: Model
) -> None:
    first = (tagged / "labels.csv").read_text().splitlines()[1]
    assert not first.endswith(",1,1,1")
    path = tagged / "corrected.csv"
    path.write_text((tagged / "labels.csv").read_text().replace(first, "00000.png,1,1,1"))
    for threshold in (0.99, 1e-6):  # the second predicts all labels, also those of the corrected row
        labelr.tag(shapes / "images", trained, output=tagged, threshold=threshold, force=True)
    assert kept(shapes, path) == ("00000.png",)
    assert "the labels of 60 of 60 images" in error_of(shapes, labels=[str(tagged / "labels.csv")]).message


@pytest.mark.parametrize("column", ["reviewed", "Checked", "verified"])
@pytest.mark.parametrize(("yes", "no"), [("2026-03-01", ""), ("Anna", "no"), ("1", "0"), ("ja", "nein")])
def test_any_text_but_no_confirms_a_row(column: str, yes: str, no: str, tagged: Path, shapes: Path) -> None:
    cells_of = {"filename": column, "00001.png": yes, "00002.png": yes}
    path = edit(tagged / "labels.csv", lambda cells: [*cells, cells_of.get(cells[0], no)])
    table = read_table(shapes, labels=[str(path)], trust_predictions=False)
    assert table.files == ("00001.png", "00002.png")
    assert table.labels == ("horizontal_stripes", "disc", "triangle")
    assert f"confirmed in the column `{column}`: 2 rows" in table.findings.notes


def test_probabilities_are_refused_and_the_labels_beside_them_named(tagged: Path, shapes: Path) -> None:
    error = error_of(shapes, labels=[str(tagged / "probabilities.csv")])
    assert "holds probabilities, which are no labels" in error.message
    assert f"`--labels {tagged / 'labels.csv'}`" in error.hint


def test_output_given_as_data_names_the_images_and_the_table(tagged: Path, shapes: Path) -> None:
    error = error_of(tagged)
    assert error.message == f"{tagged} holds what `labelr tag` wrote, and no images"
    assert f"`{shapes / 'images'} --labels {tagged / 'labels.csv'}`" in error.hint
    assert len(read_table(tagged, images=str(shapes / "images"), trust_predictions=True)) == 60


def test_deleted_column_confirms_nothing(tagged: Path, shapes: Path) -> None:
    path = edit(edit(tagged / "labels.csv", flip_first), lambda cells: [*cells[:2], *cells[3:]])
    assert kept(shapes, path) == ("00000.png",)


def test_changed_files_of_single_images_are_labels(tagged: Path, shapes: Path) -> None:
    (tagged / "labels.csv").unlink()
    (tagged / "00005.png.csv").write_text("label,probability\nzebra,1\n")
    assert kept(shapes, tagged) == ("00005.png",)


def test_filled_table_of_uncertain_images_holds_labels_even_if_the_model_was_right(tagged: Path, shapes: Path) -> None:
    predicted = dict(line.split(",", 1) for line in (tagged / "labels.csv").read_text().splitlines())
    path = edit(
        tagged / "uncertain.csv", lambda cells: cells if cells[0] == "filename" else [cells[0], predicted[cells[0]]]
    )
    assert len(read_table(shapes, labels=[str(path)])) == 5
    assert len(kept(shapes, path)) == 5


def test_output_without_predictions_is_read_as_any_other(tagged: Path, shapes: Path) -> None:
    with closing(sqlite3.connect(tagged / JOURNAL)) as database:
        database.execute("DROP TABLE predictions")  # as written by earlier versions
    assert len(kept(shapes, tagged / "labels.csv")) == 60


def test_predictions_of_a_killed_run_are_known(tagged: Path, shapes: Path) -> None:
    killed = (
        "import os, signal, sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "database.execute('DELETE FROM predictions WHERE name > CAST(? AS BLOB)', ('00029.png',)); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", killed, tagged / JOURNAL], check=False)
    assert (done.returncode, Path(f"{tagged / JOURNAL}-wal").exists()) == (-signal.SIGKILL, True)
    assert "the labels of 30 of 60 images" in error_of(shapes, labels=[str(tagged / "labels.csv")]).message


def test_damaged_journal_is_an_error(tagged: Path, shapes: Path) -> None:
    (tagged / JOURNAL).write_bytes(b"x" * 5000)
    error = error_of(shapes, labels=[str(tagged / "labels.csv")])
    assert f"cannot read what `labelr tag` wrote from {tagged / JOURNAL}: file is not a database" in error.message


def test_check_counts_predictions_and_does_not_stop(tagged: Path, shapes: Path) -> None:
    found = labelr.check(shapes, labels=str(edit(tagged / "labels.csv", flip_first))).to_json()
    assert len(found["unconfirmed"]) == 59
    assert any("labels are predictions that nobody corrected or confirmed (59)" in text for text in found["problems"])


def test_fit_off_a_terminal_fails_before_training_and_keeps_nothing(
    cli: Cli, tagged: Path, shapes: Path, home: Path
) -> None:
    command = ("fit", shapes, "--labels", tagged / "labels.csv", *TINY_OPTIONS)
    result = cli(*command)
    assert (result.code, result.out) == (1, "")
    assert "`--trust-predictions`" in result.err
    assert list((home / "models").iterdir()) == []
    assert cli(*command, "--trust-predictions").code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "images"), [("y", 60), ("", 30)])
def test_fit_asks_on_a_terminal(answer: str, images: int, tagged: Path, shapes: Path, tmp_path: Path) -> None:
    def flip_half(cells: list[str]) -> list[str]:
        return [*cells[:3], str(1 - int(cells[3]))] if cells[0].startswith("000") and cells[0] < "00030" else cells

    path = edit(tagged / "labels.csv", flip_half)
    fit = ["fit", str(shapes), "--labels", str(path), *TINY_OPTIONS, "-o", str(tmp_path / "model")]
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())  # waits in the terminal until it is asked for
        done = subprocess.run(
            [sys.executable, "-m", "labelr", *fit], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, timeout=120,
            check=False,
        )  # fmt: skip
    finally:
        os.close(theirs)
        os.close(ours)
    assert done.returncode == 0
    assert len((tmp_path / "model" / "splits.csv").read_text().splitlines()) == images + 1
