"""The command ``labelr``: its subcommands, and how errors and signals end it."""

import io
import os
import shlex
import signal
import sys
import warnings
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

from labelr import console, signals
from labelr.cli import options as opt
from labelr.cli.backbones import backbones
from labelr.cli.cache import cache
from labelr.cli.check import check
from labelr.cli.evaluate import evaluate
from labelr.cli.fit import FitCommand, fit
from labelr.cli.models import models
from labelr.cli.tag import tag
from labelr.cli.tune import TuneCommand, tune
from labelr.errors import LabelrError
from labelr.version import __version__


class _Group(TyperGroup):
    """All commands."""

    def get_params(self, ctx):  # type: ignore[no-untyped-def]
        """The options before a command with their default: without one, Typer would import pydantic (0.2 s)."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            parameter.default = parameter.default or False  # all of them are flags
        return parameters


app = typer.Typer(
    name="labelr",
    cls=_Group,
    help="Train a multi-label image tagger on a folder of images and a spreadsheet of labels, and tag folders with it.",
    epilog="Every option can also come from a variable LABELR_COMMAND_OPTION, such as LABELR_FIT_EPOCHS=5.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
COMMANDS = {
    fit: FitCommand, evaluate: opt.Command, tag: opt.Command, tune: TuneCommand, check: opt.Command,
    backbones: opt.Command,
}  # fmt: skip
for command, kind in COMMANDS.items():
    app.command(
        cls=kind,
        help=opt.help_of(command),
        context_settings={"auto_envvar_prefix": f"LABELR_{command.__name__.upper()}"},
    )(command)
for group in (models, cache):
    for info in group.registered_commands:
        info.cls, info.help = opt.Command, opt.help_of(info.callback)
    app.add_typer(group, context_settings={"auto_envvar_prefix": f"LABELR_{str(group.info.name).upper()}"})
for info in (*app.registered_commands, *models.registered_commands, *cache.registered_commands):
    if info.callback is not None:
        info.callback = opt.takes_log_file(info.callback)

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def _show_version(requested: bool) -> None:
    if requested:
        console.show_line(f"labelr {__version__}")
        raise typer.Exit


@app.callback()
def labelr(
    version: Annotated[
        bool, opt.option("--version", "Show the version and exit.", metavar="", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The options before a command."""


def main() -> NoReturn:
    """Runs the command line and exits: 0 done, 1 error, 2 usage, 3 needs attention, 75 in use, 128 + n on signal n."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names that are not UTF-8 keep their bytes
        sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding == "utf-8" else "backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a damaged image is reported with its reason
    signals.install_handlers(*SIGNALS, first=console.show_stopping)
    try:
        app(prog_name="labelr")
    except LabelrError as error:
        _fail(error)
    except (console.ReaderGoneError, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter does not complain at its exit
        sys.exit(128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1)
    except OSError as error:  # an unforeseen error of a path, such as a name that is too long
        _fail(LabelrError(str(error)))
    except MemoryError:
        _fail(LabelrError("memory ran out", "free some memory, or use fewer `--workers`"))
    except signals.Stopped as stopped:
        command = resume_command(stopped.resume_option)
        resume = f" Resume with: {command}" if command else ""
        console.show_note(resume, prefix=f"Stopped by {signal.Signals(stopped.number).name}.")
        sys.exit(128 + stopped.number)
    sys.exit(0)


def _fail(error: LabelrError) -> NoReturn:
    console.show_error(error)
    sys.exit(error.exit_code)


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
