"""Camtrap DP, which Agouti, TRAPPER and others export: images in media.csv, and their species in observations.csv."""

import os
from collections.abc import Mapping
from dataclasses import replace

from labelr.data.formats.columns import Columns
from labelr.data.formats.source import Source
from labelr.data.formats.table import Table
from labelr.data.formats.words import SPECIES_COLUMNS
from labelr.data.label_table import Annotation, LabelTable
from labelr.errors import LabelrError, preview

DESCRIPTION = "species of Camtrap DP"
MEDIA, OBSERVATIONS = "media.csv", "observations.csv"
COLUMNS = {
    MEDIA: {"mediaid", "deploymentid", "filepath"},
    OBSERVATIONS: {"observationid", "deploymentid", "mediaid"},
}
"""Some columns of each of the two tables."""
BLANK = "blank"
"""The type of the observation that there is nothing on an image."""
UNCLASSIFIED = ("unclassified", "unknown")
"""The types of observations of something that nobody has named, or could name."""
LABEL_TYPES = ("human", "vehicle")
"""The types of observations that are labels themselves where no species is named."""


def fits(source: Source) -> int:
    """Confidence that this is the table of images of Camtrap DP, or of observations if the user names it: 0 or 3."""
    tables = _find_tables(source)
    return 3 if tables is not None and (source.options.labels or source.table is tables[0]) else 0


def read(source: Source) -> LabelTable:
    """The label table of Camtrap DP: the species observed on each image; on a blank one, there is none.

    On an image with an observation that names none and is not blank, others than those that are named are unknown.
    Nothing is known of images without an observation of their own, such as those of which only the event is described.

    Raises:
        LabelrError: If one of the two tables is missing, or names no species.
    """
    tables = _find_tables(source)
    if tables is None:
        raise LabelrError(
            f"{source.path} and the file beside it are not {MEDIA} and {OBSERVATIONS} of Camtrap DP",
            "put both into one folder, or name another `--layout`",
        )
    media, observations = tables
    columns = Columns.find(media, replace(source.options, label_column=()), file=_file_column(media))
    species = _species_column(observations, source.options.label_column)
    ids = observations.column(observations.keys.index("mediaid"))
    present, is_complete = _species_of_images(observations, ids, species)
    identifiers = columns.table.column(columns.table.keys.index("mediaid"))
    invalid = columns.find_invalid(unique=False)
    kept = [row for row in range(len(columns.names)) if row not in invalid]
    annotations = [
        Annotation(
            columns.names[row],
            present.get(identifiers[row], ()),
            split=columns.splits[row],
            complete=is_complete.get(identifiers[row], False),
        )
        for row in kept
    ]
    of_events = f"observations of no single image, left out: {ids.count(''):,}"
    num_open = sum(not is_complete.get(identifiers[row], True) for row in kept)
    unnamed = f"images with an observation that names no species, whose other labels are unknown: {num_open:,}"
    return LabelTable.of(
        annotations,
        f'{DESCRIPTION}, in the column "{observations.header[species]}" of {observations.path.name}',
        groups=columns.groups,
        notes=[of_events] * ("" in ids) + [unnamed] * bool(num_open),
        invalid=[*columns.table.invalid.values(), *invalid.values()],
        limits=source.limits,
    )


def _species_of_images(
    observations: Table, ids: list[str], column: int
) -> tuple[Mapping[str, set[str]], Mapping[str, bool]]:
    """What was observed on each image by its id, and whether there is nothing else on it."""
    keys, names = observations.keys, observations.column(column)
    types = observations.column(keys.index("observationtype")) if "observationtype" in keys else [""] * len(ids)
    present: dict[str, set[str]] = {}
    is_complete: dict[str, bool] = {}
    for identifier, name, kind in zip(ids, names, map(str.lower, types), strict=True):
        label = kind if not name and kind in LABEL_TYPES and keys[column] in SPECIES_COLUMNS else name
        present.setdefault(identifier, set()).update({label} - {""})
        is_named = bool(label) and kind not in UNCLASSIFIED
        is_complete[identifier] = is_complete.get(identifier, True) and (is_named or kind == BLANK)
    return present, is_complete


def _find_tables(source: Source) -> tuple[Table, Table] | None:
    """The tables of images and of observations, one of which is the source; None without the other beside it."""
    for own, other in ((MEDIA, OBSERVATIONS), (OBSERVATIONS, MEDIA)):
        if source.table is not None and {*source.table.keys} >= COLUMNS[own]:
            path = source.path.parent / other
            table = source.beside(path).table if os.path.isfile(path) else None
            if table is None or not {*table.keys} >= COLUMNS[other]:
                return None
            return (source.table, table) if own == MEDIA else (table, source.table)
    return None


def _file_column(media: Table) -> int:
    """The column of paths, or of file names if the paths are addresses."""
    path = media.keys.index("filepath")
    name = media.keys.index("filename") if "filename" in media.keys else path
    return name if any(media.column(name)) and any("://" in cell for cell in media.column(path)) else path


def _species_column(observations: Table, wanted: tuple[str, ...]) -> int:
    """The column that the user names, else that of species."""
    names = wanted or [observations.header[n] for n, key in enumerate(observations.keys) if key in SPECIES_COLUMNS]
    found = [observations.header.index(name) for name in names if name in observations.header]
    filled = [number for number in found if any(observations.column(number))]
    if not filled:
        raise LabelrError(
            f"{observations.path} has no column of species that is filled: {preview(observations.header, 10)}",
            "name one with `--label-column`",
        )
    keys = observations.keys
    return min(filled, key=lambda number: (*SPECIES_COLUMNS, keys[number]).index(keys[number]))
