"""Soak: damaged and hostile journals of `labelr tag`; nothing but a reported error, and nothing deleted elsewhere.

Run it by hand: ``python tests/bench/journals.py --count 5000 --seed 0``.
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

from labelr.data.predicted import JOURNAL, read_predictions
from labelr.errors import LabelrError
from labelr.tagging.output import delete_files, open_output
from labelr.tagging.pipeline import Result

SETTINGS = {"model": "m (1234)", "labels": ["dog", "cat"], "photos": "/photos", "in place": False}


def make_journal(folder: Path) -> bytes:
    """The content of a journal of 50 images, with the names of files that it must not delete."""
    with open_output(folder, SETTINGS, force=False) as journal:
        for number in range(50):
            probs = np.array([0.25, number / 50], np.float32)
            journal.put(Result(f"{number}.jpg", (1, 2, 3), "d" * 64, 4, 5, "" if number % 7 else "damaged", probs))
            journal.put_predicted(f"{number}.jpg", probs >= 0.5)
            journal.put_file(folder.absolute() / f"{number}.jpg.csv", f"{number}.jpg", ("e" * 64,))
    return (folder / JOURNAL).read_bytes()


def mutate(content: bytes, rng: random.Random) -> bytes:
    """The content with some bytes changed, moved, or cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        place = rng.randrange(len(changed) or 1)
        kind = rng.randrange(4)
        if kind == 0 and changed:
            changed[place] = rng.randrange(256)
        elif kind == 1:
            changed[place : place + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, b"../../..", b"\x7f" + b"\xff" * 7])
        elif kind == 2:
            start = rng.randrange(len(changed) or 1)
            changed[place : place + 64] = changed[start : start + 64]
        else:
            del changed[place:]
    return bytes(changed)


def use(folder: Path) -> None:
    """Reads a journal in all ways."""
    with suppress(LabelrError):
        read_predictions(folder)
    with open_output(folder, SETTINGS, force=False) as journal:
        journal.check_lengths(2)
        list(journal.results())
        journal.names()
        journal.new_failures()
        journal.predictions(np.array([0, 1]))
        delete_files(journal, folder, folder.absolute())


def main() -> None:
    """Prints how the journals ended, and the longest time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, ended, longest = random.Random(options.seed), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as place:
        original = Path(place, "original")
        original.mkdir()
        content, folder = make_journal(original), Path(place, "out")
        (folder / JOURNAL.parent).mkdir(parents=True)
        (Path(place) / "thesis.doc").write_text("mine")
        for _ in range(options.count):
            for path in (folder / JOURNAL.parent).iterdir():
                path.unlink()
            (folder / JOURNAL).write_bytes(mutate(content, rng))
            start = time.perf_counter()
            try:
                use(folder)
                ended["read"] += 1
            except LabelrError as error:
                ended[error.message.partition("journal.sqlite ")[2][:24]] += 1
            longest = max(longest, time.perf_counter() - start)
        assert (Path(place) / "thesis.doc").read_text() == "mine"
    print(f"{options.count} journals, longest {longest:.2f} s: {dict(ended.most_common())}")


if __name__ == "__main__":
    main()
