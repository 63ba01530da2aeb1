"""Thresholds that people name: one number, or a table."""

from pathlib import Path

import numpy as np
import pytest

from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model.predict import Model
from labelr.scoring.overrides import check_overrides, choose_thresholds, read_thresholds

OWN = np.array([0.1, 0.2, 0.3])
LABELS = ("cat", "dog", "Vögel, klein")


def write(folder: Path, text: str) -> Path:
    path = folder / "thresholds.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_label_that_is_not_named_keeps_its_own_threshold(tmp_path: Path) -> None:
    path = write(tmp_path, 'label,threshold\n"Vögel, klein",1\ncat,0.25\n')
    assert read_thresholds(path, LABELS, OWN).tolist() == [0.25, 0.2, 1.0]


def test_other_columns_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path, "support,label,f1,threshold\n12,dog,,0.75\n")
    assert read_thresholds(path, LABELS, OWN).tolist() == [0.1, 0.75, 0.3]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        'label;threshold\n"Vögel, klein";1\ncat;0,25\n',
        "Label\tThreshold\nVögel, klein\t1\ncat\t0.25\n",
        '"label", threshold\n"Vögel, klein", 1\ncat, 0.25\n',
    ],
)
def test_table_is_read_as_spreadsheets_save_it(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "thresholds.csv"
    path.write_text(text, encoding=encoding)
    assert read_thresholds(path, LABELS, OWN).tolist() == [0.25, 0.2, 1.0]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "is empty", "`--threshold-file`"),
        ("label,threshold\n", "is no table of thresholds", "`--threshold-file`"),
        ("name,cut\ncat,0.5\n", "is no table of thresholds", "columns `label` and `threshold`"),
        ("label,threshold\ncat,0.5\nbird,0.5\n", "row 3: the model has no label 'bird'", "leave the row out"),
        ("label,threshold\ndoc,0.5\n", "row 2: the model has no label 'doc'", "did you mean `dog`?"),
        ("label,threshold\ncat,0.5\ncat,0.6\n", "row 3: 'cat' is there twice", "keep one"),
        ("label,threshold\ncat,high\n", "row 2: expected a threshold from 0 to 1, got 'high'", "correct the cell"),
        ("label,threshold\ncat,1.5\n", "expected a threshold from 0 to 1, got '1.5'", "correct the cell"),
        ("label,threshold\ncat,nan\n", "expected a threshold from 0 to 1, got 'nan'", "correct the cell"),
        ("label,threshold\ncat\n", "expected a threshold from 0 to 1, got ''", "correct the cell"),
    ],
)
def test_table_that_cannot_be_used_is_an_error_that_names_the_row(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    with pytest.raises(LabelrError) as caught:
        read_thresholds(write(tmp_path, text), LABELS, OWN)
    assert message in caught.value.message
    assert str(tmp_path / "thresholds.csv") in caught.value.message
    assert hint in caught.value.hint


def test_table_that_is_not_there_or_binary_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match=r"cannot read .*No such file"):
        read_thresholds(tmp_path / "nowhere.csv", LABELS, OWN)
    (tmp_path / "photo.csv").write_bytes(bytes(range(256)))
    with pytest.raises(LabelrError):
        read_thresholds(tmp_path / "photo.csv", LABELS, OWN)


def test_number_and_table_exclude_each_other() -> None:
    with pytest.raises(SettingError, match="one number, or those of a file"):
        check_overrides(0.5, "thresholds.csv")
    check_overrides(None, "thresholds.csv")
    check_overrides(0.0, None)


def test_thresholds_say_where_they_come_from(trained: Model, tmp_path: Path) -> None:
    own, said = choose_thresholds(trained, None, None)
    assert (own.tolist(), said) == (list(trained.info.thresholds), "auto")
    assert choose_thresholds(trained, 0.4, None)[1] == 0.4
    path = write(tmp_path, "label,threshold\ndisc,0.9\n")
    values, said = choose_thresholds(trained, None, path)
    assert (values.tolist(), said) == ([own[0], 0.9, own[2]], str(path))
