"""Runs two commands at once on one name, cache, output or study, or one beside `rm -r`, and then the first again.

    python tests/bench/races.py 10
    python tests/bench/races.py 50 --only tag

Each must end with a documented exit code and without a traceback. The first must then complete, with the files of an
undisturbed run; images, label files and other models are never changed.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from faults import EXIT_CODES
from forked import COMMANDS, INPUTS, contents, copy_place, differences, make_place, outcome, run, start, undisturbed

RACES = (
    ("fit", "fit"), ("fit", "cache-clear"), ("fit", "models-list"), ("fit", "models-verify"), ("fit", "tag"),
    ("fit", "rm home/models/new"), ("fit", "rm home/pixels"), ("fit-folds", "fit-folds"),
    ("fit-folds", "rm home/models/new/folds"), ("tag", "tag"), ("tag", "cache-clear"), ("tag", "models-list"),
    ("tag", "rm out"), ("tag", "rm out/.labelr"), ("tag", "rm out/deep"), ("tag", "rm home/pixels"),
    ("tag-table", "tag-table"), ("tag-jsonl", "tag-jsonl"), ("tag-append", "tag-append"),
    ("tag-in-place", "tag-in-place"), ("tag-append", "rm out_labels"), ("evaluate", "evaluate"),
    ("evaluate", "cache-clear"), ("evaluate", "rm out"), ("check", "check"), ("check", "cache-clear"),
    ("check", "rm home/pixels"), ("models-default", "models-default"), ("models-default", "rm home/models/.default"),
    ("models-rm", "models-rm"), ("models-rm", "models-list"), ("models-rm", "models-verify"),
    ("models-rm", "rm home/models/second"), ("cache-clear", "cache-clear"), ("cache-clear", "cache-ls"),
    ("tune", "tune"), ("tune", "cache-clear"), ("tune", "rm home/studies/it"),
)  # fmt: skip
"""The command that must complete, and what is done at the same time: another command, or `rm` of a path."""


def race(
    first: str, second: str, template: Path, place: Path, expected: Mapping[str, object], delay: float,
    others: Set[str] = frozenset(),
) -> list[str]:  # fmt: skip
    """What is wrong with a command that runs beside another one, or beside `rm`, and is then run again.

    `others` are the files that the second command alone writes.
    """
    command = COMMANDS[first]
    copy_place(template, place, command)
    kept = [*INPUTS, "home/models/first"]
    before = contents(place, kept)
    runners = [start(command.arguments, place)]
    runners[0].process.join(delay)
    if second.startswith("rm "):
        path = place / second.removeprefix("rm ")
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    else:
        runners.append(start(COMMANDS[second].arguments, place))
    wrong = []
    for runner in runners:
        code, err = runner.wait(), runner.read("err")
        if code not in EXIT_CODES:
            wrong.append(f"exit code {code}: {err[-1500:]}")
        elif "Traceback" in err or (code == 1 and "Error: " not in err):
            wrong.append(f"exit code {code}, but no sentence: {err[-1500:]}")
    wrong += [f"lost: {name}" for name, value in before.items() if contents(place, kept).get(name) != value]
    code, err = run(command, place)
    if not command.completes(code):
        wrong.append(f"then exit code {code}: {err[-300:]}")
    return wrong + [f"then another {name}" for name in differences(outcome(place), expected) if name not in others]


def main() -> None:
    """Runs each race several times, and prints what went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rounds", type=int, help="of each race")
    parser.add_argument("--only", default="", help="races whose first command starts like this")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, good, bad = random.Random(arguments.seed), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        template, place = make_place(Path(name) / "template"), Path(name) / "place"
        times: dict[str, tuple[float, dict[str, object]]] = {}
        for first, second in RACES:
            if not first.startswith(arguments.only):
                continue
            if first not in times:
                times[first] = undisturbed(COMMANDS[first], template, place)
            if second in COMMANDS and second not in times:
                times[second] = undisturbed(COMMANDS[second], template, place)
            seconds, expected = times[first]
            others = times[second][1].keys() - expected.keys() if second in COMMANDS else set()
            for _ in range(arguments.rounds):
                delay = rng.choice([0, rng.uniform(0, seconds)])
                wrong = race(first, second, template, place, expected, delay, others)
                (bad if wrong else good)[f"{first} beside {second}"] += 1
                if wrong:
                    print(f"{first} beside {second} after {delay:.3f} s:\n    " + "\n    ".join(wrong), flush=True)
            print(f"{first} beside {second}: {good[f'{first} beside {second}']} of {arguments.rounds}", flush=True)
    print(f"{good.total()} of {good.total() + bad.total()} rounds")
    sys.exit(1 if bad.total() else 0)


if __name__ == "__main__":
    main()
