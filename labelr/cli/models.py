"""``labelr models``: looks after saved models."""

import dataclasses
from typing import Annotated

import typer

from labelr import console
from labelr.cli import options as opt

models = typer.Typer(name="models", help="Look after saved models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A model by its name or directory.", show_default=False)]


@models.command("list")
def list_(json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """List the saved models and the unfinished runs, the newest last."""
    from labelr.model import shelf

    with console.session(quiet=quiet, verbose=verbose):
        rows = shelf.list_all()
    if json:
        console.show_json(rows)
    else:
        console.show_models(rows)


@models.command()
def show(name: Name, json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """Show what a model is: its labels, settings and scores."""
    from labelr.model import shelf

    with console.session(quiet=quiet, verbose=verbose):
        folder = shelf.find(name)
        info = shelf.read_info(folder)
    description = {**shelf.summarise(folder, info), **dataclasses.asdict(info)}
    if json:
        console.show_json(description)
    else:
        console.show_model(description)


@models.command()
def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Models by name.", show_default=False)],
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Delete models and unfinished runs."""
    from labelr.model import shelf
    from labelr.model.reservation import check_removable, remove

    with console.session(quiet=quiet, verbose=verbose):
        folders = dict.fromkeys(shelf.find(shelf.check_name(name), runs=True) for name in names)
        for folder in folders:
            check_removable(folder)
        for folder in folders:
            remove(folder)
            console.show_line(str(folder))
