"""The sentences of the report."""

from typing import Any

import pytest

from labelr.scoring.report.text import explain_metrics, headline, metric_cards, percent


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
    assert cards[0]["description"] == "Mean average precision: 0.500, 95 % interval 0.400 to 0.600; label prior 0.500"


def test_folds_have_a_spread_instead_of_an_interval() -> None:
    result = result_of(1, 1, 1) | {"spread": {"map_macro": 0.02}, "folds": {"images": [10, 10, 10]}}
    assert "means over 3 folds" in explain_metrics(result)
    assert metric_cards({**result, "intervals": {}})[0]["spread"] == 0.02


@pytest.mark.parametrize(("prob", "expected"), [(0.0, "< 1 %"), (0.014, "1 %"), (0.5, "50 %"), (0.999, "> 99 %")])
def test_probability_is_never_shown_as_certain(prob: float, expected: str) -> None:
    assert percent(prob) == expected
