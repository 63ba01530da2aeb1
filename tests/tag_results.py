"""What `labelr tag` wrote, for tests."""

import csv
import json
from pathlib import Path

ALL_FORMATS = ("csv", "table", "jsonl", "txt")


def read_csv(path: Path) -> list[list[str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))


def reason_of(output: Path, name: str) -> str:
    """Why an image failed."""
    return dict(read_csv(output / "errors.csv")[1:])[name]


def tree(folder: Path) -> dict[str, bytes]:
    """The content of all results, without the summary and the journal."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".labelr" not in path.parts and path.name != "summary.json"
    }


def counts(folder: Path) -> dict[str, int]:
    """The number of images in each state, from the summary."""
    summary = json.loads((folder / "summary.json").read_text())
    return {name: summary[name] for name in ("found", "ok", "failed", "skipped", "unchanged", "vanished")}
