"""Trains the best settings again as a regular model, and scores it on images that chose nothing."""

import logging
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.locate import name_of_data
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.store import RUN_FILE
from labelr.progress import Track
from labelr.scoring import metrics
from labelr.scoring.evaluate import predict_dataset
from labelr.scoring.thresholds import DEFAULT_THRESHOLD
from labelr.training.fit import FitResult, fit_located
from labelr.training.history import best_epoch
from labelr.training.record import RECORD_FILE, RunRecord, is_finished, is_resumable
from labelr.training.run import check_free
from labelr.tuning.study import Study, Target
from labelr.tuning.trials import TuneResult

REFIT = "refit"
"""Attribute of a study: host, directory and settings of the model with the best settings, from its start on.

It is no proof of anything about the directory, since a study may come from anywhere: the record there is.
"""

log = logging.getLogger(__name__)


def check_output(study: Study, target: Target) -> None:
    """Raises LabelrError if the model's directory holds something else, before time is spent on the search."""
    output = target.output
    if output is None or not output.exists():
        return
    if not output.is_dir():
        raise LabelrError(f"{output} is not a directory", "choose another place for the best model")
    check_free(output, force=target.force or own_record(study, output) is not None)


def refit(study: Study, result: TuneResult, data: Dataset, target: Target, *, track: Track) -> TuneResult:
    """Trains the best settings, and scores the model on the validation and the test split.

    Of several processes of a study on this machine, the first one trains, and the others return its model.

    Returns:
        The result with its model; without a model if another machine trains it.
    """
    settings, host = result.best_config.to_dict(), socket.gethostname()
    with FileLock(study.folder / ".refit.lock"):
        earlier = study.shared.user_attrs.get(REFIT, {})
        is_same = earlier.get("settings") == settings
        if study.url and is_same and earlier["host"] != host:
            log.warning("the best settings are trained on %s; to train them here: %s", earlier["host"], result.command)
            return result
        folder = (target.output or earlier_folder(study, settings) or _new_folder(result)).absolute()
        record = own_record(study, folder)
        same = record is not None and not record.setting_differences(result.best_config, epochs_may_grow=False)
        resume = same and (is_finished(folder) or is_resumable(folder))
        force = not resume and (target.force or record is not None)
        log.info("training the best settings, of trial %d", result.best.number)
        study.shared.set_user_attr(REFIT, {"host": host, "path": str(folder), "settings": settings})
        model = fit_located(
            list(map(Path, result.plan.data)), result.best_config, study=study.mark, output=folder, force=force,
            resume=resume, track=track,
        )  # fmt: skip
    return replace(result, model=model.to_json(), optimistic_bias=_score_splits(model, data, result, track))


def own_record(study: Study, folder: Path) -> RunRecord | None:
    """The record of the model or run in a directory, if it says that it belongs to the study."""
    try:
        record = RunRecord.read(folder / (RECORD_FILE if is_finished(folder) else RUN_FILE))
    except LabelrError:
        return None
    return record if record.study == study.mark else None


def earlier_folder(study: Study, settings: Mapping[str, Any]) -> Path | None:
    """The directory in the models folder where these settings were trained, or started to be; None if there is none.

    It may have been renamed.
    """
    earlier = study.shared.user_attrs.get(REFIT, {"path": "", "settings": {}})
    folder = store.models_folder() / Path(earlier["path"]).name
    if str(folder) != earlier["path"] or earlier["settings"] != settings:
        return None
    if folder.exists():
        return folder if not folder.is_symlink() and own_record(study, folder) is not None else None
    for path in store.folders_with(RECORD_FILE, RUN_FILE):
        record = None if path.is_symlink() else own_record(study, path)
        if record is not None and not record.setting_differences(TrainConfig.of(settings), epochs_may_grow=False):
            return path
    return None


def _new_folder(result: TuneResult) -> Path:
    stem = store.make_name(name_of_data([Path(folder) for folder in result.plan.data]))
    return next(folder for name in store.numbered_names(stem) if not (folder := store.models_folder() / name).exists())


def _score_splits(model: FitResult, data: Dataset, result: TuneResult, track: Track) -> dict[str, float] | None:
    """The scores on both splits, by uncalibrated probabilities, as trials are scored; None without a test split."""
    test, metric = data.split("test"), result.plan.options.metric
    if not len(test):
        return None
    probs = predict_dataset(model.model.uncalibrated, test, options=result.plan.config, track=track)
    scores = metrics.score(probs, test.targets, DEFAULT_THRESHOLD)
    val = best_epoch(model.epoch_rows, result.plan.config.select).score(metric)
    bias = {"val": val, "test": scores["map_macro" if metric == "map" else metric]}
    log.info(
        "%s of the best settings: %.4f on validation images, %.4f on test images: optimistic bias %+.4f",
        metric, bias["val"], bias["test"], bias["val"] - bias["test"],
    )  # fmt: skip
    return bias
