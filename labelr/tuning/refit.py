"""The best settings trained once more, as a model like any other, and scored on images that chose nothing."""

import logging
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from labelr.data.dataset import Dataset
from labelr.data.load import as_folders, name_of_data
from labelr.errors import LabelrError
from labelr.model import store
from labelr.progress import Track
from labelr.scoring import metrics
from labelr.scoring.evaluate import predict_dataset
from labelr.scoring.thresholds import DEFAULT_THRESHOLD
from labelr.training.fit import FitResult, fit
from labelr.training.history import EpochRow
from labelr.training.record import RunRecord
from labelr.training.run import RECORD_FILE, check_free, find_run, is_finished, is_resumable
from labelr.tuning.outcome import Flattery, Outcome
from labelr.tuning.study import Study

REFIT = "refit"
"""What is written beside a study whose best settings are being trained, or were."""

log = logging.getLogger(__name__)


def check_place(study: Study, place: Path | None, *, force: bool) -> None:
    """Raises LabelrError where something stands in the way that is not of this study, before any time is spent."""
    if place is None or not place.exists():
        return
    if not place.is_dir():
        raise LabelrError(f"{place} is no directory", "choose another place for the best model")
    check_free(place, force=force or _is_ours(study, place))


def refit(
    study: Study, outcome: Outcome, dataset: Dataset, place: Path | None, *, force: bool, track: Track
) -> Outcome:
    """Trains the best settings, scores them on the test part, and says how far the validation part flattered them.

    Of several processes of one study on this machine the first does it, and the others get what it gives.

    Args:
        study: The study.
        outcome: What it has found.
        dataset: The data.
        place: Where to save the model; None for the user's cache.
        force: Whether a model of something else that is there may be replaced.
        track: Watches the progress.

    Returns:
        The outcome with its model; without, where another machine trains it.
    """
    noted, settings = _noted(study), outcome.best_config.to_dict()
    elsewhere = study.url is not None and noted.get("host") != socket.gethostname()
    if elsewhere and noted.get("settings") == settings:
        log.warning("the best settings are trained on %s; to train them here: %s", noted["host"], outcome.command)
        return outcome
    with FileLock(study.folder / ".refit.lock"):
        log.info("training the best settings, of trial %d", outcome.best.number)
        goes_on = _has_begun(outcome, place)
        replaces = place is not None and not goes_on and (force or _is_ours(study, place))
        _note(study, settings, place)
        result = fit(
            list(outcome.data) or None, outcome.best_config, output=place, force=replaces, resume=goes_on, track=track
        )
    return replace(outcome, model=result.to_json(), flattery=flattery(result, dataset, outcome, track))


def _has_begun(outcome: Outcome, place: Path | None) -> bool:
    """Whether the best settings were trained already, or there is a run of them to go on with."""
    folders, config = as_folders(outcome.data), outcome.best_config
    if place is None:
        name = find_run(name_of_data(folders), folders, config, resume=True)  # one with these settings, if there is any
        if name is None:
            return False
        place = store.models_folder() / name
    if not is_finished(place) and not is_resumable(place):
        return False
    record = RunRecord.read(place / (RECORD_FILE if is_finished(place) else store.RUN_FILE))
    return not record.setting_differences(config)


def _noted(study: Study) -> dict[str, Any]:
    return dict(study.shared.user_attrs.get(REFIT, {}))


def _is_ours(study: Study, place: Path) -> bool:
    """Whether what is in a directory was made from this study."""
    return bool(_noted(study).get("path") == str(place.absolute()))


def _note(study: Study, settings: dict[str, Any], place: Path | None) -> None:
    path = str(place.absolute()) if place else None
    study.shared.set_user_attr(REFIT, {"host": socket.gethostname(), "path": path, "settings": settings})


def flattery(result: FitResult, dataset: Dataset, outcome: Outcome, track: Track) -> Flattery | None:
    """The model's score on the validation part, and the same score on the test part; None without a test part."""
    test, metric = dataset.split("test"), outcome.options.metric
    if not len(test):
        return None
    probs = predict_dataset(result.model.uncalibrated, test, options=outcome.given, track=track)  # as trials are scored
    scores = metrics.score(probs, test.targets, DEFAULT_THRESHOLD)
    val = max(EpochRow(**row).score(metric) for row in result.history)  # type: ignore[arg-type]
    found = Flattery(val, scores["map_macro" if metric == "map" else metric])
    log.info("%s of the best settings: %s", metric, found)
    return found
