"""The images to tag, in one order."""

import codecs
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Self

from labelr import files, signals
from labelr.buckets.addresses import path_or_address
from labelr.buckets.mirror import local, local_files, stand_in
from labelr.config import TagOptions
from labelr.data.walk import PassedOver, Walker
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.tagging.output import file_names

log = logging.getLogger(__name__)

MANY_IMAGES = 10_000
"""From here on, tables are recommended instead of a file for each image."""
WAIT_SECONDS = 0.2
"""How long to wait for the next image before looking whether a signal asks the run to stop."""
MAX_LIST_BYTES = 2**28
"""The size of a list of files, at most: a device never ends."""


@dataclass(frozen=True)
class Inputs:
    """Folders and image files to tag.

    Attributes:
        paths: Absolute paths; none if a list of files is empty.
        base: The root of the images: the only folder given, or the common folder of all inputs.
        options: Say whether to search subfolders, and what to ignore.
        output: The output directory, whose files are not counted; None for stdout.
    """

    paths: tuple[Path, ...]
    base: Path
    options: TagOptions
    output: Path | None = None

    @classmethod
    def of(
        cls,
        photos: Sequence[Path],
        options: TagOptions,
        *,
        files_from: str | Path | None = None,
        output: Path | None = None,
    ) -> Self:
        """The inputs that a user names, and those in a list, where a file that does not exist is a failed image.

        Raises:
            LabelrError: If a path does not exist, neither a path nor a list is given, or they are on different drives.
        """
        if not photos and files_from is None:
            raise no_inputs()
        listed = read_list(files_from) if files_from is not None else []
        if not photos and not listed:
            log.warning("the list of files is empty: nothing is tagged or deleted")
            return cls((), Path.cwd(), options, output)
        given = list(map(local, photos))
        for path in given:
            if not path.exists():
                raise LabelrError(f"{path} does not exist", "name a folder of images or image files")
        absolute = tuple(Path(os.path.abspath(path)) for path in (*given, *local_files(listed)))
        base = files.common_folder(path if os.path.isdir(path) else path.parent for path in absolute)
        return cls(absolute, base, options, stand_in(output.absolute()) if output else None)

    @property
    def are_empty(self) -> bool:
        """Whether a search finds no image at all.

        Ignored images, and folders that cannot be listed, count as found, so that results of an earlier run are not
        taken for those of deleted images.
        """
        walker = self.walker()
        passed = walker.passed_over
        return next(self.find(walker), None) is None and not passed.ignored and not passed.unreadable

    def walker(self) -> Walker:
        """What `find` searches with."""
        options = self.options
        beside = partial(file_names, kinds=options.file_kinds) if options.in_place else None
        return Walker(
            self.base, recursive=options.recursive, ignore=options.ignore, output=self.output, names_beside=beside
        )

    def find(self, walker: Walker) -> Iterator[str]:
        """The paths of all images relative to `base`, with forward slashes, each once.

        A file that is given itself may have any suffix. The walker counts what is passed over.

        Raises:
            LabelrError: If the only folder that is given cannot be listed.
        """
        seen: set[str] = set()
        for path in self.paths:
            for image in walker.images(path) if os.path.isdir(path) else self._file(path, walker):
                name = image.relative_to(self.base).as_posix()
                if name not in seen:
                    if len(self.paths) > 1:  # one folder has no duplicates: saves memory
                        seen.add(name)
                    yield name
        if len(self.paths) == 1:
            walker.require(self.paths[0])

    def _file(self, path: Path, walker: Walker) -> list[Path]:
        """A file that is given itself; empty if it is ignored."""
        is_ignored = walker.ignores(path)
        walker.passed_over.ignored += is_ignored
        return [] if is_ignored else [path]


class Search:
    """Names of the images except ignored ones, found in a background thread, so that their number is known early.

    The end of its ``with`` statement ends the search.

    Attributes:
        num_images: Number of images found so far, without ignored ones.
        passed_over: What was passed over so far.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._base = inputs.base
        self._walker = inputs.walker()
        self.num_images = 0
        self.passed_over: PassedOver = self._walker.passed_over
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._ended = self._cancelled = False
        threading.Thread(target=self._run, args=(inputs,), name="search", daemon=True).start()

    @property
    def total(self) -> int | None:
        """Number of images to tag; None while the search is running."""
        return self.num_images if self._ended else None

    @property
    def unreadable(self) -> dict[str, str]:
        """The reason for each folder that could not be listed so far, by its path relative to the inputs' base."""
        return {path.relative_to(self._base).as_posix(): why for path, why in self.passed_over.unreadable.items()}

    def _run(self, inputs: Inputs) -> None:
        options = inputs.options
        has_file_per_image = inputs.output is not None and not options.in_place and options.file_kinds
        try:
            for name in inputs.find(self._walker):
                if self._cancelled:
                    return
                self.num_images += 1
                self._queue.put(name)
                if self.num_images == MANY_IMAGES and has_file_per_image:
                    log.info(
                        "%s images or more get a file each, slow to copy and to back up: for an archive, "
                        "`--format table` writes labels.csv and probabilities.csv alone",
                        f"{MANY_IMAGES:,}",
                    )
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that iterates
            self._error = error
        finally:
            self._ended = True
            self._queue.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cancelled = True

    def __iter__(self) -> Iterator[str]:
        """The names, as they are found; ends early once a signal asks the run to stop."""
        while not signals.stop_requested():
            try:
                name = self._queue.get(timeout=WAIT_SECONDS)
            except Empty:
                continue
            if name is None:
                break
            yield name
        if self._error:
            raise self._error


def no_inputs() -> SettingError:
    """The error where no images are named."""
    return SettingError("there are no images to tag", "name a folder, such as `labelr tag photos`")


def read_list(source: str | Path) -> list[Path]:
    """The paths in a file, or from stdin for ``-``: one per line, or separated by NUL bytes; also in UTF-16.

    Raises:
        LabelrError: If the file cannot be read.
    """
    try:
        path = None if str(source) == "-" else files.content_of(local(source))
        with nullcontext(sys.stdin.buffer) if path is None else path.open("rb") as file:
            content = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise LabelrError(f"cannot read the list {source}: {error.strerror}", "name a file of paths") from error
    if len(content) > MAX_LIST_BYTES:
        raise LabelrError(f"the list {source} is longer than {MAX_LIST_BYTES:,} bytes", "split it into several runs")
    content = _in_utf8(content)
    parts = re.findall(rb"[^\0]+", content) if b"\0" in content else _lines(content)
    return [path_or_address(os.fsdecode(part)) for part in parts if part.strip() or os.path.exists(part)]


def _lines(content: bytes) -> list[bytes]:
    """The lines without the quotes around them, unless they are part of a name."""
    lines = re.findall(rb"[^\r\n]+", content)
    return [line[1:-1] if re.fullmatch(b'".+"', line) and not os.path.exists(line) else line for line in lines]


def _in_utf8(content: bytes) -> bytes:
    """The bytes of a list without a byte order mark, and in UTF-8 if they are in UTF-16, as of PowerShell.

    The names that NUL bytes separate are taken for UTF-16 if each has one letter.
    """
    has_mark = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if has_mark or (len(content) > 2 and not any(content[1::2])):
        return content.decode("utf-16" if has_mark else "utf-16-le", errors="replace").encode()
    return content.removeprefix(codecs.BOM_UTF8)
