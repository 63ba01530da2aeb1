"""The main path of a search: data, study, worker processes, ranking, the best settings trained again, report."""

import logging
import math
import socket
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock

from labelr import files, serialization, signals
from labelr.buckets.addresses import address_of
from labelr.config import TrainConfig, check_place
from labelr.data.dataset import Dataset
from labelr.data.locate import Data, locate_data, name_of_data, with_label_table
from labelr.errors import LabelrError, pluralize, preview
from labelr.model import store
from labelr.model.device import Runtime, pick_runtime
from labelr.model.store import RUN_FILE
from labelr.progress import Track, untracked
from labelr.scoring import metrics
from labelr.scoring.evaluate import predict_dataset
from labelr.scoring.thresholds import DEFAULT_THRESHOLD
from labelr.training.epochs import describe_model
from labelr.training.fit import FitResult, fit_located, load_splits
from labelr.training.history import best_epoch
from labelr.training.record import RECORD_FILE, RunRecord, is_finished, is_resumable
from labelr.training.run import check_free
from labelr.tuning.page import write_study_page
from labelr.tuning.pool import Pool, gpus_of
from labelr.tuning.space import Plan, Values
from labelr.tuning.study import Study, Target, connect, identity_of, start_study
from labelr.tuning.trials import TRIALS_FILE, Trial, TuneResult, log_finished, ranked, read_trials, trials_csv
from labelr.tuning.worker import resolve_point

POLL_SECONDS = 0.5
REFIT = "refit"
"""Attribute of a study: host, directory and settings of the model with the best settings, from its start on.

It is no proof of anything about the directory, since a study may come from anywhere: the record there is.
"""
Watch = Callable[[Sequence[Trial]], None]
"""Called with all trials several times a second during a search, and with none at its end."""

log = logging.getLogger(__name__)


def tune(
    data: Data = None,
    space: Mapping[str, Any] | None = None,
    config: TrainConfig | Mapping[str, Any] | None = None,
    *,
    study: str | None = None,
    storage: str | None = None,
    name: str | None = None,
    output: str | Path | None = None,
    force: bool = False,
    track: Track = untracked,
    watch: Watch | None = None,
    **settings: Any,
) -> TuneResult:
    """Searches for the best settings for a data set, and trains a model with them.

    The study is stored on disk: the same call resumes it, and several processes can share it.

    Args:
        data: A folder of labelled images, or several that form one data set; label files, each behind the folder of its
            images or alone; a DataFrame of labels with ``images``, the folder of its images; image files with
            ``labels``, a list of labels for each, or a 0/1 matrix with ``label_names``; a mapping from image files to
            labels; None for synthetic images.
        space: The values of each searched setting: a sequence, a set or an array, or a text such as ``"0.2,0.5"`` or
            ``"1e-4..1e-2:log"``. Settings with a single value apply to all trials.
        config: The settings of all trials, as a `TrainConfig` or a mapping of its names.
        study: The study's name; None for the name of the data folder.
        storage: The address of a database in which machines share the study; None for a file in the cache directory.
        name: The name of the best model; None for the name of the data folder, with a number if it is taken.
        output: A directory for the best model instead of the user's cache.
        force: Whether to delete an existing study of that name and start over.
        track: Replaces the progress bars of a terminal or a notebook; ``progress=False`` shows none.
        watch: Called with the trials while they run; None tracks how many have finished.
        settings: Names of `TuneOptions`, which define how to search, and of `TrainConfig`. A setting of the network or
            the training with several values is searched: ``lr=[1e-3, 4e-3]``, ``lr="1e-4..1e-2:log"``.

    Returns:
        The result; its report and tables are in the study's directory.

    Raises:
        LabelrError: If settings, data or environment do not allow it, or no trial is completed.
    """
    check_place(name, output)
    data, settings = with_label_table(data, settings)
    plan = Plan.of([], space, config, settings)
    folders, located = locate_data(data, plan.config)
    plan = replace(plan, data=tuple(str(address_of(folder) or folder) for folder in folders), config=located)
    if study is not None:
        store.check_name(study, "study")
    if storage is not None:
        connect(storage).engine.dispose()  # mistakes are reported before time is spent
    if name is not None:
        output = store.models_folder() / store.check_name(name)
    target = Target(study, storage, files.local_path(output) if output is not None else None, force)
    try:
        return _tune(plan, target, track, watch)
    except signals.Stopped as stopped:
        stopped.resume_option = ""  # the same command resumes the search
        raise


def _tune(plan: Plan, target: Target, track: Track, watch: Watch | None) -> TuneResult:
    folders, runtime = list(map(Path, plan.data)), pick_runtime(plan.config)
    dataset = load_splits(folders, plan.config, workers=runtime.workers, track=track)
    if not len(dataset.split_rows("val")):
        raise LabelrError("there are no validation images to compare trials on", "set `--val-fraction` above 0")
    identity = identity_of(dataset, plan, resolve_point(plan, {}, runtime, dataset))
    with closing(start_study(target, name_of_data(folders), identity)) as study, study.working(uuid.uuid4().hex):
        check_output(study, target)
        search(study, plan, dataset, runtime, track=track, watch=watch)
        result = conclude(study, plan, len(dataset.split_rows("val")))
        if plan.options.refit:
            result = refit(study, result, dataset, target, track=track)
    if plan.config.report:
        log.info("report: %s", write_study_page(result))
    return result


def search(study: Study, plan: Plan, dataset: Dataset, runtime: Runtime, *, track: Track, watch: Watch | None) -> None:
    """Lets workers try all points, until there are none left or the time is up."""
    trials = read_trials(study.shared)
    logged = {trial.number for trial in trials if trial.is_finished}
    threads = max(1, runtime.threads // plan.options.jobs)
    work = f"{_describe(plan)}, each on {pluralize(threads, 'CPU thread')}"
    work += f" and one of {len(gpus)} GPUs" if (gpus := gpus_of(plan)) else ""
    done = f"; {len(logged):,} of them done" if logged else ""
    log.info("study %s in %s: %s%s", study.name, study.folder, work, done)
    left = math.inf if plan.num_points is None else plan.num_points - len(logged)
    if left <= 0:
        return
    _fill_pixel_cache(plan, dataset, runtime, track)
    shared = replace(plan, config=replace(plan.config, threads=threads))
    size = int(min(plan.options.jobs, left))
    try:
        with signals.deferred(), Pool.running(size, shared, study) as pool:
            finished = _wait(pool, study, plan, logged, watch)
            if watch is None:
                finished = track(finished, "trials", None if plan.num_points is None else int(left))
            deque(finished, maxlen=0)
    finally:
        if watch is not None:
            watch(())


def _wait(pool: Pool, study: Study, plan: Plan, logged: set[int], watch: Watch | None) -> Iterable[int]:
    """The number of each trial, once it has finished, until all workers have."""
    running = True
    while running:
        running = pool.check()
        trials, before = read_trials(study.shared), set(logged)
        log_finished(trials, plan, logged)
        if watch is not None:
            watch(trials)
        yield from logged - before
        signals.raise_if_stopped()
        if running:
            time.sleep(POLL_SECONDS)


def _describe(plan: Plan) -> str:
    number = "points" if plan.num_points is None else pluralize(plan.num_points, "point")
    space = " x ".join(f"{name} {dimension}" for name, dimension in plan.space.dimensions.items())
    seeds = pluralize(plan.options.seeds, "seed")
    return f"{number} by {plan.sampler} ({space}), {seeds}, {plan.options.jobs} at a time"


def _fill_pixel_cache(plan: Plan, dataset: Dataset, runtime: Runtime, track: Track) -> None:
    """Decodes the images here, with progress, at each size and by each rule that the trials use, if they are listed."""
    choices = {}
    for name in ("backbone", "init", "image_size", "resize"):
        dimension = plan.space.dimensions.get(name, Values((getattr(plan.config, name),)))
        choices[name] = dimension.choices if isinstance(dimension, Values) else ()
    for values in product(*choices.values()):
        config = resolve_point(plan, dict(zip(choices, values, strict=True)), runtime, dataset)
        preprocessing = describe_model(dataset, config).preprocessing
        dataset.pixels(
            preprocessing.image_size, rule=preprocessing.resize, value_range=preprocessing.value_range, options=config,
            threads=runtime.workers, track=track,
        )  # fmt: skip


def conclude(study: Study, plan: Plan, val_images: int) -> TuneResult:
    """The result so far, written into the study's directory as a table and as the best settings.

    Raises:
        LabelrError: If no trial is complete.
    """
    trials = ranked(read_trials(study.shared))
    states = Counter(trial.state for trial in trials)
    counts = ", ".join(f"{number:,} {state}" for state, number in states.items())
    log.info("%s: %s", pluralize(len(trials), "trial"), counts)
    study.remove_checkpoints()
    if not trials or trials[0].state != "complete":
        reasons = list(dict.fromkeys(trial.reason for trial in trials if trial.reason))
        details = f": {preview(reasons, 2)}" if reasons else ""
        hint = "fix the cause, and choose another name with `--study`" if reasons else "allow more `--time`"
        raise LabelrError(f"no trial was completed{details}", hint)
    result = TuneResult(study.name, study.folder, plan, tuple(trials), val_images, _importance(study.shared))
    files.write_atomically(study.folder / TRIALS_FILE, trials_csv(trials, plan.space.dimensions))
    files.write_atomically(study.folder / store.CONFIG_FILE, serialization.json_text(result.best_config.to_dict()))
    return result


def _importance(study: optuna.Study) -> dict[str, float]:
    """The share of each setting in the variance of the scores (fANOVA, Hutter et al. 2014)."""
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError):  # too few trials, or all have the same score
        return {}


# --- the best settings -----------------------------------------------------------------------------------------------


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
    settings, host, folders = result.best_config.to_dict(), socket.gethostname(), list(map(Path, result.plan.data))
    with FileLock(study.folder / ".refit.lock"):
        earlier = study.shared.user_attrs.get(REFIT, {})
        is_same = earlier.get("settings") == settings
        if study.url and is_same and earlier["host"] != host:
            log.warning("the best settings are trained on %s; to train them here: %s", earlier["host"], result.command)
            return result
        folder = (target.output or earlier_folder(study, settings) or _new_folder(folders)).absolute()
        record = own_record(study, folder)
        same = record is not None and not record.setting_differences(result.best_config, epochs_may_grow=False)
        resume = same and (is_finished(folder) or is_resumable(folder))
        force = not resume and (target.force or record is not None)
        log.info("training the best settings, of trial %d", result.best.number)
        study.shared.set_user_attr(REFIT, {"host": host, "path": str(folder), "settings": settings})
        model = fit_located(
            folders, result.best_config, study=study.mark, output=folder, force=force, resume=resume, track=track,
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
    for path in [folder] if folder.exists() else store.folders_with(RECORD_FILE, RUN_FILE):
        record = None if path.is_symlink() else own_record(study, path)
        if record is None:
            continue
        if path == folder or not record.setting_differences(TrainConfig.of(settings), epochs_may_grow=False):
            return path
    return None


def _new_folder(data: Sequence[Path]) -> Path:
    folders = (store.models_folder() / name for name in store.numbered_names(store.make_name(name_of_data(data))))
    return next(folder for folder in folders if not folder.exists())


def _score_splits(model: FitResult, data: Dataset, result: TuneResult, track: Track) -> dict[str, float] | None:
    """The scores on both splits as trials are scored, without calibration; None without a test split."""
    test, metric = data.split("test"), result.plan.options.metric
    if not len(test):
        return None
    probs = predict_dataset(model.model.as_validated, test, options=result.plan.config, track=track)
    scores = metrics.score(probs, test.targets, DEFAULT_THRESHOLD)
    val = best_epoch(model.epoch_rows, result.plan.config.select).score(metric)
    bias = {"val": val, "test": scores["map_macro" if metric == "map" else metric]}
    log.info(
        "%s of the best settings: %.4f on validation images, %.4f on test images: optimistic bias %+.4f",
        metric, bias["val"], bias["test"], bias["val"] - bias["test"],
    )  # fmt: skip
    return bias
