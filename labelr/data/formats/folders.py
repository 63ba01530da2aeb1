"""Folders named after labels; an image that is in several of them has several labels."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from labelr import files
from labelr.data.formats.source import Source
from labelr.data.label_table import SPLIT_NAMES, Annotation, LabelTable
from labelr.data.walk import SORTED_FILE
from labelr.errors import LabelrError, pluralize, preview

SEPARATORS = (
    "__", "_", "-", "+", ",", ";", "&", "|", "~", ".", " and ", " und ", " et ", " y ", " e ", " en ", " och ",
    " og ", " ",
)  # fmt: skip
"""What may join labels in the name of a folder, in the order in which they are tried."""
UNLABELLED = frozenset({"none", "no label", "no labels", "no_label", "no_labels", "null", "unlabeled", "unlabelled"})
"""Names of folders, in lower case, for images without a label; Roboflow's is ``unlabeled``."""


def fits(source: Source) -> int:
    """Confidence that folders are labels: 1 if all images are in at least two folders, 0 if not.

    Nested folders count only if the user names this layout.
    """
    if not source.is_folder or not source.image_files:
        return 0
    paths = {_split_and_folders(name)[1] for name in source.image_files}
    nested = source.options.layout == "folders"
    return 1 if len(paths) > 1 and all(len(path) == 1 or (nested and path) for path in paths) else 0


def read(source: Source) -> LabelTable:
    """The label table of folders named after labels.

    Exact copies of a file in several folders are one image with several labels and the name of the first copy. With
    nested folders the names of all folders above an image are its labels. With a separator of tags, the name of a
    folder is several labels, and that of a folder such as ``unlabeled`` is none. Folders into which `labelr tag` has
    sorted images are unconfirmed predictions.
    """
    places = {name: _split_and_folders(name) for name in source.image_files}
    outside = [name for name, (_, own) in places.items() if not own]
    if outside or not places:
        images = pluralize(len(outside), "image is", "images are")
        problem = f"{images} in no folder: {preview(outside)}" if outside else "no images"
        splits = sorted({name.split("/")[0] for name in outside if places[name][0]})
        taken = f"; folders called {' or '.join(splits)} count as splits, not as labels" if splits else ""
        raise LabelrError(f"{source.images}: {problem}", f"put each image into a folder named after its label{taken}")
    copies: dict[tuple[str, object], list[str]] = defaultdict(list)
    for name, content in zip(source.image_files, _contents(source.images, source.image_files), strict=True):
        copies[places[name][0], content].append(name)
    separator, unknown_if_empty = source.options.tag_separator, source.options.blank == "unknown"
    folders = {folder for _, own in places.values() for folder in own}
    labels_of, respelled = _labels_by_folder(folders, separator)
    annotations = []
    for (split, _), names in copies.items():
        labels = {label for name in names for folder in places[name][1] for label in labels_of[folder]}
        annotations.append(Annotation(names[0], labels, split=split, complete=bool(labels) or not unknown_if_empty))
    shared = sum(len(names) > 1 for names in copies.values())
    notes = [f"images in several folders, which have several labels: {shared:,}"] if shared else []
    if respelled:
        notes.append(f"labels in names of folders, taken for the folder of another case: {preview(respelled)}")
    num_empty = sum(not annotation.present for annotation in annotations)
    notes += _note_names(folders, separator, num_empty, unknown_if_empty=unknown_if_empty)
    further = [name for names in copies.values() for name in names[1:]]
    how = f", joined by `{separator}`" if separator else ""
    table = LabelTable.of(
        annotations, f"folders named after labels{how}", notes=notes, aside=further, limits=source.limits
    )
    is_predicted = os.path.lexists(source.path / SORTED_FILE)
    return replace(table, unconfirmed=table.names) if is_predicted else table


def _labels(folder: str, separator: str | None) -> list[str]:
    """The labels that the name of a folder means."""
    if separator is None:
        return [folder]
    return [] if folder.lower() in UNLABELLED else [label.strip() for label in folder.split(separator) if label.strip()]


def _labels_by_folder(folders: Collection[str], separator: str | None) -> tuple[dict[str, list[str]], list[str]]:
    """The labels of each folder, and those that are spelled as in a folder of their own: ``Dog`` of ``Dog_Cat``."""
    parts = {folder: _labels(folder, separator) for folder in sorted(folders)}
    alone = {own[0] for own in parts.values() if len(own) == 1}
    spelling = {label.casefold(): label for label in sorted(alone)}
    changed = {
        part: spelling[part.casefold()]
        for own in parts.values()
        for part in own
        if part not in alone and part.casefold() in spelling
    }
    labels = {folder: [changed.get(part, part) for part in own] for folder, own in parts.items()}
    return labels, [f"{part} ({label})" for part, label in changed.items()]


def _note_names(
    folders: Collection[str], separator: str | None, num_empty: int, *, unknown_if_empty: bool
) -> list[str]:
    """Notes on names of folders that are probably not single labels, and on what was made of them."""
    unlabelled = sorted(folder for folder in folders if folder.lower() in UNLABELLED)
    if separator is not None:
        meaning = "of which nothing is known" if unknown_if_empty else "to which no label applies"
        remedy = "" if unknown_if_empty else "; if nothing is known of them, use `--blank unknown`"
        return [f"images in {preview(unlabelled)}, {meaning}: {num_empty:,}{remedy}"] if num_empty else []
    notes = []
    found = _all_combinations(folders)
    if found:
        combined = [folder for names in found.values() for folder in names]
        options = " or ".join(f"`--tag-separator {_quoted(candidate)}`" for candidate in found)
        rename = ", after you rename them to have the same separator" if len(found) > 1 else ""
        notes.append(
            f"folders that look like combinations of labels, each taken as a label of its own: "
            f"{len(combined):,} ({preview(combined)}); separate them with {options}{rename}"
        )
    if unlabelled:
        notes.append(
            f"the folder {unlabelled[0]} is taken as a label of its own; if its images have no label, "
            f"use `--exclude {unlabelled[0]}`"
        )
    return notes


def _all_combinations(folders: Collection[str]) -> dict[str, list[str]]:
    """The folders that look like combinations, by separator, the likeliest first."""
    found = {}
    left = set(folders)
    for candidate in sorted(SEPARATORS, key=lambda candidate: -len(_combinations(folders, candidate))):
        combined = _combinations(left, candidate)
        if combined:
            found[candidate] = combined
        left -= set(combined)  # big_cat__dog does not make big_cat a combination
    return found


def _quoted(separator: str) -> str:
    """A separator as a shell takes it."""
    return separator if separator in ("__", "_", "-", "+", ",", ".") else f'"{separator}"'


def _combinations(folders: Iterable[str], separator: str) -> list[str]:
    """The folders whose name is joined from parts that all occur in names of other folders too, in any case."""
    parts = {folder: [part.strip() for part in folder.casefold().split(separator)] for folder in sorted(folders)}
    count = Counter(part for names in parts.values() for part in set(names))
    return [
        folder for folder, names in parts.items() if len(names) > 1 and all(name and count[name] > 1 for name in names)
    ]


def _split_and_folders(name: str) -> tuple[str, tuple[str, ...]]:
    """The split that the outermost folder of an image names, empty if none, and the folders below it."""
    folders = PurePosixPath(name).parts[:-1]
    if folders and folders[0].lower() in SPLIT_NAMES:
        return SPLIT_NAMES[folders[0].lower()], folders[1:]
    return "", folders


def _contents(root: Path, names: list[str]) -> list[object]:
    """A key for the content of each file; a file whose size is unique is not read."""
    # a broken link counts as empty: it will be reported as a file that cannot be read
    sizes = [(root / name).stat().st_size if os.path.isfile(root / name) else 0 for name in names]
    count = Counter(sizes)
    return [
        (size, files.digest(root / name) or name) if size and count[size] > 1 else name
        for name, size in zip(names, sizes, strict=True)
    ]
