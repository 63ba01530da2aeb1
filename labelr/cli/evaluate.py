"""``labelr evaluate``."""

from pathlib import Path
from typing import Annotated, Any

from labelr import console
from labelr.cli import options as opt
from labelr.cli.scores import show_evaluation, warn_of_few_positives
from labelr.config import EvaluateOptions


@opt.takes_settings(EvaluateOptions, leave_out=["group"])
def evaluate(
    data: opt.Data,
    model: opt.Model = None,
    output: Annotated[
        Path | None,
        opt.option(
            "--output -o",
            "Write metrics.json, per_label.csv, predictions.csv, errors.csv and report/report.html here.",
            "Output",
            metavar="DIR",
        ),
    ] = None,
    suspects: opt.Suspects = None,
    force: opt.Force = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    **settings: Any,
) -> None:
    """Evaluate a model on labelled images.

    Precision, recall and F1 follow scikit-learn with `zero_division=0`: an image that rightly gets no label counts 0 in
    the samples average. Cells of unknown value are ignored. Intervals are 95 % bootstrap confidence intervals. The
    baseline "label prior" predicts each label with its frequency in the model's training data, "random guessing" with a
    random probability; both apply labels from 0.5.
    """
    options = EvaluateOptions.of(settings)
    from labelr.scoring.evaluate import evaluate as score

    with console.session(quiet=quiet, verbose=verbose) as track:
        evaluation = score(data, model, options, output=output, suspects=suspects, force=force, track=track)
        result = evaluation.to_json()
    if json:
        console.show_json(result)
    else:
        show_evaluation(result)
    warn_of_few_positives(result)
