"""Disturbs every command by every fault of the machine, and runs it again: a table of commands and faults.

    python tests/bench/faults.py 3
    python tests/bench/faults.py 20 --commands tag fit --faults EIO ENOSPC

In each round, a command runs with a fault at a random moment. It must end by itself with a documented exit code and
without a traceback, change neither images nor label files nor other models, and then complete without the fault, with
the files of an undisturbed run. Needs Linux and gcc, and root for EACCES.
"""

import argparse
import ctypes
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
from forked import (
    COMMANDS,
    INPUTS,
    Command,
    Running,
    contents,
    copy_place,
    differences,
    make_place,
    outcome,
    run,
    start,
    undisturbed,
)

EXIT_CODES = {0, 1, 3, 75}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOBODY = 65534
RIGHTS_TO_FILES = range(4)
"""The rights of root to change the owner of a file, to read and write any, and to do what its owner may."""
PR_CAPBSET_DROP = 24
ALL_CALLS = ("open", "create", "stat", "read", "write", "sync", "rename", "mkdir", "unlink")


class Fault(NamedTuple):
    """How a run is disturbed: by its environment, by a function in its process, and by a function beside it."""

    environment: Mapping[str, str] = {}
    prepare: Callable[..., None] | None = None
    arguments: tuple[object, ...] = ()
    beside: Callable[[Running], None] | None = None
    said: str = ""
    codes: frozenset[int] = frozenset(EXIT_CODES)


def calls(call: str, place: Path, number: int, after: int, times: int) -> Fault:
    """Calls of the operating system that fail below a folder: `times` times, after the first `after`."""
    values = {"UNDER": place, "CALL": call, "ERRNO": number, "AFTER": after, "TIMES": times}
    name = errno.errorcode.get(number, f"{number} s")
    return Fault(
        {f"FAULT_{key}": str(value) for key, value in values.items()}, said=f"{name} in {call} {after} x {times}"
    )


def full_disk(rng: random.Random, place: Path, seconds: float) -> Fault:
    """Nothing can be written from some moment on."""
    return calls(rng.choice(["write", "write", "create", "mkdir", "sync"]), place, errno.ENOSPC, moment(rng), 10**9)


def failing_disk(rng: random.Random, place: Path, seconds: float) -> Fault:
    """One call fails, or all of its kind from then on."""
    return calls(rng.choice(ALL_CALLS), place, errno.EIO, moment(rng), rng.choice([1, 10**9]))


def moment(rng: random.Random) -> int:
    """How many calls succeed: often few, sometimes hundreds."""
    return int(2 ** rng.uniform(0, 9)) - 1


def no_locks(rng: random.Random, place: Path, seconds: float) -> Fault:
    """A file system without locks, such as some of NFS."""
    return calls("lock", place, rng.choice([errno.ENOLCK, errno.ENOSYS]), 0, 10**9)


def stale_handles(rng: random.Random, place: Path, seconds: float) -> Fault:
    """The server of a network drive was restarted, or another machine has replaced a file or folder."""
    call = rng.choice(["open", "create", "stat", "read", "write"])
    return calls(call, place, errno.ESTALE, moment(rng), rng.choice([1, 5]))


def renamed_twice(rng: random.Random, place: Path, seconds: float) -> Fault:
    """The answer to a rename over the network was lost: it was repeated, and its first one had moved the file."""
    return calls("renamed", place, errno.ENOENT, rng.randrange(6), 1)


def open_when_deleted(rng: random.Random, place: Path, seconds: float) -> Fault:
    """Files that are deleted stay as ``.nfs...`` while another process has them open."""
    return calls("nfs", place, 0, moment(rng), 10**9)


def clock_set_back(rng: random.Random, place: Path, seconds: float) -> Fault:
    """The clock is set back by a day in the middle."""
    return calls("clock", place, 86_400, moment(rng), 10**9)


def other_user(rng: random.Random, place: Path, seconds: float) -> Fault:
    """The files of another user, who lets others write into some folders, and not read one of the files."""
    writable = [name for name in (".", "out", "home", "home/models", "data") if rng.random() < 0.3]
    unreadable = rng.sample(sorted(path for path in place.rglob("*") if path.is_file()), rng.choice([0, 1]))
    for path in (place, *place.rglob("*")):
        allow(path, 0o755)
        os.chown(path, NOBODY, NOBODY)
    for folder in (place / name for name in writable if (place / name).exists()):
        for path in (folder, *folder.rglob("*")) if folder != place else (folder,):
            allow(path, 0o777)
    for path in unreadable:
        path.chmod(0)
    names = [path.relative_to(place).as_posix() for path in unreadable]
    return Fault(prepare=give_up_rights, said=f"writable {writable}, unreadable {names}")


def allow(path: Path, mode: int) -> None:
    """Sets what may be done with a folder, or a file, which is never executable."""
    path.chmod(mode if path.is_dir() else mode & 0o666)


def give_up_rights() -> None:
    """Makes root a user like any other for files of other users, also in the programs that this process starts."""
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    for right in RIGHTS_TO_FILES:
        libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0)
    assert libc.capget(header, sets) == 0
    for kind in (0, 1):  # effective and permitted
        sets[kind] &= ~sum(1 << right for right in RIGHTS_TO_FILES)
    assert libc.capset(header, sets) == 0


def few_descriptors(rng: random.Random, place: Path, seconds: float) -> Fault:
    """A low limit on open files."""
    number = rng.randint(8, 48)
    return Fault(prepare=limit, arguments=(resource.RLIMIT_NOFILE, number), said=f"{number} descriptors")


def small_files(rng: random.Random, place: Path, seconds: float) -> Fault:
    """A low limit on the size of files."""
    size = int(2 ** rng.uniform(12, 20))  # stderr is a file too
    return Fault(prepare=limit, arguments=(resource.RLIMIT_FSIZE, size), said=f"files of {size} bytes")


def limit(kind: int, value: int) -> None:
    """Sets a limit for this process and its children; the number of descriptors counts from those that are open."""
    if kind == resource.RLIMIT_NOFILE:
        value += len(os.listdir("/proc/self/fd")) - 3  # noqa: PTH208 - those of the test, not of the command
    resource.setrlimit(kind, (value, value))


def vanishing(rng: random.Random, place: Path, seconds: float) -> Fault:
    """The folder of the results or of the cache is deleted in the middle."""
    folders, delay = ["out", "out_labels", "home/models/new", "home/pixels", "home/studies"], rng.uniform(0, seconds)
    existing = {name for name in folders if (place / name).exists()} - {"home/pixels"}

    def remove(running: Running) -> None:
        running.process.join(delay)
        for name in set(folders) - existing:
            shutil.rmtree(place / name, ignore_errors=True)

    return Fault(beside=remove, said=f"after {delay:.2f} s")


def paused(rng: random.Random, place: Path, seconds: float) -> Fault:
    """The process is stopped for a moment."""
    delay = rng.uniform(0, seconds)

    def pause(running: Running) -> None:
        running.process.join(delay)
        running.signal(signal.SIGSTOP)
        time.sleep(0.5)
        running.signal(signal.SIGCONT)

    return Fault(beside=pause, said=f"after {delay:.2f} s")


def signalled_twice(rng: random.Random, place: Path, seconds: float) -> Fault:
    """Two signals within milliseconds, as of a terminal that closes."""
    delay, gap, pair = rng.uniform(0, seconds), rng.choice([0, 0.001, 0.02]), rng.choices(SIGNALS, k=2)

    def send(running: Running) -> None:
        running.process.join(delay)
        for number in pair:
            running.signal(number)
            time.sleep(gap)

    names = " and ".join(number.name for number in pair)
    codes = EXIT_CODES | {128 + number for number in SIGNALS}
    return Fault(beside=send, said=f"{names} after {delay:.3f} s", codes=frozenset(codes))


FAULTS: dict[str, Callable[[random.Random, Path, float], Fault]] = {
    "ENOSPC": full_disk, "EFBIG": small_files, "EIO": failing_disk, "EACCES": other_user, "EMFILE": few_descriptors,
    "no locks": no_locks, "ESTALE": stale_handles, "renamed": renamed_twice, "nfs": open_when_deleted,
    "clock": clock_set_back, "vanished": vanishing, "SIGSTOP": paused, "signals": signalled_twice,
}  # fmt: skip


def build_shim(folder: Path) -> str:
    """Compiles the library that makes calls fail; processes that are started with it in LD_PRELOAD obey it."""
    library = folder / "faults.so"
    source = Path(__file__).parents[1] / "faults.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", str(library), str(source), "-ldl"], check=True)
    return str(library)


def disturbed(
    command: Command, fault_name: str, template: Path, place: Path, expected: Mapping[str, object], seconds: float,
    rng: random.Random,
) -> tuple[list[str], str]:  # fmt: skip
    """What is wrong with a command that is disturbed once and then run again, and how it was disturbed."""
    copy_place(template, place, command)
    kept = [*INPUTS, "home/models/first", *([] if command.removes else ["home/models/second"])]
    before = contents(place, kept)
    fault = FAULTS[fault_name](rng, place, seconds)
    running = start(
        command.arguments, place, environment=fault.environment, prepare=fault.prepare, arguments=fault.arguments
    )
    if fault.beside is not None:
        fault.beside(running)
    code, err = running.wait(), running.read("err")
    said = f"{fault.said}; exit code {code}; {' | '.join(err.splitlines()[-3:])[-400:]}"
    wrong = []
    is_early = code is not None and code < 0 and not err  # by a signal, before Python has its handlers
    if code not in fault.codes and not is_early:
        wrong.append(f"exit code {code}" if code is not None else "it hangs")
    if code == 1 and "Error: " not in err:
        wrong.append("no sentence")
    wrong += ["a traceback: " + err[-1500:]] if "Traceback" in err else []
    for path in (place, *place.rglob("*")):
        if fault_name == "EACCES":
            allow(path, 0o755)
    wrong += [f"lost: {name}" for name in _changed(contents(place, kept), before)]
    code, err = run(command, place)
    if not command.completes(code):
        wrong.append(f"then exit code {code}: {err[-300:]}")
    wrong += [f"then another {name}" for name in differences(outcome(place), expected)]
    return wrong, said


def _changed(found: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    return [name for name in before if found.get(name) != before[name]]


def main() -> None:
    """Disturbs each command by each fault in several rounds, and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rounds", type=int, help="of each command and fault")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=FAULTS, metavar="FAULT")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, table = random.Random(arguments.seed), {}
    with tempfile.TemporaryDirectory() as name:
        os.environ["LD_PRELOAD"] = build_shim(Path(name))
        template, place = make_place(Path(name) / "template"), Path(name) / "place"
        for chosen in arguments.commands:
            command = COMMANDS[chosen]
            seconds, expected = undisturbed(command, template, place)
            for fault in arguments.faults:
                good = 0
                for _ in range(arguments.rounds):
                    wrong, said = disturbed(command, fault, template, place, expected, seconds, rng)
                    good += not wrong
                    if wrong:
                        print(f"{chosen} x {fault} ({said}):\n    " + "\n    ".join(wrong), flush=True)
                table[chosen, fault] = f"{good}/{arguments.rounds}"
            cells = [table[chosen, fault] for fault in arguments.faults]
            print(f"| {chosen} | {' | '.join(cells)} |", flush=True)
    print(f"\n| | {' | '.join(arguments.faults)} |\n|{'---|' * (1 + len(arguments.faults))}")
    for chosen in arguments.commands:
        print(f"| {chosen} | {' | '.join(table[chosen, fault] for fault in arguments.faults)} |")


if __name__ == "__main__":
    main()
