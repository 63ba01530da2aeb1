"""What stopping hopeless trials early saves, and what it costs: a whole grid against the same one with `--prune`.

    python tests/bench/tune.py ../shared/data/scenes/train --seeds 3 --image-size 64 --width 0.25 --epochs 20

Other options go to `labelr tune`. Each seed divides the images anew, and tries the points in another order. Time is
what the trials took, so that neither the start of processes nor the decoding of images counts. Run it alone on the
machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GRID = ("--lr", "1e-3,4e-3", "--batch-size", "16,32,64", "--dropout", "0.2,0.3,0.5")


def tune(home: Path, *arguments: object) -> dict[str, Any]:
    """What a search prints as JSON."""
    command = [sys.executable, "-m", "labelr", "tune", *map(str, arguments), *GRID, "--no-refit", "--json", "--quiet"]
    environment = {**os.environ, "LABELR_HOME": str(home)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Searches each seed twice, and prints a line for each and the means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--home", type=Path, help="where the studies are kept, to look at them later")
    arguments, options = parser.parse_known_args()
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
