"""What a study is of: nobody goes on with it on other data, or over another space."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock

from labelr import files
from labelr.config import TrainConfig, TuneOptions
from labelr.data.dataset import Dataset
from labelr.errors import LabelrError, preview
from labelr.model.store import make_name
from labelr.training.record import FREE_SETTINGS, format_setting, recorded_images
from labelr.tuning.space import Space
from labelr.tuning.study import Study, delete_study, open_study

_MACHINE = ("device", "amp", "threads", "compile")
"""Settings that may be others on another machine of the same search."""
_TOLD = {"metric": "the metric", "seeds": "the number of seeds", "sampler": "the sampler"}


def identity_of(
    dataset: Dataset, settings: TrainConfig, space: Space, options: TuneOptions, sampler: str
) -> dict[str, Any]:
    """What a search is of, ready for JSON.

    Args:
        dataset: The data.
        settings: Those that all trials have, as resolved: another kind of machine may choose others.
        space: What is searched.
        options: How.
        sampler: What chooses the points.
    """
    content = json.dumps([dataset.labels, sorted((name, *image) for name, image in recorded_images(dataset).items())])
    left_out = {*FREE_SETTINGS, *_MACHINE, *space.dimensions, "select"}
    return {
        "labels": list(dataset.labels),
        "images": len(dataset),
        "content": hashlib.sha256(content.encode()).hexdigest(),
        "settings": {name: value for name, value in settings.to_dict().items() if name not in left_out},
        "space": space.to_dict(),
        "metric": options.metric,
        "seeds": options.seeds,
        "sampler": sampler,
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is another search, each as a sentence part."""
    for key, name in _TOLD.items():
        if before[key] != now[key]:
            yield f"{name} was {before[key]} and is {now[key]}"
    for name, was, new in _changed(before["space"], now["space"]):
        yield f"{name} was searched over {was or 'nothing'} and is over {new or 'nothing'}"
    for name, was, new in _changed(before["settings"], now["settings"]):
        if name not in before["space"] and name not in now["space"]:
            yield f"{name} was {format_setting(was)} and is {format_setting(new)}"
    if before["content"] != now["content"]:
        yield _other_data(before, now)


def _other_data(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if before["labels"] != now["labels"]:
        return f"the labels were {preview(before['labels'])} and are {preview(now['labels'])}"
    if before["images"] != now["images"]:
        return f"there were {before['images']:,} images and are {now['images']:,}"
    return "images, their labels, or their division into train, val and test are others"


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The entries of two mappings that differ: name, then and now."""
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            yield name, before.get(name), now.get(name)


def studies_folder() -> Path:
    """Where studies live."""
    return files.home() / "studies"


def begin_study(
    name: str | None, default_name: str, url: str | None, identity: Mapping[str, Any], *, force: bool
) -> Study:
    """The study of a search: the one that is there already, or a new one.

    Args:
        name: Its name; None takes that of this very search if there is one, else `default_name`, ``-2``, ...
        default_name: Made into a name by leaving out what a name must not hold.
        url: The database that it lives in; there `default_name` is the name. None for a directory of its own.
        identity: What it is of.
        force: Whether it is begun anew, whatever it has found.

    Raises:
        LabelrError: If a study of that name is of something else, or its storage cannot be reached.
    """
    stem = make_name(default_name)
    chosen = name if name is not None else stem if url else None
    names = iter([chosen]) if chosen else (stem if number == 1 else f"{stem}-{number}" for number in count(1))
    with FileLock(files.make_folder(studies_folder()) / ".lock"):
        for candidate in names:
            study = _open(candidate, url, force=force)
            others = list(differences(study.identity, identity)) if study.identity else []
            if study.identity and force and (chosen or not others):
                delete_study(study)
                study, others = open_study(candidate, studies_folder() / candidate, url), []
            if not study.identity:
                study.begin(identity)
            if not others:
                return study
            study.close()
    raise LabelrError(
        f"the study {study.name!r} is of something else: {'; '.join(others)}",
        "give the same data and options, choose another name with `--study`, or begin it anew with `--force`",
    )


def _open(name: str, url: str | None, *, force: bool) -> Study:
    folder = studies_folder() / name
    try:
        return open_study(name, folder, url)
    except LabelrError:
        if not force or url:
            raise
        files.remove_folder(folder)  # it is damaged, and to be replaced
        return open_study(name, folder, url)
