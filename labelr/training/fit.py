"""The main path of training: settings, place, data, network, epochs, score, model."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from labelr.config import TrainConfig
from labelr.data.dataset import as_folders
from labelr.model import shelf
from labelr.model.device import pick_machine
from labelr.model.info import Architecture, ModelInfo, Preprocessing
from labelr.model.predict import Model
from labelr.progress import Track, untracked
from labelr.scoring.suspects import check_suspects_free
from labelr.scoring.thresholds import USUAL
from labelr.training.epochs import train
from labelr.training.events import check_event_log
from labelr.training.finish import finish
from labelr.training.folds import cross_validate, finish_folds
from labelr.training.prepare import Prepared, prepare, resolve
from labelr.version import __version__

log = logging.getLogger(__name__)


class FitResult(NamedTuple):
    """What training gives.

    Attributes:
        model: The best epoch's model, as it was saved.
        history: A row for each epoch, by name.
        metrics: The scores of the test part by name, or of the validation part where there is no test part; with folds,
            their mean over the folds.
    """

    model: Model
    history: list[dict[str, float]]
    metrics: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The model's directory, its name, the best epoch, the settings and the scores, ready for JSON."""
        info = self.model.info
        report = json.loads((self.model.path / shelf.METRICS_FILE).read_text(encoding="utf-8"))
        return {
            "model": str(self.model.path),
            "name": self.model.name,
            "best_epoch": info.best_epoch,
            "settings": info.config,
            **report,
        }


def fit(
    data: str | Path | Sequence[str | Path] | None = None,
    config: TrainConfig | Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    output: str | Path | None = None,
    log_dir: str | Path | None = None,
    suspects: str | Path | None = None,
    force: bool = False,
    track: Track = untracked,
) -> FitResult:
    """Trains a model on a folder of labelled images and saves it.

    Args:
        data: A folder of labelled images, or several that are one data set; None draws one.
        config: The settings, as a `TrainConfig` or a mapping of its names.
        name: The model's name; None takes the data folder's, with a number where that is taken.
        output: A directory to save it in instead of the user's cache.
        log_dir: A directory for TensorBoard events; None writes none.
        suspects: A file for the given labels that are probably wrong, as a table; None writes none.
        force: Whether a model of that name, and the table of suspects, may be replaced.
        track: Watches the progress.

    Returns:
        The model, the history of its training, and its scores.

    Raises:
        LabelrError: If settings, data or surroundings do not allow it.
    """
    start = time.monotonic()
    given = TrainConfig.of(config)
    events = Path(log_dir) if log_dir is not None else None
    check_event_log(events)
    doubts = Path(suspects) if suspects is not None else None
    check_suspects_free(doubts, force=force)
    machine = pick_machine(given.device, amp=given.amp, threads=given.threads, workers=given.workers)
    folders = as_folders(data)
    default_name = folders[0].resolve().name if folders else "synthetic"
    place = Path(output) if output is not None else None
    with shelf.reserved(name, default_name=default_name, output=place, force=force) as folder:
        try:
            prepared = prepare(folders, given, machine, track=track)
            settings = resolve(given, machine, drawn=not folders, num_train=len(prepared.part("train").table))
            described = _describe(prepared, settings)
            deadline = start + 60 * given.time if given.time else None
            folds = None
            if settings.folds:
                folds = cross_validate(prepared, settings, described, machine, log_dir=events, track=track)
                settings = replace(settings, epochs=folds.median_epoch)
                described = _describe(prepared, settings)
                log.info("training on all images for %d epochs", folds.median_epoch)
            info, history = train(
                prepared, settings, described, machine, folder, deadline=deadline, log_dir=events, track=track
            )
            if folds is None:
                model, report = finish(prepared, info, settings, machine, folder, suspects=doubts, track=track)
            else:
                model, report = finish_folds(folds, prepared.dataset, info, settings, machine, folder, suspects=doubts)
        except BaseException:
            _tell_what_is_kept(folder)
            raise
    scores = {name: np.nan if value is None else value for name, value in report["metrics"].items()}
    return FitResult(model, [asdict(row) for row in history], scores)


def _tell_what_is_kept(folder: Path) -> None:
    """Says where the best model of a run that was stopped is, if there is one."""
    if (folder / shelf.INFO_FILE).is_file():
        info = shelf.read_info(folder)
        if not info.complete:
            log.warning("the best model so far, of epoch %d, is in %s", info.best_epoch, folder)


def _describe(prepared: Prepared, config: TrainConfig) -> ModelInfo:
    """What is known of the model before it is trained."""
    table = prepared.dataset.table
    return ModelInfo(
        labels=table.labels,
        thresholds=(USUAL,) * len(table.labels),
        preprocessing=Preprocessing(
            image_size=cast("int", config.image_size), resize=config.resize, flip_averaging=config.flip
        ),
        architecture=Architecture(stem=config.stem, width=cast("float", config.width), dropout=config.dropout),
        config=config.to_dict(),
        counts=table.counts,
        versions={"labelr": __version__, "torch": torch.__version__},
    )
