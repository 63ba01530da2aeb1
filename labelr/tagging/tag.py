"""Runs a model over folders of images and accounts for every file."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from labelr import files, signals
from labelr.config import TagOptions
from labelr.errors import preview
from labelr.fields import SettingError
from labelr.model.device import Machine
from labelr.model.predict import Model
from labelr.progress import Track, untracked
from labelr.tagging import writers
from labelr.tagging.inputs import Walk
from labelr.tagging.job import Job, TagSummary, one_thread
from labelr.tagging.journal import Journal, Result
from labelr.tagging.output import (
    SUMMARY_FILE,
    TABLES,
    check,
    delete_orphans,
    file_digest,
    image_writers,
    is_begun,
    is_changed,
    looked_at,
    opened,
)
from labelr.tagging.pipeline import Task
from labelr.tagging.uncertain import UNCERTAIN_FILE, most_uncertain
from labelr.tagging.writers import ImageWriter, Tagged, UnwritableNameError, exists

log = logging.getLogger(__name__)


def tag(
    photos: str | Path | Sequence[str | Path] = (),
    model: str | Path | Model | None = None,
    *,
    files_from: str | Path | None = None,
    output: str | Path | None = None,
    threshold: float | None = None,
    threshold_file: str | Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    machine: Machine | None = None,
    track: Track = untracked,
    **options: Any,
) -> TagSummary:
    """Writes the labels of each image: one CSV an image in a mirrored tree, and tables of all.

    The same call again goes on where it was stopped; where it came to its end, it brings the results up to date with
    the images as they are now.

    Args:
        photos: A folder or an image file, or several.
        model: A name, a directory or a loaded model; None takes the newest complete one.
        files_from: A file that lists images and folders, one a line or divided by NUL bytes; ``-`` for stdin.
        output: The directory of the results; None takes ``NAME_labels`` here, after the one input's name.
        threshold: A label applies where its probability is at least this; None takes the model's own thresholds.
        threshold_file: A table ``label,threshold`` instead; a label that it does not name keeps the model's own.
        force: Whether results that are there already are deleted first.
        dry_run: Whether to say only what would be done.
        machine: What to run on; None picks it.
        track: Watches the progress.
        options: Those of `TagOptions`, by name.

    Raises:
        LabelrError: If inputs, model or output cannot be used, or an image does not open under ``on_error="fail"``.
        Stopped: If a signal has asked for it; what was done is kept.
    """
    chosen = TagOptions.of(options)
    named = _paths(photos)
    folder = _output_folder(named, output, several=files_from is not None)
    check(folder)
    goes_on = is_begun(folder) and not force
    job = Job.of(
        named, model, chosen, files_from=files_from, threshold=threshold, threshold_file=threshold_file,
        machine=machine, track=track, may_be_empty=goes_on,
    )  # fmt: skip
    summary = job.account(str(folder))
    if goes_on and job.inputs.are_empty:
        where = preview(job.inputs.paths)
        log.warning("no images are left in %s: results are kept, as it may only not be mounted", where)
        summary.end(0.0)
        return summary
    if dry_run:
        _look_ahead(job, folder, summary, force=force)
        return summary
    with opened(folder, job.made_by, force=force) as journal, one_thread(job.model.machine):
        _run(job, journal, folder, summary)
    if summary.failed:
        log.warning("%d of %d images could not be tagged; see %s", summary.failed, summary.found, folder / "errors.csv")
    return summary


def _run(job: Job, journal: Journal, folder: Path, summary: TagSummary) -> None:
    start = time.perf_counter()
    _write_summary(folder, summary)
    image_files = image_writers(folder, job.inputs.base, job.choice.labels, job.options)
    with signals.deferred(), Walk(job.inputs) as walk:
        journal.begin(job.made_by)
        try:
            for task, result in job.results(walk, job.tasks(walk, summary, journal.get), summary):
                journal.put(_written(task, result, image_files, journal, job, summary))
                if signals.stop_requested():
                    break
        finally:
            journal.commit()
        _leave_if_asked()
        _finish(job, journal, folder, summary)
    summary.end(time.perf_counter() - start)
    _write_summary(folder, summary)


def _leave_if_asked() -> None:
    try:
        signals.raise_if_stopped()
    except signals.Stopped as stopped:
        stopped.resume_option = ""
        raise


def _written(
    task: Task, result: Result, image_files: list[ImageWriter], journal: Journal, job: Job, summary: TagSummary
) -> Result:
    """The result of an image whose files are written now; as failed, where they cannot be."""
    if not result.failed:
        tagged = Tagged.of(result, job.choice)
        is_new = task.known is None or task.known.failed or task.known.digest != result.digest
        try:
            for writer in image_files:
                _write_file(writer, tagged, journal, job, is_new=is_new)
        except UnwritableNameError as error:
            if job.options.on_error == "fail":
                raise
            result = result._replace(reason=error.message)
        else:
            summary.count(job.choice.labels, tagged)
            summary.unchanged += task.unchanged
    summary.failed += result.failed
    return result


def _write_file(writer: ImageWriter, tagged: Tagged, journal: Journal, job: Job, *, is_new: bool) -> None:
    """Writes the file of an image, unless it is there and up to date, or something is there that is not its own."""
    name = tagged.result.name
    first, divided, _ = name.partition("/")
    if divided and first in TABLES and not job.options.in_place:
        raise UnwritableNameError(f"a folder cannot be called {first}, as a table of the results is")
    path = writer.path(name)
    there = exists(path)
    if not is_new and there:
        return
    owner = journal.owner(path)
    if owner not in (None, name) and exists(job.inputs.base / str(owner)):
        raise UnwritableNameError(f"{path.name} is that of {owner} already")
    if not writer.shared and there and owner is None:
        raise UnwritableNameError(f"{path.name} is there already, and is not labelr's")
    if not writer.shared and is_changed(path, journal.digests(path)):
        raise UnwritableNameError(f"{path.name} has been changed since labelr wrote it, and is kept")
    content = writer.content(tagged)
    own = None if writer.shared else content
    journal.claim(path, name, () if own is None else (file_digest(path), hashlib.sha256(own).hexdigest()))
    if content is not None:
        writers.write(path, content)


def _finish(job: Job, journal: Journal, folder: Path, summary: TagSummary) -> None:
    """Deletes what belongs to images that are gone, and writes the tables of all."""
    choice, options = job.choice, job.options

    def images() -> Iterator[Tagged]:
        return (Tagged.of(result, choice) for result in journal.results() if not result.failed)

    summary.vanished = sum(1 for _ in journal.vanished())
    delete_orphans(folder, journal)
    if "table" in options.formats:
        writers.write_table(folder / writers.LABELS_FILE, writers.label_rows(images(), choice))
        writers.write_table(folder / writers.PROBABILITIES_FILE, writers.probability_rows(images(), choice))
    if "jsonl" in options.formats:
        lines = (writers.json_line(result, choice, summary.model_digest) for result in journal.results())
        writers.write_lines(folder / writers.JSONL_FILE, lines)
    if options.uncertain:
        names = most_uncertain(images(), choice, job.inputs.base, options.uncertain, max_pixels=options.max_pixels)
        writers.write_table(folder / UNCERTAIN_FILE, writers.blank_rows(names, choice))
    writers.write_table(folder / writers.ERRORS_FILE, writers.error_rows(journal.results()))
    journal.end({name: digest for name in TABLES if (digest := file_digest(folder / name))})


def _look_ahead(job: Job, folder: Path, summary: TagSummary, *, force: bool) -> None:
    """Counts what there is to do: images found, skipped, unchanged and vanished; the rest would be tagged."""
    if not is_begun(folder):
        for _ in job.tasks(job.inputs.walk(), summary):
            pass
        return
    made_by = {} if force else job.made_by
    with looked_at(folder, made_by) as journal:
        names = set()
        for task in job.tasks(job.inputs.walk(), summary, journal.get):
            summary.unchanged += task.unchanged and not force
            names.add(task.found.name)
        summary.vanished = sum(result.name not in names for result in journal.everything())


def _write_summary(folder: Path, summary: TagSummary) -> None:
    files.write_atomically(folder / SUMMARY_FILE, files.json_text(summary.to_json()))


def _paths(photos: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(photos)] if isinstance(photos, (str, Path)) else [Path(photo) for photo in photos]


def _output_folder(photos: Sequence[Path], output: str | Path | None, *, several: bool) -> Path:
    if output is not None:
        return Path(output)
    if several or len(photos) != 1:
        raise SettingError("several inputs have no common name for the results", "name a directory with `--output DIR`")
    return Path(f"{Path(os.path.abspath(photos[0])).name}_labels")


def stream(
    photos: str | Path | Sequence[str | Path],
    model: str | Path | Model | None,
    write: Callable[[str], None],
    *,
    files_from: str | Path | None = None,
    threshold: float | None = None,
    threshold_file: str | Path | None = None,
    machine: Machine | None = None,
    track: Track = untracked,
    **options: Any,
) -> TagSummary:
    """Gives the labels of each image to a function, line by line, and keeps nothing: see `tag`.

    Args:
        photos: As `tag`.
        model: As `tag`.
        write: Takes a line of ``labels.csv`` or, where the format is ``jsonl``, of JSON, with its line break.
        files_from: As `tag`.
        threshold: As `tag`.
        threshold_file: As `tag`.
        machine: As `tag`.
        track: As `tag`.
        options: As `tag`.
    """
    chosen = TagOptions.of(options)
    job = Job.of(
        _paths(photos), model, chosen, files_from=files_from, threshold=threshold, threshold_file=threshold_file,
        machine=machine, track=track,
    )  # fmt: skip
    summary, choice, start = job.account("-"), job.choice, time.perf_counter()
    as_json = "jsonl" in chosen.formats
    if not as_json:
        write(files.csv_text(next(writers.label_rows((), choice)), ()))
    with one_thread(job.model.machine), Walk(job.inputs) as walk:
        for _, result in job.results(walk, job.tasks(walk, summary), summary):
            if result.failed:
                summary.failed += 1
                log.warning("%s: %s", result.name, result.reason)
            else:
                tagged = Tagged.of(result, choice)
                summary.count(choice.labels, tagged)
            if as_json:
                write(writers.json_line(result, choice, summary.model_digest))
            elif not result.failed:
                write(files.csv_text(writers.label_row(tagged), ()))
    summary.end(time.perf_counter() - start)
    return summary
