"""Fixtures: synthetic data sets, a small trained model, and the command line in this process and in its own."""

import ctypes
import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from pages import CHROMIUM, Browser, browser_in

from labelr.cli.app import main
from labelr.config import ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.load import load_dataset, read_labels
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError
from labelr.fields import option_of
from labelr.model.predict import Model
from labelr.scoring.report.page import ReportData
from labelr.scoring.results import Evaluation
from labelr.training.fit import FitResult, fit

SHARED = Path(__file__).resolve().parents[2] / "shared"

TINY = {"image_size": 32, "width": 0.125, "epochs": 2, "batch_size": 8, "threads": 1, "workers": 1, "report": False}
"""Settings with which training takes a second."""


def tiny_options(**changes: object) -> list[str]:
    """The options of `TINY`, some with other values, which may not be given twice."""
    settings = {**TINY, **changes}
    del settings["report"]
    return [*(text for name, value in settings.items() for text in (option_of(name), str(value))), "--no-report"]


TINY_OPTIONS = tiny_options()


def cpu_limit(seconds: float) -> float:
    """The processor time that a test allows, three times as much where coverage traces every line."""
    return seconds if sys.gettrace() is None else 3 * seconds


def pytest_configure(config: pytest.Config) -> None:
    """Gives each of several test processes, and what it starts, one processor; workers get this environment."""
    if getattr(config.option, "numprocesses", None):
        os.environ |= {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}  # of torch and NumPy; and of `available_cpus`
        os.environ["OMP_WAIT_POLICY"] = "passive"  # threads that a test asks for take no processor while they wait


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Lets no garbage collection look at the 600,000 objects that the tests import: each would take 0.4 s."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """Escapes in a worker's report what UTF-8 cannot encode, such as names of files: xdist could not send it."""
    return _encodable((yield))


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(inner) for key, inner in value.items()}
    return type(value)(map(_encodable, value)) if isinstance(value, (list, tuple)) else value


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def _threads() -> None:
    """No test inherits the number of threads that another one has set."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory for each test, and no settings from outside."""
    for name in [name for name in os.environ if name.startswith("LABELR_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("LABELR_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 60 synthetic images with 3 labels; nobody changes it."""
    return make_synthetic_dataset(tmp_path_factory.mktemp("data") / "shapes", 60, 3)


@pytest.fixture(scope="session")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A small model, trained for a moment on `shapes`; nobody changes it."""
    return fit(shapes, TINY, output=tmp_path_factory.mktemp("models") / "trained").model


@pytest.fixture(scope="session")
def folded(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """A cross-validated model of `shapes`, of three folds and at most 4 epochs, with a report; nobody changes it.

    Its suspected label errors are in ``suspects.csv`` beside its directory.
    """
    folder, settings = tmp_path_factory.mktemp("folded"), {**TINY, "epochs": 4, "folds": 3, "report": True}
    return fit(shapes, settings, output=folder / "model", suspects=folder / "suspects.csv")


@pytest.fixture
def photos(shapes: Path, tmp_path: Path) -> Path:
    """Images to tag: four in nested folders, and a damaged one."""
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    for name, source in {"a.png": 0, "deep/b.png": 1, "deep/er/d.PNG": 2, "z.png": 3}.items():
        shutil.copy(shapes / "images" / f"{source:05d}.png", folder / name)
    (folder / "deep" / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Runs the command in this process, which spares the seconds that torch takes to start."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["labelr", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        streams = capfd.readouterr()
        return Result(int(end.value.code or 0), streams.out, streams.err)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def process() -> Cli:
    """Runs the command in a process of its own, as people do."""

    def run(*arguments: object, **options: object) -> Result:
        command = [sys.executable, "-m", "labelr", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload]
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def scenes() -> Path:
    """The folder of real photographs beside the repository."""
    folder = SHARED / "data" / "scenes"
    if not folder.is_dir():
        pytest.skip(f"the photographs are not at {folder}")
    return folder


def case(name: str) -> Path:
    """A folder of inputs that people really have, beside the repository; see its README."""
    folder = SHARED / "cases" / name
    if not folder.is_dir():
        pytest.skip(f"the case is not at {folder}")
    return folder


class _Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@pytest.fixture
def forbid() -> Iterator[Callable[[Path], None]]:
    """Makes a folder unreadable until the end of the test, for root too, who loses the right to read everything."""
    forbidden: list[Path] = []
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (_Capabilities * 2)()
    is_root = os.geteuid() == 0
    if is_root and (not hasattr(libc, "capget") or libc.capget(header, sets)):
        pytest.skip("root may read everything")
    before = sets[0].effective

    def run(folder: Path) -> None:
        folder.chmod(0)
        forbidden.append(folder)
        if is_root:
            sets[0].effective = before & ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of this thread
            assert libc.capset(header, sets) == 0

    yield run
    if is_root:
        sets[0].effective = before
        libc.capset(header, sets)
    for folder in forbidden:
        folder.chmod(0o755)


# --- label files -----------------------------------------------------------------------------------------------------


def put(folder: Path, name: str, content: str | bytes = b"") -> Path:
    """A file of this content, with the folders above it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make_data(folder: Path, text: str | bytes, images: Iterable[str] = ("a.jpg", "b.jpg")) -> Path:
    """A data folder with a ``labels.csv`` of this content, and an empty file for each image."""
    put(folder, "labels.csv", text)
    for image in images:
        put(folder, image)
    return folder


def read_table(data: Path, **options: object) -> Dataset:
    """What the label files of a folder say of the images that are there."""
    return read_labels([data], ReadOptions.of(options))


def error_of(data: Path, **options: object) -> LabelrError:
    """Why a folder cannot be loaded."""
    with pytest.raises(LabelrError) as caught:
        load_dataset([data], ReadOptions.of(options))
    return caught.value


def assert_table(table: Dataset, files: Iterable[str], labels: Iterable[str], targets: list[list[float]]) -> None:
    """Fails unless a table is just that."""
    assert table.files == tuple(files)
    assert table.labels == tuple(labels)
    assert table.targets.dtype == np.float32
    np.testing.assert_array_equal(table.targets, np.array(targets, dtype=np.float32).reshape(len(table.files), -1))


# --- evaluations and reports ------------------------------------------------------------------------------------------


def make_evaluation(data: Path, labels: Sequence[str], num_images: int = 40, *, seed: int = 0) -> Evaluation:
    """An evaluation of synthetic images with any labels: its probabilities are good guesses, some targets unknown."""
    rng = np.random.default_rng(seed)
    paths = sorted((data / "images").iterdir())
    shape = (num_images, len(labels))
    targets = (rng.random(shape) < np.linspace(0.5, 0.2, len(labels))).astype(np.float32)
    probs = np.clip(0.4 * targets + 0.6 * rng.random(shape), 0.001, 0.999).astype(np.float32)
    targets[rng.random(shape) < 0.05] = np.nan
    thresholds = np.full(len(labels), 0.55)
    chosen = [paths[row % len(paths)] for row in range(num_images)]
    return Evaluation(
        tuple(labels), probs, targets, thresholds, thresholds, np.full(len(labels), 0.3),
        tuple(path.name for path in chosen), model="/models/some", data="/data/labels.csv", paths=tuple(chosen),
        digests=tuple(f"{row:064x}" for row in range(num_images)),
    )  # fmt: skip


def make_report_data(model: Model, evaluation: Evaluation, **changes: Any) -> ReportData:
    """What a report on an evaluation is made from."""
    if "result" not in changes:
        changes["result"] = evaluation.to_json()  # which takes long with many labels
    return ReportData(
        model, evaluation, images="of the test split", checked=evaluation, checked_images="of the test split", **changes
    )


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """A browser, which must be installed."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    return browser_in(tmp_path / "browser")
