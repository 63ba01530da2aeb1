"""The record of a training run, ``run.json``: what it was started with, and whether it can be resumed."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

from msgspec import Meta

from labelr import files, locks, serialization
from labelr.buckets.addresses import address_of, parse
from labelr.config import TrainConfig, applicable
from labelr.errors import LabelrError, pluralize, preview
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.archive import verify
from labelr.model.info import ModelInfo, Setting, Timestamp
from labelr.model.store import RUN_FILE
from labelr.training.history import read_history
from labelr.version import __version__

if TYPE_CHECKING:
    from labelr.data.dataset import Dataset

FORMAT = 1
"""Of the record and the checkpoint."""
RECORD_FILE = "record.json"
"""``run.json``, renamed once the run is finished."""
CHECKPOINT_FILE = "checkpoint.pt"
FOLDS_FOLDER = "folds"
FREE_SETTINGS = (
    "cache_limit", "checkpoint_minutes", "devices", "micro_batch", "plot_format", "report", "threads", "workers",
)  # fmt: skip
"""Settings that a resumed run may change: the result does not depend on them, except on `micro_batch`, and on `devices`
if these are GPUs, whose number stays."""
_CHANGEABLE = frozenset({*FREE_SETTINGS, "epochs"})
START_OVER = "start over with `--force`"

log = logging.getLogger(__name__)


class RecordedImage(NamedTuple):
    """One image of a run.

    Attributes:
        split: ``"train"``, ``"val"`` or ``"test"``.
        digest: SHA-256 of the file.
        targets: One character per label: 1, 0, or ? for unknown.
        group: Its group in the label file; empty without groups.
    """

    split: Annotated[str, Meta(pattern=r"^(train|val|test)\Z")]
    digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    targets: Annotated[str, Meta(pattern=r"^[01?]*\Z")]
    group: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run was started with.

    Attributes:
        data: The absolute data folders; none for synthetic images.
        given: The settings as given by the user.
        settings: The settings with every "auto" resolved.
        labels: L label names, in the order of the network's outputs.
        images: Each image by its name in the label file.
        versions: Of labelr and torch.
        created: When the run was started, ISO 8601.
        study: The mark of the study whose best settings it trains; empty for other runs.
    """

    data: tuple[str, ...]
    given: dict[str, Setting]
    settings: dict[str, Setting]
    labels: tuple[str, ...]
    images: dict[str, RecordedImage]
    versions: dict[str, str]
    created: Timestamp
    study: str = ""

    @classmethod
    def of(
        cls, data: Sequence[Path], given: dict[str, Setting], settings: TrainConfig, dataset: "Dataset", study: str = ""
    ) -> Self:
        """The record of a run that starts now."""
        return cls(
            data=absolute_paths(data),
            given=given,
            settings=settings.to_dict(),
            labels=dataset.labels,
            images=recorded_images(dataset),
            versions=versions(),
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            study=study,
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a ``run.json`` or ``record.json``.

        Raises:
            LabelrError: If there is none, it is damaged, or of another format.
        """
        record = serialization.read_json(path, cls, START_OVER, newest=FORMAT)
        with files.reading(path, START_OVER):
            datetime.fromisoformat(record.created)
            if any(len(image.targets) != len(record.labels) for image in record.images.values()):
                raise ValueError("images: expected a target for each label")
            try:
                record.config()
            except SettingError as error:
                raise ValueError(f"settings: {error.message}") from error
        return record

    def config(self) -> TrainConfig:
        """The settings that this version knows, with every "auto" resolved."""
        return TrainConfig.of({name: value for name, value in self.settings.items() if name in TrainConfig.names()})

    def given_at_start(self, given: TrainConfig) -> dict[str, Setting]:
        """The settings as given when the run was started; those that a resumed run may change, as given now."""
        now = given.to_dict()
        return {**now, **{name: value for name, value in self.given.items() if name in now.keys() - _CHANGEABLE}}

    def to_json(self) -> str:
        """The content of ``run.json``; file names that are not valid UTF-8 keep their bytes."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=True) + "\n"

    def setting_differences(self, given: TrainConfig, *, epochs_may_grow: bool = True) -> list[str]:
        """Which settings differ from those of the run, one phrase each; only `FREE_SETTINGS` and more epochs may."""
        differences = []
        free = {*FREE_SETTINGS} - ({"devices"} if self.settings.get("device") != "cpu" else set())
        for name, value in given.to_dict().items():
            before, resolved = self.given.get(name), self.settings.get(name)
            names_what_auto_chose = value is not None and value == resolved
            if name in free or value == before or names_what_auto_chose:
                continue
            if name == "epochs" and epochs_may_grow and not given.folds and (value is None or value >= resolved):
                continue
            differences.append(f"{name} was {format_setting(before)} and is {format_setting(value)}")
        return differences

    def resumed_config(self, given: TrainConfig) -> TrainConfig:
        """The run's settings with "auto" resolved as before; `given` decides what a resumed run may change."""
        if given.micro_batch not in (None, self.settings.get("micro_batch")):
            log.warning("another micro_batch changes the result: BatchNorm sees other images together")
        changed = {name: value for name in _CHANGEABLE if (value := getattr(given, name)) is not None}
        return replace(self.config(), **changed)

    def restore_splits(self, dataset: "Dataset", path: Path) -> "Dataset":
        """The data with the splits of the run.

        Raises:
            LabelrError: If images or labels have changed since the run was started; `path` names the run.
        """
        differences = list(self._data_differences(dataset))
        if differences:
            raise LabelrError(
                f"the data has changed since the run in {path} was started: {'; '.join(differences)}",
                f"restore the data, or {START_OVER}",
            )
        import numpy as np

        from labelr.data.label_table import SPLITS

        splits = [SPLITS.index(self.images[file].split) for file in dataset.files]
        return replace(dataset, splits=np.array(splits, np.int64))

    def _data_differences(self, dataset: "Dataset") -> Iterator[str]:
        """What has changed in images and labels, one phrase each."""
        labels, now = dataset.labels, recorded_images(dataset)
        if labels != self.labels:
            yield f"the labels were {preview(self.labels)} and are {preview(labels)}"
            return
        removed = [file for file in self.images if file not in now]
        added = [file for file in now if file not in self.images]
        common = [file for file in now if file in self.images]

        def changed(field: str) -> list[str]:
            return [file for file in common if getattr(now[file], field) != getattr(self.images[file], field)]

        found = {
            "gone or unreadable": removed, "added": added, "of another content": changed("digest"),
            "with other labels": changed("targets"), "in another group": changed("group"),
        }  # fmt: skip
        if self.versions == versions() and not any(found.values()):  # another version may split differently
            found["that would be in another split"] = changed("split")
        yield from (
            f"{pluralize(len(names), 'image')} {what}: {preview(names)}" for what, names in found.items() if names
        )
        if not any(found.values()) and list(now) != list(self.images):
            yield "the images are listed in another order"


def versions() -> dict[str, str]:
    """Of labelr and torch."""
    import torch

    return {"labelr": __version__, "torch": torch.__version__}


def recorded_images(dataset: "Dataset") -> dict[str, RecordedImage]:
    """Each image of a data set as a record keeps it, by its name in the label file."""
    import numpy as np

    groups = dataset.groups or [""] * len(dataset)
    characters = np.where(np.isnan(dataset.targets), "?", np.where(dataset.targets > 0.5, "1", "0"))  # (N, L)
    targets = ["".join(row) for row in characters.tolist()]
    columns = zip(dataset.split_names, dataset.digests, targets, groups, strict=True)
    return {file: RecordedImage(*image) for file, image in zip(dataset.files, columns, strict=True)}


def absolute_paths(data: Sequence[Path]) -> tuple[str, ...]:
    """Data folders as a record keeps them."""
    return tuple(str(address_of(folder) or folder.resolve()) for folder in data)


def with_absolute_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that name the same files from every working directory."""

    def absolute(path: str) -> str:
        return path if parse(path) else str(Path(path).absolute())

    lists = {name: list(map(absolute, settings[name])) for name in ("labels", "splits") if settings.get(name)}
    images = {"images": absolute(settings["images"])} if settings.get("images") else {}
    return {**settings, **lists, **images}


def format_setting(value: object) -> str:
    """A setting's value as messages show it."""
    return "auto" if value is None else ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


# --- runs in the models folder ---------------------------------------------------------------------------------------


def is_resumable(folder: Path) -> bool:
    """Whether a directory holds an unfinished run with a checkpoint."""
    has_progress = (folder / CHECKPOINT_FILE).exists() or (folder / FOLDS_FOLDER).exists()
    return has_progress and (folder / RUN_FILE).is_file()


def is_finished(folder: Path) -> bool:
    """Whether the run in a directory is finished."""
    return (folder / RECORD_FILE).is_file() and not (folder / RUN_FILE).is_file()


def applied_settings(folder: Path, info: ModelInfo) -> dict[str, Any]:
    """The settings of the run that made a model, without those that had no meaning in it."""
    path = folder / RECORD_FILE
    return applicable(
        {**TrainConfig().to_dict(), **info.config}, is_synthetic=path.is_file() and not RunRecord.read(path).data
    )


def find_run(default_name: str, data: Sequence[Path], given: TrainConfig, *, resume: bool) -> str | None:
    """The name of the existing run that a command without a name refers to; None if there is none.

    That is an unfinished run on this data with the settings given. When resuming, a finished run with the same settings
    is the second choice, and an unfinished one with other settings, which is then refused, the last.
    """
    pattern = re.compile(re.escape(store.make_name(default_name)) + r"(-\d+)?")
    found = []
    for rank, name in enumerate((RECORD_FILE, RUN_FILE) if resume else (RUN_FILE,)):
        for path, record in list_runs(name):
            same = not record.setting_differences(given, epochs_may_grow=name == RUN_FILE)
            wanted = same or (resume and name == RUN_FILE)
            if (
                wanted
                and pattern.fullmatch(path.name)
                and record.data == absolute_paths(data)
                and (resume or not locks.is_locked(path))
            ):
                found.append((same, rank, record.created, path.name))
    return max(found)[-1] if found else None


def load_record(folder: Path, given: TrainConfig) -> RunRecord | None:
    """The record of the run in a directory that `given` resumes; None if there is no run to resume.

    Raises:
        LabelrError: If it was started with other settings.
    """
    finished = is_finished(folder)
    if not finished and not is_resumable(folder):
        log.info("there is no unfinished run to resume: starting a new one in %s", folder)
        return None
    record = RunRecord.read(folder / (RECORD_FILE if finished else RUN_FILE))
    differences = record.setting_differences(given, epochs_may_grow=not finished)
    if differences:
        raise LabelrError(
            f"the {'finished' if finished else 'unfinished'} run in {folder} was started with other settings: "
            f"{'; '.join(differences)}",
            f"give the same options, or {START_OVER}",
        )
    if record.versions != versions() and not finished:
        before, now = (", ".join(map(" ".join, items.items())) for items in (record.versions, versions()))
        log.warning(
            "the run was started with %s and is resumed with %s: the result will not be bit-identical", before, now
        )
    return record


def list_runs(name: str = RUN_FILE) -> Iterator[tuple[Path, RunRecord]]:
    """The directory and record of each unfinished run in the models folder, or of each finished one (`RECORD_FILE`).

    Damaged ones are skipped with a warning.
    """
    for path in store.folders_with(name):
        if name == RUN_FILE and not (is_resumable(path) or locks.is_locked(path)):
            continue
        try:
            yield path, RunRecord.read(path / name)
        except LabelrError as error:
            log.warning("%s; the run is skipped", error.message)


def list_models_and_runs() -> list[dict[str, Any]]:
    """One row about each model, damaged model and unfinished run in the models folder, the newest last.

    The pinned default is among them, wherever it is, and also if it is gone.
    """
    runs, default = dict(list_runs()), store.listed_default()
    rows = [summarise(path, record, default) for path, record in runs.items()]
    models = {path for path in (*store.folders_with(*store.PARTS), default) if path is not None}
    rows += [_summarise_model(path, default) for path in models.difference(runs)]
    return sorted(rows, key=lambda row: (row["created"], row["path"]))


def verify_models(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row about each model of these names, or of `list_models_and_runs`, after everything in it has been verified.

    A name that no model has is a damaged one. An unfinished run that can be resumed is not verified. A row about an
    archive has no more than its name, path and state.
    """
    if names:
        rows = list({Path(row["path"]).resolve(): row for row in map(_summarise_named, names)}.values())
    else:
        rows = [row for row in list_models_and_runs() if not row["running"] and not row["resumable"]]
    for row in rows:
        row["checked"] = None
        try:
            if row["resumable"]:
                row["hint"] = store.RESUME_HINT
            elif not row["damaged"] and not row["running"]:
                row["checked"] = str(verify(Path(row["path"])))
        except LabelrError as error:
            row.update(_damage(error))
    return rows


def _summarise_named(name: str) -> dict[str, Any]:
    """One row about the model or unfinished run of a name, or why there is none; or about an archive."""
    if os.path.isfile(name) and not (store.models_folder() / name).is_dir():
        state = dict.fromkeys(("damaged", "hint", "running", "resumable")) | {"complete": True}
        return {"name": Path(name).name, "path": os.path.abspath(name), **state}
    try:
        path = store.find(name, unfinished=True)
        if is_resumable(path) or (locks.is_locked(path) and (path / RUN_FILE).is_file()):
            return summarise(path, RunRecord.read(path / RUN_FILE))
        return _summarise_model(path)
    except LabelrError as error:
        return summarise(store.models_folder() / name, error)


def _summarise_model(path: Path, default: Path | None = None) -> dict[str, Any]:
    """One row about a model, or what is left of one."""
    try:
        return summarise(path, store.check(path), default)
    except LabelrError as error:
        return summarise(path, error, default)


def summarise(path: Path, source: ModelInfo | RunRecord | LabelrError, default: Path | None = None) -> dict[str, Any]:
    """One row about a model, an unfinished run or, where the source is an error, a damaged model."""
    complete = isinstance(source, ModelInfo) and source.complete
    running = not complete and locks.is_locked(path)
    row = {
        "name": path.name,
        "path": str(path),
        "created": "",
        "labels": None,
        "map_macro": None,
        "bytes": files.folder_size(path),
        "complete": complete,
        "resumable": isinstance(source, RunRecord) and not running,
        "running": running,
        "damaged": None,
        "hint": None,
        "default": default is not None and path.resolve() == default.resolve(),
    }
    if isinstance(source, LabelrError):
        return row if running else row | _damage(source)
    row |= {"created": source.created, "labels": len(source.labels)}
    if isinstance(source, RunRecord):
        return row | {"epochs_done": _epochs_done(path, source), "epochs": source.settings.get("epochs")}
    return row | {"map_macro": (source.scores or {}).get("map_macro")}


def _damage(error: LabelrError) -> dict[str, str | None]:
    return {"damaged": error.message, "hint": error.hint or None}


def _epochs_done(folder: Path, record: RunRecord) -> int:
    """The number of finished epochs of an unfinished run; those of folds do not count."""
    history = folder / store.HISTORY_FILE
    if not (folder / CHECKPOINT_FILE).exists() or not history.exists():
        return 0
    if history.stat().st_mtime < datetime.fromisoformat(record.created).timestamp():  # of the model to be replaced
        return 0
    with suppress(LabelrError):
        return len(read_history(history))
    return 0
