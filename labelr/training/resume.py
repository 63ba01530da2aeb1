"""What an unfinished run may go on with: the settings and the data that it was begun with, and nothing else."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelr import files
from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.label_table import SPLITS
from labelr.errors import LabelrError, preview
from labelr.model import shelf
from labelr.model.locks import is_locked
from labelr.model.reservation import default_stem
from labelr.model.runs import Run, RunImage
from labelr.version import __version__

FREE = ("cache_limit", "checkpoint_minutes", "micro_batch", "plot_format", "report", "workers")
"""Settings that may change on the way: they say how something is computed, not what; but see `micro_batch`."""
ANEW = "start the run anew with `--force`"

log = logging.getLogger(__name__)


def record(folder: Path, data: Sequence[Path], given: TrainConfig, settings: TrainConfig, dataset: Dataset) -> None:
    """Writes ``run.json``: what a run is begun with.

    Raises:
        LabelrError: If it cannot be written.
    """
    run = Run(
        data=_absolute(data),
        given=given.to_dict(),
        settings=settings.to_dict(),
        labels=dataset.labels,
        images=images_of(dataset),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    files.write_atomically(folder / shelf.RUN_FILE, run.to_json())


def versions() -> dict[str, str]:
    """Of labelr and torch."""
    return {"labelr": __version__, "torch": torch.__version__}


def name_of_run(default_name: str, data: Sequence[Path], given: TrainConfig, *, resume: bool) -> str | None:
    """The name of the run that is there already and that a command means which names none; None if there is none.

    Args:
        default_name: What runs on this data are called where nobody names them.
        data: The data folders.
        given: The settings asked for.
        resume: Whether to go on with one: then an unfinished one with other settings is meant too, if there is no
            better one, and else a finished one.
    """
    pattern = re.compile(re.escape(default_stem(default_name)) + r"(-\d+)?")
    found = []
    for rank, name in enumerate((shelf.RECORD_FILE, shelf.RUN_FILE) if resume else (shelf.RUN_FILE,)):
        for path, run in shelf.list_runs(name):
            same = not setting_differences(run, given, may_grow=name == shelf.RUN_FILE)
            wanted = same or (resume and name == shelf.RUN_FILE)
            if (
                wanted
                and pattern.fullmatch(path.name)
                and run.data == _absolute(data)
                and (resume or not is_locked(path))
            ):
                found.append((same, rank, run.created, path.name))
    return max(found)[-1] if found else None


def is_finished(folder: Path) -> bool:
    """Whether the run in a directory has nothing left to do."""
    return (folder / shelf.RECORD_FILE).is_file() and not (folder / shelf.RUN_FILE).is_file()


def resumed_settings(folder: Path, given: TrainConfig) -> tuple[TrainConfig, Run | None]:
    """The settings that the run in a directory goes on with, and the run as it was begun; None if there is no run.

    Raises:
        LabelrError: If it was begun with other settings than those given now.
    """
    finished = is_finished(folder)
    if not finished and not shelf.is_resumable(folder):
        log.info("there is no unfinished run to go on with: a new one begins in %s", folder)
        return given, None
    run = shelf.read_run(folder / (shelf.RECORD_FILE if finished else shelf.RUN_FILE))
    differences = setting_differences(run, given, may_grow=not finished)
    if differences:
        raise LabelrError(
            f"the {'finished' if finished else 'unfinished'} run in {folder} was begun with other settings: "
            f"{'; '.join(differences)}",
            f"give the same options, or {ANEW}",
        )
    if run.versions != versions() and not finished:
        log.warning(
            "the run was begun with %s and goes on with %s: the result will not be the same to the last bit",
            _named(run.versions), _named(versions()),
        )  # fmt: skip
    if given.micro_batch not in (None, run.settings.get("micro_batch")):
        log.warning("with another micro_batch the result will not be the same: BatchNorm sees other images together")
    changed = {name: value for name in (*FREE, "epochs") if (value := getattr(given, name)) is not None}
    return replace(TrainConfig.of(run.settings), **changed), run


def setting_differences(run: Run, given: TrainConfig, *, may_grow: bool = True) -> list[str]:
    """What was another setting when a run was begun, each as a sentence part; epochs may have grown."""
    differences = []
    for name, value in given.to_dict().items():
        before, chosen = run.given.get(name), run.settings.get(name)
        if name in FREE or value == before or (value is not None and value == chosen):
            continue
        if name == "epochs" and may_grow and not given.folds and (value is None or value >= chosen):
            continue
        differences.append(f"{name} was {said_setting(before)} and is {said_setting(value)}")
    return differences


def with_recorded_parts(dataset: Dataset, run: Run, folder: Path) -> Dataset:
    """The data with the split that the run was begun with.

    Raises:
        LabelrError: If images or labels are others than then.
    """
    differences = list(_data_differences(dataset, run))
    if differences:
        raise LabelrError(
            f"the data has changed since the run in {folder} was begun: {'; '.join(differences)}",
            f"restore it, or {ANEW}",
        )
    splits = [SPLITS.index(run.images[file].part) for file in dataset.files]
    return replace(dataset, splits=np.array(splits, np.int64))


def _data_differences(dataset: Dataset, run: Run) -> Iterable[str]:
    if dataset.labels != run.labels:
        yield f"the labels were {preview(run.labels)} and are {preview(dataset.labels)}"
        return
    now = images_of(dataset)
    gone = [file for file in run.images if file not in now]
    new = [file for file in now if file not in run.images]
    both = [file for file in now if file in run.images]

    def other(field: str) -> list[str]:
        return [file for file in both if getattr(now[file], field) != getattr(run.images[file], field)]

    found = {
        "images are gone or do not open": gone, "images are new": new, "images have another content": other("digest"),
        "images have other labels": other("targets"), "images are in another group": other("group"),
    }  # fmt: skip
    if run.versions == versions() and not any(found.values()):  # another version may divide otherwise
        found["images would be in another part of train, val and test"] = other("part")
    yield from (f"{len(names):,} {what}: {preview(names)}" for what, names in found.items() if names)
    if not any(found.values()) and list(now) != list(run.images):
        yield "the images are listed in another order"


def images_of(dataset: Dataset) -> dict[str, RunImage]:
    """What a run is made of, image by image."""
    groups = dataset.groups or [""] * len(dataset)
    columns = zip(dataset.split_names, dataset.digests, _target_texts(dataset.targets), groups, strict=True)
    return {file: RunImage(*image) for file, image in zip(dataset.files, columns, strict=True)}


def _target_texts(targets: np.ndarray[Any, np.dtype[np.float32]]) -> list[str]:
    """A row of targets ``(N, L)`` as a text of a character for each label, N of them."""
    characters = np.where(np.isnan(targets), "?", np.where(targets > 0.5, "1", "0"))
    return ["".join(row) for row in characters.tolist()]


def _absolute(data: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(folder.resolve()) for folder in data)


def said_setting(value: object) -> str:
    """A setting's value, or a list of them, as a sentence has it."""
    return "auto" if value is None else ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _named(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
