"""Tables of all images, written as streams: of labels, for other programs, and of the images to label next."""

import heapq
import importlib.util
import io
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from labelr.data.duplicates import MAX_DISTANCE, PROBE_SIZE, fingerprint
from labelr.data.images import UnreadableError, read_pixels
from labelr.errors import LabelrError, pluralize, preview
from labelr.processors import in_batches
from labelr.serialization import csv_text, escape_formula_in_path, json_line, write_rows
from labelr.tagging.pipeline import FILE_COLUMN, LabelSelection, Result, TaggedImage, Tagger
from labelr.version import __version__

log = logging.getLogger(__name__)

LABELS_FILE, PROBABILITIES_FILE, JSONL_FILE, ERRORS_FILE, UNCERTAIN_FILE = _LISTS = (
    "labels.csv", "probabilities.csv", "labels.jsonl", "errors.csv", "uncertain.csv",
)  # fmt: skip
MAX_ROWS, MAX_VALUES = 10_000, 4_000_000
"""Of a row group of Parquet, which is held in memory: rows, and their probabilities."""
OVERSAMPLING = 4
"""Candidates per image of a label that are looked at for `UNCERTAIN_FILE`, since near-duplicates are dropped."""
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML cannot hold, and bytes of file names that are not UTF-8."""

Images = Callable[[], Iterator[TaggedImage]]
Replacing = Callable[[Path], AbstractContextManager[io.BufferedWriter]]
Write = Callable[[IO[bytes], Images, Tagger, Path], None]
"""Writes a file, given the tagged images, the tagger, and the folder of the images."""


def check_formats(formats: Collection[str]) -> None:
    """Raises LabelrError if a package that a format needs is not installed."""
    if "parquet" in formats and importlib.util.find_spec("pyarrow") is None:
        raise LabelrError("the format parquet needs pyarrow", "`pip install 'labelr[parquet]'`")


def write_tables(
    folder: Path, results: Callable[[], Iterator[Result]], tagger: Tagger, base: Path, replacing: Replacing
) -> None:
    """Writes the tables that the options ask for, and that of the images that failed, into an output directory.

    `results` gives the results of all images below `base`, in order, as often as it is called, and `replacing` a
    temporary file that replaces a path at the end.

    Raises:
        LabelrError: If a file cannot be written.
    """
    selection, options = tagger.selection, tagger.options
    write = partial(write_table, excel=options.for_excel, replacing=replacing)

    def tagged() -> Iterator[TaggedImage]:
        return selection.tagged(results())

    if "table" in options.formats:
        write(folder / LABELS_FILE, header(selection), map(label_row, tagged()))
        write(folder / PROBABILITIES_FILE, header(selection), map(probability_row, tagged()))
    if "jsonl" in options.formats:
        with replacing(folder / JSONL_FILE) as file:
            file.writelines(image_json(selection.apply(result), tagger).encode() for result in results())
    _write_exports(folder, tagged, tagger, base, replacing)
    if options.uncertain:
        names = most_uncertain(tagged(), selection, base, options.uncertain, max_pixels=options.max_pixels)
        blank = [""] * len(selection.labels)  # to be filled in by a user
        rows = ([escape_formula_in_path(name), *blank] for name in names)
        write(folder / UNCERTAIN_FILE, header(selection), rows)
    failed = (result for result in results() if result.failed)
    rows = ([escape_formula_in_path(result.name), result.reason] for result in failed)
    write(folder / ERRORS_FILE, ["filename", "reason"], rows)


# --- CSV and JSON Lines -----------------------------------------------------------------------------------------------


def header(selection: LabelSelection) -> list[str]:
    """The header of a table with one column per label."""
    return [FILE_COLUMN, *selection.labels]


def label_row(image: TaggedImage) -> list[Any]:
    """A row of ``labels.csv``: 1 for each label that applies, else 0."""
    return [escape_formula_in_path(image.name), *image.applies.astype(int).tolist()]


def probability_row(image: TaggedImage) -> list[Any]:
    """A row of ``probabilities.csv``."""
    return [escape_formula_in_path(image.name), *map(format_probability, image.probs.tolist())]


def image_json(image: TaggedImage, tagger: Tagger) -> str:
    """An image as one line of JSON; without labels and probabilities if it failed."""
    result, labels = image.result, tagger.selection.labels
    value: dict[str, Any] = {"path": image.name, "model": tagger.model.info.digest}
    if result.failed:
        value |= {"size": None, "labels": None, "probabilities": None, "error": result.reason}
    else:
        probs = {label: round(prob, 6) for label, prob in zip(labels, image.probs.tolist(), strict=True)}
        value |= {
            "size": [result.width, result.height], "labels": tagger.selection.tags(image),
            "probabilities": probs, "error": None,
        }  # fmt: skip
    return json_line(value)


def format_probability(prob: float) -> str:
    """A probability with six decimals."""
    return f"{prob:.6f}"


def write_table(
    path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]], *, excel: bool, replacing: Replacing
) -> None:
    """Writes a CSV of any length."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        text.write(csv_text(header, (), excel=excel))
        write_rows(text, rows, excel=excel)
        text.detach()


# --- for other programs -----------------------------------------------------------------------------------------------


def _write_exports(folder: Path, images: Images, tagger: Tagger, base: Path, replacing: Replacing) -> None:
    """Writes the files for other programs, which hold text: images whose names are not text are left out, and counted.

    `images` gives the tagged images, in order, as often as it is called.
    """
    chosen = {file: write for name in tagger.options.formats for file, write in EXPORTS.get(name, {}).items()}
    if not chosen:
        return
    left_out = [image.name for image in images() if _NOT_TEXT.search(image.name)]

    def of_text() -> Iterator[TaggedImage]:
        return (image for image in images() if not _NOT_TEXT.search(image.name))

    for name, write in chosen.items():
        with replacing(folder / name) as file:
            write(file, of_text, tagger, base)
    if left_out:
        what = pluralize(len(left_out), "image whose name is no text", "images whose names are no text")
        log.warning("%s left out of %s: %s", what, preview(list(chosen)), preview(left_out))


def _model_version(tagger: Tagger) -> str:
    """What tells the model from others, in files for other programs."""
    return f"{tagger.model.name} {tagger.model.info.digest[:12]}"


def _write_parquet(file: IO[bytes], images: Images, tagger: Tagger, base: Path) -> None:  # noqa: ARG001
    """One row per image: `filename`, its tags as the list `labels`, and a column ``LABEL:probability`` per label."""
    import pyarrow as pa
    from pyarrow import parquet

    selection = tagger.selection
    columns = [pa.field(f"{label}:probability", pa.float32()) for label in selection.labels]
    schema = pa.schema(
        [pa.field("filename", pa.string()), pa.field("labels", pa.list_(pa.string())), *columns],
        metadata={"labelr": __version__, "model": _model_version(tagger)},
    )
    rows = max(1, min(MAX_ROWS, MAX_VALUES // len(columns)))
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in in_batches(images(), rows):
            probs = np.stack([image.probs for image in batch])  # (B, K)
            values = [
                pa.array([image.name for image in batch], pa.string()),
                pa.array([selection.tags(image) for image in batch], schema.field("labels").type),
                *(pa.array(np.ascontiguousarray(column)) for column in probs.T),
            ]
            writer.write_table(pa.Table.from_arrays(values, schema=schema), row_group_size=rows)


def _write_coco(file: IO[bytes], images: Images, tagger: Tagger, base: Path) -> None:  # noqa: ARG001
    """COCO knows boxes alone: the box of a tag is the whole image, and its score the probability of the label."""
    selection = tagger.selection
    ids = {tag: number for number, tag in enumerate((*selection.labels, *selection.always), start=1)}
    categories = [{"id": number, "name": tag, "supercategory": ""} for tag, number in ids.items()]
    info = {"description": f"predictions of {_model_version(tagger)}", "version": f"labelr {__version__}"}

    def entries() -> Iterator[dict[str, Any]]:
        for number, image in enumerate(images(), start=1):
            result = image.result
            yield {"id": number, "file_name": image.name, "width": result.width, "height": result.height}

    def annotations() -> Iterator[dict[str, Any]]:
        pairs = ((number, image) for number, image in enumerate(images(), start=1))
        cells = ((number, image, tag) for number, image in pairs for tag in selection.tags(image))
        for annotation, (number, image, tag) in enumerate(cells, start=1):
            width, height = image.result.width, image.result.height
            column = ids[tag] - 1
            score = {"score": round(float(image.probs[column]), 6)} if column < len(image.probs) else {}
            yield {
                "id": annotation, "image_id": number, "category_id": ids[tag], "bbox": [0, 0, width, height],
                "area": width * height, "iscrowd": 0, "segmentation": [], **score,
            }  # fmt: skip

    file.write(f'{{"info": {json_line(info).strip()}, "licenses": [],\n"categories": '.encode())
    _write_list(file, categories)
    for name, values in (("images", entries()), ("annotations", annotations())):
        file.write(f',\n"{name}": '.encode())
        _write_list(file, values)
    file.write(b"}\n")


def _write_label_studio(file: IO[bytes], images: Images, tagger: Tagger, base: Path) -> None:
    """Tasks with predictions of choices; paths as Label Studio serves the folder of the images, below its parent."""
    version = _model_version(tagger)

    def tasks() -> Iterator[dict[str, Any]]:
        for image in images():
            path = quote(f"{base.name}/{image.name}")
            choices = {"choices": tagger.selection.tags(image)}
            result = {"from_name": "choice", "to_name": "image", "type": "choices", "value": choices}
            prediction = {"model_version": version, "score": _least_certain(image), "result": [result]}
            yield {"data": {"image": f"/data/local-files/?d={path}"}, "predictions": [prediction]}

    _write_list(file, tasks())
    file.write(b"\n")


def _write_label_studio_config(file: IO[bytes], images: Images, tagger: Tagger, base: Path) -> None:  # noqa: ARG001
    """The labeling configuration of a project that the tasks are imported into."""
    from xml.sax.saxutils import quoteattr

    tags = (*tagger.selection.labels, *tagger.selection.always)
    choices = "\n".join(f"    <Choice value={quoteattr(_clean(tag))}/>" for tag in tags)
    file.write(
        f'<View>\n  <Image name="image" value="$image"/>\n  <Choices name="choice" toName="image" choice="multiple">\n'
        f"{choices}\n  </Choices>\n</View>\n".encode()
    )


def _least_certain(image: TaggedImage) -> float:
    """The probability of the least certain decision on the labels of an image."""
    return round(float(np.where(image.applies, image.probs, 1 - image.probs).min()), 6)


def _write_list(file: IO[bytes], values: Iterable[object]) -> None:
    """Writes a list, one value a line."""
    file.write(b"[")
    for number, value in enumerate(values):
        file.write(f"{',' if number else ''}\n{json_line(value).strip()}".encode())
    file.write(b"\n]")


def _write_cvat(file: IO[bytes], images: Images, tagger: Tagger, base: Path) -> None:
    """CVAT for images 1.1, with a tag of the whole image for each label."""
    from xml.sax.saxutils import escape, quoteattr  # with all of urllib

    selection = tagger.selection
    labels = (
        f"        <label><name>{escape(_clean(tag))}</name><type>tag</type><attributes></attributes></label>\n"
        for tag in (*selection.labels, *selection.always)
    )
    head = (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
        f"      <name>{escape(_clean(base.name))}</name>\n      <size>{sum(1 for _ in images())}</size>\n"
        "      <mode>annotation</mode>\n      <labels>\n"
    )
    for text in chain([head], labels, ["      </labels>\n    </task>\n  </meta>\n"]):
        file.write(text.encode())
    for number, image in enumerate(images()):
        width, height = image.result.width, image.result.height
        lines = [f'  <image id="{number}" name={quoteattr(image.name)} width="{width}" height="{height}">']
        tags = selection.tags(image)
        lines += [f'    <tag label={quoteattr(_clean(tag))} source="auto"></tag>' for tag in tags]
        file.write("\n".join([*lines, "  </image>\n"]).encode())
    file.write(b"</annotations>\n")


def _clean(text: str) -> str:
    return _NOT_TEXT.sub("\ufffd", text)


EXPORTS: dict[str, dict[str, Write]] = {
    "parquet": {"labels.parquet": _write_parquet},
    "coco": {"coco.json": _write_coco},
    "label-studio": {"label-studio.json": _write_label_studio, "label-studio.xml": _write_label_studio_config},
    "cvat": {"cvat.xml": _write_cvat},
}
"""The files of each format in the output directory."""
TABLES = (*_LISTS, *(name for names in EXPORTS.values() for name in names))
"""The files of all images that an output directory may have."""


# --- images to label next ---------------------------------------------------------------------------------------------


def most_uncertain(
    images: Iterable[TaggedImage], selection: LabelSelection, base: Path, count: int, *, max_pixels: int
) -> list[str]:
    """The images closest to their thresholds, one for each label in turn, near-duplicates only once.

    The distance is one of log-odds, so that it is comparable at low and medium thresholds. Images with more pixels
    than `max_pixels` are not compared with others.

    Returns:
        At most `count` names, in rounds of one image per label, the least certain of a round first.
    """
    num_labels = len(selection.labels)
    most = max(OVERSAMPLING * -(-count // num_labels), 2 * num_labels)
    thresholds = _log_odds(selection.thresholds)
    nearest: list[list[tuple[float, str]]] = [[] for _ in range(num_labels)]  # a heap per label, the farthest on top
    for image in images:
        for heap, distance in zip(nearest, np.abs(_log_odds(image.probs) - thresholds).tolist(), strict=True):
            item = (-distance, image.name)
            if len(heap) < most:
                heapq.heappush(heap, item)
            else:
                heapq.heappushpop(heap, item)
    return list(islice(_without_duplicates(_in_turn(nearest), base, max_pixels), count))


def _in_turn(nearest: list[list[tuple[float, str]]]) -> list[str]:
    """The names in rounds of one image per label, each name once."""
    ordered = (sorted(heap, reverse=True) for heap in nearest)
    rounds = (sorted(filter(None, images), reverse=True) for images in zip_longest(*ordered))
    return list(dict.fromkeys(name for images in rounds for _, name in images))


def _without_duplicates(names: Iterable[str], base: Path, max_pixels: int) -> Iterator[str]:
    """The names whose images are not near-duplicates of an earlier one."""
    fingerprints: list[int] = []
    for name in names:
        new = None
        with suppress(UnreadableError):
            new = fingerprint(read_pixels(base / name, PROBE_SIZE, max_pixels=max_pixels, value_range="own"))
        if new is not None:
            if any((new ^ other).bit_count() <= MAX_DISTANCE for other in fingerprints):
                continue
            fingerprints.append(new)
        yield name


def _log_odds(probs: NDArray[np.floating]) -> NDArray[np.float64]:
    clipped = np.clip(probs.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
