"""Imports damaged archives of a model: nothing but a LabelrError, or a complete model, and nothing written elsewhere.

python tests/bench/archive_mutations.py 10000
"""

import argparse
import io
import json
import logging
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from test_mutations import Dice, damage_bytes
from test_records import damage_header, damage_lines, damage_table

from labelr.errors import LabelrError
from labelr.model.archive import import_archive, verify

ARCHIVE = Path(__file__).resolve().parents[1] / "models" / "format-1" / "model.zip"
NAMES = (
    "/etc/x", "../x", "shapes/../../x", "shapes/x", "x", "", "shapes/", "shapes/model.json/x", "shapes//model.json",
    "./a", "shapes\\x", "C:/x", "\0", "shapes/model.json\0x", "shapes/.lock", "é/model.json", "a" * 5000,
    "birds/model.json",
)  # fmt: skip
ATTRIBUTES = (0o120777 << 16, 0o040755 << 16, 0o020666 << 16, 0o010666 << 16, 0, 0o100000 << 16, 0x10, 2**32 - 1)
BOMB = b"0" * 3_000_000


def damage_members(dice: random.Random) -> bytes:
    """The archive, packed again with a member changed, renamed, doubled, left out, expanded or of another kind."""
    with zipfile.ZipFile(ARCHIVE) as file:
        members = [(zipfile.ZipInfo(name), file.read(name)) for name in file.namelist()]
    for _ in range(dice.choice((1, 1, 2))):
        place = dice.randrange(max(1, len(members)))
        members[place : place + 1] = [new for old in members[place : place + 1] for new in _damage_member(*old, dice)]
    odd = dice.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for entry, content in members:
            method = odd if entry.filename.endswith(".csv") else zipfile.ZIP_STORED
            file.writestr(entry, content, zipfile.ZIP_DEFLATED if content is BOMB else method)
    return packed.getvalue()


def _damage_member(entry: zipfile.ZipInfo, content: bytes, dice: random.Random) -> list[tuple[zipfile.ZipInfo, bytes]]:
    """What takes the place of a member."""
    kind = dice.choice(("content", "content", "content", "name", "double", "drop", "attributes", "bomb", "new"))
    if kind == "content":
        return [(entry, _damage_content(entry.filename, content, Dice(dice.randbytes(96))))]
    if kind in ("name", "new"):
        renamed = (zipfile.ZipInfo(dice.choice(NAMES) or "x"), content)
        return [renamed] if kind == "name" else [(entry, content), renamed]
    if kind == "attributes":
        entry.external_attr = dice.choice(ATTRIBUTES)
    twin = [(zipfile.ZipInfo(entry.filename), content)] if kind == "double" else []
    return [] if kind == "drop" else [(entry, BOMB if kind == "bomb" else content), *twin]


def _damage_content(name: str, content: bytes, dice: Dice) -> bytes:
    if len(content) > 2**20:  # whose mutation as text would take more memory than any import
        return damage_bytes(content, dice)
    damage = {".json": damage_lines, ".safetensors": damage_header}.get(Path(name).suffix, damage_table)
    try:
        return damage(content, dice)
    except (ValueError, RecursionError):  # it is damaged already
        return damage_bytes(content, dice)


def damage_fields(data: bytes, dice: random.Random) -> bytes:
    """An archive with bytes changed in its headers, where sizes, offsets, methods and flags are."""
    changed = bytearray(data)
    signature = dice.choice((b"PK\3\4", b"PK\1\2", b"PK\5\6"))
    starts = [found.start() for found in re.finditer(re.escape(signature), data)]
    for _ in range(dice.randint(1, 4)):
        place = dice.choice(starts or [0]) + dice.randrange(46)
        width = dice.choice((1, 2, 4))
        if place + width < len(data):
            value = dice.choice((0, 1, 8, 2**31 - 1, 2**32 - 1, dice.randrange(2**32))) % 256**width
            changed[place : place + width] = value.to_bytes(width, "little")
    return bytes(changed)


def mutate(dice: random.Random) -> bytes:
    """A damaged archive."""
    kind = dice.randrange(4)
    if kind == 0:
        return damage_bytes(ARCHIVE.read_bytes(), Dice(dice.randbytes(96)))
    if kind == 1:
        return damage_fields(ARCHIVE.read_bytes(), dice)
    data = damage_members(dice)
    return damage_fields(data, dice) if kind == 2 else data


def run(examples: int, *, seed: int, place: Path, every: int = 0) -> Counter[str]:
    """Imports damaged archives with `place` as the only folder that may change; returns how they end.

    Prints that so far after `every` so many.
    """
    outcomes = Counter[str]()
    home, folder = place / "home", place / "given"
    folder.mkdir(parents=True)
    before = os.environ.get("LABELR_HOME")
    os.environ["LABELR_HOME"] = str(home)
    try:
        for number in range(examples):
            dice = random.Random(f"{seed}-{number}")
            outcomes[_import(mutate(dice), folder / "a.zip", home, place, f"seed {seed}, example {number}")] += 1
            if every and number % every == every - 1:
                print(f"{number + 1:,} archives: {json.dumps(outcomes)}, at most {_memory():,} MB", flush=True)
    finally:
        os.environ |= {"LABELR_HOME": before} if before else {}
    return outcomes


def _import(data: bytes, path: Path, home: Path, place: Path, what: str) -> str:
    path.write_bytes(data)
    outcome = "imported"
    try:
        folder = import_archive(path)
    except LabelrError as error:
        outcome = "error" if error.message else "no message"
    except Exception as error:  # noqa: BLE001 - it is what is searched for
        last = traceback.extract_tb(error.__traceback__)[-1]
        print(f"{what}: {type(error).__name__}: {error}, {Path(last.filename).name}:{last.lineno}", flush=True)
        outcome = f"{type(error).__name__} in {last.name}"
    else:
        assert folder.parent == home / "models", what
        verify(folder)
        shutil.rmtree(folder)
    left = [item for item in place.rglob("*") if item not in (home, home / "models", path.parent, path)]
    assert not left, f"{what} left {left}"
    return outcome


def main() -> None:
    """Prints the number of outcomes, the time and the memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("examples", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    memory, started = _memory(), time.perf_counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        outcomes: dict[str, Any] = dict(
            run(arguments.examples, seed=arguments.seed, place=Path(name, "place"), every=500)
        )
    seconds = time.perf_counter() - started
    print(f"{arguments.examples:,} archives in {seconds:.0f} s: {json.dumps(outcomes)}")
    print(f"at most {_memory():,} MB, and {memory:,} MB before the first")


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
