"""``labelr models``: manages saved models."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from labelr import console, files
from labelr.cli import completion
from labelr.cli import options as opt
from labelr.config import CompareOptions
from labelr.errors import LabelrError, pluralize
from labelr.fields import SettingError

models = opt.Commands(
    name="models", help="Manage saved models.", epilog=opt.epilog("labelr models list\nlabelr models show birds")
)

_NAME = opt.argument("NAME", "Name or directory of a model.", completion.models)


@models.command("list")
def list_(printing: opt.Printing) -> None:
    """List saved models, damaged ones and unfinished runs, the newest last.

    Examples:
        labelr models list
        labelr models list --json
    """
    from labelr.training.record import list_models_and_runs

    with printing.session():
        rows = list_models_and_runs()
    printing.show(rows, _show_models)


@models.command()
def show(printing: opt.Printing, name: Annotated[str, _NAME]) -> None:
    """Show the labels, settings and scores of a model.

    Examples:
        labelr models show birds
    """
    from labelr.model import store
    from labelr.training.record import applied_settings, summarise

    with printing.session():
        folder = store.find(name)
        info = store.load_info(folder)
        description = {**summarise(folder, info, store.listed_default()), **dataclasses.asdict(info)}
    if printing.json:
        console.show_json(description)
        return
    _show_model(description)
    try:
        _show_settings(applied_settings(folder, info))
    except LabelrError as error:
        console.show_warning(f"its settings are not shown: {error.message}")


@models.command()
def default(
    printing: opt.Printing,
    name: Annotated[str | None, _NAME] = None,
    unset: Annotated[bool, opt.option("--unset", "Use the newest model again.")] = False,
) -> None:
    """Choose the model that `tag` and `evaluate` use without `--model`, or show it.

    Without a choice, that is the newest complete model.

    Examples:
        labelr models default
        labelr models default birds
        labelr models default --unset
    """
    if name is not None and unset:
        raise SettingError("a default is either chosen or unset", "give NAME or `--unset`, not both")
    from labelr.model import store

    with printing.session():
        if name is not None or unset:
            store.pin(None if name is None else store.find(name))
        folder, pinned = store.newest_model() if unset else store.find_default(), store.pinned_model() is not None
        if folder is not None and not unset:
            store.verify(folder)
    if printing.json:
        console.show_json({"name": folder and folder.name, "path": folder and str(folder), "pinned": pinned})
        return
    if not pinned:
        used = "there is no trained model" if folder is None else "the newest model is used"
        console.show_note(f"No default is set: {used}.")
    if folder is not None:
        console.show_line(str(folder))


@models.command()
@opt.takes_settings(CompareOptions, leave_out=["group"], common=("data", "labels", "only", "threshold", "device"))
def compare(
    printing: opt.Printing,
    names: Annotated[list[str], opt.argument("NAME", "Names or directories of models.", completion.models)],
    data: Annotated[
        list[Path] | None,
        opt.option(
            "--data",
            "Folder of labelled images; repeat for several. Default: the training data of the first model.",
            "Data",
            metavar="DIR",
        ),
    ] = None,
    **settings: Any,
) -> None:
    """Compare models on the same labelled images, which none of them has learned from.

    The others are compared with the first: a difference is clear if its 95 % interval, by a paired bootstrap over the
    images, does not contain 0, and at least 10 images have a label. Images are recognised by content. Labels that not
    all models have are left out.

    Examples:
        labelr models compare birds birds-2
        labelr models compare birds birds-2 --data new_photos --threshold 0.5
    """
    CompareOptions.of(settings)  # reports mistakes before the heavy imports
    from labelr.scoring.compare import compare as compare_models

    with printing.session() as track:
        comparison = compare_models(names, data or None, track=track, **settings)
    if printing.json:
        console.show_json(comparison.to_json())
        return
    _show_comparison(comparison.to_json())
    for number in range(1, len(names)):
        console.show_note(f"{comparison.describe(number)}.", to=console.stdout)


@models.command()
def export(
    printing: opt.Printing,
    name: Annotated[str, _NAME],
    file: Annotated[Path, opt.argument("FILE", "The file to write, such as birds.zip.")],
    force: opt.Force = False,
) -> None:
    """Write a model as one file that another machine imports.

    The same model gives the same bytes. The file holds what tagging and evaluating need, and names no image and no
    folder: the report, the tables of errors and predictions and the record of the run are left out.

    Examples:
        labelr models export birds birds.zip
    """
    from labelr.model.archive import export_archive

    with printing.session():
        path = export_archive(name, file, force=force)
    printing.show({"path": str(path), "bytes": path.stat().st_size}, str(path))


@models.command("import")
def import_(
    printing: opt.Printing,
    file: Annotated[Path, opt.argument("FILE", "A file of `labelr models export`.")],
    name: Annotated[
        str | None, opt.option("--name", "Name of the model. Default: as exported, or -2, -3, ... if taken.")
    ] = None,
) -> None:
    """Save a model that another machine exported, after everything in the file has been verified.

    Examples:
        labelr models import birds.zip
        labelr models import birds.zip --name birds-of-anna
    """
    from labelr.model import store
    from labelr.model.archive import import_archive

    with printing.session():
        folder = import_archive(file, name)
        if store.listed_default() is None and store.newest_model() == folder:
            console.show_note(f"{folder.name} is the newest model now, which is used without `--model`.")
    printing.show({"name": folder.name, "path": str(folder)}, str(folder))


@models.command()
def rename(
    printing: opt.Printing,
    name: Annotated[str, opt.argument("NAME", "Name of a model.", completion.models_and_runs)],
    new: Annotated[str, opt.argument("NEW", "Its new name.")],
) -> None:
    """Rename a model or an unfinished run. The default model stays the default.

    Examples:
        labelr models rename photos-2 birds
    """
    from labelr.model import store

    with printing.session():
        folder = store.rename(store.find(name, unfinished=True), new)
    printing.show({"name": folder.name, "path": str(folder)}, str(folder))


@models.command()
def card(
    printing: opt.Printing,
    name: Annotated[str, _NAME],
    output: Annotated[
        Path | None, opt.option("--output -o", "Write the card to this file.", "Output", metavar="FILE")
    ] = None,
    force: opt.Force = False,
) -> None:
    """Write a model card in Markdown: data, scores, thresholds, limits, licence and settings of a model.

    Examples:
        labelr models card birds
        labelr models card birds -o README.md
    """
    from labelr.model import store
    from labelr.scoring.card import model_card

    with printing.session():
        path = None if output is None else files.local_path(output)
        if path is not None:
            files.check_new(path, force=force)
        text = model_card(store.find(name))
        if path is not None:
            files.write_atomically(path, text)
    if printing.json:
        console.show_json({"card": text, "path": path and str(path)})
    elif path is not None:
        console.show_line(str(path))
    else:
        console.show_markdown(text.rstrip())


@models.command()
def verify(
    printing: opt.Printing,
    names: Annotated[
        list[str] | None,
        opt.argument("NAME|FILE", "Models, or files of `export`. Default: all models.", completion.models_and_runs),
    ] = None,
) -> None:
    """Check that no file of a model is missing or damaged, and that its training is finished; else the exit code is 3.

    Checked are the format, the digest of the weights, the shapes and values of all tensors, labels, thresholds, scores,
    history and settings. Without names, runs that can be resumed are left out.

    Examples:
        labelr models verify
        labelr models verify birds
        labelr models verify birds.zip
    """
    from labelr.training.record import verify_models

    with printing.session():
        rows = verify_models(names or ())
    if printing.json:
        keys = ("name", "path", "damaged", "hint", "checked")
        console.show_json([{**{key: row[key] for key in keys}, "state": _state(row)} for row in rows])
    elif rows:
        details = [
            row["damaged"] or (f"ok: {row['checked']}" if row["complete"] else _state_with_epochs(row)) for row in rows
        ]
        console.show_table([{"name": row["name"], "state": text} for row, text in zip(rows, details, strict=True)])
        _show_hints(rows)
    if any(_state(row) != "ok" for row in rows):
        raise typer.Exit(opt.EXIT_ATTENTION)


@models.command()
def rm(
    printing: opt.Printing,
    names: Annotated[list[str], opt.argument("NAME", "Names of models.", completion.models_and_runs)],
) -> None:
    """Delete models, damaged ones and unfinished runs.

    Examples:
        labelr models rm birds-2 birds-3
    """
    from labelr.model import store

    with printing.session():
        folders = dict.fromkeys(store.find(name, unfinished=True) for name in names)
        for folder in folders:
            store.check_removable(folder)
        for folder in folders:
            store.remove(folder)
            if not printing.json:
                console.show_line(str(folder))
    if printing.json:
        console.show_json([{"name": folder.name, "path": str(folder)} for folder in folders])


def _show_models(rows: Sequence[Mapping[str, Any]]) -> None:
    from labelr.model.store import models_folder

    if not rows:
        console.show_note("No models yet: train one with `labelr fit DATA`.")
        return
    shown = [
        {
            "name": row["name"] if Path(row["path"]).parent == models_folder() else row["path"],
            "created": row["created"][:16].replace("T", " "),
            "labels": "" if row["labels"] is None else row["labels"],
            "mAP": row["map_macro"] if row["complete"] else _state_with_epochs(row),
            **({"default": "yes" if row["default"] else ""} if any(row["default"] for row in rows) else {}),
            "MB": round(row["bytes"] / 1e6),
        }
        for row in rows
    ]
    console.show_table(shown)
    console.show_note(f"in {models_folder()}", to=console.stdout)
    damaged = [row for row in rows if row["damaged"]]
    for row in damaged:
        console.show_warning(f"{row['name']} cannot be used: {row['damaged']}")
    _show_hints(damaged)
    if any(row["resumable"] for row in rows):
        console.show_note("Resume an unfinished run by the same `labelr fit` command with `--resume`.")


def _show_hints(rows: Sequence[Mapping[str, Any]]) -> None:
    """What to do with models that are damaged or unfinished, each hint once."""
    for hint in dict.fromkeys(row["hint"] for row in rows if row["hint"]):
        console.show_note(hint, prefix="Hint: ", style="hint")


def _state(row: Mapping[str, Any]) -> str:
    """A model's state in one word: ok, damaged, running or unfinished."""
    return "damaged" if row["damaged"] else "ok" if row["complete"] else "running" if row["running"] else "unfinished"


def _state_with_epochs(row: Mapping[str, Any]) -> str:
    """A model's state, and of an unfinished run how far its training is."""
    return _state(row) + (f", {row['epochs_done']} of {pluralize(row['epochs'], 'epoch')}" if row.get("epochs") else "")


def _show_model(description: Mapping[str, Any]) -> None:
    from labelr.data.value_range import ValueRange
    from labelr.scoring.metrics import METRIC_NAMES

    value_range = ValueRange(**description["preprocessing"]["value_range"])
    facts = {
        "name": description["name"],
        "path": description["path"],
        "created": description["created"][:16].replace("T", " "),
        "complete": "yes" if description["complete"] else "no: its training was stopped",
        "epoch kept": description["best_epoch"],
        "data": ", ".join(description["data"]) or "not recorded",
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


def _show_settings(settings: Mapping[str, Any]) -> None:
    given = {name: value for name, value in settings.items() if value not in (None, [])}
    _show_pairs("setting", {name: _format_setting(value) for name, value in given.items()})


def _format_setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else ", ".join(value) if isinstance(value, list) else value


def _show_comparison(result: Mapping[str, Any]) -> None:
    """A row for each main metric: the value of each model, and its difference to the first one."""
    from labelr.scoring.metrics import METRIC_NAMES

    first, *others = result["models"]
    rows = []
    for key in others[0]["differences"]:
        row = {"metric": METRIC_NAMES[key], first["name"]: first["metrics"][key]}
        for other in others:
            row |= {other["name"]: other["metrics"][key], f"{other['name']}: difference": _difference(other, key)}
        rows.append(row)
    console.show_table(rows)


def _difference(model: Mapping[str, Any], metric: str) -> str:
    """By how much a model is higher than the first one, with the interval."""
    value, (low, high) = model["differences"][metric], model["difference_intervals"][metric]
    return "not evaluable" if value is None or low is None else f"{value:+.3f} ({low:+.3f} .. {high:+.3f})"


def _pretraining(pretraining: Mapping[str, str] | None) -> dict[str, str]:
    """Where the weights came from before training."""
    if pretraining is None:
        return {}
    source = ", ".join(filter(None, (pretraining["source"], pretraining["licence"])))
    return {"pretrained by": source, "pretrained weights": pretraining["weights"]}


def _show_pairs(heading: str, pairs: Mapping[str, Any]) -> None:
    console.show_table([{heading: name, "": value} for name, value in pairs.items()])
