"""Tables of all images for other programs: Parquet, COCO, Label Studio and CVAT, written as a stream."""

import importlib.util
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from io import BufferedWriter
from itertools import chain
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np

from labelr.errors import LabelrError, pluralize, preview
from labelr.processors import in_batches
from labelr.serialization import json_line
from labelr.tagging.pipeline import TaggedImage, Tagger
from labelr.version import __version__

log = logging.getLogger(__name__)

MAX_ROWS, MAX_VALUES = 10_000, 4_000_000
"""Of a row group of Parquet, which is held in memory: rows, and their probabilities."""
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML cannot hold, and bytes of file names that are not UTF-8."""

Images = Callable[[], Iterator[TaggedImage]]
Replacing = Callable[[Path], AbstractContextManager[BufferedWriter]]


Write = Callable[[IO[bytes], Images, Tagger, Path], None]
"""Writes a file, given the tagged images, the tagger, and the folder of the images."""


def check_formats(formats: Collection[str]) -> None:
    """Raises LabelrError if a package that a format needs is not installed."""
    if "parquet" in formats and importlib.util.find_spec("pyarrow") is None:
        raise LabelrError("the format parquet needs pyarrow", "`pip install 'labelr[parquet]'`")


def write_exports(folder: Path, images: Images, tagger: Tagger, base: Path, replacing: Replacing) -> None:
    """Writes a file for each format among the options that has one.

    They hold text: images whose names are not text are left out, and counted in a warning.

    Args:
        folder: The output directory.
        images: Gives the tagged images, in order, as often as it is called.
        tagger: The tagger.
        base: The folder that the names of the images are relative to.
        replacing: Gives a temporary file that replaces a path at the end.

    Raises:
        LabelrError: If a file cannot be written.
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


def model_version(tagger: Tagger) -> str:
    """What tells the model from others, in files for other programs."""
    return f"{tagger.model.name} {tagger.model.info.digest[:12]}"


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _write_parquet(file: IO[bytes], images: Images, tagger: Tagger, base: Path) -> None:  # noqa: ARG001
    """One row per image: `filename`, its tags as the list `labels`, and a column ``LABEL:probability`` per label."""
    import pyarrow as pa
    from pyarrow import parquet

    selection = tagger.selection
    columns = [pa.field(f"{label}:probability", pa.float32()) for label in selection.labels]
    schema = pa.schema(
        [pa.field("filename", pa.string()), pa.field("labels", pa.list_(pa.string())), *columns],
        metadata={"labelr": __version__, "model": model_version(tagger)},
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


# --- JSON -------------------------------------------------------------------------------------------------------------


def _write_coco(file: IO[bytes], images: Images, tagger: Tagger, base: Path) -> None:  # noqa: ARG001
    """COCO knows boxes alone: the box of a tag is the whole image, and its score the probability of the label."""
    selection = tagger.selection
    ids = {tag: number for number, tag in enumerate((*selection.labels, *selection.always), start=1)}
    categories = [{"id": number, "name": tag, "supercategory": ""} for tag, number in ids.items()]
    info = {"description": f"predictions of {model_version(tagger)}", "version": f"labelr {__version__}"}

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
    version = model_version(tagger)

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


# --- XML --------------------------------------------------------------------------------------------------------------


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
