"""Runs a model over folders of images and accounts for every file."""

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.config import MAX_PIXELS, ReadOptions
from labelr.data.images import Unreadable, find_images
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.decide import decide
from labelr.model.device import Machine
from labelr.model.predict import Model
from labelr.progress import Track, untracked
from labelr.scoring.overrides import check_overrides, choose_thresholds
from labelr.settings import SettingError
from labelr.tagging.writers import ImageFiles, Table, Tables, UnwritableNameError, Writer

SUMMARY_FILE = "summary.json"
TABLES = ("labels.csv", "probabilities.csv", "errors.csv")

log = logging.getLogger(__name__)


@dataclass
class TagSummary:
    """The account of a run: found = ok + failed + skipped.

    Attributes:
        output: The directory of the results.
        model: The model's name.
        threshold: ``"auto"`` for the model's own thresholds, or one number for all labels, or the file they are from.
        found: Images found.
        ok: Images with labels written.
        failed: Images that could not be opened, listed in ``errors.csv``.
        skipped: Images left out on purpose.
        seconds: Wall time.
        images_per_second: ok / seconds.
        per_label: How many images each label was written for.
        complete: False while the run goes on, and after it was stopped.
    """

    output: str
    model: str
    threshold: str | float
    found: int = 0
    ok: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    per_label: dict[str, int] = field(default_factory=dict)
    complete: bool = False

    def to_json(self) -> dict[str, Any]:
        """The account, ready for JSON."""
        return asdict(self)


def tag(
    photos: str | Path | Sequence[str | Path],
    model: str | Path | Model | None = None,
    *,
    output: str | Path | None = None,
    threshold: float | None = None,
    threshold_file: str | Path | None = None,
    recursive: bool = True,
    on_error: str = "skip",
    max_pixels: int = MAX_PIXELS,
    force: bool = False,
    machine: Machine | None = None,
    track: Track = untracked,
) -> TagSummary:
    """Writes the labels of each image: one CSV an image in a mirrored tree, and tables of all.

    Args:
        photos: A folder or an image file, or several.
        model: A name, a directory or a loaded model; None takes the newest complete one.
        output: The directory of the results; None takes ``NAME_labels`` here, after the one input's name.
        threshold: A label applies where its probability is at least this; None takes the model's own thresholds.
        threshold_file: A table ``label,threshold`` instead; a label that it does not name keeps the model's own.
        recursive: Whether to descend into subfolders.
        on_error: ``"skip"`` lists an image that does not open in ``errors.csv`` and goes on, ``"fail"`` stops.
        max_pixels: A picture with more pixels is not opened.
        force: Whether results that are there already may be replaced.
        machine: What to run on; None picks it.
        track: Watches the progress.

    Raises:
        LabelrError: If inputs, model or output cannot be used, or an image does not open under ``"fail"``.
    """
    ReadOptions(on_error=on_error, max_pixels=max_pixels)  # checks the values
    check_overrides(threshold, threshold_file)
    inputs = [Path(photos)] if isinstance(photos, (str, Path)) else [Path(photo) for photo in photos]
    if not inputs:
        raise SettingError("photos: expected at least one folder or image file, got none")
    folder = _output_folder(inputs, output)
    _check_output(folder, force=force)
    images = find_inputs(inputs, recursive=recursive)
    loaded = model if isinstance(model, Model) else store.load(model, machine=machine)
    thresholds, said = choose_thresholds(loaded, threshold, threshold_file)
    _clear_output(folder)
    summary = TagSummary(str(folder), loaded.name, said, found=len(images))
    _write_summary(folder, summary)
    start = time.perf_counter()
    with _Results(folder, loaded.labels, summary) as results:
        predicted = track(loaded.predict_files(images.values(), max_pixels=max_pixels), "tagging", len(images))
        for name, probs in zip(images, predicted, strict=True):
            if not isinstance(probs, Unreadable):
                results.add(name, probs, decide(probs, thresholds))
            elif on_error == "fail":
                raise LabelrError(f"{name}: {probs.reason}", "go on without such images with `--on-error skip`")
            else:
                results.add_failure(name, probs.reason)
    elapsed = time.perf_counter() - start
    summary.seconds, summary.images_per_second = round(elapsed, 3), round(summary.ok / elapsed, 2)
    summary.complete = True
    _write_summary(folder, summary)
    if summary.failed:
        log.warning("%d of %d images could not be opened; see %s", summary.failed, summary.found, folder / "errors.csv")
    return summary


class _Results:
    """All that is written of a run but its summary: files and tables of the images, and the list of failures."""

    def __init__(self, folder: Path, labels: Sequence[str], summary: TagSummary) -> None:
        self.summary = summary
        self.labels = labels
        chosen = Table(folder / "labels.csv", ["filename", *labels])
        probabilities = Table(folder / "probabilities.csv", ["filename", *labels])
        self.errors = Table(folder / "errors.csv", ["filename", "reason"])
        self.tables = (chosen, probabilities, self.errors)
        self.writers: list[Writer] = [ImageFiles(folder, labels), Tables(chosen, probabilities)]
        summary.per_label = dict.fromkeys(labels, 0)

    def add(self, name: str, probs: NDArray[np.float32], applies: NDArray[np.bool_]) -> None:
        """Writes the labels of one image; one whose name leaves no room for its file is listed as failed."""
        try:
            for writer in self.writers:
                writer.write(name, probs, applies)
        except UnwritableNameError as error:
            self.add_failure(name, error.message)
            return
        for index in np.flatnonzero(applies).tolist():
            self.summary.per_label[self.labels[index]] += 1
        self.summary.ok += 1

    def add_failure(self, name: str, reason: str) -> None:
        """Lists an image that could not be opened."""
        self.errors.add([name, reason])
        self.summary.failed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for table in self.tables:
            table.finish() if kind is None else table.discard()


def _write_summary(folder: Path, summary: TagSummary) -> None:
    files.write_atomically(folder / SUMMARY_FILE, files.json_text(summary.to_json()))


def find_inputs(inputs: Sequence[Path], *, recursive: bool) -> dict[str, Path]:
    """The images of all inputs by the name they have in the results.

    Names are relative to the one folder given, or to the folder that all inputs have in common.

    Raises:
        LabelrError: If an input does not exist, or there is no image in them.
    """
    for path in inputs:
        if not path.exists():
            raise LabelrError(f"{path} does not exist", "name a folder of images or image files")
    absolute = [Path(os.path.abspath(path)) for path in inputs]
    base = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in absolute]))
    found = {
        image.relative_to(base).as_posix(): image
        for path in absolute
        for image in (find_images(path, recursive=recursive) if path.is_dir() else [path])
    }
    if not found:
        where = ", ".join(str(path) for path in inputs)
        raise LabelrError(f"no images in {where}", "labelr takes JPEG, PNG, WebP, AVIF, BMP, TIFF and GIF files")
    return found


def _output_folder(inputs: Sequence[Path], output: str | Path | None) -> Path:
    if output is not None:
        return Path(output)
    if len(inputs) > 1:
        raise SettingError("several inputs have no common name for the results", "name a directory with `--output DIR`")
    return Path(f"{Path(os.path.abspath(inputs[0])).name}_labels")


def _check_output(folder: Path, *, force: bool) -> None:
    """Raises LabelrError unless results may be written into `folder`: it is new, empty, or may be replaced."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise LabelrError(f"the output {folder} is a file", "name another directory with `--output DIR`")
    if next(folder.iterdir(), None) is None:
        return
    if not _is_summary(folder / SUMMARY_FILE):
        raise LabelrError(
            f"{folder} holds files that are no results of labelr", "name another directory with `--output`"
        )
    if not force:
        raise LabelrError(
            f"there are results in {folder} already", "replace them with `--force`, or name another `--output`"
        )


def _is_summary(path: Path) -> bool:
    """Whether a file is the account of an earlier run."""
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and {"found", "ok", "failed", "skipped", "per_label"} <= set(said)


def _clear_output(folder: Path) -> None:
    """Makes `folder`, or deletes from it the results of an earlier run, and nothing else that may lie there."""
    files.make_folder(folder)
    with files.writing(folder):
        for path in folder.rglob("*.csv"):
            if (path.parent == folder and path.name in TABLES) or (path.is_file() and _is_image_csv(path)):
                path.unlink()


def _is_image_csv(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline(64) == b"label,probability\n"
