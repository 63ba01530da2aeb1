"""The main path of training: settings, place, data, network, epochs, score, model."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from labelr import files
from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.load import as_folders, name_of_data
from labelr.errors import LabelrError, first_line
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.device import Runtime, is_out_of_memory, pick_runtime
from labelr.model.info import Architecture, ModelInfo, Preprocessing
from labelr.model.predict import Model
from labelr.progress import Track, untracked
from labelr.scoring.suspects import check_suspects_file
from labelr.scoring.thresholds import DEFAULT_THRESHOLD
from labelr.training.epochs import train
from labelr.training.events import check_event_log
from labelr.training.finish import finish
from labelr.training.folds import cross_validate, finish_folds
from labelr.training.history import read_history
from labelr.training.prepare import prepare, resolve
from labelr.training.record import RunRecord, versions
from labelr.training.run import (
    FOLDS_FOLDER,
    find_run,
    finish_run,
    forget_run,
    is_finished,
    is_resumable,
    load_record,
    reserve_folder,
    start_run,
)

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
        report = json.loads((self.model.path / store.METRICS_FILE).read_text(encoding="utf-8"))
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
    resume: bool = False,
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
        force: Whether a model or an unfinished run of that name, and the table of suspects, may be replaced.
        resume: Whether to go on with the unfinished run of that name; where there is none, a new one begins, and where
            it is finished already, its result is given again.
        track: Watches the progress.

    Returns:
        The model, the history of its training, and its scores.

    Raises:
        LabelrError: If settings, data or surroundings do not allow it.
    """
    start = time.monotonic()
    given = TrainConfig.of(config)
    _check_resume(given, force=force, resume=resume)
    events = Path(log_dir) if log_dir is not None else None
    check_event_log(events)
    doubts = Path(suspects) if suspects is not None else None
    folders = as_folders(data)
    default_name = name_of_data(folders)
    place = Path(output) if output is not None else None
    if name is None and place is None:
        name = find_run(default_name, folders, given, resume=resume)
    with reserve_folder(name, default_name=default_name, output=place, force=force, resume=resume) as folder:
        begun = load_record(folder, given) if resume else None
        chosen = begun.resumed_config(given) if begun else given
        check_suspects_file(doubts, force=force or begun is not None)
        machine = pick_runtime(chosen.device, amp=chosen.amp, threads=chosen.threads, workers=chosen.workers)
        dataset = prepare(folders, chosen, machine, track=track)
        if begun:
            dataset = begun.restore_splits(dataset, folder)
            if is_finished(folder):
                return _finished_before(folder, machine, suspects=doubts)
        settings = resolve(chosen, machine, drawn=not folders, num_train=len(dataset.split("train")))
        info = describe(dataset, settings)
        deadline = start + 60 * given.time if given.time else None
        if not begun:
            start_run(folder)
        if deadline is None:
            record = RunRecord.of(folders, given, settings, dataset)
            files.write_atomically(folder / store.RUN_FILE, record.to_json())
        with _telling_what_is_kept(folder):
            folds = None
            if settings.folds:
                place = folder / FOLDS_FOLDER
                folds = cross_validate(dataset, settings, info, machine, place, log_dir=events, track=track)
                settings = replace(settings, epochs=folds.median_epoch)
                log.info("training on all images for %d epochs", folds.median_epoch)
            info, history = train(
                dataset, settings, info, machine, folder, deadline=deadline, log_dir=events, track=track
            )
            if folds is None:
                model, report = finish(dataset, info, settings, machine, folder, suspects=doubts, track=track)
            else:
                model, report = finish_folds(folds, dataset, info, settings, machine, folder, suspects=doubts)
        finish_run(folder)
    return FitResult(model, [asdict(row) for row in history], _scores(report))


def _finished_before(folder: Path, machine: Runtime, *, suspects: Path | None) -> FitResult:
    """What a run gave that has nothing left to do."""
    forget_run(folder)  # which a kill may have left
    log.info("the model in %s is finished already, from the same data and settings", folder)
    if suspects:
        log.warning("no table of suspects is written: `labelr evaluate --suspects` writes one of a model")
    history = [asdict(row) for row in read_history(folder / store.HISTORY_FILE)]
    report = json.loads((folder / store.METRICS_FILE).read_text(encoding="utf-8"))
    return FitResult(store.load_from(folder, machine), history, _scores(report))


def _scores(report: Mapping[str, Any]) -> dict[str, float]:
    return {name: np.nan if value is None else value for name, value in report["metrics"].items()}


def _check_resume(given: TrainConfig, *, force: bool, resume: bool) -> None:
    if resume and force:
        raise SettingError("a run is either gone on with or begun anew", "give `--resume` or `--force`, not both")
    if resume and given.time:
        raise SettingError(
            "a run with a time follows the clock, and keeps nothing to go on with", "leave `--resume` or `--time` out"
        )


@contextmanager
def _telling_what_is_kept(folder: Path) -> Iterator[None]:
    """Says what is kept of a run that ends before its time."""
    try:
        yield
    except BaseException as error:
        if (folder / store.INFO_FILE).is_file():
            info = store.load_info(folder)
            if not info.complete:
                log.warning("the best model so far, of epoch %d, is in %s", info.best_epoch, folder)
        helps = not isinstance(error, LabelrError) or isinstance(error.__cause__, OSError)
        if isinstance(error, Exception) and helps and is_resumable(folder):
            log.warning("what was done so far is kept: the same command with `--resume` goes on with it")
        if is_out_of_memory(error):
            raise LabelrError(
                f"memory ran out: {first_line(error)}",
                "free some memory, or use a smaller `--batch-size`, `--image-size` or `--width`, or fewer `--workers`",
            ) from error
        raise


def describe(dataset: Dataset, config: TrainConfig) -> ModelInfo:
    """What is known of the model before it is trained."""
    return ModelInfo(
        labels=dataset.labels,
        thresholds=(DEFAULT_THRESHOLD,) * len(dataset.labels),
        preprocessing=Preprocessing(
            image_size=cast("int", config.image_size), resize=config.resize, flip_averaging=config.flip
        ),
        architecture=Architecture(stem=config.stem, width=cast("float", config.width), dropout=config.dropout),
        config=config.to_dict(),
        counts=dataset.counts,
        versions=versions(),
    )
