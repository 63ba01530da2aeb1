"""Archives of models: one zip file that takes a model to another machine, without the names of images and folders.

An archive comes from anywhere: all of it is checked in a temporary folder before a model appears.
"""

import csv
import io
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, BinaryIO, TypedDict

from msgspec import Meta

from labelr import files, locks, serialization
from labelr.config import TrainConfig
from labelr.data.splits import SPLITS_FILE, read_splits, splits_csv
from labelr.errors import BusyError, LabelrError, first_line
from labelr.fields import is_path_setting
from labelr.model import store
from labelr.model.info import DAMAGED_HINT, ModelInfo, Setting
from labelr.model.store import CONFIG_FILE, HISTORY_FILE, INFO_FILE, METRICS_FILE

TEXTS = (CONFIG_FILE, HISTORY_FILE, METRICS_FILE, SPLITS_FILE)
"""What an archive may hold beside model.json and the weights, in one folder called as the model."""
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The time of all members, so that the same model has the same bytes."""
MAX_DIRECTORY_BYTES = 2**16
"""Of the list of members, which has less than 1 kB; Python needs many times as much memory to read it."""
OF_MACOS = "__MACOSX/"
"""What macOS adds to an archive that it packs again."""
MAX_RATIO, FREE_BYTES = 16, 2**20
"""A member of more than `FREE_BYTES` may not expand by more: the weights of a network hardly shrink."""
MAX_HISTORY_BYTES = 2**24
"""Of a history, which has some 250 bytes for each epoch."""
ARCHIVE_HINT = "copy or download the file again, or make it again with `labelr models export`"

Epochs = Annotated[list[dict[str, float]], Meta(min_length=1)]
"""The rows of a history: any columns of numbers, since those of later versions may be others."""


class Metrics(TypedDict):
    """What each ``metrics.json`` holds, among others."""

    metrics: dict[str, float | None]


def verify(path: Path) -> str:
    """Checks everything in a model's directory, or in an archive, which is unpacked in a temporary folder.

    Returns:
        What was found right.

    Raises:
        LabelrError: If something is missing, damaged, of a newer format, or does not fit the rest.
    """
    if path.is_file():
        with files.writing(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="labelr-") as name:
            return _unpack(path, Path(name, "model"))[1]
    from labelr.model.predict import read_network  # which imports torch

    info = store.check(path)
    tensors = len(read_network(path, info).state_dict())
    if info.complete:
        _check_texts(path)
    if (path / SPLITS_FILE).exists():
        read_splits(path / SPLITS_FILE)
    return f"SHA-256 {info.weights['sha256'][:12]}..., shapes of {tensors:,} tensors, {len(info.labels):,} labels"


def _check_texts(folder: Path) -> None:
    """Raises LabelrError where the scores, the history or the settings of a complete model are missing or damaged."""
    for name in (METRICS_FILE, HISTORY_FILE, CONFIG_FILE):
        if not os.path.isfile(folder / name):
            raise LabelrError(f"{folder} has no {name}", DAMAGED_HINT)
    serialization.read_json(folder / METRICS_FILE, Metrics, DAMAGED_HINT)
    serialization.read_json(folder / CONFIG_FILE, dict[str, Setting], DAMAGED_HINT)
    with files.reading(folder / HISTORY_FILE, DAMAGED_HINT):
        text = files.read_bytes(folder / HISTORY_FILE, MAX_HISTORY_BYTES).decode("utf-8")
        serialization.convert(list(csv.DictReader(io.StringIO(text, newline=""))), Epochs, strict=False)


# --- export ----------------------------------------------------------------------------------------------------------


def export_archive(model: str | Path, path: str | Path, *, force: bool = False) -> Path:
    """Writes a model as one zip file for `import_archive`, which depends on the model and its name alone.

    It names no image and no folder: the report, ``record.json``, ``errors.csv`` and ``predictions.csv`` are left out,
    and ``splits.csv`` has digests and fingerprints alone.

    Args:
        model: A name or a directory.
        path: The file.
        force: Whether an existing file may be replaced.

    Returns:
        The file.

    Raises:
        LabelrError: If the model is damaged or its training not finished, or the file exists or cannot be written.
    """
    folder, target = store.find(model), files.local_path(path)
    files.check_new(target, force=force)
    info = store.check_complete(folder)
    verify(folder)
    name, weights = store.make_name(folder.name), info.weights["file"]
    with files.replacing(target) as file, zipfile.ZipFile(file, "w") as archive:  # each zlib would compress otherwise
        for member, content in sorted(_texts(folder, without_paths(info), name).items()):
            archive.writestr(_entry(f"{name}/{member}"), content)
        entry = _entry(f"{name}/{weights}")
        entry.file_size = (folder / weights).stat().st_size  # which decides on sizes of 64 bits
        with archive.open(entry, "w") as copy:
            for chunk in _chunks(folder / weights):
                copy.write(chunk)
    return target


def without_paths(info: ModelInfo) -> ModelInfo:
    """The info without data folders and unknown settings, and with the last part of each other path."""
    known = {field.name: is_path_setting(field) for field in fields(TrainConfig)}
    config = {name: _last_part(value) if known[name] else value for name, value in info.config.items() if name in known}
    pretraining = info.pretraining and replace(info.pretraining, weights=_last_part(info.pretraining.weights))
    return replace(info, data=(), config=config, pretraining=pretraining)


def _last_part(value: Any) -> Any:
    """The name of the file or folder of a path, or of each; anything else unchanged."""
    if isinstance(value, list):
        return [_last_part(item) for item in value]
    return PureWindowsPath(value).name if isinstance(value, str) else value


def _texts(folder: Path, info: ModelInfo, name: str) -> dict[str, bytes | str]:
    """The content of each member but the weights."""
    metrics = serialization.read_json(folder / METRICS_FILE, dict[str, Any], DAMAGED_HINT)
    texts: dict[str, bytes | str] = {
        INFO_FILE: info.to_json(),
        CONFIG_FILE: serialization.json_text(info.config),
        HISTORY_FILE: b"".join(_chunks(folder / HISTORY_FILE)),
        METRICS_FILE: serialization.json_text(metrics | {"model": name, "data": _last_part(metrics.get("data"))}),
    }
    if (folder / SPLITS_FILE).exists():
        rows = sorted(read_splits(folder / SPLITS_FILE), key=lambda row: (row.digest, row.split))
        texts[SPLITS_FILE] = splits_csv(
            row._replace(image=f"{number}-{row.digest[:16]}") for number, row in enumerate(rows, start=1)
        )
    return texts


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16  # as on Unix, on each system
    return entry


def _chunks(path: Path) -> Iterator[bytes]:
    with files.reading(path, DAMAGED_HINT), files.open_regular(path) as file:
        while chunk := file.read(2**20):
            yield chunk


# --- import ----------------------------------------------------------------------------------------------------------


def import_archive(path: str | Path, name: str | None = None) -> Path:
    """Verifies an archive of `export_archive`, and saves its model in the models folder: complete, or not at all.

    Args:
        path: The archive.
        name: The model's name; None takes that in the archive, then ``-2``, ``-3``, ... until one is free.

    Returns:
        The model's directory.

    Raises:
        LabelrError: If the file does not exist, or is no archive of a model, damaged, or of a newer format, or if the
            name is taken.
    """
    archive, models = files.local_path(path), store.models_folder()
    if not archive.exists():
        raise LabelrError(f"{archive} does not exist", "name a file that `labelr models export` wrote")
    if name is not None and os.path.lexists(models / store.check_name(name)):
        raise _taken(models / name)
    files.check_writable(models)
    for leftover in filter(files.is_draft, models.iterdir()):  # of imports that were killed
        if leftover.is_dir() and not locks.is_locked(leftover):
            _remove(leftover)
    with ExitStack() as stack:
        while True:
            with files.writing(models):
                draft = Path(tempfile.mkdtemp(prefix=files.DRAFT_PREFIX, suffix=files.DRAFT_SUFFIX, dir=models))
            stack.callback(_remove, draft)
            with suppress(BusyError):  # another import takes it for a leftover before it is locked
                stack.enter_context(locks.locked(draft))
                break
        stem, _ = _unpack(archive, draft / "model")
        return _move(draft / "model", models, stem, name)


def _remove(draft: Path) -> None:
    with suppress(LabelrError):  # the next import deletes it
        locks.remove_folder(draft)


def _move(folder: Path, models: Path, stem: str, name: str | None) -> Path:
    """Moves a complete model to its name, or to the first that is free."""
    for free in [name] if name else store.numbered_names(stem):
        target = models / free
        if not os.path.lexists(target):
            try:
                files.move(folder, target)
            except OSError as error:
                if not os.path.lexists(target):  # else another process was faster
                    raise files.write_error(target, error) from error
            else:
                return target
    raise _taken(target)


def _taken(folder: Path) -> LabelrError:
    return LabelrError(f"{folder} exists already", "choose another name with `--name`")


def _unpack(path: Path, folder: Path) -> tuple[str, str]:
    """Extracts an archive into a new folder, and verifies it; returns the model's name, and what was found right.

    Raises:
        LabelrError: If it cannot be read or is not right, with messages on the archive.
    """
    try:
        with files.reading(path, ARCHIVE_HINT), files.open_regular(path) as file, zip_errors():
            _check_directory(file)
            with zipfile.ZipFile(file) as archive:
                name = _extract(archive, folder)
        return name, verify(folder)
    except LabelrError as error:
        if isinstance(error.__cause__, OSError):  # of the disk, which the archive has nothing to do with
            raise
        hint = ARCHIVE_HINT if error.hint == DAMAGED_HINT else error.hint
        raise LabelrError(error.message.replace(str(folder), str(path)), hint) from error


@contextmanager
def zip_errors() -> Iterator[None]:
    """Turns whatever reading a zip file raises into a ValueError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(first_line(error)) from error


def _check_directory(file: BinaryIO) -> None:
    """Raises ValueError unless the end of a zip file says that its list of members is short."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 98))
    end = file.read(98).rjust(98, b"\0")
    if end[76:80] != b"PK\5\6":
        raise ValueError("it is no zip file, or has been cut off")
    is_long = end[56:60] == b"PK\6\7"  # the record before has sizes of 64 bits
    if int.from_bytes(end[40:48] if is_long else end[88:92], "little") > MAX_DIRECTORY_BYTES:
        raise ValueError("it has too many members")


def _extract(archive: zipfile.ZipFile, folder: Path) -> str:
    """Extracts the members of a model into a new folder; returns the model's name.

    Raises:
        ValueError: If there are others, or one is not as `export_archive` writes it.
    """
    members = [entry for entry in archive.infolist() if not entry.filename.startswith(OF_MACOS)]
    entries = {entry.filename: entry for entry in members}
    if len(entries) < len(members):
        raise ValueError("it has two members of the same name")
    name = next((path for path in entries if path.endswith(f"/{INFO_FILE}")), "").removesuffix(f"/{INFO_FILE}")
    if store.make_name(name) != name:
        raise ValueError(f"it holds no {INFO_FILE} in a folder called as the model")
    entries.pop(f"{name}/", None)
    for path, entry in entries.items():
        _check_entry(path, entry)
    folder.mkdir()
    _extract_member(archive, entries.pop(f"{name}/{INFO_FILE}"), folder / INFO_FILE)
    info = ModelInfo.read(folder / INFO_FILE)  # a newer format may have other members
    if not info.complete:
        raise ValueError("the training of its model is not finished")
    targets = {f"{name}/{file}": folder / file for file in (*TEXTS, info.weights["file"])}
    for path, entry in entries.items():
        if path not in targets:
            raise ValueError(f"it has a member that no archive of a model has: {path[: files.MAX_REASON]!r}")
        _extract_member(archive, entry, targets[path])
    return name


def _check_entry(path: str, entry: zipfile.ZipInfo) -> None:
    """Raises ValueError where a member is no plain file of its size."""
    checks = {
        "is encrypted": not entry.flag_bits & 1,
        "is a link or a folder": stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG) and path[-1:] != "/",
        "is compressed in an unusual way": entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
        "expands too far": entry.file_size <= max(FREE_BYTES, MAX_RATIO * entry.compress_size),
        "is too large": path.endswith(".safetensors") or entry.file_size <= files.MAX_RECORD_BYTES,
        "has another name inside": path == entry.orig_filename,
    }
    wrong = [problem for problem, holds in checks.items() if not holds]
    if wrong:
        raise ValueError(f"its member {path[: files.MAX_REASON]!r} {wrong[0]}")


def _extract_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    """Extracts a member, whose checksum is compared; Python reads no more than the size that it declares."""
    with archive.open(entry) as source, files.replacing(path) as file:
        shutil.copyfileobj(source, file, 2**20)
    if path.stat().st_size != entry.file_size:
        raise ValueError(f"its member {entry.filename!r} is cut off")
