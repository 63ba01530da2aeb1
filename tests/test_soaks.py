"""A few rounds of each soak of `tests/bench`, in which `forked` disturbs whole commands."""

import random
import shutil
import sys
from pathlib import Path

import pytest
from forked import COMMANDS, make_place, run, undisturbed

sys.path.insert(0, str(Path(__file__).parent / "bench"))
import faults
import kills
import races

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("gcc") is None, reason="needs Linux and gcc"),
]
UNPRIVILEGED = ("ENOSPC", "EIO", "EMFILE", "no locks", "clock", "SIGSTOP")
"""Faults that need no rights of root."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands need; the folder is copied for each run."""
    folder = tmp_path_factory.mktemp("soaks")
    made = make_place(folder / "template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", faults.build_shim(folder))
        run(COMMANDS["cache-ls"], made)  # all others are forked from the same process
    return made


@pytest.mark.parametrize("name", ["fit", "tag", "tag-xmp", "models-import"])
def test_command_that_is_killed_completes_when_it_is_run_again(template: Path, name: str) -> None:
    command, place, rng = COMMANDS[name], template.with_name("place"), random.Random(name)
    seconds, expected = undisturbed(command, template, place)
    for _ in range(2):
        delays = [rng.uniform(0, seconds), rng.uniform(0, seconds)]
        assert kills.disturbed(command, template, place, expected, delays)[1] == []


@pytest.mark.parametrize("name", ["tag", "check", "models-import"])
def test_fault_of_the_machine_is_an_error_after_which_the_command_completes(template: Path, name: str) -> None:
    command, place, rng = COMMANDS[name], template.with_name("place"), random.Random(name)
    seconds, expected = undisturbed(command, template, place)
    for fault in UNPRIVILEGED:
        wrong, said = faults.disturbed(command, fault, template, place, expected, seconds, rng)
        assert not wrong, f"{fault}: {said}"


@pytest.mark.parametrize(
    ("first", "second"),
    [("tag", "tag"), ("models-import", "models-import"), ("check", "cache-clear")],
)
def test_commands_at_the_same_time_do_not_harm_each_other(template: Path, first: str, second: str) -> None:
    place = template.with_name("place")
    seconds, expected = undisturbed(COMMANDS[first], template, place)
    for delay in (0, seconds / 2):
        assert races.race(first, second, template, place, expected, delay) == []
