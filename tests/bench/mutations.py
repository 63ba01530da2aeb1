"""Reads damaged label files, and prints each distinct failure with the bytes that reproduce it.

python tests/bench/mutations.py 20000
"""

import argparse
import random
import re
import resource
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from test_mutations import SEEDS, read_damaged

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
    arguments = parser.parse_args()
    SEEDS.update(exports())
    dice, started, slowest = random.Random(arguments.seed), time.perf_counter(), 0.0
    failures, outcomes = Counter[str](), Counter[str]()
    for _ in range(arguments.examples):
        name, data = dice.choice(list(SEEDS)), dice.randbytes(96)
        before = time.perf_counter()
        try:
            outcomes["error" if read_damaged(name, data) else "read"] += 1
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
                print(f"{failure}\n    read_damaged({name!r}, bytes.fromhex({data.hex()!r}))", flush=True)
        slowest = max(slowest, time.perf_counter() - before)
    seconds = time.perf_counter() - started
    print(f"\n{arguments.examples:,} examples in {seconds:.1f} s, slowest {slowest:.2f} s; {dict(outcomes)}")
    print(f"{len(SEEDS)} data sets, at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MB")
    for failure, count in failures.most_common():
        print(f"{count:7,}  {failure}")


if __name__ == "__main__":
    main()
