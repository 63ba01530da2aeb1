"""The sentences of the report."""

from typing import Any

import numpy as np
import pytest

from labelr.scoring.report.text import (
    explain_metrics,
    format_score,
    headline,
    headline_rows,
    metric_cards,
    percent,
    score_digits,
)


def result_of(tp: int, fp: int, fn: int, images: int = 200, **metrics: float | None) -> dict[str, Any]:
    """An evaluation as JSON whose single label has these counts."""
    scores = dict.fromkeys(("map_macro", "f1_micro", "f1_macro", "exact_match", "hamming_loss", "auroc_macro"), 0.5)
    scores |= {"precision_micro": tp / max(tp + fp, 1), "recall_micro": tp / max(tp + fn, 1)}
    return {
        "images": images,
        "metrics": {**scores, **metrics},
        "intervals": {"map_macro": [0.4, 0.6]},
        "baselines": {"prior": scores | {"exact_match": 0.04}, "random": scores},
        "per_label": [{"tp": tp, "fp": fp, "fn": fn}],
    }


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((87, 13, 20), "Of 100 labels it predicts, about 87 are correct; it finds 81 of 100."),
        ((999, 1, 1), "Of 100 labels it predicts, about 99 are correct; it finds 99 of 100."),
        ((1000, 0, 0), "Of 100 labels it predicts, about 100 are correct; it finds 100 of 100."),
        ((1, 999, 999), "Of 100 labels it predicts, less than 1 is correct; it finds less than 1 of 100."),
        ((10, 990, 990), "Of 100 labels it predicts, about 1 is correct; it finds 1 of 100."),
        ((0, 10, 0), "Of 100 labels it predicts, about 0 are correct: none of these images has any label."),
        ((0, 0, 10), "It predicts no labels."),
        ((0, 0, 0), "These images have no labels, and it predicts none."),
    ],
)
def test_headline_rounds_to_hundredths_and_says_100_only_for_all(counts: tuple[int, int, int], expected: str) -> None:
    assert headline(result_of(*counts), "", seen_in_training=False).first == expected


def test_headline_of_folds_has_the_mean_metrics_instead_of_the_pooled_counts() -> None:
    result = result_of(90, 10, 10, precision_micro=0.803, recall_micro=0.7)
    first = headline(result, "", seen_in_training=False).first
    assert first == "Of 100 labels it predicts, about 80 are correct; it finds 70 of 100."


def test_few_positives_and_training_images_are_warned_of() -> None:
    assert headline(result_of(90, 5, 10), "of a", seen_in_training=False).warnings == ()
    few = headline(result_of(9, 5, 1), "of a", seen_in_training=True)
    assert few.warnings == (
        "Some of these images were used in training: expect lower scores on new images.",
        few.warnings[1],
    )
    assert few.warnings[1].startswith("These images have 10 positive labels in all, so the scores are rough")


def test_exact_match_is_compared_with_the_label_prior() -> None:
    found = headline(result_of(90, 5, 10, exact_match=0.574), "of a", seen_in_training=False)
    assert found.rest == (
        "All labels are correct on 57 of 100 images; predicting by the frequency of each label alone would reach 4.",
    )
    assert headline(result_of(90, 5, 10, exact_match=None), "of a", seen_in_training=False).rest == ()
    (nearly,) = headline(result_of(90, 5, 10, exact_match=0.998), "of a", seen_in_training=False).rest
    assert nearly.startswith("All labels are correct on 99 of 100 images;")


def test_headline_names_the_images() -> None:
    assert headline(result_of(9, 5, 1), "of a", seen_in_training=False).measured == "Measured on 200 images of a."
    assert (
        headline(result_of(9, 5, 1, images=1), "of a", seen_in_training=False).measured == "Measured on 1 image of a."
    )
    assert headline(result_of(0, 0, 0, images=0), "", seen_in_training=False).first.startswith("No images were left")


def test_metric_that_is_not_evaluable_has_no_card_and_others_describe_their_interval() -> None:
    cards = metric_cards(result_of(1, 1, 1, f1_macro=None))
    assert [card["name"] for card in cards][:3] == ["Mean average precision", "F1 micro", "Exact match"]
    assert len(cards) == 5
    assert cards[0]["description"] == "Mean average precision: 0.50, 95 % interval 0.40 to 0.60; label prior 0.50"


def test_interval_is_explained_as_one_of_the_score_on_all_images() -> None:
    assert "95 contain the value for all images of this kind" in explain_metrics(result_of(1, 1, 1))


def test_folds_have_a_spread_instead_of_an_interval() -> None:
    result = result_of(1, 1, 1) | {"spread": {"map_macro": 0.02}, "folds": {"images": [10, 10, 10]}}
    assert "means over 3 folds" in explain_metrics(result)
    assert metric_cards({**result, "intervals": {}})[0]["spread"] == 0.02


@pytest.mark.parametrize(("prob", "expected"), [(0.0, "< 1 %"), (0.014, "1 %"), (0.5, "50 %"), (0.999, "> 99 %")])
def test_probability_is_never_shown_as_certain(prob: float, expected: str) -> None:
    assert percent(prob) == expected


@pytest.mark.parametrize(
    ("images", "score"), [(12, 0.5), (40, 0.5), (300, 0.5), (300, 0.9), (10_000, 0.5), (10_000, 0.02)]
)
def test_last_digit_of_a_score_is_the_first_of_its_standard_error(images: int, score: float) -> None:
    error = (np.random.default_rng(0).binomial(images, score, 100_000) / images).std()
    unit = 10.0 ** -score_digits(images, score)
    assert unit <= error < 10 * unit


def test_digits_of_scores_that_are_no_shares_or_have_no_spread() -> None:
    assert [score_digits(40, score) for score in (0.0, 1.0, 2.7)] == [2, 2, 2]
    assert [score_digits(1, score) for score in (0.0, 1.0, 0.5)] == [1, 1, 1]
    assert score_digits(0) == 1


@pytest.mark.parametrize(
    ("score", "digits", "expected"),
    [
        (0.1 + 0.2, 2, "0.30"), (0.0, 2, "0.00"), (1.0, 2, "1.00"), (0.9999999999, 2, "1.00"), (0.996, 2, "0.996"),
        (0.0004, 2, "0.0004"), (2.348, 2, "2.35"), (0.96, 1, "0.96"),
    ],
)  # fmt: skip
def test_score_is_shown_as_0_or_1_only_if_it_is(score: float, digits: int, expected: str) -> None:
    assert format_score(score, digits) == expected


def test_ends_of_an_interval_have_the_digits_of_the_value() -> None:
    result = result_of(1, 1, 1, images=6, map_macro=0.8, exact_match=0.996)
    result["intervals"] = {"map_macro": [0.003, 0.997], "exact_match": [0.9, 1.0]}
    assert [row["95 % interval"] for row in headline_rows(result) if row["95 % interval"]] == [
        "0.0 .. 1.0", "0.900 .. 1.000",
    ]  # fmt: skip
    assert "0.8, 95 % interval 0.0 to 1.0;" in metric_cards(result)[0]["description"]


def test_rows_of_the_main_scores_have_their_uncertainty_and_baselines() -> None:
    rows = headline_rows(result_of(1, 1, 1, f1_macro=None, hamming_loss=0.0512))
    assert [row["metric"] for row in rows] == ["mAP", "F1 micro", "exact match", "Hamming loss", "AUROC macro"]
    assert rows[0] == {
        "metric": "mAP", "value": "0.50", "95 % interval": "0.40 .. 0.60", "label prior": "0.50",
        "random guessing": "0.50",
    }  # fmt: skip
    assert rows[1]["95 % interval"] == ""
    assert rows[3]["value"] == "0.05"
    folds = headline_rows({**result_of(1, 1, 1), "intervals": {}, "spread": {"map_macro": 0.0213}})
    assert (folds[0]["spread"], folds[1]["spread"]) == ("0.02", "")
    assert "95 % interval" not in folds[0]
