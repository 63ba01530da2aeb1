"""The command ``labelr``: its subcommands, and how errors and signals end it."""

import importlib
import os
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, NoReturn

import typer

from labelr import console, signals
from labelr.cli import completion
from labelr.cli import options as opt
from labelr.errors import LabelrError, suggest
from labelr.fields import ALIASES, SettingError, option_of
from labelr.ranks import is_silent
from labelr.version import __version__

COMMANDS = (
    "fit", "evaluate", "tag", "tune", "check", "review", "export", "backbones", "guide", "doctor", "models", "cache",
)  # fmt: skip
"""Each is in a module of its name; the last two are groups of commands."""


@cache
def _command(name: str) -> Any:
    """A command, ready for Typer."""
    module = importlib.import_module(f"labelr.cli.{name}")
    alone, command = opt.Commands(rich_markup_mode="rich"), getattr(module, name)
    settings = {"auto_envvar_prefix": f"LABELR_{name.upper()}"}
    if isinstance(command, typer.Typer):
        alone.add_typer(command, context_settings=settings)
    else:
        alone.command(cls=getattr(module, "COMMAND", opt.Command), context_settings=settings)(command)
    return typer.main.get_group(alone).commands[name]


class _Commands(Mapping[str, Any]):
    """The commands by name; each is imported when it is used, since all of them take longer than a short command."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Root(opt.Group):
    """The group of all commands."""

    def __init__(self, **details: Any) -> None:
        super().__init__(**details)
        self.commands: Any = _Commands()


app = opt.Commands(
    name="labelr",
    cls=_Root,
    help="Train a multi-label image tagger on a folder of images and a spreadsheet of labels, and tag folders with it.",
    epilog=opt.epilog("labelr fit photos\nlabelr tag new_photos\nlabelr fit --help")
    + "\n\nEvery option can also come from a variable LABELR_COMMAND_OPTION, such as LABELR_FIT_EPOCHS=5.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

UsageError: Any = typer.BadParameter.__mro__[1]  # Typer does not export it
OTHER_NAMES = {"train": "fit", "predict": "tag", "label": "tag", "score": "evaluate", "test": "evaluate"}
"""What other tools call commands."""
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def _show_version(requested: bool) -> None:
    if requested:
        console.show_line(f"labelr {__version__}")
        raise typer.Exit


@app.callback()
def labelr(
    version: Annotated[
        bool, opt.option("--version", "Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The options before a command."""


def main() -> NoReturn:
    """Runs the command line and exits: 0 done, 1 error, 2 usage, 3 needs attention, 75 in use, 128 + n on signal n."""
    console.keep_bytes_of_names()
    completion.answer(lambda: app(prog_name="labelr"))
    warnings.filterwarnings("ignore", module=r"(PIL|filelock)\.")  # damaged images are reported, and soft locks suffice
    signals.install_handlers(*SIGNALS, first=console.show_stopping)
    try:
        code = app(prog_name="labelr", standalone_mode=False)
        console.flush()
    except LabelrError as error:
        _fail(error)
    except UsageError as error:
        _fail(_usage_error(error))
    except (console.ReaderGoneError, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter does not complain at its exit
        sys.exit(128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1)
    except OSError as error:  # an unforeseen error of a path, such as a name that is too long
        _fail(LabelrError(str(error)))
    except signals.Stopped as stopped:
        command = resume_command(stopped.resume_option)
        resume = f" Resume with: {command}" if command else ""
        console.show_note(resume, prefix=f"Stopped by {signal.Signals(stopped.number).name}.", wrap=False)
        sys.exit(128 + stopped.number)
    except Exception as error:  # noqa: BLE001 - of memory or a GPU, or our mistake: shown like all other text
        if explained := _explain(error):
            _fail(explained)
        console.show_crash(error)
        sys.exit(1)
    sys.exit(code)


def _fail(error: LabelrError) -> NoReturn:
    if error.message and not is_silent():
        console.show_error(error)
    sys.exit(error.exit_code)


def _explain(error: Exception) -> LabelrError | None:
    """What to tell a user about an error of the installation, of memory or of a GPU; None about any other."""
    if isinstance(error, ModuleNotFoundError) and error.name and "." not in error.name:
        return LabelrError(
            f"the package {error.name} is not installed",
            "install labelr again with its dependencies; without torch it only tags, with ONNX files",
        )
    if "torch" in sys.modules:
        from labelr.model.device import explain_device_error

        return explain_device_error(error)
    return LabelrError("memory ran out", "free some memory") if isinstance(error, MemoryError) else None


def _usage_error(error: Any) -> SettingError:
    """What is wrong with a command line that Typer cannot parse, and what is probably meant."""
    kind, message = type(error).__name__, error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    if kind == "NoArgsIsHelpError":  # the help was shown
        return SettingError("")
    if error.ctx is None:
        return SettingError(message)
    command, path = error.ctx.command, error.ctx.command_path
    hint = f"see `{path} --help`"
    if kind == "NoSuchOption":
        options = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
        others = {option_of(alias): option_of(name) for alias, name in ALIASES.items()}
        message = f"`{path}` has no option `{error.option_name}`"
        hint = (suggest(error.option_name, options, others) if error.option_name.startswith("--") else "") or hint
    elif kind == "MissingParameter":
        what = error.param.help.split(",")[0].rstrip(".").lower()
        needed = [parameter.metavar for parameter in command.params if parameter.required]
        example = " ".join(needed) if len(needed) > 1 else "photos"
        message, hint = f"`{path}` needs {error.param.metavar}: {what}", f"add it, such as `{path} {example}`"
    elif unknown := re.fullmatch("no such command '(.*)'", message):
        commands = list(command.commands)
        message = f"`{path}` has no command {unknown[1]!r}"
        hint = suggest(unknown[1], commands, OTHER_NAMES) or f"choose one of {', '.join(commands)}"
    elif extra := re.fullmatch(r"got unexpected extra arguments?(?:\(s\))? \((.*)\)", message):
        message = f"`{path}` got more arguments than it takes: {extra[1]}"
    return SettingError(message, hint)


def resume_command(option: str | None) -> str | None:
    """The command line that resumes the work: as it was given, with an option more; None if nothing was kept."""
    if option is None:
        return None
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--force", option)]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    arguments[end:end] = option.split()
    prefix = f"LABELR_{arguments[0].upper()}_" if arguments else "LABELR_"
    variables = [
        f"{name}={shlex.quote(value)}"
        for name, value in os.environ.items()
        if name.startswith(prefix) and name.removeprefix(prefix) not in ("FORCE", "STORAGE")  # has a password
    ]
    return " ".join([*variables, shlex.join(["labelr", *arguments])])
