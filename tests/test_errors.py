"""Errors that a user can correct."""

import pytest

from labelr.errors import LabelrError, pluralize, pluralize_part, preview, preview_reasons, printable, suggest


def test_preview_shows_three_and_counts_the_rest() -> None:
    assert preview(["a", "b", "c", "d", "e"]) == "a, b, c, and 2 more"
    assert preview(["a", "b", "c"]) == "a, b, c"


def test_names_with_the_same_reason_are_shown_together_the_most_first() -> None:
    reasons = {"a": "empty", "b": "cut", "c": "cut", "d": "cut", "e": "cut"}
    assert preview_reasons(reasons) == "b, c, d, and 1 more (cut); a (empty)"


def test_only_the_most_common_reasons_are_shown() -> None:
    reasons = {name: name.upper() for name in "abc"} | {"d": "D", "e": "D", "f": "F", "g": "G"}
    assert preview_reasons(reasons) == "d, e (D); a (A); b (B); and 3 more"


def test_one_is_singular() -> None:
    assert (pluralize(1, "image"), pluralize(1200, "image")) == ("1 image", "1,200 images")
    assert (pluralize(1, "image is", "images are"), pluralize(0, "entry", "entries")) == ("1 image is", "0 entries")
    parts = [pluralize_part(number, total, "image") for number, total in ((1, 1), (1, 2), (2, 1204))]
    assert parts == ["1 of 1 image is", "1 of 2 images is", "2 of 1,204 images are"]


def test_suggest_names_only_what_is_similar() -> None:
    assert suggest("epoch", ["epochs", "lr"]) == "did you mean `epochs`?"
    assert suggest("zebra", ["epochs", "lr"]) == ""


def test_suggest_names_what_an_alias_stands_for() -> None:
    aliases = {"learning_rate": "lr", "bs": "batch_size"}
    assert suggest("learnin_rate", ["epochs", "lr"], aliases) == "did you mean `lr`?"
    assert suggest("bs", ["epochs", "lr"], aliases) == ""


def test_suggest_names_one_if_it_is_much_alike() -> None:
    assert suggest("--ephocs", ["--epochs", "--report"]) == "did you mean `--epochs`?"


def test_error_shows_message_and_hint() -> None:
    assert str(LabelrError("it broke", "fix it")) == "it broke\n\nHint: fix it"
    assert str(LabelrError("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m\x7f\t", r"\x9b31m\x7f\t"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("caf\udce9", r"caf\udce9"),
        ("a\u200bb\ufeff\U000e0041", r"a\u200bb\ufeff\U000e0041"),
        ("cat\u200d", r"cat\u200d"),
        ("می\u200cخواهم 👩\u200d🔬 Ünïcödé", "می\u200cخواهم 👩\u200d🔬 Ünïcödé"),
        ("dog\nError: all is lost", r"dog\nError: all is lost"),
        ("its first lines:\n    a,b\n    1,0", "its first lines:\n    a,b\n    1,0"),
        ("postgresql://me:p:/w@x@host:5432/db, and", "postgresql://me:***@host:5432/db, and"),
        ("'mysql://me:a b@host/db'", "'mysql://me:***@host/db'"),
        ("mysql://host/db?password=a&x=1", "mysql://host/db?password=***&x=1"),
        ("me@host, photos://a:b", "me@host, photos://a:b"),
    ],
)
def test_text_is_shown_without_what_a_terminal_obeys_and_without_passwords(text: str, shown: str) -> None:
    assert printable(text) == shown
