"""What it takes to make a model and its scores again."""

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from labelr import files
from labelr.data.splits import SPLITS_FILE, read_splits
from labelr.errors import LabelrError
from labelr.model.info import ModelInfo
from labelr.model.predict import Model
from labelr.scoring.report.source import Source, read_history
from labelr.version import __version__

PACKAGES = ("torch", "numpy", "pillow", "scikit-learn", "scipy")

Facts = list[tuple[str, str]]


def made(source: Source, now: datetime) -> list[tuple[str, Facts]]:
    """Titles, each with names and values: of the model, its data, what was scored, and where it ran."""
    model = source.model
    info, evaluation = model.info, source.evaluation
    seconds = sum(read_history(model.path).get("seconds", ()))
    network: Facts = [
        ("Model", str(model.path)),
        ("Finished", info.created),
        *([("Trained for", f"{seconds / 60:.1f} minutes")] if seconds else []),
        ("Epoch", f"{info.best_epoch}"),
        ("Weights, SHA-256", info.weights.get("sha256", "")),
        ("Seed", str(info.config.get("seed", ""))),
        ("Network", f"residual, stem {info.architecture.stem}, width {info.architecture.width:g}"),
        ("Image size", f"{info.preprocessing.image_size} px, {info.preprocessing.resize}"),
        ("Calibration", f"temperature {info.calibration.temperature:.3f}, bias {info.calibration.bias:.3f}"),
    ]
    scored: Facts = [
        ("Label file", evaluation.data),
        *_file_digest(Path(evaluation.data)),
        ("Images", f"{len(evaluation.files):,}"),
        ("Labels", f"{len(evaluation.labels):,}"),
        ("Thresholds", "the model's own" if evaluation.threshold == "auto" else str(evaluation.threshold)),
        *([("Contents of the images, SHA-256", contents_digest(evaluation.digests))] if evaluation.digests else []),
    ]
    return [
        ("Model", network),
        ("What it learned from", _learned(model)),
        ("What was scored", scored),
        _where(model, now),
    ]


def _file_digest(path: Path) -> Facts:
    try:
        with path.open("rb") as file:
            return [("Label file, SHA-256", files.digest(file))]
    except OSError:  # a folder of files, or gone
        return []


def contents_digest(digests: Iterable[str]) -> str:
    """One digest of a set of images, whatever they are called: that of their own digests, sorted, a line each."""
    return hashlib.sha256("".join(f"{one}\n" for one in sorted(digests)).encode()).hexdigest()


def _learned(model: Model) -> Facts:
    counts = model.info.counts
    unknown = sum(one.get("unknown", 0) for one in counts.values())
    given = sum(one.get("positives", 0) for one in counts.values())
    facts: Facts = [
        ("Labels", f"{len(model.labels):,}"),
        ("Given labels", f"{given:,}"),
        ("Unknown cells", f"{unknown:,}"),
    ]
    try:
        rows = read_splits(model.path / SPLITS_FILE)
    except LabelrError:
        return facts
    parts = Counter(row.split for row in rows)
    divided = ", ".join(f"{count:,} {part}" for part, count in parts.items())
    digest = contents_digest(row.digest for row in rows)
    return [("Images", f"{len(rows):,}: {divided}"), *facts, ("Contents of the images, SHA-256", digest)]


def _where(model: Model, now: datetime) -> tuple[str, Facts]:
    machine = model.machine
    learned_with = ", ".join(f"{name} {one}" for name, one in model.info.versions.items())
    return (
        "Where",
        [
            ("Trained with", learned_with),
            ("Scored with", versions()),
            ("Machine", this_machine()),
            ("Computed on", f"{machine.device.type}, {machine.precision}, {machine.threads} threads"),
            ("This page written", now.isoformat(timespec="seconds")),
        ],
    )


def versions(*more: str) -> str:
    """The versions of labelr, of Python, and of the packages that it computes with.

    Args:
        more: Packages that matter as well.
    """
    found = {"labelr": __version__, "Python": platform.python_version()}
    for package in (*PACKAGES, *more):
        with suppress(PackageNotFoundError):  # installed by other means than pip
            found[package] = version(package)
    return ", ".join(f"{name} {one}" for name, one in found.items())


def this_machine() -> str:
    """The machine in a few words."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def counts(info: ModelInfo, most: int) -> Facts:
    """How often each label, or the first `most`, is given as yes and as no, and how often it is not known."""
    shown = list(info.counts.items())[:most]
    kinds = {"positives": "yes", "negatives": "no", "unknown": "unknown"}
    return [(label, ", ".join(f"{of.get(kind, 0):,} {word}" for kind, word in kinds.items())) for label, of in shown]


def settings(config: dict[str, Any]) -> Facts:
    """The settings of a training run by the names of their options."""
    return [(f"--{name.replace('_', '-')}", _shown(value)) for name, value in config.items()]


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "not set"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
