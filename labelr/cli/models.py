"""``labelr models``: manages saved models."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from labelr import console
from labelr.cli import options as opt
from labelr.errors import pluralize

models = opt.Commands(name="models", help="Manage saved models.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or directory of a model.", show_default=False)]


@models.command("list")
def list_(json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """List saved models and unfinished runs, the newest last."""
    from labelr.training.record import list_models_and_runs

    with console.session(quiet=quiet, verbose=verbose):
        rows = list_models_and_runs()
    if json:
        console.show_json(rows)
    else:
        _show_models(rows)


@models.command()
def show(name: Name, json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """Show the labels, settings and scores of a model."""
    from labelr.model import store
    from labelr.training.record import applied_settings, summarise

    with console.session(quiet=quiet, verbose=verbose):
        folder = store.find(name)
        info = store.load_info(folder)
    description = {**summarise(folder, info), **dataclasses.asdict(info)}
    if json:
        console.show_json(description)
    else:
        _show_model(description, applied_settings(folder, info))


@models.command()
def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names of models.", show_default=False)],
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Delete models and unfinished runs."""
    from labelr.model import store

    with console.session(quiet=quiet, verbose=verbose):
        folders = dict.fromkeys(store.find(store.check_name(name), unfinished=True) for name in names)
        for folder in folders:
            store.check_removable(folder)
        for folder in folders:
            store.remove(folder)
            console.show_line(str(folder))


def _show_models(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        console.show_note("No models yet: train one with `labelr fit DATA`.")
        return
    shown = [
        {
            "name": row["name"],
            "created": row["created"][:16].replace("T", " "),
            "labels": row["labels"],
            "mAP": row["map_macro"] if row["complete"] else _state(row),
            "MB": round(row["bytes"] / 1e6),
            "path": row["path"],
        }
        for row in rows
    ]
    console.show_table(shown)
    if any(row["resumable"] for row in rows):
        console.show_note("Resume an unfinished run by the same `labelr fit` command with `--resume`.")


def _state(row: Mapping[str, Any]) -> str:
    """The progress of an incomplete run."""
    if not row["resumable"] and not row["running"]:
        return "unfinished"
    state = "running" if row["running"] else "unfinished"
    return f"{state}, {row['epochs_done']} of {pluralize(row['epochs'], 'epoch')}"


def _show_model(description: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    from labelr.data.value_range import ValueRange
    from labelr.scoring.metrics import METRIC_NAMES

    value_range = ValueRange(**description["preprocessing"]["value_range"])
    facts = {
        "name": description["name"],
        "path": description["path"],
        "created": description["created"][:16].replace("T", " "),
        "complete": "yes" if description["complete"] else "no: its training was stopped",
        "best epoch": description["best_epoch"],
        "network": description["architecture"]["backbone"] or "residual CNN",
        **_pretraining(description["pretraining"]),
        "image size": description["preprocessing"]["image_size"],
        **({"value range": f"{value_range}, of images of more than 8 bits"} if value_range else {}),
        "temperature": f"{description['calibration']['temperature']:.2f}",
        "versions": ", ".join(f"{name} {version}" for name, version in description["versions"].items()),
    }
    _show_pairs("model", facts)
    labels = zip(description["labels"], description["thresholds"], strict=True)
    counts = description["counts"]
    console.show_table([{"label": label, "threshold": value, **counts.get(label, {})} for label, value in labels])
    scores = description["scores"]
    if scores:
        where = "over folds" if description["scored_on"] == "folds" else f"on the {description['scored_on']} split"
        console.show_note(f"Scores {where}:", to=console.stdout)
        console.show_table([{"metric": name, "value": scores.get(key)} for key, name in METRIC_NAMES.items()])
    given = {name: value for name, value in settings.items() if value not in (None, [])}
    _show_pairs("setting", {name: _format_setting(value) for name, value in given.items()})


def _format_setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else ", ".join(value) if isinstance(value, list) else value


def _pretraining(pretraining: Mapping[str, str] | None) -> dict[str, str]:
    """Where the weights came from before training."""
    if pretraining is None:
        return {}
    source = ", ".join(filter(None, (pretraining["source"], pretraining["licence"])))
    return {"pretrained by": source, "pretrained weights": pretraining["weights"]}


def _show_pairs(heading: str, pairs: Mapping[str, Any]) -> None:
    console.show_table([{heading: name, "": value} for name, value in pairs.items()])
