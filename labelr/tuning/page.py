"""The page of a study (being written)."""

from pathlib import Path

from labelr.tuning.outcome import Outcome


def write_study_page(outcome: Outcome) -> Path:
    """Nothing yet."""
    return outcome.folder / "report"
