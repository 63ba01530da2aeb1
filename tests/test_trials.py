"""The table of trials."""

import csv
from io import StringIO

import pandas as pd
import pytest
from test_study_page import SPACE, failed, make_result, trial

from labelr.tuning.trials import Trial, trials_csv


@pytest.fixture
def trials() -> pd.DataFrame:
    waiting = Trial(4, "waiting", {})
    return make_result((trial(1, 0.70, lr=1e-4), trial(2, 0.81, batch_size=None), failed(3, "memory"), waiting)).trials


def test_trials_are_a_table_with_the_columns_of_their_file(trials: pd.DataFrame) -> None:
    (header, *_) = csv.reader(StringIO(trials_csv([trial(1, 0.70)], SPACE)))
    assert trials.reset_index().columns.sort_values().tolist() == sorted(header)
    assert trials.index.tolist() == [2, 1, 3, 4]
    assert trials["rank"].tolist()[:2] == [1, 2]
    assert trials["score"].tolist()[:2] == [0.81, 0.70]


def test_what_a_trial_lacks_is_missing_and_numbers_are_numbers(trials: pd.DataFrame) -> None:
    assert trials["rank"].isna().tolist() == [False, False, True, True]
    assert trials["score"].isna().tolist() == [False, False, True, True]
    assert trials["lr"].dtype == trials["score"].dtype == "float64"
    assert trials["epochs_trained"].dtype == "int64"
    assert trials["batch_size"].isna().tolist() == [True, False, False, True]  # auto, and not chosen yet
    assert trials.loc[3, "reason"] == "memory"


def test_result_names_its_best_trial() -> None:
    result = make_result()
    assert repr(result) == (
        "<TuneResult of study birds: 6 trials; best map 0.810 with lr 0.003, batch size auto, flip true>"
    )
    page = result._repr_html_()
    assert "labelr fit /data/birds" in page
    assert "<td>out of memory</td>" in page
