"""What a run of `labelr tag` counts, and its results as tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labelr.buckets import results
from labelr.buckets.addresses import address_of
from labelr.data.walk import count_endings, ending_of
from labelr.errors import LabelrError
from labelr.frames import as_html, text_index
from labelr.tagging.inputs import Search
from labelr.tagging.output import finished_output
from labelr.tagging.pipeline import LabelSelection, TaggedImage, Tagger

if TYPE_CHECKING:
    import pandas as pd


class Run(NamedTuple):
    """What is needed to read the results of a run: the settings in its journal, and the labels that were written."""

    settings: Mapping[str, Any]
    selection: LabelSelection


@dataclass
class TagSummary:
    """The counts of a run, found = ok + failed + skipped, and its results as tables.

    Attributes:
        output: The output directory; ``-`` for stdout.
        model: Name of the model.
        model_digest: SHA-256 of everything that the model's probabilities depend on.
        threshold: ``"auto"`` for the thresholds of the model, one number for all labels, or the path of a table.
        found: Images found, and folders that cannot be listed.
        ok: Images with labels, from this run or an earlier one.
        failed: Images that could not be tagged, and folders that cannot be listed; ``errors.csv`` lists them.
        new_failures: Those among `failed` that had not failed in the previous run, or with other content.
        known_failures: The others among `failed`.
        skipped: Images that match a pattern of `ignore`.
        unchanged: Images among `ok` whose results are from an earlier run, and whose files were not touched since.
        vanished: Images of an earlier run that are gone, and whose results were deleted.
        other_formats: Number of pictures that labelr does not open, by ending.
        other_files: Number of files that are no pictures, by ending.
        hidden_images: Image files whose name starts with a dot.
        unread_pages: Number of pages after the first, or frames of animations, in images among `ok`, by ending.
        system_folders: Number of hidden and system folders that were not searched, by name.
        ignored_folders: Folders that match a pattern of `ignore`.
        notes: What was left out, what is not used of images that were opened, and what is left as it is, one line each.
        seconds: Wall time.
        images_per_second: Images opened per second.
        per_label: Number of images that each label was written for.
        always: Number of images that each further tag was written for.
        links: Number of links or copies of images in folders of labels.
        pages: Number of pages of the gallery.
        complete: False until the run has finished.
        run: What the tables are read by; None if the run wrote no results. It is not in ``summary.json``.
    """

    output: str
    model: str
    model_digest: str
    threshold: str | float
    found: int = 0
    ok: int = 0
    failed: int = 0
    new_failures: int = 0
    known_failures: int = 0
    skipped: int = 0
    unchanged: int = 0
    vanished: int = 0
    other_formats: dict[str, int] = field(default_factory=dict)
    other_files: dict[str, int] = field(default_factory=dict)
    hidden_images: int = 0
    unread_pages: dict[str, int] = field(default_factory=dict)
    system_folders: dict[str, int] = field(default_factory=dict)
    ignored_folders: int = 0
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    images_per_second: float = 0.0
    per_label: dict[str, int] = field(default_factory=dict)
    always: dict[str, int] = field(default_factory=dict)
    links: int = 0
    pages: int = 0
    complete: bool = False
    run: Run | None = field(default=None, repr=False, compare=False)

    @cached_property
    def table(self) -> "pd.DataFrame":
        """``labels.csv``, whatever the format that was written: one row per tagged image, by the index ``filename``.

        Columns: one per label, 1 where it was written and 0 where not. Corrections in the files do not show here.

        Raises:
            LabelrError: As `probabilities`.
        """
        import pandas as pd

        probs = self.probabilities
        applies = self._finished_run.selection.applies(probs.to_numpy())
        return pd.DataFrame(applies.astype(np.int8), index=probs.index, columns=probs.columns)

    @cached_property
    def probabilities(self) -> "pd.DataFrame":
        """``probabilities.csv``, not rounded: one row per tagged image, by the index ``filename``.

        Columns: the probability in [0, 1] of each label. They are read from the output directory when they are first
        used: 4 bytes for each image and label.

        Raises:
            LabelrError: If the run wrote no results, or they are gone, replaced by another run, or in use.
        """
        import pandas as pd

        settings, selection = self._finished_run
        with finished_output(results.place_of(self.output), settings) as journal:
            names, probs = journal.predictions(selection.columns)
        return pd.DataFrame(probs, index=text_index(names, "filename"), columns=list(selection.labels))

    @property
    def _finished_run(self) -> Run:
        if self.run is None:
            raise LabelrError(
                "this run wrote no results",
                "a dry run, or one that found no images, has none: read those of an earlier run",
            )
        return self.run

    @classmethod
    def of(cls, tagger: Tagger, output: str | Path) -> "TagSummary":
        """The summary of a run before its start."""
        model, selection = tagger.model, tagger.selection
        per_label = dict.fromkeys(selection.labels, 0)
        always = dict.fromkeys(selection.always, 0)
        place = str(output if output == "-" else address_of(Path(output)) or output)
        return cls(place, model.name, model.info.digest, selection.threshold, per_label=per_label, always=always)

    def to_json(self) -> dict[str, Any]:
        """The summary, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "run"}

    def __repr__(self) -> str:
        return f"<TagSummary: {self._counts}; {self.output}>"

    def _repr_html_(self) -> str:
        import pandas as pd

        facts = {
            "Model": self.model,
            "Thresholds": self.threshold,
            "Output": self.output,
            "Images": self._counts,
            "Seconds": self.seconds,
        }
        counts = pd.DataFrame({"images": self.per_label}).rename_axis("label")
        return as_html("TagSummary", facts, counts)

    @property
    def _counts(self) -> str:
        return ", ".join(f"{getattr(self, name):,} {name}" for name in ("found", "ok", "failed", "skipped"))

    def add(self, image: TaggedImage) -> None:
        """Counts an image."""
        if image.result.failed:
            self.failed += 1
            return
        self.ok += 1
        self.unchanged += image.origin == "unchanged"
        if image.result.pages:
            ending = ending_of(image.name)
            self.unread_pages[ending] = self.unread_pages.get(ending, 0) + image.result.pages
        labels = list(self.per_label)
        for index in np.flatnonzero(image.applies):
            self.per_label[labels[index]] += 1

    def count_found(self, search: Search) -> None:
        """Counts what a search has found and passed over."""
        passed = search.passed_over
        self.skipped = passed.ignored
        self.found = search.num_images + self.skipped
        self.other_formats, self.other_files = dict(passed.formats), dict(passed.others)
        self.system_folders, self.hidden_images = dict(passed.folders), passed.hidden
        self.ignored_folders, self.notes = passed.ignored_folders, passed.notes()
        if self.unread_pages:
            self.notes.append(f"further pages and frames, not read: {count_endings(self.unread_pages)}")

    def count_known(self, known_failures: int) -> None:
        """Divides the failures into known and new ones."""
        self.known_failures, self.new_failures = known_failures, self.failed - known_failures

    def rate(self, seconds: float) -> float:
        """Images opened per second; the clock may be too coarse to have moved."""
        return (self.ok + self.failed - self.unchanged) / max(seconds, 1e-3)

    def progress(self, seconds: float) -> str:
        """What is done after some seconds, as the description of a track."""
        rate = self.rate(seconds)
        parts = ["tagging images"]
        parts += [f"{rate:,.1f} images/s"] if rate else []
        parts += [f"{self.failed:,} failed"] if self.failed else []
        return "  ".join(parts)

    def finish(self, seconds: float) -> None:
        """Marks the run as complete after some seconds."""
        self.always = dict.fromkeys(self.always, self.ok)
        self.seconds = round(seconds, 3)
        self.images_per_second = round(self.rate(seconds), 2)
        self.complete = True
