"""Reads damaged files, and prints each distinct failure with the bytes that reproduce it.

python tests/bench/mutations.py 20000                           label files
python tests/bench/mutations.py 20000 --records                 model.json, run.json, study.log, checkpoints, ...
python tests/bench/mutations.py 20000 --records weights
"""

import argparse
import logging
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from conftest import TINY
from test_mutations import SEEDS, read_damaged
from test_records import KINDS, make_place, read_damaged_record

Reader = Callable[[str, bytes], object]
"""True where a file of some kind is an error after damage that bytes determine."""


@contextmanager
def record_reader() -> Iterator[Reader]:
    """Reads files of a small model, run and study."""
    from labelr.data.synthetic import make_synthetic_dataset
    from labelr.training.fit import fit

    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        folder = Path(name)
        os.environ["LABELR_HOME"] = str(folder / "home")
        data = make_synthetic_dataset(folder / "shapes", 60, 3)
        model = fit(data, TINY, output=folder / "model").model.path
        yield partial(read_damaged_record, make_place(folder / "home" / "models", model, data))


EXPORTS = Path(__file__).resolve().parents[1] / "exports"


def exports() -> dict[str, dict[str, str]]:
    """The text files of each folder of real exports, by the path of the folder."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(path for path in EXPORTS.rglob("*") if path.is_file() and path.suffix != ".md"):
        with suppress(UnicodeDecodeError):
            folder = path.parent.relative_to(EXPORTS).as_posix()
            found.setdefault(folder, {})[path.name] = path.read_bytes().decode()
    return found


def main() -> None:
    """Prints each failure once with its first example, and the number of outcomes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("examples", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", nargs="*", choices=list(KINDS), help="labelr's own files instead, or some of them")
    arguments = parser.parse_args()
    if arguments.records is None:
        SEEDS.update(exports())
        run(arguments, list(SEEDS), read_damaged)
    else:
        with record_reader() as read:
            run(arguments, arguments.records or list(KINDS), read)


def run(arguments: argparse.Namespace, names: Sequence[str], read: Reader) -> None:
    """Reads damaged files of some kinds."""
    dice, started, slowest = random.Random(arguments.seed), time.perf_counter(), 0.0
    failures, outcomes = Counter[str](), Counter[str]()
    for _ in range(arguments.examples):
        name, data = dice.choice(names), dice.randbytes(96)
        before = time.perf_counter()
        try:
            outcomes["error" if read(name, data) else "read"] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            frames = [
                frame for frame in traceback.extract_tb(error.__traceback__) if "labelr" in Path(frame.filename).parts
            ]
            frame = frames[-1] if frames else last
            where = f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})"
            what = re.split(r"['/(]", str(error))[0][:80].strip()
            failure = f"{where} {type(error).__name__}: {what}"
            failures[failure] += 1
            if failures[failure] == 1:
                print(f"{failure}\n    {name!r}, bytes.fromhex({data.hex()!r})", flush=True)
        slowest = max(slowest, time.perf_counter() - before)
    seconds = time.perf_counter() - started
    print(f"\n{arguments.examples:,} examples in {seconds:.1f} s, slowest {slowest:.2f} s; {dict(outcomes)}")
    print(f"{len(names)} kinds of files, at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MB")
    for failure, count in failures.most_common():
        print(f"{count:7,}  {failure}")


if __name__ == "__main__":
    main()
