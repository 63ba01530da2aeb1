"""README and guide: every command and option in them exists, and the commands of the README run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import TINY, Cli, put

from labelr.cli import guide
from labelr.cli.app import app
from labelr.config import ReadOptions
from labelr.model.predict import Model
from labelr.review.save import Saver
from labelr.review.session import Cell, Session
from labelr.review.targets import read_target

README = Path(__file__).parents[1] / "README.md"
PAGES = [README, *sorted(guide.FOLDER.glob("*.md"))]
BENCHMARKS = Path(__file__).parent / "bench"
ROOT: Any = typer.main.get_command(app)


def commands_in(text: str) -> Iterator[list[str]]:
    """The command lines of labelr in blocks of code and in code between words."""
    for code in re.findall(r"^```(?:sh|console|ini)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from _commands(code.replace("\\\n", " "))
    for code in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        yield from _commands(code.replace("\n", " "))


def _commands(code: str) -> Iterator[list[str]]:
    for line in code.splitlines():
        for found in re.finditer(r"(?:^|[\s$(/])labelr ([a-z][^|;&>)#]*)", line):
            yield shlex.split(found[1])


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that a line calls, and the words after its name."""
    command = ROOT
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def all_options(command: Any = ROOT) -> set[str]:
    return options_of(command).union(*(all_options(inner) for inner in getattr(command, "commands", {}).values()))


def test_command_lines_are_found() -> None:
    found = [words for page in PAGES for words in commands_in(page.read_text(encoding="utf-8"))]
    assert len(found) > 60
    assert ["fit", "photos", "--epochs", "60", "--resume"] in found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    unknown = []
    for words in commands_in(text):
        command, rest = command_of(words)
        alternatives = "|" in words[0] if words else False
        known = command is not ROOT or alternatives or words[0] in ("TOPIC", "COMMAND")
        given = [word for word in rest if re.fullmatch(r"--?[a-z][a-z0-9-]*", word)]
        if not known or set(given) - options_of(command):
            unknown.append(" ".join(words))
    inline = {option for code in re.findall(r"`(--[a-z][a-z0-9-]*)[^`]*`", text) for option in [code]}
    assert (unknown, inline - all_options()) == ([], set())


def test_every_page_is_a_topic_with_working_links() -> None:
    assert {path.stem for path in guide.FOLDER.glob("*.md")} == set(guide.TOPICS)
    readme = README.read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(labelr/guide/(\w+)\.md\)", readme)) == set(guide.TOPICS)
    assert len(readme.splitlines()) <= 180
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"\]\(#", text)  # a link within a page leads nowhere in a terminal
        assert not [link for link in re.findall(r"\]\(([\w./-]+)\)", text) if not (page.parent / link).exists()]
        assert set(re.findall(r"`labelr guide (\w+)`", text)) <= {*guide.TOPICS, "TOPIC"}


MEASURED = re.compile(
    r"\b0\.\d{3}\b|\bmAP (?:of )?0\.\d|\d times as (?:fast|long|much)|\btook \d|\d images/s"
    r"|\bof \d[\d,]* photographs|\bof the first \d"
)
"""What only a measurement can tell: scores, ratios of times, durations, speeds, and counts of photographs."""


def unexplained_figures(text: str) -> list[str]:
    """The headings of sections of a page with measured figures that name no benchmark that there is."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = []
    for section in re.split(r"^(?=#{1,2} )", prose, flags=re.MULTILINE):
        benchmarks = re.findall(r"tests/bench/(\w+\.(?:py|sh))", section)
        if MEASURED.search(section) and not any((BENCHMARKS / name).is_file() for name in benchmarks):
            found.append(section.partition("\n")[0])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_measured_figures_name_the_benchmark_that_made_them(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert unexplained_figures(text) == []
    assert {name for name in re.findall(r"tests/bench/(\w+\.\w+)", text) if not (BENCHMARKS / name).is_file()} == set()


def test_every_section_of_the_figures_names_a_benchmark() -> None:
    text = (guide.FOLDER / "figures.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(sections) > 5
    assert [section.partition("\n")[0] for section in sections if "tests/bench/" not in section] == []


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ("mAP rises to 0.912", ["## Scores"]),
        ("It is 3.3 times as long.", ["## Scores"]),
        ("mAP rises to 0.912 (`tests/bench/nothing.py`)", ["## Scores"]),
        ("mAP rises to 0.912 (`tests/bench/fit.py`)", []),
        ("```console\nepoch 1  mAP 0.912\n```", []),
        ("`--threshold 0.5` is the default.", []),
    ],
)
def test_figures_without_a_benchmark_are_found(section: str, found: list[str]) -> None:
    assert unexplained_figures(f"# Page\n\n## Scores\n\n{section}\n") == found


def test_sections_are_the_whole_page() -> None:
    for topic in guide.TOPICS:
        text = (guide.FOLDER / f"{topic}.md").read_text(encoding="utf-8")
        sections = guide.sections(topic)
        assert all(section.text for section in sections)
        assert len(sections) == len(re.findall("^##? ", text, re.MULTILINE))


def test_guide_lists_shows_and_searches(cli: Cli) -> None:
    listed = cli("guide")
    assert all(topic in listed.out for topic in guide.TOPICS)
    assert cli("guide", "scores").out.strip() == (guide.FOLDER / "scores.md").read_text(encoding="utf-8").strip()
    found = cli("guide", "--search", "HAMMING loss").out
    assert found.startswith("## scores: ")
    assert "## tuning" not in found
    rows = json.loads(cli("guide", "models", "--search", "newest", "--json").out)
    assert {row["topic"] for row in rows} == {"models"}
    assert all("newest" in row["text"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainin"], "Error: the guide has no page 'trainin'\n\nHint: did you mean `training`?\n"),
        (
            ["nonsense"],
            (
                f"Error: the guide has no page 'nonsense'\n\nHint: choose one of {', '.join(guide.TOPICS)}, "
                "or search with `labelr guide --search TEXT`\n"
            ),
        ),
        (
            ["--search", "xyzzy"],
            "Error: the guide does not mention 'xyzzy'\n\nHint: try one word of it, or another word\n",
        ),
        (
            ["photos", "--search", "slurm"],
            (
                "Error: the page photos does not mention 'slurm'\n\n"
                "Hint: search all pages: `labelr guide --search slurm`\n"
            ),
        ),
    ],
)
def test_guide_says_what_it_does_not_have(cli: Cli, arguments: list[str], message: str) -> None:
    result = cli("guide", *arguments)
    assert (result.code, result.out, result.err) == (1, "", message)


def _answer_all(output: Path) -> None:
    """Answers as a person does on the page."""
    target = read_target(output, ReadOptions())
    saver = Saver(target)
    session = Session(target)
    saver.start(session)
    count, labels = len(target.names), range(len(target.labels))
    session.answer([Cell(label, image, (image + label) % 2) for image in range(count) for label in labels])
    saver.stop()


@pytest.mark.slow
def test_commands_of_the_readme_run(cli: Cli, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photos", "other_photos", "holiday"):
        shutil.copytree(shapes, tmp_path / name)
    (tmp_path / "holiday" / "labels.csv").unlink()
    monkeypatch.chdir(tmp_path)
    for name in ("image_size", "epochs", "batch_size", "threads", "workers"):
        monkeypatch.setenv(f"LABELR_FIT_{name.upper()}", str(TINY[name]))
    monkeypatch.setenv("LABELR_FIT_TRUST_PREDICTIONS", "true")
    blocks = re.findall(r"^```console\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^\$ (.*)$", "".join(blocks), re.MULTILINE)
    assert len(lines) == 6
    for line in lines:
        _, *arguments = shlex.split(line)
        if arguments[0] == "review":
            _answer_all(Path(arguments[1]))
        else:
            result = cli(*arguments)
            assert result.code == 0 or (result.code, arguments[0]) == (3, "check"), result.err


@pytest.mark.slow
@pytest.mark.parametrize("page", ["labels", "models", "scores", "scripts"])
def test_marked_blocks_of_the_guide_run(page: str, shapes: Path, trained: Model, home: Path, tmp_path: Path) -> None:
    text = (guide.FOLDER / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^<!-- run -->\n```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    for name in ("photos", "other_labelled_photos", "inbox"):
        shutil.copytree(shapes, tmp_path / name)
    (tmp_path / "inbox" / "labels.csv").unlink()
    for name in ("photos", "photos-2"):
        shutil.copytree(trained.path, home / "models" / name)
    command = put(tmp_path, "bin/labelr", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m labelr "$@"\n')
    command.chmod(0o755)
    settings = {f"LABELR_FIT_{name.upper()}": str(value) for name, value in TINY.items() if name != "report"}
    environment = {**os.environ, **settings, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    environment |= {"LABELR_FIT_TRUST_PREDICTIONS": "true", "LABELR_FIT_REPORT": "false"}
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
