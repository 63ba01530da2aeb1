"""The loop over epochs: train, validate, keep the best weights on disk, save a checkpoint."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np

from labelr import files, serialization, signals
from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.label_table import Targets
from labelr.data.pixels import PixelSet
from labelr.errors import LabelrError, pluralize
from labelr.model import store
from labelr.model.calibration import UNCALIBRATED, decide
from labelr.model.info import ModelInfo
from labelr.model.predict import make_batcher, optimize_for_inference, predict_probs
from labelr.model.predictor import BATCH_SIZE, Probs
from labelr.model.pretrained import describe_start, load_start
from labelr.progress import format_duration
from labelr.scoring import metrics
from labelr.scoring.report.page import remove_report
from labelr.scoring.thresholds import DEFAULT_THRESHOLD
from labelr.training.batches import TrainImages
from labelr.training.follower import send_job
from labelr.training.head import train_head
from labelr.training.history import EpochRow, best_epoch, event_log, format_epoch, history_csv
from labelr.training.optim import Budget
from labelr.training.record import RECORD_FILE, START_OVER, versions, with_absolute_paths
from labelr.training.run import Run, write_data_files
from labelr.training.trainer import Trainer

MIN_FINE_TUNING_STEPS = 40
"""With fewer steps, training all layers makes a network worse that has a trained head."""
MIN_IMAGES = 200
"""With fewer, the head alone is better, and validation images are too few to tell: of 90 scene photographs the head
had an mAP of 0.891 and all layers 0.872 on the others; of 270, 0.906 and 0.921."""
TRAINING_COST = 4.0
"""The time of a training step as a multiple of predicting as many images."""
REPORT_SECONDS = 2
"""The time that writing the report takes at the end of a run."""

log = logging.getLogger(__name__)


def train(
    run: Run,
    dataset: Dataset,
    *,
    epochs: int | None = None,
    after_epoch: Callable[[Sequence[EpochRow]], None] = lambda _: None,
) -> list[EpochRow]:
    """Trains a model and saves it in the run's directory; resumes from the checkpoint there, if any.

    Training ends with the last epoch or at the deadline, or if validation has not improved for `patience` epochs. The
    model is saved after each epoch that is the one to keep so far: see `best_epoch`.
    `epochs` overrides the setting. `after_epoch` is called with the history after each epoch, and once after resuming.

    Raises:
        LabelrError: If the loss becomes NaN, or the model cannot be saved; the one so far is complete.
        Stopped: If a signal asked for it; the checkpoint is of the last step.
    """
    data = run.data or (str(dataset.source.parent.absolute()),)  # synthetic images have a folder too
    info = replace(describe_model(dataset, run.config), data=data)
    if value_range := info.preprocessing.value_range:
        log.info("value range of images of more than 8 bits, black to white: %s", value_range)
    run = replace(run, config=replace(run.config, epochs=epochs or run.config.epochs))
    pixels = dataset.pixels(
        info.preprocessing.image_size, rule=info.preprocessing.resize, value_range=value_range, options=run.config,
        threads=run.runtime.workers, track=run.track,
    )  # fmt: skip
    with signals.deferred(), event_log(run.log_dir) as log_events:
        loop = EpochLoop(run, dataset, pixels, info)
        if loop.resume():
            after_epoch(loop.history)
        else:
            loop.start()
        while not loop.is_over:
            row = loop.run_epoch()
            log_events(asdict(row), row.epoch)
            after_epoch(loop.history)
            signals.raise_if_stopped()
    loop.log_outcome()
    return loop.history


def describe_model(dataset: Dataset, config: TrainConfig) -> ModelInfo:
    """The info of a model that is not trained yet."""
    architecture, preprocessing = describe_start(config)
    preprocessing = replace(preprocessing, value_range=dataset.value_range or preprocessing.value_range)
    return ModelInfo(
        labels=dataset.labels,
        thresholds=(DEFAULT_THRESHOLD,) * len(dataset.labels),
        preprocessing=preprocessing,
        architecture=architecture,
        calibration=UNCALIBRATED,
        config=with_absolute_paths(config.to_dict()),
        counts=dataset.counts,
        versions=versions(),
    )


class EpochLoop:
    """The state of a run between epochs: a trainer, the history so far, the model so far, and the checkpoint."""

    def __init__(self, run: Run, dataset: Dataset, pixels: PixelSet, info: ModelInfo) -> None:
        train, train_pixels = dataset.split("train"), pixels.subset(dataset.split_rows("train"))
        images = TrainImages.of(train, train_pixels, run.config, run.runtime.device)
        send_job(run.group, train, images, info, run.config, run.runtime)
        self.trainer = Trainer(images, info, run.config, run.runtime, _budget(run, images.steps), run.group)
        self.history: list[EpochRow] = []
        self._run = run
        self._dataset = dataset
        self._info = info  # of the kept epoch, once it is saved
        self._val_targets = dataset.split("val").targets
        self._val_pixels = pixels.subset(dataset.split_rows("val"))
        self._val_batcher = make_batcher(run.runtime, info.preprocessing.image_size)
        self._checkpoint = run.checkpoint()
        self._best_created = ""  # when the kept epoch ended; the saved model has the same time
        self._seconds = 0.0  # of the current epoch, when the checkpoint was saved
        self._step_seconds = 0.0  # of training all layers, estimated
        self._start = 0.0  # of the current epoch, as if it had not been stopped

    @property
    def best(self) -> EpochRow:
        """The best epoch so far; see `best_epoch`."""
        return best_epoch(self.history, self._run.config.select)

    def start(self) -> None:
        """Loads the weights that training starts from, if the settings name any.

        Raises:
            LabelrError: If they cannot be read or downloaded.
        """
        network, config = self.trainer.network, self._run.config
        pretraining = load_start(network, self._info.labels, config, self._run.runtime)
        if pretraining is not None:
            self._info = replace(self._info, pretraining=pretraining)
            self.trainer.reset_average()

    def resume(self) -> bool:
        """Returns to the checkpoint of the run; False if there is none.

        Raises:
            LabelrError: If it is damaged, or the model so far is gone.
        """
        if not self._checkpoint.load(self._restore):
            return False
        trainer, epochs = self.trainer, self._run.config.epochs
        log.info("resuming in epoch %s, after %s steps", format_epoch(trainer.epoch, epochs), f"{trainer.steps:,}")
        if self.history:
            self._write_history()
            self._restore_best()
        return True

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.trainer.restore(state)
        self.history, self._best_created, self._seconds = state["history"], state["best_created"], state["seconds"]
        if [row.epoch for row in self.history] != list(range(1, self.trainer.epoch)):
            raise ValueError("history: it does not hold the epochs before the current one")
        self._info = replace(self._info, pretraining=state["pretraining"])

    def _restore_best(self) -> None:
        """Takes over the model so far, or saves it if the run was killed between its checkpoint and that."""
        folder, info = self._run.folder, self._info
        saved = store.load_info(folder) if (folder / store.INFO_FILE).is_file() else None
        if saved is not None and saved.created >= self._best_created:  # it is of this run, not one to be replaced
            # A run that was stopped very late has a complete model: calibration and thresholds are fitted again.
            self._info = replace(
                saved, complete=False, config=self._reached_config(), calibration=info.calibration,
                thresholds=info.thresholds,
            )  # fmt: skip
            store.save_info(folder, self._info)
        elif self.trainer.losses or len(self.history) > self.best.epoch:
            raise LabelrError(f"the model so far is gone from {folder}", START_OVER)
        else:
            self._save_best()

    @property
    def is_over(self) -> bool:
        """Whether the budget is used up, or validation has not improved for too long."""
        if not self.history or self.trainer.losses:
            return False
        patience = self._run.config.patience
        ended = self.trainer.progress >= 1 or bool(patience and len(self.history) - self.best.epoch >= patience)
        return ended or (self.history[-1].is_head and self._ends_with_head())

    def _ends_with_head(self) -> bool:
        """Whether training ends after the head: by the settings, or for lack of images or time for other layers."""
        config, trainer = self._run.config, self.trainer
        if config.train != "auto":
            return config.train == "head"
        seconds = trainer.budget.seconds_left(trainer.steps) - trainer.budget.reserved
        has_time = trainer.budget.steps is not None or seconds >= MIN_FINE_TUNING_STEPS * self._step_seconds
        lack = "time" if not has_time else "number of images" if len(trainer.images.pixels) < MIN_IMAGES else ""
        if lack:
            log.info("only the head is trained: the %s does not suffice for all layers", lack)
        return bool(lack)

    @property
    def _is_of_head(self) -> bool:
        """Whether the current epoch trains the last layer alone."""
        return self.trainer.epoch == 1 and self._run.config.is_pretrained

    def run_epoch(self) -> EpochRow:
        """Trains one epoch, or the rest of it, validates the averaged weights, and saves checkpoint, model and history.

        Raises:
            LabelrError: If the network outputs NaN, memory does not suffice, or a file cannot be written.
            Stopped: If a signal asked for it; the checkpoint is of the last step.
        """
        trainer = self.trainer
        self._start = time.perf_counter() - self._seconds
        row, validation_seconds = self._train_and_validate()
        report_seconds = REPORT_SECONDS if self._run.config.report else 0
        # The next validation; and with all views: for the thresholds, of the test split, and a margin.
        num_views = 2 if trainer.preprocessing.flip_averaging else 1
        trainer.budget.reserved = (1 + 3 * num_views) * validation_seconds + 1 + report_seconds
        self.history.append(row)
        if row is self.best:
            self._best_created = datetime.now(UTC).isoformat(timespec="milliseconds")
        trainer.end_epoch()
        if row.is_head:
            trainer.budget.start = time.monotonic()  # of the schedule, which is of the other epochs
            per_image = validation_seconds / max(1, len(self._val_pixels))
            self._step_seconds = TRAINING_COST * per_image * trainer.images.batch_size
        self._save_checkpoint(seconds=0.0)
        log.info("%s", row.line(self._run.config.epochs))
        if row is self.best:
            self._save_best()
        self._write_history()
        return row

    def _train_and_validate(self) -> tuple[EpochRow, float]:
        """The measurements of the current epoch, and the seconds that validation took."""
        trainer = self.trainer
        lr, image_size = trainer.lr_at(trainer.epoch_start), trainer.size_at(trainer.epoch_start)
        if self._is_of_head:
            lr, image_size, layers = 0.0, self._info.preprocessing.image_size, 1
            num_images = len(trainer.images.pixels)
            train_loss = train_head(
                trainer.network, trainer.images, self._val_pixels, self._val_targets, self._info, self._run
            )
            trainer.reset_average()
        else:
            layers = sum(weight.ndim > 1 for weight in trainer.gradients.parameters)
            train_loss = trainer.run_epoch(self._run.track, self._live_line, self._after_step)
            num_images = len(trainer.losses) * trainer.images.batch_size
        train_seconds = time.perf_counter() - self._start
        scores = validation_scores(self._predict_val(), self._val_targets)
        seconds = time.perf_counter() - self._start
        row = EpochRow(
            epoch=trainer.epoch, train_loss=train_loss, **scores, lr=lr, seconds=seconds,
            images_per_second=num_images / train_seconds, waited_seconds=trainer.waited_seconds, image_size=image_size,
            trained_layers=layers,
        )  # fmt: skip
        return row, seconds - train_seconds

    def _predict_val(self) -> Probs:
        """The uncalibrated probabilities of the averaged network on the validation split, for an image as it is.

        A mean with its mirror image, which `finalize` computes, would take twice as long in each epoch.
        """
        trainer, runtime = self.trainer, self._run.runtime
        preprocessing = replace(trainer.preprocessing, flip_averaging=False)
        network, pixels = optimize_for_inference(trainer.averaged, runtime), self._val_pixels.batches(BATCH_SIZE)
        batches = [np.empty((0, len(self._dataset.labels)), np.float32)]
        for batch in predict_probs(network, pixels, preprocessing, runtime, batcher=self._val_batcher):
            batches.append(batch)
            self._after_step()
        probs = np.concatenate(batches)
        if not np.isfinite(probs).all():
            raise LabelrError(
                f"the network outputs NaN after epoch {trainer.epoch}",
                f"use a smaller learning rate than `--lr {self._run.config.lr:g}`, or `--no-amp`",
            )
        return probs

    def _after_step(self) -> None:
        """Saves a checkpoint within an epoch if it is due, and stops if a signal asked for it.

        The epoch of the head has none: repeated from a head that is fitted already, it would end elsewhere.
        """
        if self._checkpoint.is_due and not self._is_of_head:
            self._save_checkpoint(time.perf_counter() - self._start)
        signals.raise_if_stopped()

    def _live_line(self) -> str:
        """The line that is shown during an epoch: epoch, latest scores, speed and time left."""
        trainer = self.trainer
        parts = [f"epoch {format_epoch(len(self.history) + 1, self._run.config.epochs)}"]
        if trainer.latest_loss is not None:
            parts.append(f"loss {trainer.latest_loss:.3f}")
        if self.history:
            parts += [f"mAP {self.history[-1].val_map:.3f}", f"F1 {self.history[-1].val_f1:.3f}"]
        speed = len(trainer.losses) * trainer.images.batch_size / (time.perf_counter() - self._start)
        parts += [f"lr {trainer.lr_at(trainer.progress):.1e}", f"{speed:,.0f} images/s"]
        left = trainer.budget.seconds_left(trainer.steps)
        if np.isfinite(left):
            parts.append(f"{format_duration(left)} left")
        return "  ".join(parts)

    def _save_checkpoint(self, seconds: float) -> None:
        self._seconds = seconds
        self._checkpoint.save(
            {
                **self.trainer.state(),
                "history": [asdict(row) for row in self.history],
                "best_created": self._best_created,
                "seconds": seconds,
                "pretraining": asdict(self._info.pretraining) if self._info.pretraining else None,
            }
        )

    def _save_best(self) -> None:
        """Saves the averaged weights of the epoch that has just ended."""
        config = self._reached_config()
        info = replace(self._info, best_epoch=self.best.epoch, created=self._best_created, config=config)
        if not info.weights:
            self._write_data_files(info)
        self._info = store.save(self._run.folder, self.trainer.averaged, info)

    def _reached_config(self) -> dict[str, Any]:
        """The settings, with the micro-batch that memory allowed."""
        return {**self._info.config, "micro_batch": self.trainer.gradients.micro_batch}

    def _write_data_files(self, info: ModelInfo) -> None:
        """Writes the settings and data of the model before the model itself, so that none is without them."""
        folder = self._run.folder
        for name in (RECORD_FILE, store.METRICS_FILE, store.PREDICTIONS_FILE):  # of the model that is replaced
            (folder / name).unlink(missing_ok=True)
        remove_report(folder)
        files.write_atomically(folder / store.CONFIG_FILE, serialization.json_text(info.config))
        write_data_files(folder, self._dataset)

    def _write_history(self) -> None:
        files.write_atomically(self._run.folder / store.HISTORY_FILE, history_csv(self.history))

    def log_outcome(self) -> None:
        """Logs why training ended, how long it took, and which epoch is kept."""
        if self.trainer.progress < 1 and len(self.history) > 1:
            log.info(
                "stopped early: validation has not improved for %s; kept epoch %d",
                pluralize(self._run.config.patience or 0, "epoch"), self.best.epoch,
            )  # fmt: skip
        seconds, waited = (sum(getattr(row, name) for row in self.history) for name in ("seconds", "waited_seconds"))
        log.info(
            "trained for %s in %s s, %.1f %% of it spent waiting for images",
            pluralize(len(self.history), "epoch"), f"{seconds:,.0f}", 100 * waited / seconds,
        )  # fmt: skip
        if self.history[0].is_head and len(self.history) > 1:
            better = f"epoch {self.best.epoch}: it validates better than the head alone"
            log.info("kept %s", "the head alone: no other epoch validates better" if self.best.is_head else better)


def validation_scores(probs: Probs, targets: Targets) -> dict[str, float]:
    """The columns ``val_...`` of an epoch, from probabilities and targets ``(N, L)``, at a threshold of 0.5."""
    preds = decide(probs, DEFAULT_THRESHOLD)
    averages = metrics.averages(preds, targets)
    return {
        "val_loss": metrics.bce(probs, targets),
        "val_map": float(metrics.mean_or_nan(metrics.average_precision(probs, targets))),
        "val_f1": averages["f1_micro"],
        "val_precision": averages["precision_micro"],
        "val_recall": averages["recall_micro"],
        "val_f1_macro": averages["f1_macro"],
        "val_exact_match": metrics.exact_match(preds, targets),
    }


def _budget(run: Run, steps_per_epoch: int) -> Budget:
    if run.deadline is None:
        epochs = cast("int", run.config.epochs) - run.config.is_pretrained  # the head is trained without steps
        return Budget(steps=epochs * steps_per_epoch)
    if run.deadline <= time.monotonic():
        raise LabelrError(
            "the time was over before training started: reading the images took it", "allow more `--time`"
        )
    return Budget(deadline=run.deadline)
