"""Scores a saved model on labelled images."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from labelr import files
from labelr.config import PLOT_FORMATS, ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.load import as_folders, load_dataset
from labelr.data.splits import SPLITS_FILE, read_splits
from labelr.errors import LabelrError, pluralize, preview, suggest
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.device import Runtime
from labelr.model.predict import BATCH_SIZE, Model, Probs
from labelr.progress import Track, untracked
from labelr.scoring.evaluation import COLUMNS, Evaluation
from labelr.scoring.overrides import check_overrides, choose_thresholds
from labelr.scoring.report.page import write_report
from labelr.scoring.report.report_data import ReportData
from labelr.scoring.results import check_free, write_results
from labelr.scoring.suspects import check_suspects_free, find_suspects, write_suspects
from labelr.scoring.thresholds import Thresholds

SPLIT_CHOICES = ("auto", "train", "val", "test", "all")
LEARNED = ("train", "val")
"""The parts that a model has learned from: its weights from one, its best epoch and thresholds from the other."""

log = logging.getLogger(__name__)


def evaluate(
    data: str | Path | Sequence[str | Path],
    model: str | Path | Model | None = None,
    *,
    options: ReadOptions | Mapping[str, Any] | None = None,
    split: str = "auto",
    threshold: float | None = None,
    threshold_file: str | Path | None = None,
    common_labels: bool = False,
    sort: str | None = None,
    output: str | Path | None = None,
    suspects: str | Path | None = None,
    plot_format: str = PLOT_FORMATS[0],
    force: bool = False,
    machine: Runtime | None = None,
    track: Track = untracked,
) -> Evaluation:
    """Scores a saved model on labelled images.

    Args:
        data: A folder of labelled images, or several that are one data set.
        model: A name, a directory or a loaded model; None takes the newest complete one.
        options: How the data set is read.
        split: ``"auto"`` leaves out every image that the model has learned from, by content; ``"train"``, ``"val"``
            and ``"test"`` take the images of that part of its training run; ``"all"`` takes everything.
        threshold: A label applies where its probability is at least this; None takes the model's own thresholds.
        threshold_file: A table ``label,threshold`` instead; a label that it does not name keeps the model's own.
        common_labels: Whether the labels that both data and model have are scored where the data lacks some.
        sort: A column that the table of labels is sorted by; None keeps the model's order.
        output: A directory for ``metrics.json``, ``per_label.csv``, ``predictions.csv`` and ``errors.csv``, and for a
            page to look at, ``report/report.html``, with charts beside it; None writes nothing.
        suspects: A file for the given labels that are probably wrong, as a table; None writes none.
        plot_format: Of the charts: ``"png"`` or ``"svg"``.
        force: Whether such files may be replaced.
        machine: What to run on; None picks it.
        track: Watches the progress.

    Raises:
        LabelrError: If model or data cannot be used, or no image is left.
    """
    _check_choice("split", split, SPLIT_CHOICES)
    _check_choice("sort", sort or COLUMNS[0], COLUMNS)
    _check_choice("plot_format", plot_format, PLOT_FORMATS)
    check_overrides(threshold, threshold_file)
    doubts = Path(suspects) if suspects is not None else None
    check_suspects_free(doubts, force=force)
    if output is not None:
        check_free(Path(output), force=force)
    loaded = store.resolve_model(model, runtime=machine)
    thresholds, said = choose_thresholds(loaded, threshold, threshold_file)
    reading = ReadOptions.of(options)
    dataset = load_dataset(as_folders(data), reading, threads=loaded.runtime.workers, track=track)
    matched = _match_labels(dataset, loaded, reading, common_labels=common_labels)
    chosen = _choose_split(matched, loaded, split)
    if output is not None:
        files.check_writable(Path(output))
    scored = score_dataset(loaded, chosen, options=reading, thresholds=thresholds, track=track)
    evaluation = replace(scored, threshold=said, sort=sort)
    if output is not None:
        write_results(Path(output), evaluation, dataset.errors_csv)
    if doubts is not None:
        write_suspects(doubts, evaluation, find_suspects(evaluation.probs, evaluation.targets))
    if output is not None:
        page = write_report(Path(output), _source(loaded, evaluation, split), plot_format=plot_format)
        log.info("report: %s", page)
    return evaluation


def _source(model: Model, evaluation: Evaluation, split: str) -> ReportData:
    """What a page says of an evaluation of some part of the data."""
    learned = set()
    if (model.path / SPLITS_FILE).is_file():
        learned = {row.digest for row in read_splits(model.path / SPLITS_FILE) if row.split in LEARNED}
    name = Path(evaluation.data).name
    scored = {
        "auto": f"of {name} that the model was not trained on",
        "train": "that the model was trained on",
        "val": "that the model's best epoch and thresholds were chosen on",
        "test": "of the test split of the model's training run",
        "all": f"of {name}",
    }[split]
    return ReportData(
        model, evaluation, scored, evaluation, scored, seen_in_training=not learned.isdisjoint(evaluation.digests)
    )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise SettingError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def score_dataset(
    model: Model,
    dataset: Dataset,
    *,
    options: ReadOptions | None = None,
    thresholds: Thresholds | None = None,
    track: Track = untracked,
) -> Evaluation:
    """Scores a model on all images of a data set whose labels are the model's, or some of them.

    Args:
        model: The model.
        dataset: The images.
        options: How they are read.
        thresholds: For all of the model's labels; None takes its own.
        track: Watches the progress.

    Raises:
        LabelrError: If an image does not open any more.
    """
    columns = [model.labels.index(label) for label in dataset.labels]
    probs = predict_dataset(model, dataset, options=options, track=track)[:, columns]
    return evaluate_probs(model, dataset, probs, thresholds=thresholds)


def evaluate_probs(model: Model, dataset: Dataset, probs: Probs, *, thresholds: Thresholds | None = None) -> Evaluation:
    """The evaluation of calibrated probabilities, wherever they come from.

    Args:
        model: What they are of.
        dataset: N images whose labels are the model's, or L of them.
        probs: Shape ``(N, L)``.
        thresholds: For all of the model's labels; None takes its own.
    """
    own = model.thresholds()
    columns = [model.labels.index(label) for label in dataset.labels]
    return Evaluation(
        labels=dataset.labels,
        probs=probs,
        targets=dataset.targets,
        thresholds=(own if thresholds is None else thresholds)[columns],
        fitted=own[columns],
        prevalence=np.array([model.info.prevalence(label) for label in dataset.labels]),
        files=dataset.files,
        model=str(model.path),
        data=str(dataset.source.absolute()),
        paths=tuple(dataset.paths),
        digests=dataset.digests,
    )


def predict_dataset(
    model: Model, dataset: Dataset, *, options: ReadOptions | None = None, track: Track = untracked
) -> Probs:
    """The probabilities ``(N, L)`` of the model's labels on all images of a data set.

    Raises:
        LabelrError: If an image does not open any more.
    """
    wanted = model.info.preprocessing
    pixels = dataset.pixels(
        wanted.image_size, rule=wanted.resize, options=options or ReadOptions(), threads=model.runtime.workers,
        track=track,
    )  # fmt: skip
    return model.predict_pixels(track(pixels.batches(BATCH_SIZE), "scoring", -(-len(pixels) // BATCH_SIZE)))


def _match_labels(dataset: Dataset, model: Model, options: ReadOptions, *, common_labels: bool) -> Dataset:
    """The data with the model's labels in the model's order, or with those that both have, where any is known."""
    wanted = [one for one in model.labels if one in (options.only or model.labels) and one not in options.exclude]
    common = [label for label in wanted if label in dataset.labels]
    missing = [label for label in wanted if label not in dataset.labels]
    unknown = [label for label in dataset.labels if label not in model.labels]
    beyond = f"the model does not know {len(unknown)} of the labels: {preview(unknown)}"
    if not wanted:
        raise LabelrError(beyond, f"name some that it knows: {preview(model.labels)}")
    if missing and (not common_labels or not common):
        also = f"; {beyond}" if unknown else ""
        alike = suggest(missing[0], unknown)
        hint = f"{alike} The model calls it `{missing[0]}`" if alike else "name the right label file with `--labels`"
        if common:
            hint += "; score the common ones with `--common-labels`"
        raise LabelrError(
            f"{dataset.source} lacks {len(missing)} of the model's labels: {preview(missing)}{also}", hint
        )
    if missing:
        log.warning("%s of the model's labels are not in %s: %s", len(missing), dataset.source, preview(missing))
    if unknown:
        log.warning("%s; they are not scored", beyond)
    dataset = dataset.with_labels(common)
    known = ~np.isnan(dataset.targets).all(axis=1)
    if not known.any():
        raise LabelrError(f"{dataset.source}: no label to score is known of any image", "mark labels with 1 and 0")
    if not known.all():
        log.warning("left out: %s without a known label of these", pluralize(int((~known).sum()), "image"))
    return dataset.take(np.flatnonzero(known))


def _choose_split(dataset: Dataset, model: Model, split: str) -> Dataset:
    """The images to score, chosen by their content and the parts of the model's training run."""
    if split == "all":
        return dataset
    if not (model.path / SPLITS_FILE).is_file():
        raise LabelrError(
            f"{model.path} has no {SPLITS_FILE}, which says what it has learned from",
            "restore it, or score all images with `--split all`",
        )
    recorded = read_splits(model.path / SPLITS_FILE)
    named = {row.digest for row in recorded if row.split in (LEARNED if split == "auto" else (split,))}
    rows = [row for row, digest in enumerate(dataset.digests) if (digest in named) != (split == "auto")]
    if not rows:
        what = (
            "the model has learned from every image" if split == "auto" else f"no image is in the model's {split} part"
        )
        raise LabelrError(f"nothing to score: {what}", "score all images with `--split all`")
    left_out = len(dataset) - len(rows)
    if left_out:
        why = "that the model has learned from" if split == "auto" else f"that are not in the model's {split} part"
        log.info("%s of %s images %s are left out", f"{left_out:,}", f"{len(dataset):,}", why)
    return dataset.take(rows)
