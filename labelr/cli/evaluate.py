"""``labelr evaluate``, and the tables of an evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console

from labelr import console
from labelr.cli import options as opt
from labelr.config import EvaluateOptions
from labelr.errors import pluralize, preview

HEADINGS = {"tp": "TP", "fp": "FP", "fn": "FN", "tn": "TN", "f1": "F1", "ap": "AP", "auroc": "AUROC"}

COMMON = ("model", "labels", "split", "threshold", "output", "suspects", "device")
"""What `labelr evaluate --help` shows first."""


@opt.takes_settings(EvaluateOptions, leave_out=["group"], common=COMMON)
def evaluate(
    printing: opt.Printing,
    data: opt.Data,
    model: opt.Model = None,
    output: Annotated[
        Path | None,
        opt.option(
            "--output -o",
            "Write metrics.json, per_label.csv, predictions.csv, errors.csv and a report here.",
            "Output",
            metavar="DIR",
        ),
    ] = None,
    suspects: opt.Suspects = None,
    force: opt.Force = False,
    **settings: Any,
) -> None:
    """Evaluate a model on labelled images.

    Precision, recall and F1 follow scikit-learn with `zero_division=0`: an image that rightly gets no label counts 0 in
    the samples average. Cells of unknown value are ignored. Intervals are 95 % bootstrap confidence intervals. The
    baseline "label prior" predicts each label with its frequency in the model's training data, "random guessing" with a
    random probability; both apply labels from 0.5.

    Examples:
        labelr evaluate photos
        labelr evaluate photos --model birds --split test --output scores
        labelr evaluate photos --threshold 0.5 --json
    """
    options = EvaluateOptions.of(settings)
    from labelr.scoring.evaluate import evaluate as score

    with printing.session() as track:
        evaluation = score(data, model, options, output=output, suspects=suspects, force=force, track=track)
        result = evaluation.to_json()
    printing.show(result, show_evaluation)
    if not printing.quiet:
        warn_of_few_positives(result)


def show_evaluation(result: Mapping[str, Any], *, to: Console = console.stdout) -> None:
    """Prints the tables of metrics, of averages and of labels."""
    console.show_note(f"Scores {_where(result)}{pluralize(result['images'], 'image')}:", to=to)
    console.show_table(_headline(result), to=to)
    console.show_table(_averages(result), to=to)
    rows = [{HEADINGS.get(name, name): value for name, value in row.items()} for row in result["per_label"]]
    console.show_table(rows, to=to)
    if result.get("scored_on") == "folds":
        console.show_note("The table of labels covers all folds; the scores above are means over folds.", to=to)
    total, left_out = len(result["labels"]), len(result["not_evaluable"])
    if left_out:
        covered = f"Macro averages cover {total - left_out:,} of {pluralize(total, 'label')}"
        console.show_note(f"{covered}: the others have no positive or no negative here.", to=to)


def warn_of_few_positives(result: Mapping[str, Any]) -> None:
    """Warns of labels whose scores are unreliable."""
    few, total = result["few_positives"], len(result["labels"])
    if few:
        of_all = f"{len(few)} of {pluralize(total, 'label')}, with fewer than 10 positives here"
        console.show_warning(f"scores are unreliable for {of_all}: {preview(few)}")


def _where(result: Mapping[str, Any]) -> str:
    split = result.get("scored_on")
    if split == "folds":
        return f"over {len(result['folds']['images'])} folds of "
    return f"on the {split} split, " if split else f"of {Path(result['model']).name} on "


def _headline(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each metric: its value, its uncertainty, and the scores of baselines that ignore the images."""
    from labelr.scoring.report.text import metric_rows

    rows = []
    for row in metric_rows(result):
        if row["name"].startswith(("precision ", "recall ")) or row["name"].endswith(" weighted"):
            continue  # they are in the table of averages
        interval = "" if row["low"] is None else f"{row['low']:.3f} .. {row['high']:.3f}"
        uncertainty = {"spread": row["spread"]} if "spread" in result else {"95 % interval": interval}
        baselines = {"label prior": row["prior"], "random guessing": row["random"]}
        rows.append({"metric": row["name"], "value": row["value"], **uncertainty, **baselines})
    return rows


def _averages(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each way to average precision, recall and F1."""
    metrics, f1_at = result["metrics"], result["f1_at"]
    rows = []
    for average in f1_at["0.5"]:
        row = {"average": average, **{name: metrics[f"{name}_{average}"] for name in ("precision", "recall")}}
        if result["threshold"] != "auto":
            row[f"F1 at {Path(str(result['threshold'])).name}"] = metrics[f"f1_{average}"]
        rows.append({**row, "F1 at 0.5": f1_at["0.5"][average], "F1 at fitted thresholds": f1_at["auto"][average]})
    return rows
