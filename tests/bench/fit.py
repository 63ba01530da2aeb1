"""How long training takes to a given quality, beside other tools on the same photographs. Run it alone on the machine.

    python tests/bench/fit.py TRAIN TEST --peer seed_peer.py --peer fastai_peer.py --peer-python OTHER/bin/python

Each peer trains for 15 epochs with every seed. Then labelr trains with all seeds for 3, 5, 8, 12, 15, 20 and 30 epochs
(--epochs), on TRAIN without a test part. Printed are seconds an epoch, test scores, peak memory, and for each peer the
shortest of these runs that reaches its mean mAP. What was measured is kept in a file (--results), a line a run, and not
run again. Last comes the share of the bare step: the same network and batch on random tensors of the full size.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PEER_EPOCHS = 15
Result = dict[str, Any]


def run(command: list[str]) -> tuple[str, float, int]:
    """What a command prints on stdout, its wall time in seconds, and its peak memory in MB."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        out = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return out, time.perf_counter() - start, usage.ru_maxrss // 1024


def run_peer(python: str, script: Path, data: list[str], epochs: int, seed: int) -> Result:
    """One run of a peer, its fixed seed replaced."""
    source = script.read_text().replace("seed(0)", f"seed({seed})")
    out, seconds, memory = run([python, "-c", source, *data, "--epochs", str(epochs)])
    said = json.loads(out)
    scores = {"map": said["mAP"], "hamming": said["hamming"], "exact": said["exact"]}
    return {**scores, "seconds": seconds, "seconds_per_epoch": said["train_s"] / epochs, "memory_mb": memory}


def run_labelr(data: list[str], epochs: int, seed: int, options: list[str], models: Path | None) -> Result:
    """One whole `labelr fit` from an empty cache, and the scores of its model on the test folder."""
    labelr = [sys.executable, "-m", "labelr"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LABELR_HOME"] = folder
        settings = ["--test-fraction", "0", "--epochs", str(epochs), "--seed", str(seed), *options]
        if models:
            settings += ["--output", str(models / str(epochs) / f"{Path(data[0]).parent.name}-{seed}")]
        model, seconds, memory = run([*labelr, "fit", data[0], "--quiet", *settings])
        history = Path(model.strip(), "history.csv").read_text().splitlines()
        names = history[0].split(",")
        rows = [dict(zip(names, map(float, row.split(",")), strict=True)) for row in history[1:]]
        full = max(row["image_size"] for row in rows)
        report = run([*labelr, "evaluate", data[1], "--model", model.strip(), "--split", "all", "--json", "--quiet"])[0]
    metrics = json.loads(report)["metrics"]
    return {
        "map": metrics["map_macro"], "hamming": metrics["hamming_loss"], "exact": metrics["exact_match"],
        "seconds": seconds, "seconds_per_epoch": statistics.mean(row["seconds"] for row in rows),
        "images_per_second": statistics.median(row["images_per_second"] for row in rows if row["image_size"] == full),
        "waited": sum(row["waited_seconds"] for row in rows) / sum(row["seconds"] for row in rows),
        "memory_mb": memory,
    }  # fmt: skip


def bare_images_per_second(num_labels: int, num_train: int) -> float:
    """Images a second through forward, backward and optimizers alone, as the default run on a CPU has them."""
    import torch

    from labelr.config import MachineOptions, TrainConfig
    from labelr.data.augment import TRAINING_SHARE
    from labelr.model.device import ThreadPool, pick_runtime
    from labelr.model.network import ResidualNetwork
    from labelr.training.gradients import masked_bce
    from labelr.training.optim import make_optimizers

    machine = pick_runtime(MachineOptions(device="cpu"))
    config = TrainConfig().resolved(machine.options, num_train=num_train, is_synthetic=False)
    batch, size = config.batch_size or 0, round((config.image_size or 0) * TRAINING_SHARE)
    network = machine.place(ResidualNetwork(num_labels, dropout=config.dropout))
    optimizers = make_optimizers(network, config, machine, ThreadPool(machine.compute_threads))
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (batch, num_labels)).float()

    def step() -> float:
        start = time.perf_counter()
        with machine.autocast():
            logits = network(images)
        network.zero_grad(set_to_none=True)
        loss: torch.Tensor = masked_bce(logits.float(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        return time.perf_counter() - start

    seconds = [step() for _ in range(45)][5:]
    return float(batch / statistics.mean(seconds))


class Results:
    """What was measured, a line a run in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[Result] = [json.loads(line) for line in lines]

    def get(self, tool: str, epochs: int, seeds: Iterable[int], measure: Callable[[int, int], Result]) -> list[Result]:
        """The results of a tool with some seeds, measured where they are not there yet."""
        for seed in seeds:
            if not self._find(tool, epochs, seed):
                row = {"tool": tool, "epochs": epochs, "seed": seed, **measure(epochs, seed)}
                self.rows.append(row)
                with self.path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        return [self._find(tool, epochs, seed)[0] for seed in seeds]

    def _find(self, tool: str, epochs: int, seed: int) -> list[Result]:
        key = (tool, epochs, seed)
        return [row for row in self.rows if (row["tool"], row["epochs"], row["seed"]) == key]


def mean(rows: list[Result], name: str) -> float:
    """The mean of one figure over seeds."""
    return float(statistics.mean(row[name] for row in rows))


def show(title: str, rows: list[Result]) -> None:
    """One line of the table."""
    spread = statistics.stdev(row["map"] for row in rows) if len(rows) > 1 else 0.0
    print(
        f"{title:<24} mAP {mean(rows, 'map'):.4f} +- {spread:.4f}  Hamming {mean(rows, 'hamming'):.4f}  "
        f"exact {mean(rows, 'exact'):.4f}  {mean(rows, 'seconds'):6.0f} s in all  "
        f"{mean(rows, 'seconds_per_epoch'):5.1f} s an epoch  {mean(rows, 'memory_mb'):.0f} MB",
        flush=True,
    )


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--peer", type=Path, action="append", default=[])
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, nargs="+", default=[3, 5, 8, 12, PEER_EPOCHS, 20, 30])
    parser.add_argument("--results", type=Path, default=Path("fit-results.jsonl"))
    parser.add_argument("--models", type=Path, help="keep labelr's here, those of 15 epochs in its folder 15")
    arguments, options = parser.parse_known_args()
    results, seeds, data = Results(arguments.results), range(arguments.seeds), [arguments.train, arguments.test]
    peers = {}
    for script in arguments.peer:

        def measure(epochs: int, seed: int, script: Path = script) -> Result:
            return run_peer(arguments.peer_python, script, data, epochs, seed)

        peers[script.stem] = results.get(script.stem, PEER_EPOCHS, seeds, measure)
        show(f"{script.stem}, {PEER_EPOCHS} epochs", peers[script.stem])
    ours = {}
    for epochs in arguments.epochs:
        ours[epochs] = results.get(
            "labelr", epochs, seeds, lambda epochs, seed: run_labelr(data, epochs, seed, options, arguments.models)
        )
        show(f"labelr, {epochs} epochs", ours[epochs])
    for name, rows in peers.items():
        reached = [epochs for epochs in arguments.epochs if mean(ours[epochs], "map") >= mean(rows, "map")]
        if reached:
            ratio = mean(rows, "seconds") / mean(ours[reached[0]], "seconds")
            print(f"{name}'s mAP is reached by labelr with {reached[0]} epochs, in 1/{ratio:.1f} of its time")
        if PEER_EPOCHS in ours:
            ratio = mean(rows, "seconds") / mean(ours[PEER_EPOCHS], "seconds")
            print(f"{name} takes {ratio:.1f} times as long as labelr for {PEER_EPOCHS} epochs")
    last = ours[arguments.epochs[-1]]
    header, *lines = Path(arguments.train, "labels.csv").read_text().splitlines()
    bare = bare_images_per_second(header.count(","), round(0.9 * len(lines)))
    share = mean(last, "images_per_second") / bare
    print(
        f"bare step {bare:.0f} images/s; labelr trains at {share:.0%} of it, {mean(last, 'waited'):.1%} of it waiting"
    )


if __name__ == "__main__":
    main()
