"""What the numbers mean, in sentences."""

from typing import Any

import pytest

from labelr.scoring.report.words import cards, headline, how_to_read, percent


def report_of(tp: int, fp: int, fn: int, images: int = 200, **metrics: float | None) -> dict[str, Any]:
    """A report whose one label has these counts."""
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
        ((87, 13, 20), "Of 100 labels it writes, about 87 are right; it finds 81 of 100."),
        ((999, 1, 1), "Of 100 labels it writes, about 99 are right; it finds 99 of 100."),
        ((1000, 0, 0), "Of 100 labels it writes, about 100 are right; it finds 100 of 100."),
        ((1, 999, 999), "Of 100 labels it writes, less than 1 is right; it finds less than 1 of 100."),
        ((10, 990, 990), "Of 100 labels it writes, about 1 is right; it finds 1 of 100."),
        ((0, 10, 0), "Of 100 labels it writes, about 0 are right: none of these images has any of the labels."),
        ((0, 0, 10), "It writes no label at all."),
        ((0, 0, 0), "There was nothing to find, and it writes nothing."),
    ],
)
def test_headline_counts_in_hundreds_and_says_all_only_where_it_is_all(
    counts: tuple[int, int, int], expected: str
) -> None:
    assert headline(report_of(*counts), "", learned_from=False).first == expected


def test_means_over_folds_are_stated_instead_of_the_pooled_counts() -> None:
    report = report_of(90, 10, 10, precision_micro=0.803, recall_micro=0.7)
    said = headline(report, "", learned_from=False).first
    assert said == "Of 100 labels it writes, about 80 are right; it finds 70 of 100."


def test_few_labels_and_images_learned_from_are_warned_of() -> None:
    assert headline(report_of(90, 5, 10), "of a", learned_from=False).warnings == ()
    few = headline(report_of(9, 5, 1), "of a", learned_from=True)
    assert [warning.split(":")[0] for warning in few.warnings] == [
        "The model has learned from some of these images",
        "These images have 10 labels to be found in all, so the numbers are rough",
    ]


def test_share_of_images_that_are_wholly_right_stands_beside_the_guess() -> None:
    said = headline(report_of(90, 5, 10, exact_match=0.574), "of a", learned_from=False)
    assert said.rest == (
        "Every label is right on 57 of 100 images; guessing by how frequent each label is would reach 4.",
    )
    assert said.measured == "Measured on 200 images of a."
    assert headline(report_of(9, 5, 1, images=1), "of a", learned_from=False).measured == "Measured on 1 image of a."


def test_measure_that_is_not_evaluable_has_no_card_and_others_say_their_interval() -> None:
    found = cards(report_of(1, 1, 1, f1_macro=None))
    assert [card["name"] for card in found][:2] == ["Mean average precision", "F1 over all labels"]
    assert len(found) == 5
    assert found[0]["said"].startswith("Mean average precision: 0.500, probably between 0.400 and 0.600; 0.500 without")


def test_folds_have_a_spread_and_no_band() -> None:
    report = report_of(1, 1, 1) | {"spread": {"map_macro": 0.02}, "folds": {"images": [10, 10, 10]}}
    assert "means over 3 folds" in how_to_read(report)
    assert cards({**report, "intervals": {}})[0]["spread"] == 0.02


@pytest.mark.parametrize(("value", "shown"), [(0.0, "< 1 %"), (0.014, "1 %"), (0.5, "50 %"), (0.999, "> 99 %")])
def test_probability_is_never_shown_as_certain(value: float, shown: str) -> None:
    assert percent(value) == shown
