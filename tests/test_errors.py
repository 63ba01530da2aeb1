"""Errors that a user can correct."""

from labelr.errors import LabelrError, pluralize, preview, suggest


def test_preview_shows_three_and_counts_the_rest() -> None:
    assert preview(["a", "b", "c", "d", "e"]) == "a, b, c, and 2 more"
    assert preview(["a", "b", "c"]) == "a, b, c"


def test_one_is_singular() -> None:
    assert (pluralize(1, "image"), pluralize(1200, "image")) == ("1 image", "1,200 images")


def test_suggest_names_only_what_is_similar() -> None:
    assert suggest("epoch", ["epochs", "lr"]) == "did you mean `epochs`?"
    assert suggest("zebra", ["epochs", "lr"]) == ""


def test_error_shows_message_and_hint() -> None:
    assert str(LabelrError("it broke", "fix it")) == "it broke\n\nHint: fix it"
    assert str(LabelrError("it broke")) == "it broke"
