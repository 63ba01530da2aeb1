"""Thresholds: fitted ones, compared with every possible threshold, and those of a table."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_recall_curve, recall_score

from labelr.errors import LabelrError
from labelr.model.calibration import decide
from labelr.model.predict import Model
from labelr.scoring.metrics import FloatArray, confusion
from labelr.scoring.thresholds import (
    BEST_F1,
    COMMON,
    CONFIDENCE,
    Goal,
    best_threshold,
    choose_thresholds,
    common_threshold,
    fit_thresholds,
    half_expected_f1,
    precision_bound,
    predictions_needed,
    read_thresholds,
)

nan = np.nan


@pytest.fixture(autouse=True)
def _fast_scikit_learn() -> Iterator[None]:
    """Thousands of small calls spend most of their time in the validation of parameters."""
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        yield


def case(seed: int, num_images: int, prevalences: list[float]) -> tuple[FloatArray, FloatArray]:
    """Calibrated probabilities, and targets drawn from them."""
    rng = np.random.default_rng(seed)
    probs = np.stack([rng.beta(6 * share, 6 * (1 - share), num_images) for share in prevalences], axis=1)
    return probs, (rng.random(probs.shape) < probs).astype(float)


small = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 15), st.sampled_from([2, 5, 1000]))


def one_label(seed: int, num_images: int, levels: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random(num_images) < 0.4).astype(float)
    targets[0] = 1
    return np.ceil(rng.random(num_images) * levels) / levels, targets


def test_threshold_for_f1_is_half_of_the_best_expected_f1() -> None:
    probs = np.array([[0.9, 0.2], [0.6, 0.0], [0.1, 0.0]])
    best = [max(1.8 / 2.6, 3.0 / 3.6, 3.2 / 4.6), 0.4 / 1.2]  # with 1, 2 or 3 predicted
    assert half_expected_f1(probs) == pytest.approx(np.array(best) / 2)
    assert half_expected_f1(np.zeros((2, 1))) > 0


@pytest.mark.parametrize("prevalence", [0.05, 0.3, 0.7])
def test_half_the_expected_f1_gives_the_best_f1_of_calibrated_probabilities(prevalence: float) -> None:
    probs, targets = case(7, 20_000, [prevalence])
    best = max(f1_score(targets, probs >= cut, zero_division=0) for cut in COMMON[::3])
    assert f1_score(targets, decide(probs, half_expected_f1(probs))) > best - 0.01


def test_probabilities_of_unknown_cells_are_ignored() -> None:
    probs, targets = case(8, 200, [0.2, 0.4])
    targets[::3, 0] = nan
    hidden = np.where(np.isnan(targets), 0.99, probs)
    for goal in (BEST_F1, Goal(precision=0.8), Goal(recall=0.8)):
        assert np.array_equal(fit_thresholds(probs, targets, goal), fit_thresholds(hidden, targets, goal))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(small, st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_recall_is_reached_at_the_highest_threshold(arguments: tuple[int, int, int], target: float) -> None:
    probs, targets = one_label(*arguments)
    recalls = [recall_score(targets, probs >= cut) for cut in np.unique(probs)]
    preds = decide(probs, best_threshold(probs, targets, Goal(recall=target)))
    assert recall_score(targets, preds) == min(recall for recall in recalls if recall >= target)


def test_threshold_is_between_two_probabilities() -> None:
    probs, targets = np.array([0.1, 0.2, 0.6, 0.8]), np.array([0.0, 0.0, 1.0, 1.0])
    goal = Goal(recall=0.9)
    assert best_threshold(probs, targets, goal) == pytest.approx(0.4)
    assert best_threshold(np.array([0.0, 0.0]), np.array([0.0, 1.0]), goal) > 0
    assert best_threshold(np.array([1.0, 1.0]), np.array([0.0, 1.0]), goal) < 1


def test_common_threshold_is_the_best_candidate_by_macro_f1() -> None:
    probs, targets = case(0, 300, [0.1, 0.3, 0.5])
    scores = [f1_score(targets, probs >= cut, average="macro", zero_division=0) for cut in COMMON]
    assert common_threshold(probs, targets) == COMMON[np.argmax(scores)]


def test_common_threshold_reaches_a_recall_over_all_labels_together() -> None:
    probs, targets = case(1, 300, [0.3, 0.5, 0.6])
    complete = probs >= common_threshold(probs, targets, Goal(recall=0.8))
    assert 0.8 <= recall_score(targets, complete, average="micro") < 0.82


def test_label_with_few_positives_is_shrunk_towards_the_common_threshold() -> None:
    probs, targets = case(2, 4000, [0.15, 0.5, 0.5])
    probs[:, 2] /= 4000  # an expectation of half a positive
    targets[:, 2] = 0
    targets[:200, 2] = nan
    values, common = fit_thresholds(probs, targets), common_threshold(probs, targets)
    own = half_expected_f1(np.where(np.isnan(targets), 0, probs))
    assert values[:2] == pytest.approx(own[:2], abs=0.01)
    weight = probs[200:, 2].sum() / (probs[200:, 2].sum() + 0.5)
    assert weight == pytest.approx(1 / 2, abs=0.03)
    assert logit(values[2]) == pytest.approx(weight * logit(own[2]) + (1 - weight) * logit(common))


def test_recall_of_a_label_with_few_positives_is_shrunk_towards_the_common_threshold() -> None:
    goal = Goal(recall=0.8)
    probs, targets = case(3, 200, [0.3, 0.4])
    targets[:, 1] = [0.0] * 100 + [nan] * 100
    values, common = fit_thresholds(probs, targets, goal), common_threshold(probs, targets, goal)
    assert values[1] == pytest.approx(common)
    own = best_threshold(probs[:, 0], targets[:, 0], goal)
    assert min(own, common) <= values[0] <= max(own, common)


@pytest.mark.parametrize("shape", [(0, 3), (5, 3)])
@pytest.mark.parametrize("target", [0.0, 1.0, nan])
def test_thresholds_are_one_half_without_evaluable_labels(shape: tuple[int, int], target: float) -> None:
    assert fit_thresholds(np.full(shape, 0.3), np.full(shape, target)).tolist() == [0.5] * 3


def test_labels_that_miss_a_recall_are_listed() -> None:
    probs = np.array([[0.9, 0.9, 0.3], [0.8, 0.8, 0.2], [0.1, 0.7, 0.1]])
    targets = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    for goal, expected in ((Goal(recall=0.9), [False, False, True]), (BEST_F1, [False, False, False])):
        assert goal.missed(probs, targets, fit_thresholds(probs, targets, goal)).tolist() == expected


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.9, 1.0]))
def test_recall_that_a_label_can_reach_is_reached_in_spite_of_shrinkage(seed: int, target: float) -> None:
    probs, targets = case(seed, 30, [0.05, 0.2, 0.5])
    goal = Goal(recall=target)
    thresholds = fit_thresholds(probs, targets, goal)
    missed = goal.missed(probs, targets, thresholds)
    for label in range(3):
        column, true = probs[:, label], targets[:, label]
        reached = recall_score(true, decide(column, thresholds[label]), zero_division=0)
        assert missed[label] == (reached < target)
        if len(set(true)) == 2:
            assert reached >= target or max(precision_recall_curve(true, column)[1][:-1]) < target


# --- target precision ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tp", "predicted"), [(1, 1), (22, 22), (40, 50), (0, 10)])
def test_precision_bound_is_the_exact_one_of_the_binomial_distribution(tp: int, predicted: int) -> None:
    bound = float(precision_bound(np.array(tp), np.array(predicted)))
    expected = binomtest(tp, predicted, alternative="greater").proportion_ci(CONFIDENCE, method="exact").low
    assert bound == pytest.approx(expected)
    assert precision_bound(np.array(0), np.array(0)) == 0


@pytest.mark.parametrize(("precision", "needed"), [(0.9, 22), (0.5, 4), (0.99, 230)])
def test_label_with_one_prediction_too_few_promises_no_precision(precision: float, needed: int) -> None:
    assert predictions_needed(precision) == needed
    goal = Goal(precision=precision)
    for count, missed in ((needed, False), (needed - 1, True)):
        probs = np.concatenate([np.full(count, 0.995), np.full(50, 0.001)])[:, None]
        targets = (probs > 0.5).astype(float)
        thresholds = fit_thresholds(probs, targets, goal)
        assert goal.missed(probs, targets, thresholds).tolist() == [missed]
        assert thresholds.tolist() == [precision]


def test_threshold_of_a_precision_is_lowered_until_a_test_fails() -> None:
    goal = Goal(precision=0.8)
    probs = np.concatenate([np.full(60, 0.97), np.full(60, 0.82), np.full(60, 0.72)])[:, None]
    targets = np.ones((180, 1))
    assert fit_thresholds(probs, targets, goal) == pytest.approx([0.7])  # lower ones predict nothing more
    targets[120:150] = 0  # 150 of 180 are right: a bound of 0.79
    assert fit_thresholds(probs, targets, goal) == pytest.approx([0.8])
    assert not goal.missed(probs, targets, np.array([0.8])).any()
    targets[60:80] = 0
    assert fit_thresholds(probs, targets, goal) == pytest.approx([0.8])
    assert goal.missed(probs, targets, np.array([0.8])).all()


def test_label_that_the_model_cannot_rank_is_not_predicted_for_a_precision() -> None:
    targets = (np.arange(200) % 5 == 0).astype(float)[:, None]
    probs = 0.5 - 0.3 * targets  # ranked in the wrong order
    goal = Goal(precision=0.9)
    thresholds = fit_thresholds(probs, targets, goal)
    assert goal.missed(probs, targets, thresholds).all()
    assert not decide(probs, thresholds).any()


def test_nine_of_ten_labels_keep_the_precision_that_they_promise() -> None:
    goal, kept, promised = Goal(precision=0.9), 0, 0
    rng = np.random.default_rng(6)
    for _ in range(60):
        shares = np.geomspace(0.05, 0.5, 6)
        probs = rng.beta(0.4 * shares, 0.4 * (1 - shares), (5300, 6))
        true_probs = expit(logit(probs.clip(1e-6, 1 - 1e-6)) + rng.normal(0, 0.5, 6))  # wrong by a shift of each label
        targets = (rng.random(probs.shape) < true_probs).astype(float)
        thresholds = fit_thresholds(probs[:300], targets[:300], goal)
        promises = ~goal.missed(probs[:300], targets[:300], thresholds)
        precision = confusion(decide(probs[300:], thresholds), targets[300:], axis=0).precision
        kept, promised = kept + (precision[promises] >= 0.9).sum(), promised + promises.sum()
    assert promised > 100
    assert kept / promised > 0.9


def test_fitted_thresholds_are_better_than_one_half_on_other_images() -> None:
    probs, targets = case(5, 3000, [0.05, 0.1, 0.2])
    values = fit_thresholds(probs[:1500], targets[:1500])
    scores = [
        f1_score(targets[1500:], decide(probs[1500:], thresholds), average="macro", zero_division=0)
        for thresholds in (values, 0.5)
    ]
    assert scores[0] > scores[1] + 0.05


# --- given by the user -----------------------------------------------------------------------------------------------

DEFAULT = np.array([0.1, 0.2, 0.3])
LABELS = ("cat", "dog", "Vögel, klein")


def write(folder: Path, text: str) -> Path:
    path = folder / "thresholds.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_label_that_the_table_does_not_name_keeps_its_default(tmp_path: Path) -> None:
    path = write(tmp_path, 'label,threshold\n"Vögel, klein",1\ncat,0.25\n')
    assert read_thresholds(path, LABELS, DEFAULT).tolist() == [0.25, 0.2, 1.0]


def test_other_columns_of_the_table_are_ignored(tmp_path: Path) -> None:
    path = write(tmp_path, "support,label,f1,threshold\n12,dog,,0.75\n")
    assert read_thresholds(path, LABELS, DEFAULT).tolist() == [0.1, 0.75, 0.3]


def test_labels_with_decomposed_accents_and_thresholds_in_percent_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, unicodedata.normalize("NFD", 'label,threshold\n"Vögel, klein",30%\ncat,2.5 %\n'))
    assert read_thresholds(path, LABELS, DEFAULT).tolist() == [0.025, 0.2, 0.3]


def test_encoding_of_the_table_can_be_stated(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.csv"
    path.write_bytes('label,threshold\n"Vögel, klein",1\n'.encode("cp850"))
    assert read_thresholds(path, LABELS, DEFAULT, "cp850").tolist() == [0.1, 0.2, 1.0]
    with pytest.raises(LabelrError, match="no label"):
        read_thresholds(path, LABELS, DEFAULT, "cp1252")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        'label;threshold\n"Vögel, klein";1\ncat;0,25\n',
        "Label\tThreshold\nVögel, klein\t1\ncat\t0.25\n",
        '"label", threshold\n"Vögel, klein", 1\ncat, 0.25\n',
    ],
)
def test_table_is_read_in_the_formats_of_spreadsheets(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "thresholds.csv"
    path.write_text(text, encoding=encoding)
    assert read_thresholds(path, LABELS, DEFAULT).tolist() == [0.25, 0.2, 1.0]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "is empty", "`--threshold-file`"),
        ("label,threshold\n", "is not a table of thresholds", "`--threshold-file`"),
        ("name,cut\ncat,0.5\n", "is not a table of thresholds", "columns `label` and `threshold`"),
        ("label,threshold\ncat,0.5\nbird,0.5\n", "row 3: the model has no label 'bird'", "delete the row"),
        ("label,threshold\ndoc,0.5\n", "row 2: the model has no label 'doc'", "did you mean `dog`?"),
        ("label,threshold\ncat,0.5\ncat,0.6\n", "row 3: 'cat' occurs twice", "keep one"),
        ("label,threshold\ncat,high\n", "row 2: expected a threshold from 0 to 1, got 'high'", "correct the cell"),
        ("label,threshold\ncat,1.5\n", "expected a threshold from 0 to 1, got '1.5'", "correct the cell"),
        ("label,threshold\ncat,nan\n", "expected a threshold from 0 to 1, got 'nan'", "correct the cell"),
        ("label,threshold\ncat\n", "expected a threshold from 0 to 1, got ''", "correct the cell"),
    ],
)
def test_invalid_table_is_an_error_that_names_the_row(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(LabelrError) as caught:
        read_thresholds(write(tmp_path, text), LABELS, DEFAULT)
    assert message in caught.value.message
    assert str(tmp_path / "thresholds.csv") in caught.value.message
    assert hint in caught.value.hint


def test_missing_or_binary_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match=r"cannot read .*No such file"):
        read_thresholds(tmp_path / "nowhere.csv", LABELS, DEFAULT)
    (tmp_path / "photo.csv").write_bytes(bytes(range(256)))
    with pytest.raises(LabelrError):
        read_thresholds(tmp_path / "photo.csv", LABELS, DEFAULT)


def test_chosen_thresholds_come_with_their_source(trained: Model, tmp_path: Path) -> None:
    own, source = choose_thresholds(trained, None, None)
    assert (own.tolist(), source) == (list(trained.info.thresholds), "auto")
    assert choose_thresholds(trained, 0.4, None)[1] == 0.4
    path = write(tmp_path, "label,threshold\ndisc,0.9\n")
    values, source = choose_thresholds(trained, None, path)
    assert (values.tolist(), source) == ([own[0], 0.9, own[2]], str(path))
