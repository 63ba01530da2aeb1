"""Keywords of photo software: in XMP files beside images, and in the images themselves."""

import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from labelr.data.embedded import read_embedded
from labelr.data.formats.source import Source
from labelr.data.images import UnreadableError
from labelr.data.label_table import Annotation, LabelTable
from labelr.data.limits import read_bytes
from labelr.errors import LabelrError, pluralize, preview
from labelr.xmp.packet import MARKS, DamagedError, KeywordPath, Packet, key, label_path, longest

SUFFIX = ".xmp"
PROBED_FILES = 20


class _Photo(NamedTuple):
    """The keywords of an image, those of them that labelr wrote, and whether nobody has reviewed these."""

    name: str
    keywords: list[KeywordPath]
    predicted: frozenset[str] = frozenset()
    root: KeywordPath = ()
    is_tagged: bool = False
    is_unconfirmed: bool = False


def fits(source: Source) -> int:
    """Confidence that images have XMP files with keywords beside them: 0 or 2. Those in images are not looked for."""
    if not source.is_folder:
        return 0
    if source.options.layout == "xmp":
        return 2
    for path in islice(_sidecars(source), PROBED_FILES):
        try:
            if Packet(read_bytes(path, source.limits)).keywords:
                return 2
        except (DamagedError, LabelrError):
            continue  # reported when it is read
    return 0


def read(source: Source) -> LabelTable:
    """The label table of keywords; images without any are not labelled, and left out.

    A keyword in a hierarchy is a label for each level, or with `leaf_only` for the lowest. Keywords that `labelr tag`
    wrote are predictions until somebody has reviewed them.

    Raises:
        LabelrError: If no image has keywords, or an XMP file is damaged.
    """
    if not source.is_folder:
        raise LabelrError(f"{source.path} is not a folder", "name the folder of the photographs, or of the XMP files")
    invalid: dict[str, str] = {}
    photos = list(_read_photos(source, invalid))
    if not photos:
        raise LabelrError(
            f"no image in {source.images} has keywords" + "".join(f"; {why}" for why in islice(invalid.values(), 1)),
            "write keywords in your photo software, and let it save them in files",
        )
    trust = source.options.trust_predictions
    tagged = any(photo.is_tagged for photo in photos)
    roots = {photo.root for photo in photos if photo.root}
    annotations, left_out = [], []
    for photo in photos:
        own = photo.keywords
        is_partial = photo.is_unconfirmed and trust is False
        if is_partial:
            own = [path for path in own if key(path[-1]) not in photo.predicted]
        labels = {label for path in own for label in _labels_of(path, roots, leaf_only=source.options.leaf_only)}
        labels -= {label for label in labels if tagged and key(label) in MARKS}
        if is_partial and not labels:
            left_out.append(photo.name)
        else:
            annotations.append(Annotation(photo.name, labels, complete=not is_partial))
    unconfirmed = [photo.name for photo in photos if photo.is_unconfirmed]
    if not annotations:
        raise LabelrError(
            f"{source.path}: the keywords of {pluralize(len(photos), 'image')} are predictions that nobody reviewed",
            f"correct them in your photo software, or give the right ones a keyword `{MARKS[0]}`",
        )
    kind = "beside images and in them" if source.options.layout == "xmp" else "beside images"
    table = LabelTable.of(
        annotations,
        f"keywords of photo software in XMP {kind}",
        notes=_notes(photos, unconfirmed, source),
        invalid=list(invalid.values()),
        aside=[*invalid, *left_out],
        limits=source.limits,
    )
    return replace(table, unconfirmed=tuple(unconfirmed) if trust is None else ())


def _notes(photos: list[_Photo], unconfirmed: list[str], source: Source) -> list[str]:
    notes = []
    deep = sum(any(len(path) > 1 for path in photo.keywords) for photo in photos)
    if deep:
        what = "only the lowest level is a label" if source.options.leaf_only else "each level is a label"
        notes.append(f"keywords in a hierarchy, of which {what}: on {pluralize(deep, 'image')}")
    empty = [photo.name for photo in photos if not photo.keywords]
    if empty:
        notes.append(f"images from which all keywords were removed: {len(empty):,} ({preview(empty)})")
    tagged = sum(photo.is_tagged for photo in photos)
    if tagged:
        notes.append(
            f"keywords that `labelr tag` wrote: on {pluralize(tagged, 'image')}, {tagged - len(unconfirmed):,} reviewed"
        )
    without = len(source.image_files) - len(photos)
    if without:
        notes.append(f"images without keywords, left out: {without:,}")
    if unconfirmed and source.options.trust_predictions is not None:
        use = "used as labels" if source.options.trust_predictions else "left out"
        notes.append(f"predictions that nobody reviewed, {use}: on {pluralize(len(unconfirmed), 'image')}")
    return notes


def _labels_of(path: KeywordPath, roots: set[KeywordPath], *, leaf_only: bool) -> KeywordPath:
    """The labels of a keyword, without the parent keyword that labelr gave its labels."""
    for root in roots:
        if path[: len(root)] == root and len(path) > len(root):
            path = path[len(root) :]
    return tuple(unicodedata.normalize("NFC", level) for level in (path[-1:] if leaf_only else path))


def _read_photos(source: Source, invalid: dict[str, str]) -> Iterator[_Photo]:
    """The images that have keywords, or had those of labelr; what is wrong with an XMP file goes into `invalid`."""
    sidecars = set(_sidecars(source))
    root = _root(source)
    for name in source.image_files:
        paths = [root / f"{stem}{SUFFIX}" for stem in (name, PurePosixPath(name).with_suffix("").as_posix())]
        try:
            photos = (_of_packet(name, read_bytes(path, source.limits), path) for path in paths if path in sidecars)
            photo = next(filter(None, photos), None)
            if photo is None and source.options.layout == "xmp":
                photo = _of_image(name, source.images / name)
        except LabelrError as error:
            if not source.options.skip_invalid:
                hint = "save it again, or leave such images out with `--skip-invalid`"
                raise LabelrError(error.message, hint) from error
            invalid[name] = error.message
            continue
        if photo:
            yield photo


def _root(source: Source) -> Path:
    """Where the XMP files are: beside the images, or in a tree like theirs that the user names."""
    return source.path if source.options.labels else source.images


def _sidecars(source: Source) -> Iterator[Path]:
    return source.index.find_suffix(_root(source), SUFFIX)


def _of_packet(name: str, content: bytes, path: Path) -> _Photo | None:
    """The keywords in an XMP packet; None where it has none, and labelr wrote none."""
    try:
        packet = Packet(content)
    except DamagedError as error:
        raise LabelrError(f"the XMP in {path} is damaged: {error}") from error
    record = packet.record
    if record is None:
        return _Photo(name, packet.keywords) if packet.keywords else None
    root = label_path(record.root) if record.root else ()
    reviewed = packet.is_reviewed
    return _Photo(name, packet.keywords, frozenset(packet.written), root, True, not reviewed)


def _of_image(name: str, path: Path) -> _Photo | None:
    try:
        embedded = read_embedded(path)
    except UnreadableError:
        return None  # it is reported when it is opened for its pixels
    photo = _of_packet(name, embedded.packet, path) if embedded.packet else None
    iptc = longest((keyword,) for keyword in embedded.iptc if keyword)
    return photo or (_Photo(name, iptc) if iptc else None)
