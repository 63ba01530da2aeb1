"""Finds the label files of a data folder."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from labelr.config import ReadOptions
from labelr.data.formats import tagged
from labelr.data.formats.layouts import recognise
from labelr.data.formats.records import part_in
from labelr.data.formats.source import Source, is_there
from labelr.data.images import find_images
from labelr.data.splits import SPLIT_NAMES
from labelr.errors import LabelrError, preview

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml")
"""What label files end in; a text file is one only where the user names it."""
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
FOLDERS = ("annotations", "labels", *SPLIT_NAMES)
"""Folders that label files may lie in, in lower case, beside the data folder itself."""
MADE_BY_LABELR = frozenset({
    "config.json", "errors.csv", "history.csv", "metrics.json", "model.json", "per_label.csv", "predictions.csv",
    "probabilities.csv", "splits.csv", "summary.json",
})  # fmt: skip
"""Files that labelr writes and that hold no labels."""
WEAK = 1
"""A file in which any column happens to hold words is a table of tags only if nothing speaks against it."""
MOST_FILES = 50
"""More files of one ending in a folder are one for each image, not label files of all."""


def find_sources(data: Path, images: Path, options: ReadOptions) -> list[Source]:
    """The label files of a data folder: those that the user names, else the one that reads as labels.

    Several are taken together where each is of another part by its name or its folder's, as ``train.csv`` and
    ``val.csv``; where there is none, the folder itself may be a layout, as images with a text file beside each.

    Raises:
        LabelrError: If there is none, or it is open which is meant.
    """
    if options.labels:
        return [source for name in options.labels for source in _named(Path(name), images, options)]
    candidates = [Source(path, images, options) for path in _candidates(data)]
    sources, sureness = _readable(data, candidates)
    if sources and sureness > WEAK:
        return sources
    whole = Source(data, images, options)
    sureness_of_whole, names = recognise(whole)
    if sources and names:
        if sureness_of_whole == WEAK:
            raise LabelrError(
                f"labels may be in {preview([source.path for source in sources])}, or named by the folders in {data}",
                f"name the file with `--labels`, or say `--layout {names[0]}`",
            )
        sources = []
    if sources or names:
        return sources or [whole]
    if len(candidates) == 1:  # let its reader say what is wrong with it
        return candidates
    raise _nothing_found(data, candidates)


def _readable(folder: Path, candidates: Sequence[Source]) -> tuple[list[Source], int]:
    """The label file among some, or the files of parts, and how surely it is one; none where none is.

    Raises:
        LabelrError: If it is open which is meant.
    """
    found = [(source, *recognise(source)) for source in candidates]
    best = max((sureness for _, sureness, _ in found), default=0)
    readable = [(source, names) for source, sureness, names in found if names and sureness >= min(best, WEAK + 1)]
    sources = [source for source, _ in readable]
    alike = len({tuple(names) for _, names in readable}) == 1
    if len(sources) > 1 and not (alike and are_parts(sources)):
        listed = preview([source.path.relative_to(folder) for source in sources])
        raise LabelrError(f"{len(sources)} files in {folder} read as labels: {listed}", "name one with `--labels FILE`")
    return sources, best


def _named(path: Path, images: Path, options: ReadOptions) -> list[Source]:
    """A file that the user names, or a folder: it may be a layout, or hold label files."""
    if not is_there(path):
        raise LabelrError(f"the label file {path} does not exist", "name an existing file with `--labels`")
    source = Source(path, images, options)
    if not source.is_folder or recognise(source)[1]:
        return [source]
    return _readable(path, [Source(one, images, options) for one in _candidates(path)])[0] or [source]


def _candidates(data: Path) -> Iterator[Path]:
    """The files in a data folder, and in those of its folders that usually hold label files, that end like one."""
    below = [folder for folder in _list(data) if folder.is_dir() and folder.name.lower() in FOLDERS]
    for folder in (data, *below):
        of_suffix = defaultdict(list)
        for path in _list(folder):
            if path.suffix.lower() in SUFFIXES and path.name not in MADE_BY_LABELR and path.is_file():
                if path.name == tagged.LINES and tagged.fits(Source(folder, folder, ReadOptions())):
                    continue  # people correct the files of images that lie beside it
                of_suffix[path.suffix.lower()].append(path)
        yield from (path for paths in of_suffix.values() if len(paths) <= MOST_FILES for path in paths)


def _list(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise LabelrError(f"cannot list the folder {folder}: {error.strerror}") from error


def are_parts(sources: Sequence[Source]) -> bool:
    """Whether label files are each of another part by their names; one may be of CVAT's subset ``default``."""
    parts = [part_of(source) or "default" * ("default" in source.path.stem) for source in sources]
    return all(parts) and len(set(parts)) == len(parts)


def parts_of(sources: Sequence[Source]) -> list[str]:
    """The part of each of several label files, if each is of another one; else empty for each."""
    return [part_of(source) if len(sources) > 1 and are_parts(sources) else "" for source in sources]


def part_of(source: Source) -> str:
    """The part that a label file's name speaks of, or its folder's; empty for none."""
    return part_in(source.path.stem) or part_in(source.path.parent.name)


def _nothing_found(data: Path, candidates: list[Source]) -> LabelrError:
    if candidates:
        names = preview([source.path.relative_to(data) for source in candidates])
        return LabelrError(
            f"none of the {len(candidates)} files in {data} reads as labels: {names}",
            "name the right one with `--labels`, and its layout with `--layout` if that does not help",
        )
    sheets = [path.name for path in _list(data) if path.suffix.lower() in SPREADSHEETS]
    if sheets:
        return LabelrError(
            f"no label file in {data}, but a spreadsheet: {preview(sheets)}", "save it as CSV in that folder"
        )
    if next(find_images(data), None) is None:
        return LabelrError(f"no images and no label file in {data}", "name a folder that holds images and a labels.csv")
    return LabelrError(
        f"no label file in {data}",
        "add a labels.csv (a column `filename` and one column of 0 and 1 a label), name the file with `--labels`, "
        "or say `--layout folders` if the names of folders are labels",
    )
