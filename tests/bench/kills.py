"""Kills commands with SIGKILL at random moments, runs them again, and compares the result with an undisturbed run.

    python tests/bench/kills.py 30
    python tests/bench/kills.py 30 fit fit-folds tag-append --seed 1

The moments are evenly distributed over the time of an undisturbed run, which is killed up to three times. The same
command must then complete, with the same files in the end except for times; images and label files are never changed.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from forked import (
    COMMANDS,
    INPUTS,
    Command,
    contents,
    copy_place,
    differences,
    make_place,
    outcome,
    run,
    start,
    undisturbed,
)


def disturbed(
    command: Command, template: Path, place: Path, expected: Mapping[str, object], delays: list[float]
) -> tuple[int, list[str]]:
    """The number of kills, and what is wrong with the end of a command that is killed after each of the delays."""
    copy_place(template, place, command)
    before, kills = contents(place, INPUTS), 0
    for delay in delays:
        running = start(command.arguments, place)
        running.process.join(delay)
        killed = running.process.exitcode is None
        running.process.kill()
        running.process.join()
        kills += killed
        if not killed:
            break
    code, err = run(command, place)
    wrong = [] if command.completes(code) else [f"exit code {code}: {err[-300:]}"]
    wrong += ["a traceback"] if "Traceback" in err else []
    wrong += ["images or label files were changed"] if contents(place, INPUTS) != before else []
    wrong += [f"another {name}" for name in differences(outcome(place), expected)]
    return kills, wrong


def main() -> None:
    """Kills each command several times, and prints the outcomes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kills", type=int, help="of each command")
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"default: all of {', '.join(COMMANDS)}")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, survived, broken = random.Random(arguments.seed), Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        template, place = make_place(Path(name) / "template"), Path(name) / "place"
        for chosen in arguments.commands or COMMANDS:
            command = COMMANDS[chosen]
            seconds, expected = undisturbed(command, template, place)
            print(f"{chosen}: an undisturbed run takes {seconds:.1f} s", flush=True)
            missed = 0
            while survived[chosen] + broken[chosen] < arguments.kills and missed < 3 * arguments.kills:
                most = min(rng.randint(1, 3), arguments.kills - survived[chosen] - broken[chosen])
                delays = [rng.uniform(0, seconds) for _ in range(most)]
                kills, wrong = disturbed(command, template, place, expected, delays)
                missed += not kills
                (broken if wrong else survived)[chosen] += kills
                if wrong:
                    print(f"  after {', '.join(f'{delay:.3f} s' for delay in delays)}: {'; '.join(wrong)}", flush=True)
            print(f"  {survived[chosen]} kills survived, {broken[chosen]} not", flush=True)
    print(f"{survived.total()} of {survived.total() + broken.total()} kills survived")
    sys.exit(1 if broken.total() else 0)


if __name__ == "__main__":
    main()
