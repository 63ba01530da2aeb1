"""The main path of `labelr tag`: runs a model over folders of images, and accounts for every file."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from labelr import files, serialization, signals
from labelr.buckets import results
from labelr.buckets.addresses import address_of, path_or_address
from labelr.config import NO_CLUSTER, TagOptions
from labelr.data.locate import image_paths
from labelr.errors import LabelrError, pluralize, preview, preview_reasons
from labelr.fields import SettingError
from labelr.model.predictor import Predictor
from labelr.progress import Track, untracked
from labelr.tagging.inputs import Inputs, Search, no_inputs
from labelr.tagging.journal import FOLDER
from labelr.tagging.output import SUMMARY_FILE, check_output, open_output, preview_output
from labelr.tagging.pipeline import NO_PROBS, Result, TaggedImage, Tagger, Task
from labelr.tagging.sorting import prepare_folder, sorted_folder
from labelr.tagging.summary import Run, TagSummary
from labelr.tagging.tables import ERRORS_FILE, TABLES, UNCERTAIN_FILE, check_formats
from labelr.tagging.writers import DirectoryWriter, StreamWriter

log = logging.getLogger(__name__)

Photos = str | Path | Sequence[str | Path]


def tag(
    photos: Photos = (),
    model: str | Path | Predictor | None = None,
    options: TagOptions | Mapping[str, Any] | None = None,
    *,
    files_from: str | Path | None = None,
    output: str | Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    track: Track = untracked,
    **settings: Any,
) -> TagSummary:
    """Writes the labels of each image: one CSV per image in a mirrored tree, and tables of all images.

    The same call again resumes a run that was stopped. After a finished run, it updates the results: only new and
    changed images are tagged, and results of images that are gone are deleted.

    Args:
        photos: Folders or image files: one path or several.
        model: A name, a directory or a loaded model, which keeps its device; None for the default model.
        options: The options.
        files_from: A file that lists more folders and images, one per line or separated by NUL bytes; ``-`` for stdin.
        output: The output directory; None for ``NAME_labels`` in the working directory, after the name of the input.
        force: Whether to delete existing results first.
        dry_run: Whether to only count what would be done.
        track: Replaces the progress bars of a terminal or a notebook; ``progress=False`` shows none.
        settings: Single options by name, which take precedence.

    Returns:
        The counts of the run.

    Raises:
        LabelrError: If inputs, model or output cannot be used, or an image fails under ``on_error="fail"``.
        Stopped: If a signal has arrived. The results so far are kept.
    """
    chosen = TagOptions.of(options, **settings)
    check_formats(chosen.formats)
    paths = _paths(photos)
    place = _output_folder(paths, output, files_from)
    with results.written(place, (f"{FOLDER}/",), dry_run=dry_run) as folder:
        has_results = check_output(folder)
        inputs = Inputs.of(paths, chosen, files_from=files_from, output=folder)
        is_empty = inputs.are_empty
        if is_empty and inputs.paths and (force or not has_results):
            raise _no_images(inputs)
        with _load_tagger(model, chosen, inputs.base, is_idle=is_empty or dry_run) as tagger:
            if is_empty:
                return _keep_results(inputs, tagger, folder)
            _check_place(inputs, chosen)
            if dry_run:
                return _preview(inputs, tagger, folder, force=force)
            return _write(inputs, tagger, folder, track, force=force)


def _write(inputs: Inputs, tagger: Tagger, folder: Path, track: Track, *, force: bool) -> TagSummary:
    """Tags all images and writes their results; as `tag` says."""
    options = tagger.options
    if options.sort_into is not None:
        prepare_folder(sorted_folder(options), options.sort_as, inputs.paths[0])
    settings, start = _settings(inputs, tagger), time.perf_counter()
    tables = [name for name in TABLES if name != UNCERTAIN_FILE or options.uncertain]
    with open_output(folder, settings, tables, force=force) as journal:
        _write_summary(folder, TagSummary.of(tagger, folder))
        writer = DirectoryWriter(folder, inputs.base, tagger, journal, force=force)
        summary = _tag_all(inputs, tagger, writer, folder, track)
        signals.raise_if_stopped()
        new_failures = journal.new_failures()
        summary.count_known(summary.failed - len(new_failures))
        writer.finish(summary, track)
        summary.finish(time.perf_counter() - start)
        summary.run = Run(settings, tagger.selection)
        _write_summary(folder, summary)
        if new_failures:
            failed, table = pluralize(len(new_failures), "image"), folder / ERRORS_FILE
            log.warning("%s could not be tagged: %s; see %s", failed, preview_reasons(new_failures), table)
    return summary


def _settings(inputs: Inputs, tagger: Tagger) -> dict[str, Any]:
    return {**tagger.settings, "photos": str(address_of(inputs.base) or inputs.base)}


def stream(
    photos: Photos,
    model: str | Path | Predictor | None,
    options: TagOptions,
    write: Callable[[str], None],
    *,
    files_from: str | Path | None = None,
    track: Track = untracked,
) -> TagSummary:
    """Passes the labels of each image to `write` and keeps nothing; the other arguments are those of `tag`.

    `write` takes a line of ``labels.csv``, or of JSON for the format ``jsonl``, with its line break.
    """
    inputs = Inputs.of(_paths(photos), options, files_from=files_from)
    if inputs.paths and inputs.are_empty:
        raise _no_images(inputs)
    with _load_tagger(model, options, inputs.base, is_idle=inputs.are_empty) as tagger:
        start = time.perf_counter()
        summary = _tag_all(inputs, tagger, StreamWriter(tagger, write), "-", track)
        summary.count_known(0)
        summary.finish(time.perf_counter() - start)
    return summary


def _load_tagger(
    model: str | Path | Predictor | None, options: TagOptions, base: Path, *, is_idle: bool
) -> AbstractContextManager[Tagger]:
    """A tagger for images below a folder, until the end of the context; see `cluster.load_tagger`."""
    if options.ray == NO_CLUSTER:
        return nullcontext(Tagger.load(model, options))
    from labelr.tagging.cluster import load_tagger

    return load_tagger(model, options, base, is_idle=is_idle)


def _tag_all(
    inputs: Inputs, tagger: Tagger, writer: DirectoryWriter | StreamWriter, output: str | Path, track: Track
) -> TagSummary:
    """Tags all images, or the first ones if a signal arrives, and counts them; see `tag`."""
    summary, start = TagSummary.of(tagger, output), time.perf_counter()
    unused: Counter[str] = Counter()

    def describe() -> str:
        return summary.progress(time.perf_counter() - start)

    with tagger.model.one_thread_per_operation(), Search(inputs) as search:
        tagged = map(writer.write_files, tagger.tag(search, inputs.base, writer.previous))
        unreadable = _unreadable_folders(search, tagger, writer)  # in which no files can be written either
        for image in track(chain(tagged, unreadable), describe, lambda: search.total):
            if image.result.failed and tagger.options.on_error == "fail":
                raise LabelrError(f"{image.name}: {image.result.reason}", "skip such images with `--on-error skip`")
            writer.put(image)
            summary.add(image)
            unused[image.result.note] += 1
            if signals.stop_requested():
                break
    summary.count_found(search)
    summary.notes += [f"{note} ({pluralize(count, 'image')})" for note, count in unused.items() if note]
    return summary


def _unreadable_folders(
    search: Search, tagger: Tagger, writer: DirectoryWriter | StreamWriter
) -> Iterator[TaggedImage]:
    """The folders that could not be listed as failed images, and the images in them that an earlier run has tagged.

    Those images are not gone: their results are kept.
    """
    for folder, reason in search.unreadable.items():
        failed = Result(folder, (-1, 0, 0), "", 0, 0, f"the folder cannot be listed: {reason}", NO_PROBS)
        for result in chain([failed], writer.previous_below(folder)):
            search.num_images += 1
            yield tagger.selection.apply(result)


def _preview(inputs: Inputs, tagger: Tagger, folder: Path, *, force: bool) -> TagSummary:
    """Counts the images found, skipped, unchanged and vanished; with `force`, all would be tagged again."""
    summary, settings = TagSummary.of(tagger, folder), None if force else _settings(inputs, tagger)
    with preview_output(folder, settings) as journal, Search(inputs) as search:
        gone = journal.names()
        for name in search:
            is_unchanged = Task.of(name, inputs.base, journal.get(name)).unchanged
            summary.unchanged += is_unchanged and settings is not None
            gone.discard(name)
        for unreadable in search.unreadable:
            kept = (
                [] if force else [result for name in journal.names_below(unreadable) if (result := journal.get(name))]
            )
            gone.difference_update(result.name for result in kept)
            search.num_images += 1 + len(kept)
            failed = [unreadable, *(result.name for result in kept if result.failed)]
            summary.failed += len(failed)
            summary.known_failures += sum(map(journal.is_known_failure, failed))
            summary.unchanged += len(kept) - len(failed) + 1
    summary.count_known(summary.known_failures)
    summary.count_found(search)
    summary.vanished = len(gone)
    return summary


def _keep_results(inputs: Inputs, tagger: Tagger, folder: Path) -> TagSummary:
    if inputs.paths:
        log.warning("no images are left in %s: keeping the results, in case it is not mounted", preview(inputs.paths))
    summary = TagSummary.of(tagger, folder)
    summary.finish(0.0)
    return summary


def _check_place(inputs: Inputs, options: TagOptions) -> None:
    """Raises LabelrError if the options need images on this machine, and they are in a bucket."""
    if address_of(inputs.base) is None:
        return
    if options.in_place:
        raise LabelrError("`--in-place` writes next to the images, which are in a bucket", "leave it out")
    if options.sort_into is not None and options.sort_as != "copy":
        raise LabelrError("images in a bucket cannot be linked to", "make copies with `--sort-as copy`")


def _no_images(inputs: Inputs) -> LabelrError:
    walker = inputs.walker()
    next(inputs.find(walker), None)
    notes = "".join(f"; {note}" for note in walker.passed_over.notes())
    formats = "JPEG, PNG, WebP, AVIF, HEIC, BMP, TIFF, GIF and JPEG 2000"
    return LabelrError(f"no images in {preview(inputs.paths)}{notes}", f"labelr reads {formats} files")


def _write_summary(folder: Path, summary: TagSummary) -> None:
    files.write_atomically(folder / SUMMARY_FILE, serialization.json_text(summary.to_json()))


def _paths(photos: Photos) -> list[Path]:
    return image_paths([photos] if isinstance(photos, (str, Path)) else photos, "photos")


def _output_folder(photos: Sequence[Path], output: str | Path | None, files_from: str | Path | None) -> Path:
    if str(output) == "-":
        raise SettingError(
            "output: only the command line writes to stdout", "name a directory; `.table` has the labels"
        )
    if output is not None:
        return path_or_address(output)
    if files_from is None and not photos:
        raise no_inputs()
    if files_from is not None or len(photos) != 1:
        raise SettingError("several inputs have no common name for the output", "name a directory with `--output DIR`")
    return Path(f"{Path(os.path.abspath(photos[0])).name}_labels")
