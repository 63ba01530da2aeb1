"""The words of documentation, messages, help texts and code: the terms of scikit-learn and PyTorch, and no others."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("README.md", "CHANGELOG.md", "labelr/**/*.py", "labelr/**/*.md", "labelr/**/*.j2", "labelr/**/*.ipynb",
            "labelr/**/*.js", "labelr/**/*.html")  # fmt: skip
AVOIDED = {
    r"drawn images?": "synthetic images",
    r"begun": "started",
    r"images of before|model of before|run of before": "previous",
    r"go(es|ing)? on with|gone on with": "resume",
    r"anew": "from scratch, start over",
    r"put back|bury the dead|send home": "requeue, reap dead workers, shut down",
    r"no number|not a number": "NaN, not finite",
    r"cannot be said": "not evaluable, not applicable",
    r"page to look at": "report",
    r"labels? to look at again": "suspected label errors",
    r"mend(s|ed|ing)?": "fix, correct",
    r"each label alike": "per label",
    r"so many at most": "at most N",
    r"flattery|flattered": "optimistic bias of validation scores",
    r"whence|whither|whoever|hitherto|thereof|wherein|whilst|amongst|nought|lest|hence|thence|upon": "plain English",
    r"cutoffs?(?! ?[=:)])": "threshold, limit",
    r"ground[- ]truth": "targets",
    r"bare accuracy": "exact match",
}
"""Expressions for what is not written, and what is written instead; `difflib` has a parameter `cutoff`."""


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """The content of each file."""
    paths = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@pytest.mark.parametrize(("avoided", "instead"), AVOIDED.items(), ids=list(AVOIDED.values()))
def test_text_uses_the_words_of_the_field(texts: dict[str, str], avoided: str, instead: str) -> None:
    word = re.compile(rf"\b(?:{avoided})\b", re.IGNORECASE)
    found = [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}, say: {instead}"
        for path, text in texts.items()
        for match in word.finditer(text)
    ]
    assert not found, "\n".join(found)
