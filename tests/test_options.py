"""The options that commands get from the fields of settings."""

import re
import shlex
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Cli

from labelr.cli.app import app
from labelr.cli.fit import FitCommand, Synthetic
from labelr.cli.options import Command, takes_settings
from labelr.cli.tune import TuneCommand
from labelr.config import SEARCHABLE, EvaluateOptions, TagOptions, TrainConfig, TuneOptions
from labelr.fields import SettingError, Settings
from labelr.model.predict import Model

Parse = Callable[..., dict[str, Any]]


def make_parser(*sources: type[Settings], several: tuple[str, ...] = (), kind: Any = None) -> Parse:
    """A command that takes settings; it returns those that are given."""
    settings: dict[str, Any] = {}
    probe = typer.Typer(add_completion=False)

    @probe.command(cls=kind, context_settings={"auto_envvar_prefix": "LABELR_PROBE"})
    @takes_settings(*sources, several=several, leave_out=["synthetic"])
    def command(synthetic: Synthetic = None, **given: Any) -> None:
        settings.update(given, **({} if synthetic is None else {"synthetic": synthetic}))

    def parse(*arguments: object) -> dict[str, Any]:
        settings.clear()
        probe([*map(str, arguments)], standalone_mode=False)
        return dict(settings)

    return parse


@pytest.mark.parametrize(
    ("command", "source", "without"),
    [
        ("fit", TrainConfig, set()),
        ("evaluate", EvaluateOptions, {"group"}),
        ("tag", TagOptions, set()),
        ("tune", TuneOptions, set()),
        ("tune", TrainConfig, {"folds", "select", "devices"}),
    ],
)
def test_every_setting_is_an_option_with_its_help(command: str, source: type[Settings], without: set[str]) -> None:
    options = {option.name: option for option in typer.main.get_command(app).commands[command].params}  # type: ignore[attr-defined]
    assert set(source.names()) - set(options) == without
    assert all(option.help for option in options.values())


@pytest.mark.parametrize(
    "command",
    ["", "fit", "evaluate", "tag", "tune", "check", "backbones", "models", "models show", "models rm", "cache clear"],
)
def test_help_cuts_no_name_at_80_columns_and_shows_no_types_of_python(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = cli(*command.split(), "--help").out
    assert "--help" in out
    assert "…" not in out
    assert "<" not in out


def test_help_shows_both_names_of_a_switch_that_is_on_and_defaults_for_people(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = cli("fit", "--help").out
    assert "--[no-]flip" in out
    assert "--no-skip-missing" not in out
    assert {"[default: 200,000,000]", "[default: 20]", "[default: on]"} <= set(re.findall(r"\[default: [^]]*\]", out))


def commands_below(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command and group below one, with the words that name it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield (*path, name), inner
        yield from commands_below(inner, (*path, name))


COMMANDS = dict(commands_below(typer.main.get_command(app)))


@pytest.mark.parametrize("path", [path for path, command in COMMANDS.items() if not hasattr(command, "commands")])
def test_help_takes_at_most_two_lines_for_an_option_at_100_columns(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = [line[2:] for line in cli(*path, "--help").out.splitlines() if line.startswith("│")]
    starts = [row for row, line in enumerate(lines) if not line.startswith(" ")]
    assert "--json" in lines[starts[-5]]  # at least the general options are seen
    assert [lines[row] for row, end in pairwise([*starts, len(lines)]) if end - row > 2] == []


@pytest.mark.parametrize("command", ["fit", "evaluate", "tag", "tune"])
def test_help_starts_with_at_most_ten_common_options(cli: Cli, command: str) -> None:
    panels = re.findall(r"^╭─ (\w[\w ]*?) ─+╮$(.*?)^╰", cli(command, "--help").out, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in panels][:2] == ["Arguments", "Common"]
    assert panels[-1][0] == "General"
    assert 5 <= len(re.findall(r"^│ --", panels[1][1], re.MULTILINE)) <= 10


def test_help_of_tag_has_no_panel_of_more_than_ten_options_of_its_own(cli: Cli) -> None:
    panels = re.findall(r"^╭─ (\w[\w ]*?) ─+╮$(.*?)^╰", cli("tag", "--help").out, re.MULTILINE | re.DOTALL)
    sizes = {name: len(re.findall(r"^│ -", text, re.MULTILINE)) for name, text in panels}
    assert sizes["Further output"] == 8
    assert max(sizes.values()) <= 10


@pytest.mark.parametrize("path", COMMANDS)
def test_examples_of_the_help_can_be_run(path: tuple[str, ...]) -> None:
    _, *examples = re.sub(r"\[/?\w*\]", "", COMMANDS[path].epilog).splitlines()
    assert 1 <= len(examples) <= 3
    for example in examples:
        assert len(example) <= 78
        name, *words = shlex.split(example.rpartition("|")[2])
        assert name == "labelr"
        known = max((other for other in COMMANDS if [*other] == words[: len(other)]), key=len)
        assert known[: len(path)] == path
        COMMANDS[known].make_context(" ".join(known), words[len(known) :])  # a wrong option or value is an error


def test_help_shows_brackets(cli: Cli) -> None:
    assert "labelr[storage]" in cli("tune", "--help").out.replace(" ", "")


def test_only_given_options_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = make_parser(TrainConfig)
    assert parse() == {}
    monkeypatch.setenv("LABELR_PROBE_SEED", "5")
    monkeypatch.setenv("LABELR_PROBE_AMP", "0")
    assert parse("--epochs", 3, "--lr=1e-2", "-b", 8, "--no-flip", "--dropout", "0.3", "--stem", "deep") == {
        "seed": 5, "amp": False, "epochs": 3, "lr": 0.01, "batch_size": 8, "flip": False, "dropout": 0.3,
        "stem": "deep",
    }  # fmt: skip


def test_auto_is_a_value_where_none_is_one() -> None:
    assert make_parser(TrainConfig)("--epochs", "auto", "--image-size", "auto") == {"epochs": None, "image_size": None}
    assert make_parser(EvaluateOptions)("--threshold", "auto") == {"threshold": None}


def test_option_of_a_list_is_repeated() -> None:
    assert make_parser(TrainConfig)("--labels", "a", "--labels", "b") == {"labels": ["a", "b"]}


def test_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELR_PROBE_EPOCHS", "5")
    assert make_parser(TrainConfig)("--epochs", "3") == {"epochs": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "x"], "epochs: expected a whole number from 1, got 'x'"),
        (["--epochs", "0"], "epochs: expected a whole number from 1, got 0"),
        (["--device", "gpu"], "device: expected one of auto, cpu, cuda, mps, got 'gpu'"),
        (["--seed", "auto"], "seed: expected a whole number from 0 to 2,147,483,647, got 'auto'"),
    ],
)
def test_wrong_value_has_the_message_of_the_setting(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        make_parser(TrainConfig)(*arguments)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--synthetic", "30"], "30"),
        (["--synthetic=30"], "30"),
        (["--synthetic"], "auto"),
        (["--synthetic", "-b8"], "auto"),
    ],
)
def test_synthetic_can_be_given_without_a_number(arguments: list[str], value: str) -> None:
    assert make_parser(TrainConfig, kind=FitCommand)(*arguments)["synthetic"] == value


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--lr", "1e-3,4e-3", "--dropout", "0.1..0.5"], {"lr": "1e-3,4e-3", "dropout": "0.1..0.5"}),
        (["--flip", "true,false"], {"flip": "true,false"}),
        (["--flip", "--no-progressive"], {"flip": "true", "progressive": "false"}),
        (["--no-flip", "--seed", "3"], {"flip": "false", "seed": 3}),
    ],
)
def test_searchable_settings_take_several_values(arguments: list[str], settings: dict[str, Any]) -> None:
    assert make_parser(TrainConfig, several=SEARCHABLE, kind=TuneCommand)(*arguments) == settings


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["evaluate", "data", "--model", "a", "--model", "b"], "--model"),
        (["tag", "data", "-o", "a", "--output=b"], "--output"),
        (["fit", "data", "--epochs", "3", "--epochs", "3"], "--epochs"),
        (["fit", "--synthetic", "--synthetic", "60"], "--synthetic"),
        (["check", "data", "--fix", "a.csv", "--fix", "b.csv"], "--fix"),
        (["models", "compare", "a", "b", "--threshold", "0.5", "--threshold", "auto"], "--threshold"),
    ],
)
def test_second_value_of_an_option_that_takes_one_is_wrong_usage(cli: Cli, arguments: list[str], option: str) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"Error: `{option}` is given 2 times, but takes one value\n\nHint: keep one")


def test_several_values_of_a_searchable_setting_are_separated_by_commas(cli: Cli) -> None:
    result = cli("tune", "data", "--lr", "1e-3", "--lr", "4e-3")
    assert result.code == 2
    assert "separate several values by commas" in result.err


def test_lists_and_flags_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = make_parser(EvaluateOptions, kind=Command)
    monkeypatch.setenv("LABELR_PROBE_SPLIT", "test")
    assert parse("--only", "a", "--only", "b", "--amp", "--no-amp", "--split", "all") == {
        "only": ["a", "b"], "amp": False, "split": "all",
    }  # fmt: skip


# --- options from the environment ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "arguments", "message"),
    [
        ("LABELR_TAG_QUIET", "maybe", "", "LABELR_TAG_QUIET: expected true or false, got 'maybe'"),
        ("LABELR_TAG_TOP_K", "x", "", "`--top-k`: expected a whole number from 1, got 'x' (set in LABELR_TAG_TOP_K)"),
        ("LABELR_TAG_FORMAT", "xml", "", "got 'xml' (set in LABELR_TAG_FORMAT)"),
        ("LABELR_TAG_THRESHOLD", "0.5", "--threshold-file t.csv", "exclude each other (set in LABELR_TAG_THRESHOLD)"),
        ("LABELR_TAG_MIN_LABELS", "3", "--top-k 2", "min_labels 3 is more than top_k 2 (set in LABELR_TAG_MIN_LABELS)"),
        ("LABELR_TAG_TOP_K", "2", "--min-labels x", "`--min-labels`: expected a whole number from 0, got 'x'"),
        ("LABELR_TAG_TOP_K", "2", "--top-k x", "`--top-k`: expected a whole number from 1, got 'x'"),
    ],
)
def test_error_names_the_variable_that_a_wrong_value_is_from(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, arguments: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    done = cli("tag", "photos", *arguments.split())
    assert done.code == 2
    assert done.err.splitlines()[0].endswith(message)


def test_hint_says_how_to_give_several_values_of_a_list(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, photos: Path, trained: Model
) -> None:
    monkeypatch.setenv("LABELR_TAG_FORMAT", "table,jsonl")
    assert "repeat the option for several, `--format table --format jsonl`; in a variable," in cli("tag", photos).err
    monkeypatch.setenv("LABELR_TAG_FORMAT", "table jsonl")
    done = cli("tag", photos, "--model", trained.path, "--only", "disc, cross", "--dry-run")
    assert "repeat the option for several, `--only disc --only cross`" in done.err


def test_unknown_variable_is_a_warning_that_names_the_nearest(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELR_TAG_TRESHOLD", "0.3")
    monkeypatch.setenv("LABELR_MODELS_LIST_JSON", "1")
    warning = (
        "Warning: LABELR_TAG_TRESHOLD is ignored: `labelr tag` has no such option; did you mean `LABELR_TAG_THRESHO"
    )
    assert cli("tag", "nowhere").err.startswith(warning)
    assert cli("models", "list").err == ""
