"""What one run of tagging has to do, and its account."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch

from labelr.config import TagOptions
from labelr.errors import LabelrError, preview
from labelr.model import store
from labelr.model.device import Machine
from labelr.model.predict import Model
from labelr.progress import Track
from labelr.scoring.overrides import check_overrides, choose_thresholds
from labelr.tagging.choice import Choice
from labelr.tagging.inputs import Found, Inputs, Walk, read_list
from labelr.tagging.journal import Result
from labelr.tagging.pipeline import Task, results
from labelr.tagging.writers import Tagged


@dataclass
class TagSummary:
    """The account of a run: found = ok + failed + skipped.

    Attributes:
        output: The directory of the results; ``-`` for stdout.
        model: The model's name.
        model_digest: SHA-256 of all that its probabilities depend on.
        threshold: ``"auto"`` for the model's own thresholds, or one number for all labels, or the file they are from.
        found: Images found.
        ok: Images with labels written, now or before.
        failed: Images that could not be opened, listed in ``errors.csv``.
        skipped: Images left out because `ignore` names them.
        unchanged: Images among those that are ok whose results are of an earlier run.
        vanished: Images of an earlier run that are not there any more, and whose results were deleted.
        seconds: Wall time.
        images_per_second: Images that were opened / seconds.
        per_label: How many images each label was written for.
        complete: False while the run goes on, and after it was stopped.
    """

    output: str
    model: str
    model_digest: str
    threshold: str | float
    found: int = 0
    ok: int = 0
    failed: int = 0
    skipped: int = 0
    unchanged: int = 0
    vanished: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    per_label: dict[str, int] = field(default_factory=dict)
    complete: bool = False

    def to_json(self) -> dict[str, Any]:
        """The account, ready for JSON."""
        return asdict(self)

    def count(self, labels: Sequence[str], tagged: Tagged) -> None:
        """Adds an image whose labels were written."""
        self.ok += 1
        for index in tagged.ranked:
            self.per_label[labels[index]] += 1

    def end(self, seconds: float) -> None:
        """Closes the account of a run that took so long."""
        self.seconds = round(seconds, 3)
        self.images_per_second = round(_a_second(self.ok + self.failed - self.unchanged, seconds), 2)
        self.complete = True


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        inputs: The images.
        model: What says which labels they have.
        choice: Which of these are written.
        threshold: Where the thresholds come from: ``"auto"``, a number, or a file.
        options: How.
        track: Watches the progress.
    """

    inputs: Inputs
    model: Model
    choice: Choice
    threshold: str | float
    options: TagOptions
    track: Track

    @classmethod
    def of(
        cls,
        photos: Sequence[Path],
        model: str | Path | Model | None,
        options: TagOptions,
        *,
        files_from: str | Path | None,
        threshold: float | None,
        threshold_file: str | Path | None,
        machine: Machine | None,
        track: Track,
        may_be_empty: bool = False,
    ) -> Self:
        """The job that a call of `tag` describes.

        Raises:
            LabelrError: If there is nothing to tag though there must be, or no such model.
        """
        check_overrides(threshold, threshold_file)
        listed = read_list(str(files_from)) if files_from is not None else []
        inputs = Inputs.of(photos, listed=listed, recursive=options.recursive, ignore=options.ignore)
        if not may_be_empty and inputs.are_empty:
            formats = "JPEG, PNG, WebP, AVIF, BMP, TIFF and GIF"
            raise LabelrError(f"no images in {preview(inputs.paths)}", f"labelr takes {formats} files")
        loaded = store.chosen(model, machine=machine)
        thresholds, said = choose_thresholds(loaded, threshold, threshold_file)
        return cls(inputs, loaded, Choice.of(loaded.labels, thresholds, options), said, options, track)

    def account(self, output: str) -> TagSummary:
        """An account with nothing in it yet."""
        per_label = dict.fromkeys(self.choice.labels, 0)
        return TagSummary(output, self.model.name, self.model.info.digest, self.threshold, per_label=per_label)

    @property
    def made_by(self) -> dict[str, Any]:
        """What the results depend on beside the images, in words that a person can compare."""
        model, choice, options = self.model, self.choice, self.options
        values = hashlib.sha256(choice.thresholds.tobytes()).hexdigest()[:8]
        return {
            "model": f"{model.name} ({model.info.digest[:12]})",
            "threshold": self.threshold if isinstance(self.threshold, float) else f"{self.threshold} ({values})",
            "labels": list(choice.labels),
            "top k": options.top_k,
            "min labels": options.min_labels,
            "formats": list(options.formats),
            "in place": options.in_place,
            "append": options.append,
            "max pixels": options.max_pixels,
            "precision": f"{model.machine.precision} on {model.machine.device.type}",
            "photos": str(self.inputs.base),
        }

    def tasks(
        self, found: Iterable[Found], summary: TagSummary, known: Callable[[str], Result | None] = lambda _: None
    ) -> Iterator[Task]:
        """The task of each image that is not skipped."""
        for one in found:
            summary.found += 1
            if self.inputs.ignores(one.name):
                summary.skipped += 1
            else:
                yield Task.of(one, known(one.name))

    def results(self, walk: Walk, tasks: Iterable[Task], summary: TagSummary) -> Iterator[tuple[Task, Result]]:
        """The result of each image in order, watched.

        Raises:
            LabelrError: If an image does not open and the options say that this stops.
        """
        start = time.perf_counter()

        def describe() -> str:
            done, seconds = summary.ok + summary.failed, time.perf_counter() - start
            parts = ["tagging", f"{_a_second(done - summary.unchanged, seconds):.1f} images/s"]
            parts += [f"{summary.failed:,} failed"] if summary.failed else []
            if walk.total is not None and done:
                left = seconds / done * (walk.total - summary.skipped - done)
                parts.append(f"{left // 60:.0f}:{left % 60:02.0f} left")
            return "  ".join(parts)

        some = chain.from_iterable(results(self.model, tasks, max_pixels=self.options.max_pixels))
        for task, result in self.track(some, describe, lambda: walk.total):
            if result.failed and self.options.on_error == "fail":
                raise LabelrError(f"{result.name}: {result.reason}", "go on without such images with `--on-error skip`")
            yield task, result


def _a_second(count: int, seconds: float) -> float:
    """How many that is in a second; a coarse clock may not have moved yet."""
    return count / max(seconds, 1e-3)


@contextmanager
def one_thread(machine: Machine) -> Iterator[None]:
    """Lets torch compute each batch on one thread: there are as many batches under way as there are threads to use."""
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(machine.threads)
