"""``labelr models``: looks after saved models."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from labelr import console
from labelr.cli import options as opt

models = typer.Typer(name="models", help="Look after saved models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A model by its name or directory.", show_default=False)]


@models.command("list")
def list_(json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """List the saved models and the unfinished runs, the newest last."""
    from labelr.training.run import list_models_and_runs

    with console.session(quiet=quiet, verbose=verbose):
        rows = list_models_and_runs()
    if json:
        console.show_json(rows)
    else:
        _show_models(rows)


@models.command()
def show(name: Name, json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """Show what a model is: its labels, settings and scores."""
    from labelr.model import store

    with console.session(quiet=quiet, verbose=verbose):
        folder = store.find(name)
        info = store.load_info(folder)
    description = {**store.summarise(folder, info), **dataclasses.asdict(info)}
    if json:
        console.show_json(description)
    else:
        _show_model(description)


@models.command()
def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Models by name.", show_default=False)],
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Delete models and unfinished runs."""
    from labelr.model import store
    from labelr.model.store import check_removable, remove

    with console.session(quiet=quiet, verbose=verbose):
        folders = dict.fromkeys(store.find(store.check_name(name), unfinished=True) for name in names)
        for folder in folders:
            check_removable(folder)
        for folder in folders:
            remove(folder)
            console.show_line(str(folder))


def _show_models(rows: Sequence[Mapping[str, Any]]) -> None:
    """The saved models."""
    if not rows:
        console.show_note("No models yet: train one with `labelr fit DATA`.")
        return
    shown = [
        {
            "name": row["name"],
            "created": row["created"][:16].replace("T", " "),
            "labels": row["labels"],
            "mAP": row["map_macro"] if row["complete"] else _how_far(row),
            "MB": round(row["bytes"] / 1e6),
            "path": row["path"],
        }
        for row in rows
    ]
    console.show_table(shown)
    if any(row["resumable"] for row in rows):
        console.show_note("An unfinished run goes on by the same `labelr fit` command with `--resume`.")


def _how_far(row: Mapping[str, Any]) -> str:
    """How far a run is that is not finished."""
    if not row["resumable"] and not row["running"]:
        return "unfinished"
    state = "running" if row["running"] else "unfinished"
    return f"{state}, {row['epochs_done']} of {row['epochs']} epochs"


def _show_model(description: Mapping[str, Any]) -> None:
    """What a model is."""
    facts = {
        "name": description["name"],
        "path": description["path"],
        "created": description["created"],
        "complete": "yes" if description["complete"] else "no: its training was stopped",
        "best epoch": description["best_epoch"],
        "image size": description["preprocessing"]["image_size"],
        "temperature": f"{description['calibration']['temperature']:.2f}",
        "versions": ", ".join(f"{name} {version}" for name, version in description["versions"].items()),
    }
    console.show_table([{"model": name, "": str(value)} for name, value in facts.items()])
    labels = [
        {"label": label, "threshold": threshold, **description["counts"].get(label, {})}
        for label, threshold in zip(description["labels"], description["thresholds"], strict=True)
    ]
    console.show_table(labels)
    scores = description["scores"] or {}
    if scores:
        console.show_table(
            [{f"scores on {description['scored_on']}": name, "": value} for name, value in scores.items()]
        )
    console.show_table(
        [
            {"setting": name, "": "auto" if value is None else str(value)}
            for name, value in description["config"].items()
        ]
    )
