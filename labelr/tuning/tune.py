"""The main path of a search: settings, data, study, workers, ranking, the best trained again, report."""

import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import optuna

from labelr import files, signals
from labelr.config import TrainConfig, TuneOptions
from labelr.data.dataset import Dataset
from labelr.data.load import as_folders, name_of_data
from labelr.errors import LabelrError, preview
from labelr.model import store
from labelr.model.device import Runtime, pick_runtime
from labelr.progress import Track, untracked
from labelr.training.prepare import prepare, resolve
from labelr.tuning.course import TRIALS_FOLDER
from labelr.tuning.crew import Crew
from labelr.tuning.identity import begin_study, identity_of
from labelr.tuning.job import Job
from labelr.tuning.outcome import TRIALS_FILE, Outcome, trials_csv
from labelr.tuning.page import write_study_page
from labelr.tuning.refit import check_place, refit
from labelr.tuning.space import Space, Values, check_search
from labelr.tuning.storage import check_storage
from labelr.tuning.study import Study
from labelr.tuning.trials import Trial, ranked, read_trials
from labelr.tuning.words import Teller, describe_search, summarise

LOOK_SECONDS = 0.5
"""How often it is looked how far the workers are."""
Watch = Callable[[Sequence[Trial]], None]
"""Is shown all trials again and again while the search goes on, and none once it is over."""

log = logging.getLogger(__name__)


def tune(
    data: str | Path | Sequence[str | Path] | None = None,
    space: Mapping[str, Any] | None = None,
    config: TrainConfig | Mapping[str, Any] | None = None,
    *,
    study: str | None = None,
    storage: str | None = None,
    name: str | None = None,
    output: str | Path | None = None,
    force: bool = False,
    track: Track = untracked,
    watch: Watch = lambda _: None,
    **options: Any,
) -> Outcome:
    """Searches the settings that suit a data set best, and trains a model with them.

    The study is kept on disk: the same call goes on with it, and several at once share it. Trials are trained in
    processes of their own, so that a script that calls this needs ``if __name__ == "__main__":`` around it.

    Args:
        data: A folder of labelled images, or several that are one data set; None draws one.
        space: For each setting that is searched its values: a sequence, or a text such as ``"0.2,0.5"`` or
            ``"1e-4..1e-2:log"``; those of one value are the same for all trials.
        config: The settings that all trials have, as a `TrainConfig` or a mapping of its names.
        study: The study's name; None takes the data folder's.
        storage: The address of a database that several machines share; None keeps the study in the cache directory.
        name: The best model's name; None takes the data folder's, with a number where that is taken.
        output: A directory to save it in instead of the user's cache.
        force: Whether a study of that name is begun anew.
        track: Watches the progress of what is done here.
        watch: Is shown the trials while they go on.
        options: How to search, by the names of `TuneOptions`.

    Returns:
        What was found; its page and tables are in the study's directory.

    Raises:
        LabelrError: If settings, data or surroundings do not allow it, or no trial came to its end.
    """
    searched, single = Space.of(space or {})
    given = TrainConfig.of(config, **single)
    chosen = TuneOptions.of({"metric": given.select, **options})
    given = replace(given, select=chosen.metric)
    sampler = check_search(given, searched, chosen)
    place = Path(output) if output is not None else None
    if name is not None:
        place = store.models_folder() / store.check_name(name)
    if study is not None:
        store.check_name(study, "study")
    if storage is not None:
        check_storage(storage)
    folders = as_folders(data)
    deadline = time.time() + 60 * chosen.time if chosen.time else None
    with _going_on() as ends:
        machine = pick_runtime(given.device, amp=given.amp, threads=given.threads, workers=given.workers)
        dataset = prepare(folders, given, machine, track=track)
        _check_scorable(dataset)
        settings = resolve(given, machine, drawn=not folders, num_train=len(dataset.split_rows("train")))
        identity = identity_of(dataset, settings, searched, chosen, sampler)
        found = ends.enter_context(closing(begin_study(study, name_of_data(folders), storage, identity, force=force)))
        ends.enter_context(found.at_work(uuid.uuid4().hex))
        check_place(found, place, force=force)
        threads = max(1, machine.threads // chosen.jobs)
        job = Job(
            found.name, found.folder, found.url, dataset, not folders, given, searched, chosen, sampler, threads,
            deadline,
        )  # fmt: skip
        search(found, job, machine, track=track, watch=watch)
        outcome = conclude(found, job, tuple(map(str, folders)))
        if chosen.refit:
            outcome = refit(found, outcome, dataset, place, force=force, track=track)
        if given.report:
            log.info("a page to look at: %s", write_study_page(outcome))
    return outcome


def _check_scorable(dataset: Dataset) -> None:
    if not len(dataset.split_rows("val")):
        raise LabelrError(
            "there are no validation images on which trials could be compared", "set `--val-fraction` above 0"
        )


@contextmanager
def _going_on() -> Iterator[ExitStack]:
    """Lets whoever stops the search know that the same command goes on with it; the stack is closed at the end."""
    try:
        with ExitStack() as ends:
            yield ends
    except signals.Stopped as stopped:
        stopped.resume_option = ""
        raise


def search(study: Study, job: Job, machine: Runtime, *, track: Track, watch: Watch) -> None:
    """Lets workers try what is left to try, until all is done or the time is over."""
    trials = read_trials(study.shared)
    num_over = sum(trial.is_over for trial in trials)
    log.info("%s", describe_search(job, study.folder, num_over))
    if job.num_points is not None and num_over >= job.num_points:
        return
    _fill_cache(job, machine, track)
    teller = Teller(job, trials)
    size = job.options.jobs if job.num_points is None else min(job.options.jobs, job.num_points - num_over)
    try:
        with signals.deferred(), Crew.at_work(job, size, lambda: len(study.attempts())) as crew:
            while crew.look_after():
                trials = read_trials(study.shared)
                teller.tell(trials)
                watch(trials)
                signals.raise_if_stopped()
                time.sleep(LOOK_SECONDS)
    finally:
        watch(())
    teller.tell(read_trials(study.shared))


def _fill_cache(job: Job, machine: Runtime, track: Track) -> None:
    """Decodes the images once for all trials, at each size and by each rule that they will have."""
    searched = {name: job.space.dimensions[name] for name in ("image_size", "resize") if name in job.space.dimensions}
    axes = {name: dimension.choices for name, dimension in searched.items() if isinstance(dimension, Values)}
    if len(axes) < len(searched):
        return  # nobody knows which sizes a range will give
    for values in product(*axes.values()):
        settings = job.point_settings(dict(zip(axes, values, strict=True)), machine)
        size = cast("int", settings.image_size)
        job.dataset.pixels(size, rule=settings.resize, options=settings, threads=machine.workers, track=track)


def conclude(study: Study, job: Job, data: tuple[str, ...]) -> Outcome:
    """What a study has found so far, written into its directory as tables and settings.

    Raises:
        LabelrError: If no trial is complete.
    """
    trials = ranked(read_trials(study.shared))
    log.info("%s", summarise(trials))
    if not trials or trials[0].state != "complete":
        reasons = list(dict.fromkeys(trial.reason for trial in trials if trial.reason))
        why = f": {preview(reasons, 2)}" if reasons else ""
        hint = (
            "change what they say, and give the study another name with `--study`" if reasons else "allow more `--time`"
        )
        raise LabelrError(f"no trial came to its end{why}", hint)
    _tidy(study, trials)
    outcome = Outcome(
        study.name, study.folder, data, job.given, job.space, job.options, job.sampler, tuple(trials), importance(study)
    )
    files.write_atomically(study.folder / TRIALS_FILE, trials_csv(outcome))
    files.write_atomically(study.folder / store.CONFIG_FILE, files.json_text(outcome.best_config.to_dict()))
    return outcome


def _tidy(study: Study, trials: Sequence[Trial]) -> None:
    """Deletes what trials that are over have left."""
    for trial in trials:
        for leftover in (study.folder / TRIALS_FOLDER).glob(f"{trial.number}-*") if trial.is_over else ():
            shutil.rmtree(leftover, ignore_errors=True)


def importance(study: Study) -> dict[str, float]:
    """How much of the differences between complete trials each setting explains (fANOVA, Hutter et al. 2014)."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        return dict(optuna.importance.get_param_importances(study.shared, evaluator=evaluator))
    except (ValueError, RuntimeError):  # too few trials, or all of one score
        return {}
