"""Work beside the page: near-duplicates, predictions of a model, and training again on what people have answered."""

import dataclasses
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from labelr import files
from labelr.config import ImageOptions, MachineOptions, ReadOptions
from labelr.data.duplicates import group_images
from labelr.data.label_table import relative_name
from labelr.data.scan import scan_images
from labelr.errors import LabelrError, preview
from labelr.fields import option_of
from labelr.model import store
from labelr.progress import Description, Total
from labelr.review.queues import Queues
from labelr.review.save import Saver
from labelr.review.session import ConflictError, Session

OF_IMAGES = (*ImageOptions.names(), "images", "max_cells", "cache_limit")
"""Settings that also hold where another table of labels is read than the one that they were given for."""
COMMAND = "from labelr import __main__, signals; signals.stop_with_parent(); __main__.main()"
"""A command of labelr that ends when the process that started it does."""
TAIL = 20
"""Lines of a command that failed in which its error is looked for."""
DONE, SOME_FAILED = 0, 3
"""Exit codes of commands; `labelr tag` has the second one where images cannot be opened."""
T = TypeVar("T")

log = logging.getLogger(__name__)


class Background:
    """The work beside a page, one job of each kind at a time.

    Attributes:
        scanned: The share of images that were searched for near-duplicates; None before that started.
        running: Whether a model is trained or predicts.
        progress: The share of that which is done; None where it is unknown.
        line: What is being done.
        error: Why it failed; empty if it did not.
        done: Whether it has ended well.
    """

    def __init__(self, session: Session, queues: Queues, saver: Saver, model: str | None) -> None:
        self._stopped = False
        self.scanned: float | None = None
        self.running, self.done, self.line, self.error = False, False, "", ""
        self.progress: float | None = None
        self._session, self._queues, self._saver = session, queues, saver
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self.model: Path | None = None
        self._made = ""
        """The name of the model that is trained here; later trainings replace it."""
        self._labels: Sequence[str] = ()
        self.kind, self.reason = self._find_kind(model or session.target.model)

    def _find_kind(self, model: str) -> tuple[str | None, str]:
        """How the model can be trained again: its head or all of it; None if it cannot, with the reason."""
        if not model:
            return None, "name a model with `--model`"
        try:
            self.model = store.find(model)
            info = store.load_info(self.model)
        except LabelrError as error:
            if model != self._session.target.model:
                raise  # the user has named it
            return None, error.message
        if self._session.read_only:
            return None, "the page was opened to read only"
        self._labels = info.labels
        return "head" if info.architecture.backbone else "fit", ""

    def stop(self) -> None:
        """Ends the processes of the work."""
        self._stopped = True
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(0.3)
            except subprocess.TimeoutExpired:
                process.kill()

    def find_duplicates(self) -> None:
        """Starts to look for near-duplicates, unless that was started."""
        with self._lock:
            if self.scanned is None:
                self.scanned = 0.0
                threading.Thread(target=self._find_duplicates, daemon=True).start()

    def _find_duplicates(self) -> None:
        target = self._session.target

        def track(items: Iterable[T], description: Description, total: Total = None) -> Iterator[T]:  # noqa: ARG001
            for number, item in enumerate(items, start=1):
                yield item
                self.scanned = number / (len(target.names) + 1)

        paths = [target.root / name for name in target.names]
        scans = scan_images(paths, max_pixels=target.options.max_pixels, track=track)
        rows = [row for row, scan in enumerate(scans) if not scan.reason]
        groups = group_images([scans[row].digest for row in rows], [scans[row].fingerprint for row in rows])
        found: dict[int, list[int]] = {}
        for row, group in zip(rows, groups.tolist(), strict=True):
            found.setdefault(group, []).append(row)
        self._queues.duplicates = [group for group in found.values() if len(group) > 1]
        self._queues.forget()
        self.scanned = 1.0

    def predict(self) -> None:
        """Starts to predict all images with the model."""
        self._start(self._predict)

    def train(self) -> None:
        """Starts to train the model again on the label file as it is now, and to predict all images with it.

        Raises:
            ConflictError: If it cannot be trained, or something is running.
        """
        if reason := self.refusal():
            raise ConflictError(f"the model cannot be trained again: {reason}")
        self._start(self._train)

    def refusal(self) -> str:
        """Why the model cannot be trained again now; empty if it can.

        It would lose a label of which training knew no image with a yes, or none with a no.
        """
        if self.kind is None:
            return self.reason
        session = self._session
        with session.lock:
            number_of = session.label_of()
            lost = [each for each in self._labels if each not in number_of or not session.is_learnable(number_of[each])]
        return f"it needs a yes and a no for each of its labels, and lacks one for {preview(lost)}" if lost else ""

    def _start(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self.running:
                raise ConflictError("a model is being trained, or predicts", "wait until it is done")
            self.running, self.done, self.error, self.line, self.progress = True, False, "", "starting", None
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
            self.done = True
        except LabelrError as error:
            self.error = error.message
            log.warning("%s", error.message)
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self.running = False

    def _predict(self) -> None:
        """Has `labelr tag` predict all images: a process of its own, so that the page needs no PyTorch."""
        target, model = self._session.target, self.model
        if model is None:
            raise LabelrError(self.reason)
        info = store.load_info(model)
        label_of = target.numbers_by_name(model.name, info.labels)
        if not label_of:
            raise LabelrError(f"{model.name} has none of the labels", "name another model with `--model`")
        paths = [os.path.abspath(target.root / name) for name in target.names]
        base = files.common_folder(Path(path).parent for path in paths)
        image_of = {relative_name(Path(path), base): number for number, path in enumerate(paths)}
        probs = {label: np.full(len(paths), np.nan, np.float32) for label in label_of}
        with tempfile.NamedTemporaryFile(prefix="labelr-review-") as listed:
            listed.write(b"\0".join(map(os.fsencode, paths)))
            listed.flush()
            command = ["tag", "--files-from", listed.name, "--output", "-", "--format", "jsonl", "--model", str(model)]
            limit = ["--max-pixels", str(target.options.max_pixels)]
            for done, line in enumerate(self._lines([*command, *limit, "--quiet"]), start=1):
                fields = json.loads(line)
                for label, prob in (fields["probabilities"] or {}).items():
                    if label in probs:
                        probs[label][image_of[fields["path"]]] = prob
                self.progress = done / len(paths)
                self.line = f"{model.name} predicts: {done:,} of {len(paths):,} images"
        thresholds = dict(zip(info.labels, info.thresholds, strict=True))
        self._session.predict({label_of[label]: (own, thresholds[label]) for label, own in probs.items()})
        self._queues.forget()

    def _lines(self, arguments: list[str], *, with_stderr: bool = False) -> Iterator[str]:
        """The lines that a command of labelr prints on stdout, or also on stderr.

        Raises:
            LabelrError: If it fails, with the error that it has printed.
        """
        if self._stopped:
            return
        with tempfile.TemporaryFile() as errors:
            with subprocess.Popen(  # noqa: S603 - labelr itself
                [sys.executable, "-c", COMMAND, *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if with_stderr else errors,
                encoding="utf-8", errors="replace", env=_environment(arguments[0]),
            ) as self._process:  # fmt: skip
                last: deque[str] = deque(maxlen=TAIL)
                for line in self._process.stdout or ():
                    last.append(line.strip())
                    yield line.strip()
                self._process.wait()  # before its stdin is closed, which would end it
            errors.seek(0)
            last.extend(line.decode("utf-8", "replace").strip() for line in errors)
        if self._process.returncode not in (DONE, SOME_FAILED) and not self._stopped:
            said = next((line for line in last if line.startswith("Error: ")), "")
            raise LabelrError(said.removeprefix("Error: ") or f"`labelr {arguments[0]}` has failed")

    def _train(self) -> None:
        self._saver.save()
        target, model = self._session.target, self.model
        assert model is not None  # noqa: S101 - for mypy
        name = self._made or _free_name(model)
        command = ["fit", str(target.data or target.root), "--labels", str(target.table), "--init", str(model)]
        command += ["--name", name, "--skip-missing", "--no-report", *(["--force"] if self._made else [])]
        command += ["--train", "head"] if self.kind == "head" else []
        self._made = name
        command += self._options()
        for line in self._lines(command, with_stderr=True):
            self.line = line or self.line
            if epoch := re.match(r"epoch (\d+)/(\d+)", line):
                self.progress = int(epoch[1]) / int(epoch[2])
        self.model, self.progress = store.find(name), 0.0
        self._labels = store.load_info(self.model).labels
        self._predict()

    def _options(self) -> list[str]:
        """The options of how images and labels are read; of a table of answers, those of images, and the labels."""
        target = self._session.target
        is_source = target.data is not None and target.table == target.source
        names = ReadOptions.names() if is_source else OF_IMAGES
        is_part = not is_source and (target.options.only or target.options.exclude)
        given = [f"--only={label}" for label in target.labels if is_part]  # the table of answers has the others too
        for field in dataclasses.fields(target.options):
            value = getattr(target.options, field.name)
            if field.name not in names or field.name in ("labels", "skip_missing") or value == field.default:
                continue
            if field.name == "images" and target.data is None:
                continue  # it is the folder that is trained on
            if isinstance(value, bool):
                given.append(option_of(field.name).replace("--", "--" if value else "--no-", 1))
            else:
                values = value if isinstance(value, tuple) else [value]
                given += [f"{option_of(field.name)}={each}" for each in values]  # one may start with a hyphen
        return given


def _environment(command: str) -> dict[str, str]:
    """The environment of a command: of the variables that set its options, only those about the machine."""
    prefix, kept = f"LABELR_{command.upper()}_", [name.upper() for name in MachineOptions.names()]
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(prefix) or name.removeprefix(prefix) in kept
    }


def _free_name(model: Path) -> str:
    """A name for a model that is made of another one, which no model has."""
    base = re.sub(r"-reviewed(-\d+)?$", "", model.name) + "-reviewed"
    return next(name for name in store.numbered_names(base) if not os.path.lexists(store.models_folder() / name))
