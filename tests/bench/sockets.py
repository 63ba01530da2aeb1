"""Runs every command without a network, in which every attempt to open a socket fails and is listed.

    python tests/bench/sockets.py

The processes that a command starts are watched too. Needs Linux and gcc; without interfaces only where the system lets
this user make a network of his own.
"""

import argparse
import ctypes
import errno
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from faults import build_shim, calls
from forked import COMMANDS, copy_place, make_place, run

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def leave_network() -> None:
    """Moves this process into a network without interfaces, where it may."""
    ctypes.CDLL(None).unshare(CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWUSER | CLONE_NEWNET)


def main() -> None:
    """Runs each command once, and prints which of them opened sockets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"default: all of {', '.join(COMMANDS)}")
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        os.environ["LD_PRELOAD"] = build_shim(Path(name))
        template, place, log = make_place(Path(name) / "template"), Path(name) / "place", Path(name) / "sockets"
        environment = {**calls("socket", place, errno.EACCES, 0, 10**9).environment, "FAULT_LOG": str(log)}
        for chosen in parser.parse_args().commands or COMMANDS:
            command = COMMANDS[chosen]
            copy_place(template, place, command)
            log.unlink(missing_ok=True)
            code, err = run(command, place, environment=environment, prepare=leave_network)
            sockets = len(log.read_text().splitlines()) if log.exists() else 0
            wrong += bool(sockets) or code != command.code
            print(f"{chosen}: exit code {code}, {sockets} sockets{'' if code == command.code else ': ' + err[-500:]}")
            sys.stdout.flush()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
