"""The model card, in Markdown: what a model is, what it was trained on, how good it is, and its limits."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from labelr import files
from labelr.config import MachineOptions, TrainConfig, applicable
from labelr.data.label_table import FEW_POSITIVES
from labelr.data.splits import SPLITS_FILE, read_splits
from labelr.errors import pluralize, printable
from labelr.model import store
from labelr.model.archive import without_paths
from labelr.model.info import DAMAGED_HINT, ModelInfo
from labelr.scoring.report import text
from labelr.scoring.results import read_metrics

_MARKUP = re.compile(r"[\\`*_{}\[\]()<>#|~&!:@$^]|(?<=www)\.", re.IGNORECASE)
"""What Markdown, or a page that shows it, may take for more than text."""
SCORED_ON = {"test": "of the test split, which it was not trained on", "val": "of the validation split"}
COUNTS, SCORES = ("positives", "negatives", "unknown"), ("support", "precision", "recall", "f1", "ap")
"""Of each label: the cells in all data, and the scores."""
EXPLANATION = (
    "A label applies from its threshold on. Positives, negatives and unknown cells are of all data; "
    "support and scores are of the images that it was scored on."
)
SOURCES = "The licence of the training images and of this model is not recorded: ask who trained it."
SCRATCH = "Trained from scratch: it holds no pretrained weights."


def model_card(folder: Path) -> str:
    """The card of a model; it names no image, and no folder above the data.

    Raises:
        LabelrError: If its training is not finished, or a file of it is damaged.
    """
    given = store.check_complete(folder)
    info, path, name = without_paths(given), folder / store.METRICS_FILE, store.make_name(folder.name)
    result = read_metrics(folder) if path.exists() else {"per_label": []}
    with files.reading(path, DAMAGED_HINT):
        sections = {
            "Data": _data(folder, [PureWindowsPath(data).name for data in given.data]),
            "Scores": _scores(info, result),
            "Labels": _labels(info, result),
            "Limits": [f"- {limit}" for limit in _limits(info, result)],
            "Licence": [
                *(_table(("", ""), text.network_facts(info)[1:]) if info.pretraining else [SCRATCH]),
                "",
                SOURCES,
            ],
            "Settings": ["Those that are not the default:", "", *_table(("option", "value"), _settings(info))],
            "Use": ["```sh", f"labelr models import {name}.zip", f"labelr tag PHOTOS --model {name}", "```"],
        }
    title = [f"# {_plain(folder.name)}", "", "A multi-label image tagger, trained with labelr.", "", *_model(info)]
    lines = [*title, *(line for name, lines in sections.items() for line in ("", f"## {name}", "", *lines))]
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    """A text from anywhere in one line, as Markdown that shows it and does nothing else."""
    return _MARKUP.sub(r"\\\g<0>", printable(" ".join(str(value).split())))


def _table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    lines = [header, ["---"] * len(header), *([_plain(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _model(info: ModelInfo) -> list[str]:
    preprocessing, calibration = info.preprocessing, info.calibration
    size = preprocessing.image_size
    facts = [
        *text.network_facts(info)[:1],
        ("Input", f"RGB images, resized to {size} x {size} pixels ({preprocessing.resize})"),
        ("Output", f"a probability for each of {pluralize(len(info.labels), 'label')}"),
        ("Averaged over the mirror image", "yes" if preprocessing.flip_averaging else "no"),
        ("Calibration", f"temperature {calibration.temperature:.3f}, bias {calibration.bias:.3f}"),
        ("Trained", f"{info.created[:10]}, epoch {info.best_epoch}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in info.versions.items())),
        ("Weights, SHA-256", info.weights["sha256"]),
    ]
    return _table(("", ""), facts)


def _data(folder: Path, names: Sequence[str]) -> list[str]:
    lines = [f"Folder: {_plain(', '.join(names))}."] if names else ["Its folder is not recorded."]
    if (folder / SPLITS_FILE).exists():
        counts = Counter(row.split for row in read_splits(folder / SPLITS_FILE))
        splits = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "val", "test") if counts[split])
        lines.append(f"{pluralize(counts.total(), 'image')}: {splits}.")
    return lines


def _scores(info: ModelInfo, result: Mapping[str, Any]) -> list[str]:
    if "metrics" not in result:
        return ["Not measured."]
    images = SCORED_ON.get(info.scored_on or "", "in folds, each scored by a model that was not trained on it")
    said = text.headline(result, images, seen_in_training=False)
    rows = text.headline_rows(result)
    lines = [_plain(sentence) for sentence in (said.first, *said.rest, said.measured, *said.warnings)]
    return [*lines, "", *_table([*rows[0]] if rows else ["metric"], (row.values() for row in rows))]


def _labels(info: ModelInfo, result: Mapping[str, Any]) -> list[str]:
    """A table with the counts, the threshold and the scores of each label."""
    scores = {row["label"]: row for row in result["per_label"]}
    rows = []
    for label, threshold in zip(info.labels, info.thresholds, strict=True):
        counts, row = info.counts.get(label, {}), scores.get(label, {})
        cells = (*(counts.get(kind) for kind in COUNTS), threshold, *(row.get(name) for name in SCORES))
        shown = ("" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else f"{cell:,}" for cell in cells)
        rows.append((label, *shown))
    return [EXPLANATION, "", *_table(("label", *COUNTS, "threshold", *SCORES), rows)]


def _limits(info: ModelInfo, result: Mapping[str, Any]) -> Iterator[str]:
    yield "It knows these labels only, and images like those that it was trained on: expect lower scores on others."
    if info.scored_on == "val":
        yield "The scores are optimistic: the thresholds were chosen on the same images."
    rare = [label for label in info.labels if info.counts.get(label, {}).get("positives", 0) < FEW_POSITIVES]
    found = {
        f"Labels with fewer than {FEW_POSITIVES} positives in all data": rare,
        f"Labels whose scores are unreliable, with a support below {FEW_POSITIVES}": result.get("few_positives"),
        "Labels without a positive or a negative to score": result.get("not_evaluable"),
        "Labels that miss the target precision or recall": result.get("missed_target"),
    }
    yield from (f"{what}: {', '.join(map(_plain, labels))}." for what, labels in found.items() if labels)
    unknown = sum(counts.get("unknown", 0) for counts in info.counts.values())
    if unknown:
        yield f"Left out of training and scores: {pluralize(unknown, 'unknown cell')} of the labels."
    if info.preprocessing.value_range:
        yield f"Images of more than 8 bits: values are cut off outside {info.preprocessing.value_range}."


def _settings(info: ModelInfo) -> Iterator[tuple[str, str]]:
    """The options that differ from the default, but for those of the machine."""
    default, machine = TrainConfig().to_dict(), MachineOptions.names()
    settings = applicable({**default, **info.config}, is_synthetic=False).items()
    changed = {name: value for name, value in settings if name not in machine and value != default[name]}
    return iter(text.setting_facts(changed))
