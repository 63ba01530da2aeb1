"""The main path of training: load the data, split it, open a run, train, calibrate, evaluate, save, report."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelr import files
from labelr.buckets import results
from labelr.buckets.addresses import address_of
from labelr.config import TrainConfig, check_place
from labelr.data.dataset import Dataset
from labelr.data.label_table import SPLITS
from labelr.data.load import load_dataset
from labelr.data.locate import Data, locate_data, with_label_table
from labelr.data.splits import split_dataset
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError, first_line, pluralize, preview
from labelr.frames import MAX_NAMES, as_html, text_index
from labelr.model import store
from labelr.model.backbones import LiteBackbone
from labelr.model.device import is_out_of_memory, pick_runtime
from labelr.model.predict import Model
from labelr.model.pretrained import resolve_start
from labelr.progress import Track, untracked
from labelr.ranks import Place
from labelr.scoring.evaluate import check_suspects_file
from labelr.scoring.results import describe_scores, headline, read_metrics
from labelr.training.epochs import train
from labelr.training.finalize import compare_with_earlier, finalize, replaced_model
from labelr.training.folds import cross_validate, finalize_folds
from labelr.training.follower import follow, opened, torchrun_devices
from labelr.training.history import EpochRow, check_event_log, read_history
from labelr.training.record import RECORD_FILE, RunRecord, applied_settings, is_resumable
from labelr.training.run import Run, open_run

if TYPE_CHECKING:
    import pandas as pd

FEW_IMAGES = 5000
"""Below this, pretrained weights help most."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """The result of training. It can be unpacked: ``model, history, metrics = labelr.fit(...)``.

    Attributes:
        model: The model of the kept epoch, as saved.
        epoch_rows: What was measured in each epoch.
        metrics: The metrics on the test split by name, or on the validation split without a test split; with folds,
            their means over the folds. NaN where not evaluable.
    """

    model: Model
    epoch_rows: Sequence[EpochRow]
    metrics: dict[str, float]

    @cached_property
    def history(self) -> "pd.DataFrame":
        """``history.csv``: one row per epoch, by the index ``epoch``, from 1.

        Columns: ``train_loss``; ``val_loss``, ``val_map``, ``val_f1``, ``val_f1_macro``, ``val_precision``,
        ``val_recall`` and ``val_exact_match`` on the validation images at a threshold of 0.5, NaN where not evaluable;
        ``lr``, ``seconds``, ``images_per_second``, ``waited_seconds``, ``image_size``, ``trained_layers``.
        """
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.epoch_rows]).set_index("epoch")

    def __iter__(self) -> Iterator[Any]:
        """The model, the history and the metrics."""
        return iter((self.model, self.history, self.metrics))

    def __repr__(self) -> str:
        epochs = pluralize(len(self.epoch_rows), "epoch")
        return f"<FitResult: model {self.model.name}, {epochs}; {self._scored_on}: {describe_scores(self.metrics)}>"

    def _repr_html_(self) -> str:
        import pandas as pd

        info = self.model.info
        facts = {
            "Model": self.model.name,
            "Directory": self.model.path,
            "Labels": preview(info.labels, MAX_NAMES),
            "Epoch kept": f"{info.best_epoch} of {len(self.epoch_rows)}",
        }
        scores = pd.DataFrame([headline(self.metrics)], index=text_index([self._scored_on], "metric"))
        return as_html("FitResult", facts, scores, self.history)

    @property
    def _scored_on(self) -> str:
        return self.model.info.scored_on or "not scored"

    @classmethod
    def load(cls, model: Model) -> "FitResult":
        """The result of the training run that made a model."""
        metrics = read_metrics(model.path)["metrics"]
        values = {name: np.nan if value is None else value for name, value in metrics.items()}
        return cls(model, read_history(model.path / store.HISTORY_FILE), values)

    def to_json(self) -> dict[str, Any]:
        """The model's directory and name, the settings, the history and the metrics, ready for JSON.

        ``settings`` has those that had a meaning in the run, ``seconds`` is the duration of all epochs.
        """
        info = self.model.info
        return {
            **read_metrics(self.model.path),  # first: it names the directory that the model was trained in
            "model": str(address_of(self.model.path) or self.model.path),
            "name": self.model.name,
            "best_epoch": info.best_epoch,
            "seconds": round(sum(row.seconds for row in self.epoch_rows), 3),
            "settings": applied_settings(self.model.path, info),
            "history": [row.to_json() for row in self.epoch_rows],
        }


def fit(
    data: Data = None,
    config: TrainConfig | Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    output: str | Path | None = None,
    log_dir: str | Path | None = None,
    suspects: str | Path | None = None,
    force: bool = False,
    resume: bool = False,
    track: Track = untracked,
    **settings: Any,
) -> FitResult:
    """Trains a model on a folder of labelled images and saves it.

    Args:
        data: A folder of labelled images, or several that form one data set; label files, each behind the folder of its
            images or alone; a DataFrame of labels with ``images``, the folder of its images; image files with
            ``labels``, a list of labels for each, or a 0/1 matrix with ``label_names``; a mapping from image files to
            labels; None trains on synthetic images.
        config: The settings, as a `TrainConfig` or a mapping.
        name: The model's name; None takes the data folder's, with a number if that is taken.
        output: A directory to save the model in, instead of the user's cache.
        log_dir: A directory for TensorBoard events; None writes none.
        suspects: A CSV file for suspected label errors; None writes none.
        force: Whether an existing model or run of that name, and the table of suspects, may be replaced.
        resume: Whether to resume a stopped run of that name. If there is none, a new run starts; the result of a
            finished run is returned again.
        track: Replaces the progress bars of a terminal or a notebook; ``progress=False`` shows none.
        **settings: Settings by name; they override those of `config`.

    Returns:
        The model, the history of its training, and its metrics.

    Raises:
        LabelrError: If settings, data or the environment do not allow it.
    """
    if Place.of_environment().rank:
        return FitResult.load(store.load_from(follow(), pick_runtime()))
    check_place(name, output)
    data, settings = with_label_table(data, settings)
    folders, config = locate_data(data, torchrun_devices(TrainConfig.of(config, **settings)))
    events, table = (None if path is None else files.local_path(path) for path in (log_dir, suspects))
    check_event_log(events)
    marks = (store.INFO_FILE, store.RUN_FILE, RECORD_FILE)
    with nullcontext() if output is None else results.written(output, marks, resume_option="--resume") as place:
        return fit_located(
            folders, config, suspects=table, name=name, output=place, force=force, resume=resume, log_dir=events,
            track=track,
        )  # fmt: skip


def fit_located(
    folders: Sequence[Path], config: TrainConfig, *, suspects: Path | None = None, study: str = "", **place: Any
) -> FitResult:
    """Trains a model on folders, none for synthetic images, with the settings that `locate_data` returned; see `fit`.

    `study` is the mark of the study that the run belongs to, which its record keeps, and `place` are the arguments of
    `open_run`.
    """
    with (
        open_run(folders, config, **place) as run,
        opened(run.config, run.runtime, run.folder, is_needed=not run.is_finished) as run.group,
    ):
        if run.record is None:  # a finished run needs neither the weights nor the model that it started from
            run.config = resolve_start(run.config, run.runtime)
        check_suspects_file(suspects, force=place.get("force", False), resume=run.record is not None)
        dataset = load_splits(folders, run.config, workers=run.runtime.workers, track=run.track)
        if run.record:
            dataset = run.record.restore_splits(dataset, run.folder)
        if run.is_finished:
            return _previous_result(run, suspects)
        num_train = len(dataset.split_rows("train"))
        resolved = run.config.resolved(run.runtime.options, num_train=num_train, is_synthetic=not folders)
        replaced = replaced_model(run, dataset)
        given = run.record.given_at_start(config) if run.record else config.to_dict()
        record = RunRecord.of(folders, given, resolved, dataset, study)
        run.start(record)
        with _explain_failure(run.folder):
            if resolved.folds:
                folds = cross_validate(run, dataset)
                log.info("training on all images for %s", pluralize(folds.median_epoch, "epoch"))
                train(run, dataset, epochs=folds.median_epoch)
                model = finalize_folds(run, dataset, folds, suspects=suspects)
            else:
                train(run, dataset)
                model = finalize(run, dataset, suspects=suspects)
        run.finish(record, dataset)
        compare_with_earlier(run, model, dataset, replaced)
        if folders:
            _advise_backbone(dataset, run.config)
    return FitResult.load(model)


def _advise_backbone(dataset: Dataset, config: TrainConfig) -> None:
    """Logs that a backbone is installed, if few photographs were trained on from scratch."""
    from_scratch = config.backbone == "none" and config.init is None
    if from_scratch and len(dataset) < FEW_IMAGES and LiteBackbone.of(0).local_weights() is not None:
        log.info(
            "with %s, `--backbone auto`, which starts from pretrained weights, is usually better",
            pluralize(len(dataset), "image"),
        )


def load_splits(folders: Sequence[Path], config: TrainConfig, *, workers: int = 1, track: Track = untracked) -> Dataset:
    """The data set of some folders, or a synthetic one, split into train, val and test.

    Labels without a positive are left out.

    Raises:
        LabelrError: If there is nothing to train on.
    """
    dataset = load_dataset(folders or [_make_synthetic(config, track)], config, threads=workers, track=track)
    dataset = split_dataset(_without_absent_labels(dataset), config)
    sizes = {split: len(dataset.split_rows(split)) for split in SPLITS}
    log.info("split: %s", ", ".join(f"{size:,} {split}" for split, size in sizes.items()))
    if sizes["train"] < 2:
        left = pluralize(sizes["train"], "image is", "images are")
        raise LabelrError(f"{left} left to train on, of {len(dataset):,} with labels", "label more images")
    if not (config.folds or sizes["val"]):
        _check_needs_no_validation(config)
    return dataset


def _check_needs_no_validation(config: TrainConfig) -> None:
    """Raises LabelrError if a setting has no meaning without validation images."""
    if config.target_precision or config.target_recall:
        raise LabelrError(
            "there are no validation images to choose thresholds for a target on",
            "set `--val-fraction` above 0, or leave out `--target-precision` and `--target-recall`",
        )
    if config.patience or config.select:
        raise LabelrError(
            "there are no validation images to choose an epoch by",
            "set `--val-fraction` above 0, or leave out `--patience` and `--select`",
        )


def _make_synthetic(config: TrainConfig, track: Track) -> Path:
    """The folder of a synthetic data set, kept in the cache so that it can be inspected and tagged."""
    name = f"{config.synthetic}-images-{config.num_labels}-labels-seed-{config.seed}"
    folder = files.home() / "synthetic" / name
    make_synthetic_dataset(folder, config.synthetic, config.num_labels, seed=config.seed, track=track)
    return folder


def _without_absent_labels(dataset: Dataset) -> Dataset:
    absent = [label for label, count in zip(dataset.labels, dataset.positives, strict=True) if count == 0]
    if not absent:
        return dataset
    if len(absent) == len(dataset.labels):
        raise LabelrError(f"{dataset.source}: no image has any label", "mark with 1 which labels an image has")
    log.warning("left out: %s without a positive: %s", pluralize(len(absent), "label"), preview(absent))
    return dataset.with_labels([label for label in dataset.labels if label not in absent])


def _previous_result(run: Run, suspects: Path | None) -> FitResult:
    run.discard_progress()  # that a kill may have left
    log.info("the model in %s is finished already, with the same data and settings", run.folder)
    if suspects is not None:
        log.warning("no table of suspects is written: write one with `labelr evaluate --suspects`")
    return FitResult.load(store.load_from(run.folder, run.runtime))


@contextmanager
def _explain_failure(folder: Path) -> Iterator[None]:
    """Logs what is kept of a run that fails or is stopped, and explains when memory runs out."""
    try:
        yield
    except BaseException as error:
        if (folder / store.INFO_FILE).is_file():
            info = store.load_info(folder)
            if not info.complete:
                log.warning("the model of epoch %d is in %s", info.best_epoch, folder)
        may_succeed = not isinstance(error, LabelrError) or isinstance(error.__cause__, OSError)
        if isinstance(error, Exception) and may_succeed and is_resumable(folder):
            log.warning("the progress is saved: resume with the same command and `--resume`")
        if is_out_of_memory(error):
            raise LabelrError(
                f"memory ran out: {first_line(error)}",
                "free some memory, or use a smaller `--batch-size`, `--image-size` or `--width`, or fewer `--workers`",
            ) from error
        raise
