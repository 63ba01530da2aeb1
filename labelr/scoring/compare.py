"""Compares models on the same images."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from labelr import serialization
from labelr.config import CompareOptions, ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.load import load_dataset
from labelr.data.locate import Data, locate_data, with_label_table
from labelr.errors import LabelrError, pluralize, preview
from labelr.fields import SettingError
from labelr.frames import format_number
from labelr.model import store
from labelr.model.predict import Model
from labelr.progress import Track, untracked
from labelr.scoring import bootstrap
from labelr.scoring.evaluate import evaluate_probs, predict_dataset, select_split, with_known_labels
from labelr.scoring.results import Evaluation
from labelr.scoring.thresholds import choose_thresholds

MIN_IMAGES = 10
"""With fewer images that have a label, no difference is called clear: the bootstrap interval is far too narrow."""
HINT = "name labelled images that none of the models has learned from with `--data DIR`"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """Several models on the same images."""

    evaluations: tuple[Evaluation, ...]  # of each model, on the same images and labels

    @property
    def names(self) -> list[str]:
        """The name of each model, or its directory where two have the same name."""
        paths = [evaluation.model for evaluation in self.evaluations]
        names = [Path(path).name for path in paths]
        return names if len(set(names)) == len(names) else paths

    @cached_property
    def differences(self) -> list[dict[str, tuple[float, float, float]]]:
        """By how much each model is higher than the first, from the second on; see `bootstrap.differences`."""
        first, *others = ((item.probs, item.thresholds) for item in self.evaluations)
        return [bootstrap.differences(first, other, self.evaluations[0].targets) for other in others]

    @cached_property
    def has_few_images(self) -> bool:
        """Whether there are too few images with a label to tell which model is better."""
        return int((self.evaluations[0].targets == 1).any(axis=1).sum()) < MIN_IMAGES

    @property
    def is_evaluable(self) -> bool:
        """Whether the images tell mAP: a label has positives and negatives."""
        return not np.isnan(self.evaluations[0].metrics["map_macro"])

    def verdict(self, number: int = 1) -> Literal["better", "worse"] | None:
        """Whether the mAP of the model of a number, from 1, is clearly higher or lower than that of the first model."""
        _, low, high = self.differences[number - 1]["map_macro"]
        if self.has_few_images:
            return None
        return "better" if low > 0 else "worse" if high < 0 else None

    def describe(self, number: int = 1) -> str:
        """How the model of a number, from 1, compares with the first model, number 0, in a sentence."""
        first, name, verdict = self.names[0], self.names[number], self.verdict(number)
        images = f"{pluralize(len(self.evaluations[0].probs), 'image')} that neither has learned from"
        before, after = (self.evaluations[index].metrics["map_macro"] for index in (0, number))
        difference, low, high = self.differences[number - 1]["map_macro"]
        if not self.is_evaluable:
            return f"{name} cannot be compared with {first}: no label has positives and negatives among {images}"
        scores = f"mAP {format_number(after)} and {format_number(before)}"
        if self.has_few_images:
            return f"too few images with a label to tell whether {name} is better than {first}: {scores} on {images}"
        relation = f"is {verdict} than" if verdict else "does not clearly differ from"
        interval = f"difference {difference:+.3f}, 95 % interval {low:+.3f} .. {high:+.3f}"
        return f"{name} {relation} {first}: {scores}, {interval}, on {images}"

    def to_json(self) -> dict[str, Any]:
        """The data, the labels, and the metrics of each model, with the differences to the first; ready for JSON."""
        first = self.evaluations[0]
        models = []
        for name, evaluation, found in zip(self.names, self.evaluations, [None, *self.differences], strict=True):
            models.append({
                "name": name,
                "model": evaluation.model,
                "threshold": evaluation.threshold,
                "metrics": evaluation.metrics,
                "differences": None if found is None else {key: values[0] for key, values in found.items()},
                "difference_intervals": None if found is None else {key: values[1:] for key, values in found.items()},
            })  # fmt: skip
        result = {"data": first.data, "images": len(first.probs), "labels": list(first.labels), "models": models}
        return {key: serialization.without_nan(value) for key, value in result.items()}

    def __repr__(self) -> str:
        return f"<Comparison: {'; '.join(self.describe(number) for number in range(1, len(self.evaluations)))}>"


def compare(
    models: Sequence[str | Path | Model],
    data: Data = None,
    options: CompareOptions | Mapping[str, Any] | None = None,
    *,
    track: Track = untracked,
    **settings: Any,
) -> Comparison:
    """Evaluates models on the same labelled images, which none of them has learned from.

    Labels that not all models have are left out.

    Args:
        models: At least two names, directories or loaded models; the others are compared with the first.
        data: Labelled images, as in `evaluate`; None takes the data that the first model was trained on, read as then.
        options: The options, as an object or by name; in place of the first model's if `data` is None.
        track: Follows the progress.
        settings: Fields of `CompareOptions`, which take precedence over `options`.

    Raises:
        LabelrError: If the options are invalid, models or data cannot be used, or no image or label is left.
    """
    data, settings = with_label_table(data, settings)
    chosen = CompareOptions.of(options, **settings)
    models = [models] if isinstance(models, (str, Path, Model)) else models
    loaded = [store.resolve_model(model, chosen) for model in models]
    if len({model.path for model in loaded}) < max(2, len(loaded)):
        raise SettingError("a comparison needs at least two models, each of them once", "name another one")
    try:
        if data is None:
            folders, recorded = recorded_data(loaded[0])
            chosen = CompareOptions.of(recorded if options is None else chosen, **settings)
        else:
            folders, chosen = locate_data(data, chosen)
        dataset = load_dataset(folders, chosen, threads=loaded[0].runtime.workers, track=track)
    except LabelrError as error:
        if data is not None:
            raise
        message = f"cannot read the data that {loaded[0].name} was trained on: {error.message}"
        raise LabelrError(message, HINT) from error
    return compare_models(loaded, dataset, chosen, track=track)


def recorded_data(model: Model) -> tuple[list[Path], dict[str, Any]]:
    """The data folders that a model was trained on, and the settings that they were read with."""
    info = model.info
    if not info.data:
        raise LabelrError("it does not say which")
    return list(map(Path, info.data)), {name: info.config[name] for name in ReadOptions.names() if name in info.config}


def compare_models(
    models: Sequence[Model], dataset: Dataset, options: CompareOptions, *, track: Track = untracked
) -> Comparison:
    """The comparison of models on the images of a data set that none of them has learned from.

    Raises:
        LabelrError: If no such image is left, or no label that all of them have.
    """
    dataset = _unseen(_with_common_labels(dataset, models, options), models)
    evaluations = []
    for model in models:
        thresholds, threshold = choose_thresholds(model, options.threshold, options.threshold_file, options.encoding)
        probs = predict_dataset(model, dataset, options=options, track=track)
        evaluation = evaluate_probs(model, dataset, probs, thresholds=thresholds)
        evaluations.append(replace(evaluation, threshold=threshold))
    return Comparison(tuple(evaluations))


def _with_common_labels(dataset: Dataset, models: Sequence[Model], options: CompareOptions) -> Dataset:
    """The data set with the labels that it and all models have, in the order of the first model."""
    everywhere = [set(labels) for labels in (dataset.labels, *(model.labels for model in models))]
    common = [label for label in models[0].labels if all(label in labels for labels in everywhere)]
    labels = [label for label in common if label in (options.only or common) and label not in options.exclude]
    if not labels:
        raise LabelrError("the models and the data have no label in common", "compare models of the same labels")
    others = sorted(set().union(*everywhere).difference(common, options.exclude))
    if others and not options.only:
        shared = pluralize(len(labels), "label")
        log.info("compared by %s that all models and the data have; left out: %s", shared, preview(others))
    return with_known_labels(dataset, labels)


def _unseen(dataset: Dataset, models: Sequence[Model]) -> Dataset:
    """The images that no model has learned from."""
    for model in models:
        try:
            dataset = select_split(dataset, model, "auto")
        except LabelrError as error:
            raise LabelrError(error.message, HINT) from error
    return dataset
