"""The names by which labels are written, and the tags that every image gets."""

from collections.abc import Sequence
from pathlib import Path

from labelr.config import TagOptions
from labelr.errors import LabelrError, preview, printable
from labelr.fields import SettingError
from labelr.scoring.thresholds import read_by_label

FILE_COLUMN = "filename"
"""The column of file names in tables of results."""


def written_names(
    labels: Sequence[str], columns: Sequence[int], options: TagOptions
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names by which the selected labels are written, and the tags of every image, all of them different.

    Args:
        labels: All labels of the model.
        columns: The indices of the K selected ones.
        options: The options `rename`, `prefix` and `always`.

    Returns:
        K names, and the tags of `always`, each once.

    Raises:
        LabelrError: If the table of names cannot be used, a name would be written for two labels, or one that is
            written into txt files would be several tags there.
    """
    renamed: dict[str, tuple[str, str]] = {}
    if options.rename is not None:
        renamed = read_by_label(Path(options.rename), "written", "--rename", labels, options.encoding)
    names: dict[str, str] = {}
    chosen = [labels[column] for column in columns]
    for label in sorted(chosen, key=lambda label: label in renamed):  # so that a row is to blame
        cell, where = renamed.get(label, ("", ""))
        name = cell or label
        if name in names:
            raise LabelrError(
                f"{where}: {label!r} and {names[name]!r} would both be written as {name!r}",
                "give each label a name of its own, or leave one out with `--exclude`",
            )
        _check_text(name, where, options)
        names[name] = label
    prefix = options.prefix or ""
    _check_text(prefix, "prefix", options)
    by_label = {label: f"{prefix}{name}" for name, label in names.items()}
    if clash := next((label for label, name in by_label.items() if name == FILE_COLUMN), None):
        raise LabelrError(
            f"{clash!r} would be written as {FILE_COLUMN!r}, the column of file names",
            "give the label another name with `--rename FILE`, or leave it out with `--exclude`",
        )
    written = tuple(by_label[label] for label in chosen)
    return written, _always(written, options)


def _always(written: Sequence[str], options: TagOptions) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(tag.strip() for tag in options.always))
    for tag in tags:
        if not tag:
            raise SettingError("always: the tag is empty", "name a tag, such as `--always holiday`")
        _check_text(tag, "always", options)
    taken = [tag for tag in tags if tag in written]
    if taken:
        raise SettingError(
            f"always: {preview(taken)} is a label of the model", f"leave it out of the labels: `--exclude {taken[0]}`"
        )
    return tags


def _check_text(text: str, where: str, options: TagOptions) -> None:
    """Raises LabelrError if a name has characters that files of tags cannot hold, such as line breaks.

    Args:
        text: The name, or a part of it.
        where: Where a user has given it; empty for a label of the model, which only txt files may not hold.
        options: The formats that are written.
    """
    if where and (printable(text, line=False) != text or "\n" in text):
        raise LabelrError(f"{where}: {text!r} has characters that are not printable", "delete them")
    if "txt" in options.formats and ("," in text or "".join(text.splitlines()) != text):
        hint = (
            "delete the comma" if where else "give it another name with `--rename FILE`, or leave it out: `--exclude`"
        )
        raise LabelrError(f"{where or 'labels'}: {text!r} would be several tags in txt files", hint)
