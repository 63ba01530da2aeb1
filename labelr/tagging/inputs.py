"""The images to tag, in one order, each with the name that it has in the results; found while tagging goes on."""

import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, Self

from labelr import files
from labelr.data.images import find_images
from labelr.errors import LabelrError
from labelr.fields import SettingError


class Found(NamedTuple):
    """An image file.

    Attributes:
        name: Its path relative to `Inputs.base`, with forward slashes.
        path: Where it is.
    """

    name: str
    path: Path


class Inputs(NamedTuple):
    """What is to be tagged.

    Attributes:
        paths: Absolute folders and files.
        base: The folder that names are relative to: the one folder given, or what all inputs have in common.
        recursive: Whether subfolders are descended into.
        ignore: Patterns of paths or names that are skipped.
    """

    paths: tuple[Path, ...]
    base: Path
    recursive: bool
    ignore: tuple[str, ...]

    @classmethod
    def of(
        cls, photos: Sequence[Path], *, listed: Sequence[Path], recursive: bool, ignore: tuple[str, ...]
    ) -> "Inputs":
        """The inputs that were named, which must exist, and those of a list, which are accounted for where they do not.

        Raises:
            LabelrError: If one that was named does not exist, or there is none, or they are on several drives.
        """
        if not photos and not listed:
            raise SettingError("photos: expected at least one folder or image file, got none")
        for path in photos:
            if not path.exists():
                raise LabelrError(f"{path} does not exist", "name a folder of images or image files")
        absolute = tuple(Path(os.path.abspath(path)) for path in (*photos, *listed))
        base = files.common_folder(path if path.is_dir() else path.parent for path in absolute)
        return cls(absolute, base, recursive, ignore)

    @property
    def are_empty(self) -> bool:
        """Whether there is no image at all."""
        return next(self.walk(), None) is None

    def walk(self) -> Iterator[Found]:
        """The image files, each once; those that are named themselves whatever they are.

        Raises:
            LabelrError: If a folder cannot be listed.
        """
        seen: set[str] = set()
        for path in self.paths:
            for image in find_images(path, recursive=self.recursive) if path.is_dir() else [path]:
                name = image.relative_to(self.base).as_posix()
                if len(self.paths) == 1:  # a folder alone cannot give one twice
                    yield Found(name, image)
                elif name not in seen:
                    seen.add(name)
                    yield Found(name, image)

    def ignores(self, name: str) -> bool:
        """Whether an image is to be skipped."""
        last = name.rpartition("/")[2]
        return any(fnmatchcase(name, pattern) or fnmatchcase(last, pattern) for pattern in self.ignore)


class Walk:
    """The images of a walk, which goes ahead in a thread of its own, so that soon somebody knows how many there are.

    Used in a `with` statement, at the end of which the walk ends too.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._found: deque[Found] = deque()
        self._arrived = threading.Condition()
        self._error: BaseException | None = None
        self._count = 0
        self._ended = False
        self._wanted = True
        threading.Thread(target=self._walk, args=(inputs,), name="walk", daemon=True).start()

    @property
    def total(self) -> int | None:
        """How many images there are; None while the walk goes on."""
        return self._count if self._ended else None

    def _walk(self, inputs: Inputs) -> None:
        try:
            for found in inputs.walk():
                if not self._wanted:
                    return
                with self._arrived:
                    self._found.append(found)
                    self._count += 1
                    self._arrived.notify()
        except BaseException as error:  # noqa: BLE001 - raised again where the images are asked for
            self._error = error
        finally:
            with self._arrived:
                self._ended = True
                self._arrived.notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wanted = False

    def __iter__(self) -> Iterator[Found]:
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._found or self._ended)
                if not self._found:
                    break
                found = self._found.popleft()
            yield found
        if self._error:
            raise self._error


def read_list(source: str) -> list[Path]:
    """The paths in a file, or of stdin where `source` is ``-``: one a line, or divided by NUL bytes.

    Raises:
        LabelrError: If it cannot be read.
    """
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise LabelrError(f"cannot read the list {source}: {error.strerror}", "name a file of paths") from error
    content = content.removeprefix(b"\xef\xbb\xbf")  # as editors of Windows begin a file
    parts = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [Path(os.fsdecode(part)) for part in parts if part.strip()]
