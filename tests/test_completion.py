"""What shells are offered when they complete a command line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Cli, put

from labelr.cli import completion
from labelr.cli.completion import NUM_LITE, VARIABLE, backbones
from labelr.model.backbones import LITE, find_backbone
from labelr.model.predict import Model

Complete = Callable[[str], list[str]]


def protocol(line: str) -> dict[str, str]:
    """The variables with which bash asks to complete the last word of a line."""
    return {VARIABLE: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}


@pytest.fixture
def complete(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """What bash is offered for a line."""

    monkeypatch.setattr(completion, "DEADLINE_SECONDS", 60)  # the machine may be busy

    def run(line: str) -> list[str]:
        for name, value in protocol(line).items():
            monkeypatch.setenv(name, value)
        done = cli()
        assert (done.code, done.err) == (0, "")
        return [name for name in done.out.splitlines() if name]

    return run


@pytest.fixture
def birds(home: Path, trained: Model) -> Path:
    """A saved model beside an unfinished run, and a search."""
    (home / "studies" / "nest").mkdir(parents=True)
    put(home, "models/broken/run.json")
    return Path(shutil.copytree(trained.path, home / "models" / "birds"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("labelr fit --device c", ["cpu", "cuda"]),
        ("labelr tag photos --format j", ["jsonl"]),
        ("labelr tune photos --augment none,l", ["none,light"]),
        ("labelr check --layout co", ["coco"]),
        ("labelr tag photos --model ", ["birds"]),
        ("labelr evaluate photos --model=b", ["birds"]),
        ("labelr fit photos --init ", ["birds"]),
        ("labelr models show ", ["birds"]),
        ("labelr models default b", ["birds"]),
        ("labelr models compare birds ", ["birds"]),
        ("labelr models verify ", ["birds", "broken"]),
        ("labelr models export ", ["birds"]),
        ("labelr models card ", ["birds"]),
        ("labelr models rename b", ["birds", "broken"]),
        ("labelr models rm birds br", ["broken"]),
        ("labelr tune photos --study ", ["nest"]),
        ("labelr fit photos --backbone resnet1", ["resnet18", "resnet101", "resnet152"]),
        ("labelr tune photos --backbone none,efficientnet-l", [f"none,efficientnet-lite{n}" for n in range(NUM_LITE)]),
        ("labelr models c", ["compare", "card"]),
    ],
)
def test_names_are_completed(complete: Complete, birds: Path, line: str, expected: list[str]) -> None:
    assert complete(line) == expected


def test_labels_of_the_model_or_of_the_data_are_completed(complete: Complete, birds: Path, shapes: Path) -> None:
    labels = json.loads((birds / "model.json").read_text())["labels"]
    assert complete("labelr tag photos --only ") == labels
    assert complete(f"labelr tag photos --model {birds} --exclude {labels[1][:3]}") == [labels[1]]
    assert complete(f"labelr fit {shapes} --labels {shapes}/labels.csv --only ") == labels
    assert complete(f"labelr check {shapes} --only {labels[0]} --exclude ") == labels


def test_labels_that_a_shell_could_evaluate_are_not_offered(complete: Complete, tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "labels.csv", "filename,red fox,$(touch x),`touch x`,\\$(touch x),it's,owl\na.jpg,1,0,0,1,1,0\n")
    assert complete(f"labelr fit {tmp_path} --only ") == ["red\\ fox", "owl"]


@pytest.mark.parametrize(
    "line", ["labelr tag photos --model ", "labelr tag photos --only ", "labelr fit nowhere --only "]
)
@pytest.mark.parametrize("content", [None, "{", "a file"])
def test_nothing_is_offered_where_nothing_can_be_read(
    complete: Complete, home: Path, content: str | None, line: str
) -> None:
    if content == "a file":
        put(home.parent, home.name)
    elif content is not None:
        put(home, "models/damaged/model.json", content)
    assert complete(line) == (["damaged"] if content == "{" and line.endswith("--model ") else [])


def test_backbones_are_those_that_there_are() -> None:
    names = [*backbones(None)]  # type: ignore[arg-type]
    assert names[:2] == ["auto", "none"]
    assert set(LITE) <= set(names)
    assert len(names) > 80
    assert all(find_backbone(name).name == name for name in names[2:])


@pytest.mark.parametrize("line", ["labelr tag photos --only ", "labelr fit {data} --only ", "labelr fit --backbone "])
def test_completing_imports_nothing_slow(birds: Path, shapes: Path, line: str) -> None:
    code = (
        "import atexit, sys\nfrom labelr.cli import completion\nfrom labelr.cli.app import main\n"
        "sys.argv, completion.DEADLINE_SECONDS = ['labelr'], 60\n"
        "heavy = {'torch', 'torchvision', 'pandas', 'optuna', 'matplotlib', 'sklearn'}\n"
        "atexit.register(lambda: print('LOADED', *heavy & set(sys.modules)))\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **protocol(line.format(data=shapes))}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    *offered, loaded = done.stdout.splitlines()
    assert offered
    assert (loaded, done.stderr) == ("LOADED", "")


def test_what_takes_too_long_is_not_offered() -> None:
    code = (
        "import time\nfrom labelr.cli import completion\ncompletion.DEADLINE_SECONDS = 0.1\n"
        "completion.answer(lambda: time.sleep(60))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **protocol("labelr ")}, capture_output=True, timeout=30,
        check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (b"", b"")


PATIENT = """#!{python}
import sys
from labelr.cli import completion
from labelr.cli.app import main
completion.DEADLINE_SECONDS = 60  # the machine may be busy
sys.argv[0] = "labelr"
main()
"""
"""The command ``labelr`` of a test."""
BASH = """
eval "$(_LABELR_COMPLETE=source_bash labelr)"
while IFS= read -r line; do
    COMP_WORDS=($line)
    if [[ $line == *" " ]]; then COMP_WORDS+=(""); fi
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _labelr_completion labelr
    echo "${COMPREPLY[*]}"
done
"""
"""Completes lines of stdin as the shell does when a person presses the tab key."""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_models_labels_studies_layouts_and_backbones(home: Path, birds: Path, shapes: Path) -> None:
    labels = json.loads((birds / "model.json").read_text())["labels"]
    command = put(home.parent, "bin/labelr", PATIENT.format(python=sys.executable))
    command.chmod(0o755)
    expected = {
        "labelr tag photos --model ": "birds",
        "labelr tag photos --only ": " ".join(labels),
        f"labelr fit {shapes} --only {labels[0][:4]}": labels[0],
        "labelr tune photos --study n": "nest",
        "labelr check --layout co": "coco",
        "labelr fit photos --backbone efficientnet-lite": " ".join(f"efficientnet-lite{n}" for n in range(NUM_LITE)),
        "labelr gu": "guide",
    }
    environment = {**os.environ, "LABELR_HOME": str(home), "PATH": f"{command.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", BASH], input="\n".join(expected) + "\n", env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert dict(zip(expected, done.stdout.splitlines(), strict=True)) == expected
    assert done.stderr == ""


def test_script_for_a_shell_is_printed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(completion.VARIABLE, "source_bash")
    assert "complete -o default -F _labelr_completion labelr" in cli().out
