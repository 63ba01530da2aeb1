"""A few rounds of each soak of `tests/bench`, in which `forked` disturbs whole commands."""

import errno
import random
import shutil
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS
from forked import COMMANDS, Command, copy_place, differences, make_place, outcome, run, undisturbed

sys.path.insert(0, str(Path(__file__).parent / "bench"))
import faults
import kills
import races

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("gcc") is None, reason="needs Linux and gcc"),
]
UNPRIVILEGED = ("ENOSPC", "EIO", "EMFILE", "no locks", "ESTALE", "renamed", "nfs", "clock", "SIGSTOP")
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


@cache
def measured(name: str, template: Path) -> tuple[float, dict[str, object]]:
    """How many seconds a command takes that nothing disturbs, and its outcome."""
    return undisturbed(COMMANDS[name], template, template.with_name("place"))


@pytest.mark.parametrize("name", ["fit", "tag", "tag-xmp", "models-import"])
def test_command_that_is_killed_completes_when_it_is_run_again(template: Path, name: str) -> None:
    command, place, rng = COMMANDS[name], template.with_name("place"), random.Random(name)
    seconds, expected = measured(name, template)
    for _ in range(2):
        delays = [rng.uniform(0, seconds), rng.uniform(0, seconds)]
        assert kills.disturbed(command, template, place, expected, delays)[1] == []


@pytest.mark.parametrize("name", ["tag", "check", "models-import"])
def test_fault_of_the_machine_is_an_error_after_which_the_command_completes(template: Path, name: str) -> None:
    command, place, rng = COMMANDS[name], template.with_name("place"), random.Random(name)
    seconds, expected = measured(name, template)
    for fault in UNPRIVILEGED:
        wrong, said = faults.disturbed(command, fault, template, place, expected, seconds, rng)
        assert not wrong, f"{fault}: {said}"


@pytest.mark.parametrize(
    ("first", "second"),
    [("tag", "tag"), ("models-import", "models-import"), ("check", "cache-clear")],
)
def test_commands_at_the_same_time_do_not_harm_each_other(template: Path, first: str, second: str) -> None:
    place = template.with_name("place")
    seconds, expected = measured(first, template)
    for delay in (0, seconds / 2):
        assert races.race(first, second, template, place, expected, delay) == []


# --- network drives --------------------------------------------------------------------------------------------------


@pytest.fixture
def place(template: Path) -> Path:
    """A fresh copy of the template."""
    copy_place(template, template.with_name("place"), COMMANDS["cache-ls"])
    return template.with_name("place")


def under(call: str, folder: Path, number: int, after: int = 0) -> dict[str, str]:
    """The environment in which all such calls below a folder fail after some."""
    return dict(faults.calls(call, folder, number, after, 10**9).environment)


@pytest.mark.parametrize("after", range(4))
def test_rename_of_which_a_network_drive_lost_the_answer_is_no_error(template: Path, after: int) -> None:
    command, folder = COMMANDS["tag"], template.with_name("place")
    _, expected = measured("tag", template)
    copy_place(template, folder, command)
    fault = faults.calls("renamed", folder / "out", errno.ENOENT, after, 1)
    code, err = run(command, folder, environment=fault.environment)
    assert code == command.code, err
    assert differences(outcome(folder), expected) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_check_works_with_a_home_that_cannot_be_locked(place: Path, number: int) -> None:
    log = place.with_name("log")
    log.unlink(missing_ok=True)
    environment = {**under("lock", place / "home", number), "FAULT_LOG": str(log)}
    code, err = run(COMMANDS["check"], place, environment=environment)
    assert code == COMMANDS["check"].code
    assert "FAILED lock" in log.read_text()
    assert err.count("scans.sqlite cannot be locked") == (number == errno.ENOLCK)
    assert not (place / "home" / "scans.sqlite-journal").exists()


def test_commands_that_must_lock_say_what_to_do_on_a_drive_without_locks(place: Path) -> None:
    fit = Command("fit", "fit data --name new", TINY_OPTIONS)
    for command, folder in ((fit, place / "home"), (COMMANDS["tag"], place / "out")):
        code, err = run(command, place, environment=under("lock", folder, errno.ENOLCK))
        assert code == 1
        assert "the network drive keeps no locks: mount it with locks, or choose another place" in err


def test_journal_that_cannot_be_locked_is_no_matter_of_free_space(place: Path) -> None:
    code, err = run(COMMANDS["tag"], place, environment=under("lock", place / "out", errno.ENOLCK, after=2))
    assert code == 1
    assert "the network drive refuses locks: name a directory on a local disk with `--output`" in err


def test_model_whose_files_are_still_open_is_removed_and_its_name_is_free(place: Path) -> None:
    code, err = run(COMMANDS["models-rm"], place, environment=under("nfs", place / "home", 0))
    assert code == 0, err
    assert any((place / "home" / "models" / "second").glob(".nfs*"))
    assert run(COMMANDS["models-verify"], place)[0] == 0
    code, err = run(Command("fit", "fit data --name second --epochs 1", TINY_OPTIONS[:2]), place)
    assert code == 0, err


@pytest.mark.parametrize(("call", "number", "times"), [("lock", errno.ENOSYS, 10**9), ("renamed", errno.ENOENT, 1)])
def test_renamed_model_has_no_lock_and_no_error(place: Path, call: str, number: int, times: int) -> None:
    fault = faults.calls(call, place / "home", number, 0, times)
    code, err = run(COMMANDS["models-rename"], place, environment=fault.environment)
    assert code == 0, err
    assert "flock" not in err
    assert not (place / "home" / "models" / "third" / ".lock").exists()
    assert run(COMMANDS["models-verify"], place)[0] == 0


@pytest.mark.parametrize("call", ["open", "read"])
def test_stale_handle_of_an_image_is_its_reason_and_the_next_run_tags_it(place: Path, call: str) -> None:
    command = COMMANDS["tag"]
    fault = faults.calls(call, place / "photos" / "deep", errno.ESTALE, 0, 3)
    code, err = run(command, place, environment=fault.environment)
    assert code == 3
    assert "stale file handle" in err.lower()
    assert run(command, place)[0] == 0 or "broken.jpg" in (place / "out" / "errors.csv").read_text()
    assert (place / "out" / "errors.csv").read_text().count("\n") == 2
