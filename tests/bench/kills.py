"""Kills training runs with SIGKILL at random moments, goes on with `--resume`, and compares with a calm run.

    python tests/bench/kills.py 30 --seed 0

Each run is killed at moments that are evenly spread over the time of a calm one, up to three times in a row. A kill is
survived when the run that goes on comes to the same weights, thresholds, scores, history and files.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_kills import calm_run, killed_run

from labelr.data.synthetic import draw_dataset


def main() -> None:
    """Kills so often, and prints what became of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    survived = runs = broken = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = draw_dataset(folder / "data", 300, 3)
        calm, seconds = calm_run(data, folder / "calm")
        print(f"a calm run takes {seconds:.1f} s", flush=True)
        while survived + broken < arguments.kills:
            runs += 1
            most = min(rng.randint(1, 3), arguments.kills - survived - broken)
            delays = [rng.uniform(0, seconds) for _ in range(most)]
            end, hits = killed_run(data, folder / f"run-{runs}", delays)
            same = end == calm
            survived, broken = survived + hits * same, broken + hits * (not same)
            said = "the same" if same else "ANOTHER RESULT"
            print(f"run {runs}, killed after {', '.join(f'{one:.2f} s' for one in delays[:hits])}: {said}", flush=True)
    print(f"{survived} of {survived + broken} kills survived, in {runs} runs")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
