"""How long large tables take to read: 100,000 rows and 50 labels as CSV, xlsx and Parquet. Run it alone.

    python tests/bench/tables.py [--rows 100000] [--labels 50] [--before CHECKOUT] [--repeats 5]

Each file is read in a process of its own, without the start of Python and its imports. `--before` names a checkout of
another version, which reads the CSV in turn with this one.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
READ = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from labelr.config import ReadOptions
from labelr.data.formats.layouts import read_source
from labelr.data.formats.source import Source
path = Path(sys.argv[2])
start = time.perf_counter()
table = read_source(Source(path, path.parent, ReadOptions()))
assert table.targets.shape == (int(sys.argv[3]), int(sys.argv[4])), table.targets.shape
print(time.perf_counter() - start)
"""


def write_tables(folder: Path, rows: int, labels: int) -> None:
    """Writes one table of 0 and 1 in each format."""
    import numpy as np
    import openpyxl
    import pandas as pd

    marks = (np.random.default_rng(0).random((rows, labels)) < 0.1).astype(int)
    frame = pd.DataFrame(marks, columns=[f"label {number}" for number in range(labels)])
    frame.insert(0, "filename", [f"image{row:06}.jpg" for row in range(rows)])
    frame.to_csv(folder / "table.csv", index=False)
    frame.to_parquet(folder / "table.parquet")
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("labels")
    sheet.append(list(frame.columns))
    for row in frame.itertuples(index=False):
        sheet.append(list(row))
    book.save(folder / "table.xlsx")


def read_seconds(checkout: Path, path: Path, rows: int, labels: int) -> float:
    """The time that a checkout of labelr takes to read a table."""
    command = [sys.executable, "-c", READ, str(checkout), str(path), str(rows), str(labels)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Reads every table several times, both versions in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--before", type=Path)
    arguments = parser.parse_args()
    size = arguments.rows, arguments.labels
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder, *size)
        runs = {"csv": HERE, **({"csv before": arguments.before} if arguments.before else {})}
        seconds: dict[str, list[float]] = {name: [] for name in (*runs, "xlsx", "parquet")}
        for _ in range(arguments.repeats):
            for version, checkout in runs.items():
                seconds[version].append(read_seconds(checkout, folder / "table.csv", *size))
        for suffix in ("xlsx", "parquet"):
            seconds[suffix] = [read_seconds(HERE, folder / f"table.{suffix}", *size) for _ in range(2)]
    for name, values in seconds.items():
        print(f"{name}: median {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
