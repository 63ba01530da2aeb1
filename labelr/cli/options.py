"""Generates the options of commands from the fields of settings, and defines those that several commands share."""

import dataclasses
import functools
import inspect
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from labelr import console
from labelr.cli import completion
from labelr.config import PANELS
from labelr.errors import suggest
from labelr.fields import Field, SettingError, Settings, choices_of, is_list, kind_of, option_of, parsed
from labelr.files import EMPTY_PATH, local_path
from labelr.progress import Track

Function = Callable[..., None]
_TYPES = {int: "INT", float: "FLOAT", str: "TEXT"}
"""What ``--help`` calls a value that has no better name."""
_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_CONTEXT = inspect.Parameter("context", _KEYWORD, annotation=typer.Context)
_SEVERAL = ",..."
"""The end of the metavar of an option whose one text holds several values."""
_PATH = re.compile(r"\b(FILE|DIR|DATA|PHOTOS|TARGET)\b")
"""What the metavars of options and arguments have that take a path."""
COMMON, GENERAL = "Common", "General"
"""The panels of the options that a command is mostly used with, first, and of those that all commands have, last."""
EXIT_ATTENTION = 3
"""The exit code of a command that finished, but found something that needs attention."""


class _WithShortHelp:
    """A command or group whose ``--help`` has no types of switches and of arguments, and joined names of a switch.

    A column of its own for these is too wide. A switch that is off by default is shown without the name that turns it
    off. Options without a panel come last.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As Typer's, in the colours of labelr."""
        from typer import rich_utils  # what it colours with is slow to import

        vars(rich_utils).update(console.HELP_STYLES)
        command: Any = copy(self)
        command.params = [copy(parameter) for parameter in command.params]
        for parameter in command.get_params(ctx):
            if parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda **_: None
                continue
            parameter.rich_help_panel = parameter.rich_help_panel or GENERAL
            if parameter.is_flag:
                parameter.metavar = ""
                if parameter.secondary_opts and parameter.default is not False:
                    parameter.opts = [f"--[no-]{parameter.opts[0].removeprefix('--')}"]
                parameter.secondary_opts = []
        shown: Any = super(_WithShortHelp, command)
        shown.format_help(ctx, formatter)


class Command(_WithShortHelp, TyperCommand):
    """A command that refuses a second value of an option that takes one, where Typer would use the last."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        """As Typer's."""
        with _naming_options(ctx):
            if not ctx.resilient_parsing:  # as when a shell completes; what variables set is not in `args`
                parser: Any = self.make_parser(ctx)
                values, _, given = parser.parse_args(args=[*args])
                _check_given_once(given)
                _check_paths(given, values)
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As Typer's."""
        _warn_of_unknown_variables(ctx)
        with _naming_options(ctx):
            return super().invoke(ctx)


def _check_given_once(parameters: list[Any]) -> None:
    """Raises SettingError if an option of one value is among the parameters of a command line twice."""
    for parameter, count in Counter(parameters).items():
        takes_one = parameter.param_type_name == "option" and not (parameter.multiple or parameter.is_flag)
        if takes_one and count > 1:
            has_list = str(parameter.metavar).endswith(_SEVERAL)
            raise SettingError(
                f"`{parameter.opts[0]}` is given {count} times, but takes one value",
                "separate several values by commas" if has_list else "keep one of them",
            )


def _check_paths(parameters: list[Any], values: dict[str, Any]) -> None:
    """Raises SettingError if a path on a command line is empty."""
    for parameter in parameters:
        value = values[parameter.name]
        if _PATH.search(str(parameter.metavar)) and "" in (value if isinstance(value, (list, tuple)) else [value]):
            message, hint = EMPTY_PATH
            is_option = parameter.param_type_name == "option"
            raise SettingError(f"`{parameter.opts[0]}`: {message}" if is_option else message, hint)


def _variable(context: Any, parameter: Any) -> str:
    """The variable of the environment that sets an option of a command."""
    return f"{context.auto_envvar_prefix}_{parameter.name.upper()}"


@contextmanager
def _naming_options(context: Any) -> Iterator[None]:
    """Names an option in an error on a setting as on the command line, or the variable that the value comes from."""
    try:
        yield
    except typer.BadParameter as error:
        variable = _variable(context, error.param) if error.param else ""
        if variable not in os.environ or not getattr(error.param, "is_flag", False):
            raise
        raise SettingError(f"{variable}: expected true or false, got {os.environ[variable]!r}") from error
    except SettingError as error:
        name = error.message.partition(":")[0]
        if any(option_of(name) in parameter.opts for parameter in context.command.params):
            error.message = f"`{option_of(name)}`{error.message.removeprefix(name)}"
        text = f"{error.message} {error.hint}"
        variables = [
            _variable(context, parameter)
            for parameter in context.command.params
            if _source(context, parameter.name) == "ENVIRONMENT"
            and re.search(rf"(?<![\w-])({parameter.name}(:| \d)|{option_of(parameter.name)}(?![\w-]))", text)
        ]
        if variables:
            error.message += f" (set in {' and '.join(variables)})"
        raise


def _warn_of_unknown_variables(context: Any) -> None:
    """Warns of variables of the environment that set no option of a command, but are named as if they did."""
    known = {parameter.name.upper(): _variable(context, parameter) for parameter in context.command.params}
    prefix = f"{context.auto_envvar_prefix}_"
    for name in sorted(os.environ):
        option = name.removeprefix(prefix)
        if option != name and option not in known:
            hint = suggest(option, known.values(), known)
            note = f"{name} is ignored: `{context.command_path}` has no such option"
            console.show_warning(f"{note}; {hint}" if hint else note)


class Group(_WithShortHelp, TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> Any:
        """The options, all of them switches, with their default: without one, Typer would import pydantic (0.2 s)."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            parameter.default = parameter.default or False
        return parameters


def epilog(examples: str) -> str:
    """What ends the help of a command: lines that show how it is used, each on a line of its own."""
    lines = [f"[default]  {escape(line)}[/]" for line in examples.splitlines()]  # Typer removes indents from a text
    return "\n".join(["Examples:", *lines]) if lines else ""


class Commands(typer.Typer):
    """A group of commands of the kinds above."""

    def __init__(self, **details: Any) -> None:
        super().__init__(**{"cls": Group, "no_args_is_help": True, "suggest_commands": False, **details})

    def command(self, name: str | None = None, **details: Any) -> Callable[[Any], Any]:
        """As Typer's; each command also takes ``--log-file``, and its help ends with the examples of its docstring."""

        def decorate(function: Function) -> Function:
            text, _, examples = (inspect.getdoc(function) or "").partition("\n\nExamples:\n")
            text = re.sub(r"(?<!\n)\n(?!\n)", " ", text)  # Typer would keep line breaks inside of paragraphs
            own = {"cls": Command, "help": text, "epilog": epilog(inspect.cleandoc(examples))}
            super(Commands, self).command(name, **{**own, **details})(takes_printing(function))
            return function

        return decorate


def option(
    names: str,
    help: str,
    panel: str | None = None,
    *,
    metavar: str | None = None,
    find: completion.Find | None = None,
    **details: Any,
) -> Any:
    """An option of a command: its names, such as ``"--output -o"``, and what ``--help`` says, in which panel.

    `find` completes its value for shells; the details are further arguments of Typer's.
    """
    details |= {} if find is None else {"autocompletion": completion.completer(find)}
    return typer.Option(
        *names.split(), help=escape(help), rich_help_panel=panel, metavar=metavar, show_envvar=False, **details
    )


def argument(metavar: str, help: str, find: completion.Find | None = None, **details: Any) -> Any:
    """An argument of a command, what ``--help`` says, and what completes it for shells; details as of `option`."""
    complete = None if find is None else completion.completer(find)
    return typer.Argument(metavar=metavar, help=help, show_default=False, autocompletion=complete, **details)


def model_option(help: str, metavar: str = "NAME|DIR") -> Any:
    """The option ``--model``, whose value shells complete."""
    return option("--model", help, "Model", metavar=metavar, find=completion.models)


_DATA = argument("DATA", "Folders of labelled images, read as one data set, or label files.")
Data = Annotated[list[Path], _DATA]
OptionalData = Annotated[list[Path] | None, _DATA]
Model = Annotated[
    str | None, model_option("Name or directory of a model. Default: that of `labelr models default`, else the newest.")
]
Config = Annotated[
    Path | None,
    option(
        "--config",
        "TOML or JSON file of settings, such as a model's config.json; options override them.",
        "Training",
        metavar="FILE",
    ),
]
Suspects = Annotated[
    Path | None, option("--suspects", "Write suspected label errors to a CSV, worst first.", "Output", metavar="FILE")
]
Force = Annotated[bool, option("--force", "Replace existing results.", "Output")]


def _open_log(context: typer.Context, name: str | None) -> None:
    """Opens the log, before other options are checked, so that errors in them are in it."""
    if context.resilient_parsing:  # as when a shell completes
        return
    name = os.environ.get("LABELR_LOG_FILE") or None if name is None else name
    if name == "-":
        raise SettingError(
            "`--log-file`: expected the name of a file, got '-'",
            "name one, such as `--log-file labelr.log`; without the option, messages are on stderr alone",
        )
    console.open_log(None if name is None else local_path(name))


LogFile = Annotated[
    str | None,
    option(
        "--log-file",
        "Append messages with their time to a file, also those that --quiet hides. Default: LABELR_LOG_FILE.",
        metavar="FILE",
        callback=_open_log,
        is_eager=True,
    ),
]


class Printing(NamedTuple):
    """How a command prints, by options that all commands have."""

    json: Annotated[bool, option("--json", "Print the result as JSON.")]
    quiet: Annotated[bool, option("--quiet -q", "Show warnings and errors only.")]
    verbose: Annotated[bool, option("--verbose -v", "Show more details.")]

    def session(self) -> AbstractContextManager[Track]:
        """Shows progress, notes and warnings while the command works; see `console.session`."""
        return console.session(quiet=self.quiet, verbose=self.verbose)

    def show(self, result: Any, otherwise: str | Callable[[Any], None]) -> None:
        """Prints a result as JSON, or else a line, or else what a function prints of the result."""
        if self.json:
            console.show_json(result)
        elif isinstance(otherwise, str):
            console.show_line(otherwise)
        else:
            otherwise(result)


def takes_settings(
    *sources: type[Settings], leave_out: Collection[str] = (), several: Collection[str] = (), common: Sequence[str] = ()
) -> Callable[[Function], Function]:
    """Gives a command an option for each setting; those that the user gives arrive as its ``**settings``.

    Args:
        sources: The classes of settings; where two have a setting of the same name, the first counts.
        leave_out: Settings without an option.
        several: Settings whose option is a text with several values, such as ``0.2,0.5``.
        common: Parameters that ``--help`` shows first, in this order.
    """
    fields: dict[str, Field] = {}
    for field in (field for source in sources for field in _own_fields_first(source)):
        if field.name not in leave_out:
            fields.setdefault(field.name, field)
    generated = [_parameter(field, several=name in several) for name, field in fields.items()]

    def decorate(command: Function) -> Function:
        @functools.wraps(command)
        def run(context: typer.Context, **values: Any) -> None:
            settings = {name: values.pop(name) for name in fields}
            given = {name: value for name, value in settings.items() if _source(context, name) != "DEFAULT"}
            command(**values, **given)

        *own, _ = inspect.signature(command, eval_str=True).parameters.values()  # the last is **settings
        parameters = [_CONTEXT, *(parameter.replace(kind=_KEYWORD) for parameter in own), *generated]
        parameters = [_in_common(each) if each.name in common else each for each in parameters]
        order = {name: position - len(common) for position, name in enumerate(common)}
        parameters.sort(key=lambda parameter: order.get(parameter.name, _panel(parameter)))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def takes_printing(command: Function) -> Function:
    """Gives a command the options of `Printing`, which arrive as its `printing`, and ``--log-file``."""
    switches = inspect.get_annotations(Printing)

    @functools.wraps(command)
    def run(*, log_file: None, **values: Any) -> None:  # it is open already
        command(printing=Printing(*(values.pop(name) for name in switches)), **values)

    own = inspect.signature(command, eval_str=True)
    kept = [each.replace(kind=_KEYWORD) for name, each in own.parameters.items() if name != "printing"]
    more = [inspect.Parameter(name, _KEYWORD, annotation=kind, default=False) for name, kind in switches.items()]
    log_file = inspect.Parameter("log_file", _KEYWORD, annotation=LogFile, default=None)
    run.__signature__ = own.replace(parameters=[*kept, *more, log_file])  # type: ignore[attr-defined]
    return run


def _own_fields_first(source: type[Settings]) -> list[Field]:
    """The fields of a class, then those of its base classes, so that ``--help`` starts with the most specific."""
    fields = {field.name: field for field in dataclasses.fields(source)}
    names = [name for base in source.__mro__ for name in inspect.get_annotations(base) if name in fields]
    return [fields[name] for name in dict.fromkeys(names)]


def _source(context: typer.Context, name: str) -> str:
    """Where the value of an option is from: ``"COMMANDLINE"``, ``"ENVIRONMENT"`` or ``"DEFAULT"``."""
    return getattr(context.get_parameter_source(name), "name", "DEFAULT")


def _in_common(parameter: inspect.Parameter) -> inspect.Parameter:
    """The parameter, in the first panel of ``--help``."""
    kind, info = get_args(parameter.annotation)
    info = copy(info)
    info.rich_help_panel = COMMON
    return parameter.replace(annotation=Annotated[kind, info])


def _panel(parameter: inspect.Parameter) -> int:
    """The position of a parameter's panel in ``--help``; those without one come last."""
    info = next(iter(getattr(parameter.annotation, "__metadata__", ())), None)
    panel = getattr(info, "rich_help_panel", None)
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


def _parameter(field: Field, *, several: bool) -> inspect.Parameter:
    """The parameter by which Typer makes the option of a setting."""
    metadata, kind, choices = field.metadata, kind_of(field), choices_of(field)
    names, metavar = option_of(field.name), metadata["metavar"] or "|".join(choices) or _TYPES.get(kind)
    default = "auto" if field.default is None and "auto:" in metadata["help"] else field.default
    shown = "true" if several and default is True else None if default == "auto" else _format_default(default)
    find = completion.BY_SETTING.get(field.name) or completion.choices(choices)
    details: dict[str, Any] = {"show_default": False, "autocompletion": completion.completer(find, joined=several)}
    if several:
        metavar = f"{'NAME' if choices else metavar or 'true|false'}{_SEVERAL}"  # a list of choices would be too wide
        kind, default = str, str(default).lower()
    elif is_list(field):
        kind, default = list[str], None
    elif kind is bool:
        names += f"/--no-{names.removeprefix('--')}"
        default = field.default
    else:
        details["parser"] = _parser(field)
    text = metadata["help"] + ("" if shown is None else f" [default: {shown}]")
    info = option(f"{names} {metadata['short'] or ''}", text, metadata["panel"], metavar=metavar, **details)
    annotation = Annotated[kind, info]  # type: ignore[valid-type]
    return inspect.Parameter(field.name, _KEYWORD, annotation=annotation, default=default)


def _format_default(default: Any) -> str | None:
    """What ``--help`` says of a default; None if there is none, or if a switch is off."""
    if default in (None, (), "") or default is False:
        return None
    if default is True:
        return "on"
    return f"{default:,}" if isinstance(default, int) else f"{default:g}" if isinstance(default, float) else default


def _parser(field: Field) -> Callable[[Any], Any]:
    """Checks the value of an option, with the same messages as elsewhere; Typer also passes the default."""
    return lambda value: parsed(field, value) if isinstance(value, str) else value
