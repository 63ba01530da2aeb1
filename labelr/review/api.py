"""What the page of a review asks for: its state, lists of images, pictures, and what it changes; as JSON."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from labelr.data.images import UnreadableError, content_digest, decode, encode_jpeg, open_file, read_thumbnail
from labelr.data.pixel_cache import get_thumbnail, put_thumbnail
from labelr.errors import LabelrError
from labelr.review.background import Background
from labelr.review.queues import TITLES, Filter, Queues
from labelr.review.save import Saver
from labelr.review.session import ANSWERS, Cell, Session

MAX_ITEMS = 500
"""Items in a response, at most."""
SHOWN = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif"}
"""How files begin that browsers show as labelr reads them, and their types."""
FULL_SIZE = 2048


class BadRequestError(LabelrError):
    """A request that the page does not make."""


class NotFoundError(LabelrError):
    """What a request names does not exist."""


class Api:
    """What the page asks for, of one session."""

    def __init__(self, session: Session, queues: Queues, saver: Saver, work: Background) -> None:
        self.session, self.queues, self.saver, self.work = session, queues, saver, work
        self.target = session.target

    def state(self, _: Request) -> Any:
        """All but the images."""
        session = self.session
        with session.lock:
            session.refresh()
            return {
                "title": self.target.path.resolve().name,
                "target": str(self.target.path),
                "writes": self.saver.writes,
                "read_only": session.read_only,
                "blind": session.blind,
                "images": len(self.target.names),
                "labels": self._labels(),
                "folders": self.queues.folders,
                "queues": [{**self.queues.describe(queue), **self._scanned(queue)} for queue in TITLES],
                "refit": self._refit(),
                "warning": self.saver.warning or None,
                **self._position(),
            }

    def items(self, request: Request) -> Any:
        """A part of a queue."""
        queue, label, images = self._list(request)
        if queue == "duplicates":
            self.work.find_duplicates()
        offset, limit = self._number(request, "offset", None), min(self._number(request, "limit", None, 60), MAX_ITEMS)
        threshold_at = None if label is None or queue != "sweep" else self.queues.threshold_at(label, images)
        items = self.queues.items(queue, label, images[offset : offset + limit])
        return {"total": len(images), "threshold_at": threshold_at, "items": items, **self._scanned(queue)}

    def next(self, request: Request) -> Any:
        """The first image of a list that has no answer."""
        queue, label, images = self._list(request)
        start = self._number(request, "from", None)
        return {"index": self.queues.next_open(queue, label, images, start)}

    def image(self, request: Request) -> Any:
        """All labels of an image."""
        image = self._image(request)
        session = self.session
        width, height = size_of(self.target.root / self.target.names[image], self.target.options.max_pixels)
        with session.lock:
            cells = []
            for label in range(len(self.target.labels)):
                at = int(session.when[label, image])
                when = datetime.fromtimestamp(at, UTC).isoformat() if at else None
                own = self.queues.cell(label, image)
                cells.append({"label": label, **own, "when": when if own["answer"] else None})
        return {"image": image, "name": self.target.names[image], "width": width, "height": height, "cells": cells}

    def changes(self, request: Request) -> Any:
        """What changed since a revision, in this process and in others."""
        self.saver.check()
        with self.session.lock:
            self.session.refresh()
            cells = self.session.changes(self._number(request, "since", None))
            return {**self._changed(cells), "warning": self.saver.warning or None}

    def thumbnail(self, request: Request) -> Response:
        """A small picture of an image."""
        size = 160 if request.query_params.get("size") == "160" else 320
        path = self.target.root / self.target.names[self._image(request)]
        tag = etag(path, size)
        headers = {"ETag": tag, "Cache-Control": "private, max-age=60"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        content = cached_thumbnail(path, size, self.target.options.max_pixels)
        return Response(content, media_type="image/jpeg", headers=headers)

    def picture(self, request: Request) -> Response:
        """An image as a browser can show it."""
        path = self.target.root / self.target.names[self._image(request)]
        content, kind = read_image(path, self.target.options.max_pixels)
        return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=60"})

    def answer(self, body: Mapping[str, Any]) -> Any:
        """Keeps answers."""
        rows = body.get("answers")
        if not isinstance(rows, list):
            raise BadRequestError("answers: expected a list")
        return self._changed(self.session.answer([self._cell(row) for row in rows]))

    def undo(self, _: Mapping[str, Any]) -> Any:
        """Takes back the last step."""
        return self._changed(self.session.undo())

    def redo(self, _: Mapping[str, Any]) -> Any:
        """Does the last step again that was taken back."""
        return self._changed(self.session.undo(again=True))

    def add_label(self, body: Mapping[str, Any]) -> Any:
        """Adds a label."""
        name = body.get("name")
        if not isinstance(name, str):
            raise BadRequestError("name: expected a text")
        self.saver.check_label(name.strip())
        number = self.session.add_label(name)
        self.queues.forget()
        return {"label": number, "labels": self._labels()}

    def train(self, _: Mapping[str, Any]) -> Any:
        """Trains the model again."""
        self.work.train()
        return {"running": True}

    def training(self, _: Request) -> Any:
        """What the training does."""
        work = self.work
        return {
            "running": work.running, "progress": work.progress, "line": work.line, "error": work.error or None,
            "done": work.done, "revision": self.session.revision,
        }  # fmt: skip

    def _labels(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "threshold": None if math.isnan(limit) else limit, **self.session.counts(label)}
            for label, (name, limit) in enumerate(zip(self.target.labels, self.target.thresholds.tolist(), strict=True))
        ]

    def _refit(self) -> dict[str, Any]:
        """Whether the model can be trained again, and why not."""
        reason = self.work.refusal()
        return {"available": not reason, "kind": self.work.kind, "reason": reason, "running": self.work.running}

    def _scanned(self, queue: str) -> dict[str, float | None]:
        """How far the search for near-duplicates is, for their queue: None before it was started, 1 at its end."""
        return {"progress": self.work.scanned} if queue == "duplicates" else {}

    def _position(self) -> dict[str, int]:
        session = self.session
        return {"revision": session.revision, "undo": len(session.done), "redo": len(session.undone)}

    def _changed(self, cells: list[Cell]) -> dict[str, Any]:
        self.saver.notify()
        with self.session.lock:
            changes = [
                {"image": one.image, "label": one.label, **self.queues.cell(one.label, one.image)} for one in cells
            ]
            return {"changes": changes, "labels": self._labels(), "refit": self._refit(), **self._position()}

    def _list(self, request: Request) -> tuple[str, int | None, Any]:
        """The queue, the label and the images that a request is about."""
        query = request.query_params
        queue = query.get("queue", "all")
        if queue not in TITLES:
            raise NotFoundError(f"there is no queue {queue!r}")
        label = None
        if query.get("label") or queue == "sweep":
            label = self._number(request, "label", len(self.target.labels))
        return queue, label, self.queues.order(queue, label, Filter(query.get("folder", ""), query.get("text", "")))

    def _image(self, request: Request) -> int:
        return _in_range(request.path_params["number"], len(self.target.names), "image")

    def _number(self, request: Request, name: str, limit: int | None, default: int = 0) -> int:
        return _in_range(request.query_params.get(name) or default, limit, name)

    def _cell(self, row: Any) -> Cell:
        if not isinstance(row, dict) or row.get("answer") not in list(ANSWERS):  # it may have no hash
            raise BadRequestError("answers: expected objects with image, label and answer")
        image = _in_range(row.get("image"), len(self.target.names), "image")
        return Cell(_in_range(row.get("label"), len(self.target.labels), "label"), image, ANSWERS[row["answer"]])


def _in_range(value: Any, limit: int | None, name: str) -> int:
    """A whole number from 0 to below a limit, of a text or a value of JSON."""
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise BadRequestError(f"{name}: expected a whole number, got {text[:40]!r}")
    if limit is not None and int(text) >= limit:
        raise NotFoundError(f"there is no {name} {text}")
    return int(text)


def etag(path: Path, size: int) -> str:
    """What changes when the file does, as an ETag."""
    try:
        status = path.stat()
    except OSError:
        return '""'
    return f'"{size}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"'


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raises LabelrError with the name of an image that cannot be opened."""
    try:
        yield
    except (UnreadableError, OSError) as error:
        raise LabelrError(f"{path.name}: {error}") from error


def cached_thumbnail(path: Path, size: int, max_pixels: int) -> bytes:
    """A picture whose longer edge is `size`, as JPEG. Raises LabelrError if the image cannot be opened."""
    with _naming(path), open_file(path) as file:
        digest = content_digest(file)
    content = get_thumbnail(digest, size)
    if content is None:
        content = _as_jpeg(path, size, max_pixels)
        put_thumbnail(digest, size, content)
    return content


def size_of(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height of an upright image; 0 where it does not open."""
    try:
        with open_file(path) as file:
            decoded = decode(file, 32, max_pixels=max_pixels, value_range="own")
    except UnreadableError:
        return 0, 0
    return decoded.width, decoded.height


def read_image(path: Path, max_pixels: int) -> tuple[bytes, str]:
    """An image as a browser can show it, and its type: the file itself, or a picture of it.

    Raises:
        LabelrError: If it cannot be opened.
    """
    with _naming(path), open_file(path) as file:
        head = file.read(12)
        kind = next((kind for start, kind in SHOWN.items() if head.startswith(start)), "")
        if head[:4] == b"RIFF" and head[8:] == b"WEBP":
            kind = "image/webp"
        if kind:
            return head + file.read(), kind
    return _as_jpeg(path, FULL_SIZE, max_pixels), "image/jpeg"


def _as_jpeg(path: Path, size: int, max_pixels: int) -> bytes:
    with _naming(path):
        return encode_jpeg(read_thumbnail(path, size, max_pixels=max_pixels, value_range="own"))
