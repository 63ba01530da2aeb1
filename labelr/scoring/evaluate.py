"""Evaluates a saved model on labelled images."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from labelr import files
from labelr.buckets import results
from labelr.buckets.addresses import address_of
from labelr.config import EvaluateOptions, ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.duplicates import belongs_to
from labelr.data.load import load_dataset
from labelr.data.locate import Data, locate_data, with_label_table
from labelr.data.splits import SPLITS_FILE, read_splits
from labelr.errors import LabelrError, pluralize, preview, suggest
from labelr.model import store
from labelr.model.predict import Model
from labelr.model.predictor import BATCH_SIZE, NOT_FINITE, NOT_FINITE_HINT, Predictor, Probs, is_finite
from labelr.model.store import ERRORS_FILE, METRICS_FILE, PREDICTIONS_FILE
from labelr.progress import Track, untracked
from labelr.scoring.report.page import ReportData, report_files, write_report
from labelr.scoring.results import PER_LABEL_FILE, Evaluation, is_suspects_table, write_results, write_suspects
from labelr.scoring.thresholds import Thresholds, choose_thresholds

FITTED = ("train", "val")
"""The splits that a model was fitted on: its weights on one, its thresholds on the other."""

log = logging.getLogger(__name__)


def evaluate(
    data: Data,
    model: str | Path | Model | None = None,
    options: EvaluateOptions | Mapping[str, Any] | None = None,
    *,
    output: str | Path | None = None,
    suspects: str | Path | None = None,
    force: bool = False,
    track: Track = untracked,
    **settings: Any,
) -> Evaluation:
    """Evaluates a saved model on labelled images.

    Args:
        data: A folder of labelled images, or several that form one data set; label files, each behind the folder of its
            images or alone; a DataFrame of labels with ``images``, the folder of its images; image files with
            ``labels``, a list of labels for each, or a 0/1 matrix with ``label_names``; a mapping from image files to
            labels.
        model: A name, a directory or a loaded model; None takes the default one, as `load`.
        options: The options, as an object or by name.
        output: The directory for ``metrics.json``, ``per_label.csv``, ``predictions.csv``, ``errors.csv`` and the
            report, ``report/report.html``; None writes nothing.
        suspects: The file for the table of suspected label errors; None writes none.
        force: Whether existing files may be replaced.
        track: Replaces the progress bars of a terminal or a notebook; ``progress=False`` shows none.
        settings: Fields of `EvaluateOptions`, which take precedence over `options`.

    Raises:
        LabelrError: If the options are invalid, model or data cannot be used, or no image is left.
    """
    data, settings = with_label_table(data, settings)
    folders, options = locate_data(data, EvaluateOptions.of(options, **settings))
    suspects_file = files.local_path(suspects) if suspects is not None else None
    check_suspects_file(suspects_file, force=force)
    marks = (METRICS_FILE, PER_LABEL_FILE)
    with nullcontext() if output is None else results.written(output, marks, resume_option="--force") as folder:
        check_output(folder, force=force)
        model = store.resolve_model(model, options)
        thresholds, threshold = choose_thresholds(model, options.threshold, options.threshold_file, options.encoding)

        dataset = load_dataset(folders, options, threads=model.runtime.workers, track=track)
        selected = select_split(match_labels(dataset, model, options), model, options.split)
        if folder is not None:
            files.check_writable(folder)
        probs = predict_dataset(model, selected, options=options, track=track)
        evaluation = evaluate_probs(model, selected, probs, thresholds=thresholds)
        evaluation = replace(evaluation, threshold=threshold, sort=options.sort)

        if suspects_file is not None:
            write_suspects(suspects_file, evaluation)
        if folder is not None:
            write_results(folder, evaluation, dataset.errors_csv)
            report = _report_data(model, evaluation, options.split)
            log.info("report: %s", write_report(folder, report, plot_format=options.plot_format, track=track))
    return evaluation


def check_output(folder: Path | None, *, force: bool) -> None:
    """Raises LabelrError if a directory is a file, or has results already that may not be replaced."""
    if folder is not None and folder.exists() and not folder.is_dir():
        raise LabelrError(f"the output {folder} is a file", "name a directory with `--output DIR`")
    if folder is None or force:
        return
    names = (METRICS_FILE, PER_LABEL_FILE, PREDICTIONS_FILE, ERRORS_FILE)
    for path in (*(folder / name for name in names), *report_files(folder)):
        if path.exists():
            raise LabelrError(f"{path} exists already", "replace it with `--force`, or choose another `--output`")


def check_suspects_file(path: Path | None, *, force: bool, resume: bool = False) -> None:
    """Raises LabelrError if a table of suspects cannot be written, or may not be replaced.

    A run that is resumed replaces such a table, which it may have written before it was stopped.
    """
    if path is None:
        return
    if path.is_dir():
        raise LabelrError(f"{path} is a folder", "name a file with `--suspects`, such as suspects.csv")
    if path.exists() and not (force or (resume and is_suspects_table(path))):
        raise LabelrError(f"{path} exists already", "replace it with `--force`, or choose another `--suspects`")
    files.check_writable(path.parent)


def match_labels(dataset: Dataset, model: Model, options: EvaluateOptions) -> Dataset:
    """The data set with the model's labels in the model's order; images without a known label are left out.

    With ``common_labels``, labels that the data set lacks are left out as well.
    """
    only = options.only or model.labels
    wanted = [label for label in model.labels if label in only and label not in options.exclude]
    common = [label for label in wanted if label in dataset.labels]
    missing = [label for label in wanted if label not in dataset.labels]
    unknown = [label for label in dataset.labels if label not in model.labels]
    not_in_model = f"the model does not have {len(unknown)} of the labels: {preview(unknown)}"
    if not wanted:
        raise LabelrError(not_in_model, f"choose labels of the model: {preview(model.labels)}")
    if missing and not (options.common_labels and common):
        similar = suggest(missing[0], unknown, cutoff=0.7)
        hint = f"{similar} The model calls it `{missing[0]}`; or " if similar else ""
        others = "name data with the labels of the model, or another model with `--model`"
        hint += "evaluate the common labels with `--common-labels`" if common else others
        lacks = f"{dataset.source} lacks {len(missing)} of the model's labels: {preview(missing)}"
        raise LabelrError(f"{lacks}; {not_in_model}" if unknown else lacks, hint)
    if missing:
        lacks = pluralize(len(missing), "label")
        log.warning("%s lacks %s of the model: %s", dataset.source, lacks, preview(missing))
    if unknown:
        log.warning("%s; they are not evaluated", not_in_model)
    return with_known_labels(dataset, common)


def with_known_labels(dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """The data set with these labels, in this order; images without a known one are left out."""
    dataset = dataset.with_labels(labels)
    known = ~np.isnan(dataset.targets).all(axis=1)
    if not known.any():
        raise LabelrError(f"{dataset.source}: all labels to evaluate are unknown", "mark labels with 1 and 0")
    if not known.all():
        log.warning("left out: %s without a known label of these", pluralize(int((~known).sum()), "image"))
    return dataset.take(np.flatnonzero(known))


def select_split(dataset: Dataset, model: Model, split: str) -> Dataset:
    """The images of a split of the model's training run, ``"train"``, ``"val"`` or ``"test"``, compared by content.

    ``"auto"`` is for all images that the model was not fitted on and that are no near-duplicates of such, ``"all"`` for
    all images.
    """
    if split == "all":
        return dataset
    if not (model.path / SPLITS_FILE).is_file():
        raise LabelrError(
            f"{model.path} has no {SPLITS_FILE}, which lists the images that it was trained on",
            "restore the file, or evaluate on all images with `--split all`",
        )
    auto = split == "auto"
    listed = _fingerprints_in(model, FITTED if auto else (split,))
    selected = dataset.take([row for row, digest in enumerate(dataset.digests) if (digest in listed) != auto])
    left_out = len(dataset) - len(selected)
    if left_out:
        which = f"that {model.name} was trained on" if auto else f"that are not in the {split} split of {model.name}"
        log.info("left out: %s of %s %s", f"{left_out:,}", pluralize(len(dataset), "image"), which)
    if auto:
        selected = _without_near_duplicates(selected, listed, model.name)
        counts = {"trained_on": left_out, "near_duplicates": len(dataset) - left_out - len(selected)}
        selected = replace(selected, findings=selected.findings._replace(left_out=counts))
    if not len(selected):
        learned = f"{model.name} was trained on every image left, or on a near-duplicate of it"
        reason = learned if auto else f"no image is in the {split} split of {model.name}"
        raise LabelrError(f"no images to evaluate on: {reason}", "evaluate on all images with `--split all`")
    return selected


def _without_near_duplicates(dataset: Dataset, fitted: Mapping[str, int | None], name: str) -> Dataset:
    """The images that are no near-duplicates of those that a model of a name was fitted on: fingerprints by digest."""
    if len(dataset) and fitted and all(value is None for value in fitted.values()):
        log.warning("%s keeps no fingerprints of its images: near-duplicates of them are not left out", name)
    near = belongs_to(dataset.digests, dataset.fingerprints, (list(fitted), list(fitted.values())))
    if near.any():
        found = pluralize(int(near.sum()), "near-duplicate")
        log.info("left out: %s of images that %s was trained on", found, name)
    return dataset.take(np.flatnonzero(~near))


def _fingerprints_in(model: Model, splits: Sequence[str]) -> dict[str, int | None]:
    """The fingerprints of the images in some splits of the model's training run, by their SHA-256."""
    return {row.digest: row.fingerprint for row in read_splits(model.path / SPLITS_FILE) if row.split in splits}


def evaluate_probs(
    model: Predictor, dataset: Dataset, probs: Probs, *, thresholds: Thresholds | None = None
) -> Evaluation:
    """The evaluation of a model's predictions on a data set.

    Args:
        model: The model.
        dataset: N images with L labels, all of them the model's.
        probs: The calibrated probabilities of all of the model's labels, such as those of `predict_dataset`.
        thresholds: The thresholds of all of the model's labels; None takes the model's own.
    """
    own = model.thresholds()
    columns = [model.labels.index(label) for label in dataset.labels]
    return Evaluation(
        labels=dataset.labels,
        probs=probs[:, columns],
        targets=dataset.targets,
        thresholds=(own if thresholds is None else thresholds)[columns],
        model_thresholds=own[columns],
        prevalence=np.array([model.info.prevalence(label) for label in dataset.labels]),
        files=dataset.files,
        model=str(address_of(model.path) or model.path),
        data=str(address_of(dataset.source) or dataset.source.absolute()),
        paths=tuple(dataset.paths),
        digests=dataset.digests,
        left_out=dict(dataset.findings.left_out),
    )


def predict_dataset(
    model: Predictor, dataset: Dataset, *, options: ReadOptions | None = None, track: Track = untracked
) -> Probs:
    """The probabilities ``(N, L)`` of all of the model's labels on the images of a data set.

    Raises:
        LabelrError: If an image no longer opens, or the model's output for one is NaN.
    """
    preprocessing = model.info.preprocessing
    pixels = dataset.pixels(
        preprocessing.image_size, rule=preprocessing.resize, value_range=preprocessing.value_range,
        options=options or ReadOptions(), threads=model.runtime.workers, track=track,
    )  # fmt: skip
    probs = model.predict_pixels(track(pixels.batches(BATCH_SIZE), "scoring", -(-len(pixels) // BATCH_SIZE)))
    failed = [file for file, is_number in zip(dataset.files, is_finite(probs), strict=True) if not is_number]
    if failed:
        number = pluralize(len(failed), "image")
        raise LabelrError(f"{NOT_FINITE} for {number} of {dataset.source}: {preview(failed)}", NOT_FINITE_HINT)
    return probs


def _report_data(model: Model, evaluation: Evaluation, split: str) -> ReportData:
    name = Path(evaluation.data).name
    images = {
        "auto": f"of {name} that the model was not trained on",
        "train": "that the model was trained on",
        "val": "that the model's thresholds were chosen on",
        "test": "of the test split of the model's training run",
        "all": f"of {name}",
    }[split]
    fitted = _fingerprints_in(model, FITTED) if (model.path / SPLITS_FILE).is_file() else {}
    seen = not fitted.keys().isdisjoint(evaluation.digests)
    return ReportData(model, evaluation, evaluation.to_json(), images, evaluation, images, seen_in_training=seen)
