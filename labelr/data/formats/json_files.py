"""JSON of annotation tools: COCO, and Label Studio, whose JSON-MIN and CSV have the same fields."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from labelr.data.formats.source import Source
from labelr.data.formats.spreadsheet import cell_text
from labelr.data.formats.table import exact_name
from labelr.data.label_table import Annotation, LabelTable, note_empty_images
from labelr.data.walk import has_image_suffix
from labelr.errors import LabelrError, pluralize, preview

COCO_LISTS = ("images", "annotations", "categories")
FLAT_FIELDS = frozenset({"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"})
"""The fields of JSON-MIN and CSV apart from those of the task and of its labels."""
SUBMITTED = ("annotations", "completions")
"""The field of a task's annotations, now and in early versions."""
CHOICES = ("choices", "taxonomy")
"""The fields of labels in the value of a control that asks about the image, as another control may with equal words."""
OTHER_VALUES = ("rating", "number", "text", "datetime", "ranker", "selected")
"""The fields of what is no label in the value of a control."""


def fits_coco(source: Source) -> int:
    """Confidence that this is a COCO JSON of instances or keypoints: 0 or 3."""
    document = source.document
    return 3 if isinstance(document, dict) and all(isinstance(document.get(name), list) for name in COCO_LISTS) else 0


def read_coco(source: Source) -> LabelTable:
    """The label table of a COCO JSON: a label applies if the image has an annotation of it.

    Declared categories without annotations are kept, unless they are the supercategory of others. To images without
    annotations no label applies.

    Raises:
        LabelrError: If an entry lacks a required field, or an annotation refers to an image or a category that is not
            in the file, unless such annotations are skipped. Ids are compared as text.
    """
    if not fits_coco(source):
        raise LabelrError(f"{source.path} is not a JSON of COCO", "name another layout with `--layout`")
    invalid: list[str] = []
    names = _named_by_id(source, "images", "file_name", invalid)
    categories = {key: name.strip() for key, name in _named_by_id(source, "categories", "name", invalid).items()}
    present: dict[str, set[str]] = {name: set() for name in names.values()}  # several entries, if projects were merged
    pairs = _pairs(source, "annotations", "image_id", "category_id", invalid)
    for number, (image, category) in enumerate(pairs, start=1):
        if image in names and category in categories:
            present[names[image]].add(categories[category])
        else:
            unknown = f"image {image}" if image not in names else f"category {category}"
            invalid.append(f"{source.path}: annotation {number} refers to {unknown}, which is not in the file")
    if invalid and not source.options.skip_invalid:
        more = f" ({pluralize(len(invalid) - 1, 'more such entry', 'more such entries')})" if len(invalid) > 1 else ""
        raise LabelrError(invalid[0] + more, "export it again, or leave such entries out with `--skip-invalid`")
    parents = {
        str(entry.get("supercategory"))
        for entry in source.document["categories"]
        if isinstance(entry, dict) and entry.get("supercategory") != entry.get("name")
    }
    used = set().union(*present.values())
    vocabulary = [label for label in categories.values() if label in used or label not in parents]
    annotations = [Annotation(name, labels) for name, labels in present.items()]
    notes = note_empty_images(annotations, "an object")
    layout = "COCO, the objects in an image"
    return LabelTable.of(annotations, layout, vocabulary=vocabulary, notes=notes, invalid=invalid, limits=source.limits)


def _named_by_id(source: Source, kind: str, field: str, invalid: list[str]) -> dict[str, str]:
    """A field of each entry of a list by its id; an id that two entries have, of other names, is invalid."""
    names: dict[str, str] = {}
    for key, name in _pairs(source, kind, "id", field, invalid):
        if names.setdefault(key, name) != name:
            invalid.append(f"{source.path}: `{kind}` has the id {key} twice, for {names[key]} and {name}")
    return names


def _pairs(source: Source, kind: str, first: str, second: str, invalid: list[str]) -> Iterator[tuple[str, str]]:
    """Two fields of each entry of a list as text; entries without them are added to `invalid`."""
    for number, entry in enumerate(source.document[kind], start=1):
        pair = (entry.get(first), entry.get(second)) if isinstance(entry, dict) else (None, None)
        if all(isinstance(value, (str, int, float)) for value in pair):
            yield cell_text(pair[0]), exact_name(cell_text(pair[1]))  # pandas writes ids as 1.0
        else:
            invalid.append(f"{source.path}: entry {number} of `{kind}` has no usable {first} or {second}")


# --- Label Studio ----------------------------------------------------------------------------------------------------


def fits_label_studio(source: Source) -> int:
    """Confidence that this is an export of Label Studio: 0 or 3."""
    tasks = source.objects
    if tasks and source.suffix == ".json":
        nested = all("data" in task and {*SUBMITTED, "predictions"} & task.keys() for task in tasks)
        return 3 if nested or all(set(task) >= FLAT_FIELDS for task in tasks) else 0
    return 3 if source.table is not None and set(source.table.header) >= FLAT_FIELDS else 0


def read_label_studio(source: Source) -> LabelTable:
    """The label table of an export; where annotators disagree on a label, the majority counts.

    Of a task with annotations that are `ground_truth`, only these count. Nothing is known of a task without a submitted
    annotation; no label applies if an empty one was submitted. In a file of tasks to import, which has no annotations,
    the labels are unconfirmed predictions.

    Raises:
        LabelrError: If a task has no image, or it is ambiguous which field holds the labels.
    """
    is_nested = source.suffix == ".json" and bool(source.objects) and "data" in source.objects[0]
    is_predicted = is_nested and not any(field in task for task in source.objects for field in SUBMITTED)
    fields = ("predictions",) if is_predicted else SUBMITTED
    try:
        submissions, notes = _read_nested(source, fields) if is_nested else _read_flat(source)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LabelrError(
            f"{source.path} is not an export of Label Studio: {error!r}", "export it again as JSON"
        ) from error
    layout = "tasks of Label Studio with predictions" if is_predicted else "an export of Label Studio"
    annotations, notes_on_names = _name_labels(submissions)
    notes += notes_on_names
    table = LabelTable.of(annotations, layout, notes=notes, limits=source.limits)
    return replace(table, unconfirmed=table.names) if is_predicted else table


class _Submission(NamedTuple):
    """An annotation: its labels, each with the name of the control that asked for it, which is empty for shapes."""

    name: str
    answers: Collection[tuple[str, str]] = ()
    complete: bool = True


def _name_labels(submissions: Sequence[_Submission]) -> tuple[list[Annotation], list[str]]:
    """The annotations, and a note where several controls have a choice in common, so that labels name their control."""
    controls = defaultdict(set)
    for submission in submissions:
        for control, label in submission.answers:
            controls[label].add(control)
    shared = sorted(label for label, own in controls.items() if len(own - {""}) > 1)
    annotations = [
        Annotation(
            name,
            {f"{control}={label}" if shared and control else label for control, label in answers},
            complete=complete,
        )
        for name, answers, complete in submissions
    ]
    if not shared:
        return annotations, []
    example = f"{min(controls[shared[0]] - {''})}={shared[0]}"
    return annotations, [f'choices of several controls, so that labels are called as in "{example}": {preview(shared)}']


def _read_nested(source: Source, fields: Sequence[str]) -> tuple[list[_Submission], list[str]]:
    """The annotations of JSON, which are in one of some fields of each task, and notes on what does not count."""
    submissions: list[_Submission] = []
    others: list[str] = []
    num_others = 0
    for task in source.objects:
        name = _image_of(source, task["data"])
        submissions.append(_Submission(name, complete=False))
        entries = next((task[field] for field in fields if field in task), None) or []
        submitted = [entry for entry in entries if not entry.get("was_cancelled") and not entry.get("skipped")]
        counted = [entry for entry in submitted if entry.get("ground_truth") is True] or submitted
        num_others += len(submitted) - len(counted)
        for entry in counted:
            results = [(str(result.get("from_name") or ""), result.get("value")) for result in entry["result"]]
            answers = {answer for control, value in results for answer in _answers(control, value)}
            submissions.append(_Submission(name, answers))
            others += [_describe_other(control, value) for control, value in results]
    note = f"annotations without `ground_truth` beside one with it, left out: {num_others:,}"
    return submissions, [*[note] * bool(num_others), *_note_others(others)]


def _read_flat(source: Source) -> tuple[list[_Submission], list[str]]:
    """The annotations of JSON-MIN or CSV, and notes on the fields that are ignored."""
    tasks = source.objects
    if not tasks:
        table = source.require_table()
        tasks = [dict(zip(table.header, map(_parse_cell, row), strict=False)) for row in table.body]
    names = [_image_of(source, {key: task[key] for key in task if key not in FLAT_FIELDS}) for task in tasks]
    fields, ignored = _label_fields(source, tasks, names)
    submissions = []
    for name, task in zip(names, tasks, strict=True):
        answers = {answer for field in fields for answer in _answers(field, task.get(field))}
        submissions.append(_Submission(name, answers, complete=task.get("annotation_id") not in (None, "")))
    lists = [(key, value) for task in tasks for key, value in task.items() if isinstance(value, list) and value]
    others = [_describe_other(key, value[0]) for key, value in lists]
    note = f"text fields, ignored, since only an export as JSON tells whether they are choices: {preview(ignored, 10)}"
    return submissions, [*[note] * bool(ignored), *_note_others(others)]


def _describe_other(control: str, value: Any) -> str:
    """A control and what its value holds if that is no label, such as ``quality (rating)``; else empty."""
    if not isinstance(value, dict) or any(map(_holds_labels, value)):
        return ""
    return next((f"{control} ({kind})" for kind in OTHER_VALUES if kind in value), "")


def _note_others(others: Iterable[str]) -> list[str]:
    """A note on what `_describe_other` has found."""
    found = list(dict.fromkeys(filter(None, others)))
    return [f"results that are no choices, not read: {preview(found, 10)}"] if found else []


def _parse_cell(cell: str) -> Any:
    """The value of a CSV cell, which is JSON if there is more than one choice."""
    with suppress(ValueError, RecursionError):
        return json.loads(cell) if cell.startswith(("{", "[")) else cell
    return cell


def _label_fields(source: Source, tasks: list[dict[str, Any]], names: list[str]) -> tuple[list[str], list[str]]:
    """The fields that hold labels, and the other text fields.

    Labels are in fields with lists of choices or shapes in any task, else in the only text field.
    """
    own_fields = dict.fromkeys(key for task in tasks for key in task if key not in FLAT_FIELDS)
    fields = [
        key
        for key in own_fields
        if any(isinstance(task.get(key), (dict, list)) and any(_answers(key, task[key])) for task in tasks)
    ]
    named = list(zip(tasks, names, strict=True))
    text = [
        key
        for key in own_fields
        if any(isinstance(task.get(key), str) and task[key] not in ("", name) for task, name in named)
    ]
    if fields:
        return fields, [key for key in text if key not in fields]
    if len(text) > 1:
        raise LabelrError(
            f"{source.path}: the labels may be in any of the fields {preview(text)}",
            "export the project as JSON, which tells which of them are choices",
        )
    return text, []


def _image_of(source: Source, data: Mapping[str, Any]) -> str:
    """The image of a task: the field `image`, or the first value with the suffix of an image."""
    values = [data.get("image"), *data.values()]
    texts = [value for value in values if isinstance(value, str) and value]
    found = next((text for text in texts if has_image_suffix(text.split("&")[0])), None) or data.get("image")
    if not isinstance(found, str):
        raise LabelrError(f"{source.path}: a task has no image: {preview(list(data))}", "export a project of images")
    return found


def _answers(control: str, value: Any) -> Iterator[tuple[str, str]]:
    """The labels in the value of a control, each with its name: text, ``{"choices": [...]}``, a taxonomy.

    Those of shapes, with ``"...labels"``, have none: a shape means the same whichever tool has drawn it.
    """
    if isinstance(value, str):
        yield from [(control, value.strip())] * bool(value.strip())
    elif isinstance(value, list):
        for item in value:
            yield from _answers(control, item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, Collection) and _holds_labels(key):
                yield from _answers(control if key in CHOICES else "", inner)


def _holds_labels(field: str) -> bool:
    """Whether a field of a value holds labels."""
    return field in CHOICES or field.endswith("labels")
