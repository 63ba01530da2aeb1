"""What pruning saves and costs: a whole grid against the same one with `--prune`.

    python tests/bench/tune.py ../shared/data/scenes/train --seeds 3 --image-size 64 --width 0.25 --epochs 20

    python tests/bench/tune.py --replay studies/whole-0 studies/whole-1

Other options are passed to `labelr tune`. Each seed splits the images differently, and tries the points in another
order. Times are those of the trials, without the start of processes and the decoding of images. Run it alone on the
machine. `--replay` applies other pruners to the learning curves of whole grids, kept by `--home`, in their own order
and in 40 others: trials are reproducible to the last bit, so nothing is trained again.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, PercentilePruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState

from labelr.tuning.study import Study
from labelr.tuning.trials import PROGRESS

GRID = ("--lr", "1e-3,4e-3", "--batch-size", "16,32,64", "--dropout", "0.2,0.3,0.5")


def tune(home: Path, *arguments: object) -> dict[str, Any]:
    """The JSON output of a search."""
    command = [sys.executable, "-m", "labelr", "tune", *map(str, arguments), *GRID, "--no-refit", "--json", "--quiet"]
    environment = {**os.environ, "LABELR_HOME": str(home)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def pruners() -> dict[str, Callable[[], BasePruner]]:
    """Pruners by name."""
    found: dict[str, Callable[[], BasePruner]] = {}
    for first in (2, 3, 4, 5):
        for factor in (2, 3, 4):
            found[f"halving by {factor}, first after {first}"] = partial(SuccessiveHalvingPruner, first, factor)
    for warm_up in (2, 4, 6):
        found[f"median, after {warm_up}"] = partial(MedianPruner, 4, warm_up)
        found[f"best quarter, after {warm_up}"] = partial(PercentilePruner, 25.0, 3, warm_up)
    return found


def replayed(trials: Sequence[FrozenTrial], pruner: BasePruner) -> tuple[float, float]:
    """The loss of the best score with a pruner, and its share of the whole grid's time."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    seconds, best = 0.0, 0.0
    for trial in trials:
        curve, attempt = trial.intermediate_values, study.ask()
        for epoch in sorted(curve):
            attempt.report(curve[epoch], epoch)
            seconds += trial.user_attrs[PROGRESS]["seconds"] / len(curve)
            if epoch < max(curve) and attempt.should_prune():
                study.tell(attempt, state=TrialState.PRUNED)
                break
        else:
            study.tell(attempt, trial.value)
            best = max(best, trial.value or 0.0)
    whole = sum(trial.user_attrs[PROGRESS]["seconds"] for trial in trials)
    return max(trial.value or 0.0 for trial in trials) - best, seconds / whole


def replay(folders: Sequence[Path]) -> None:
    """Prints the loss and the share of time of each pruner, over whole grids."""
    grids = [Study(folder.name, folder, None).attempts(TrialState.COMPLETE) for folder in folders]
    for name, make in pruners().items():
        own = [replayed(grid, make()) for grid in grids]
        orders = [replayed(random.Random(seed).sample(grid, len(grid)), make()) for grid in grids for seed in range(40)]
        parts = []
        for title, runs in (("own order", own), ("40 orders", orders)):
            lost, shares = zip(*runs, strict=True)
            over = sum(one > 0.005 for one in lost)
            parts.append(
                f"{title}: {statistics.mean(lost):.4f} lost, more than 0.005 in {over} of {len(runs)}, "
                f"{statistics.mean(shares):.2f} of the time"
            )
        print(f"{name}: {'; '.join(parts)}", flush=True)


def main() -> None:
    """Searches each seed twice, and prints a line for each and the means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--home", type=Path, help="where the studies are kept, to look at them later")
    parser.add_argument("--replay", type=Path, nargs="+", help="directories of studies")
    arguments, options = parser.parse_known_args()
    if arguments.replay:
        replay(arguments.replay)
        return
    losses, shares = [], []
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.home or Path(temporary)
        for seed in range(arguments.seeds):
            given = [arguments.data, "--seed", seed, *options]
            whole = tune(home, *given, "--study", f"whole-{seed}")
            pruned = tune(home, *given, "--study", f"pruned-{seed}", "--prune")
            seconds = [sum(trial["seconds"] for trial in found["trials"]) for found in (whole, pruned)]
            epochs = [sum(trial["epochs"] for trial in found["trials"]) for found in (whole, pruned)]
            stopped = sum(trial["state"] == "pruned" for trial in pruned["trials"])
            losses.append(whole["score"] - pruned["score"])
            shares.append(seconds[1] / seconds[0])
            print(
                f"seed {seed}: best of the whole grid {whole['score']:.4f}, with `--prune` {pruned['score']:.4f}; "
                f"{stopped} of {len(pruned['trials'])} stopped early; {shares[-1]:.2f} of the time, "
                f"{epochs[1] / epochs[0]:.2f} of the epochs",
                flush=True,
            )
    lost = f"mean {statistics.mean(losses):+.4f}, most {max(losses):+.4f}"
    print(f"lost: {lost}; {statistics.mean(shares):.2f} of the time")


if __name__ == "__main__":
    main()
