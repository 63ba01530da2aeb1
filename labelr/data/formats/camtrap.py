"""Camtrap DP, which Agouti, TRAPPER and others export: images in media.csv, and their species in observations.csv."""

import os
from collections import defaultdict
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


def fits(source: Source) -> int:
    """Confidence that this is the table of images of Camtrap DP, or of observations if the user names it: 0 or 3."""
    tables = _find_tables(source)
    return 3 if tables is not None and (source.options.labels or source.table is tables[0]) else 0


def read(source: Source) -> LabelTable:
    """The label table of Camtrap DP: the species observed on each image; on an observed image without any, none is.

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
    seen: dict[str, set[str]] = defaultdict(set)
    ids = observations.column(observations.keys.index("mediaid"))
    for identifier, name in zip(ids, observations.column(species), strict=True):
        seen[identifier] |= {name} - {""}
    identifiers = columns.table.column(columns.table.keys.index("mediaid"))
    invalid = columns.find_invalid(unique=False)
    annotations = [
        Annotation(name, seen.get(identifier, ()), split=split, complete=identifier in seen)
        for row, (name, identifier, split) in enumerate(zip(columns.names, identifiers, columns.splits, strict=True))
        if row not in invalid
    ]
    of_events = f"observations of no single image, left out: {ids.count(''):,}"
    return LabelTable.of(
        annotations,
        f'{DESCRIPTION}, in the column "{observations.header[species]}" of {observations.path.name}',
        groups=columns.groups,
        notes=[of_events] * ("" in ids),
        invalid=[*columns.table.invalid.values(), *invalid.values()],
        limits=source.limits,
    )


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
