"""The web server of a review: the page, its JSON and the images of the data set, for who has the token alone."""

import json
import math
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from labelr.errors import BusyError, LabelrError
from labelr.review.background import Background
from labelr.review.queues import TITLES, Filter, Queues, cell
from labelr.review.save import Saver
from labelr.review.session import ANSWERS, Cell, ConflictError, Session
from labelr.review.thumbnails import Thumbnails, read_image

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
HOSTS = ("127.0.0.1", "localhost")
MAX_BODY = 2**24
MAX_ITEMS = 500
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data: blob:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class BadRequestError(LabelrError):
    """A request that the page does not make."""


class NotFoundError(LabelrError):
    """What a request names does not exist."""


STATUS = {
    BadRequestError: HTTPStatus.BAD_REQUEST,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    BusyError: HTTPStatus.CONFLICT,
}


class Guard:
    """Lets a request pass only if it has the token, is for this machine and, if it changes something, from its page."""

    def __init__(self, app: ASGIApp, token: str, cookie: str) -> None:
        self._app, self._token, self._cookie = app, token, cookie
        self.once = secrets.token_urlsafe()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        refused = self._refuse(request)
        if refused:
            await _error(LabelrError(refused, "open the address that `labelr review` printed"), 403)(
                scope, receive, send
            )
            return
        await self._app(scope, receive, send)

    def _refuse(self, request: Request) -> str:
        """Why a request is refused; empty if it is not."""
        given = request.query_params.get("token") or request.cookies.get(self._cookie) or ""
        if request.url.path == "/" and secrets.compare_digest(given.encode(), self.once.encode()):
            self.once = secrets.token_urlsafe()  # others on this machine may see what a browser was started with
        elif not secrets.compare_digest(given.encode(), self._token.encode()):
            return "the token is missing or wrong"
        host = request.headers.get("host", "")
        if urlsplit(f"//{host}").hostname not in HOSTS:  # a name that leads here is another site's (DNS rebinding)
            return "this is not the host of the page"
        if request.method not in ("GET", "HEAD") and request.headers.get("origin") != f"http://{host}":
            return "the request is not from the page"
        return ""


class Api:
    """What the page asks for, of one session."""

    def __init__(
        self, session: Session, queues: Queues, thumbnails: Thumbnails, saver: Saver, work: Background
    ) -> None:
        self.session, self.queues, self.thumbnails = session, queues, thumbnails
        self.saver, self.work = saver, work

    # --- reading -----------------------------------------------------------------------------------------------------

    def state(self, _: Request) -> Any:
        """All but the images."""
        session, target, work = self.session, self.session.target, self.work
        with session.lock:
            session.refresh()
            return {
                "title": target.path.resolve().name,
                "target": str(target.path),
                "writes": self.saver.writes,
                "read_only": session.read_only,
                "blind": self.queues.blind,
                "images": len(target.names),
                "labels": self._labels(),
                "folders": self.queues.folders,
                "queues": [{**self.queues.describe(queue), **self._scanned(queue)} for queue in TITLES],
                "refit": {"available": work.kind is not None, "kind": work.kind, "reason": work.reason}
                | {"running": work.running},
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
        session, target = self.session, self.session.target
        width, height = self.thumbnails.size_of(target.root / target.names[image])
        with session.lock:
            cells = []
            for label in range(len(target.labels)):
                at = int(session.when[label, image])
                when = datetime.fromtimestamp(at, UTC).isoformat() if at else None
                own = cell(session, label, image, blind=self.queues.blind)
                cells.append({"label": label, **own, "when": when if own["answer"] else None})
        return {"image": image, "name": target.names[image], "width": width, "height": height, "cells": cells}

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
        target = self.session.target
        path = target.root / target.names[self._image(request)]
        tag = self.thumbnails.tag_of(path, size)
        headers = {"ETag": tag, "Cache-Control": "private, max-age=60"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        content, kind = self.thumbnails.read(path, size)
        return Response(content, media_type=kind, headers=headers)

    def picture(self, request: Request) -> Response:
        """An image as a browser can show it."""
        target = self.session.target
        path = target.root / target.names[self._image(request)]
        content, kind = read_image(path, target.options.max_pixels)
        return Response(content, media_type=kind, headers={"Cache-Control": "private, max-age=60"})

    # --- changing ----------------------------------------------------------------------------------------------------

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

    # --- parts -------------------------------------------------------------------------------------------------------

    def _labels(self) -> list[dict[str, Any]]:
        target = self.session.target
        return [
            {"name": name, "threshold": None if math.isnan(limit) else limit, **self.session.counts(label)}
            for label, (name, limit) in enumerate(zip(target.labels, target.thresholds.tolist(), strict=True))
        ]

    def _scanned(self, queue: str) -> dict[str, float | None]:
        """How far the search for near-duplicates is, for their queue: None before it was started, 1 at its end."""
        return {"progress": self.work.scanned} if queue == "duplicates" else {}

    def _position(self) -> dict[str, int]:
        session = self.session
        return {"revision": session.revision, "undo": len(session.done), "redo": len(session.undone)}

    def _changed(self, cells: list[Cell]) -> dict[str, Any]:
        names = {code: name for name, code in ANSWERS.items()}
        self.saver.notify()
        with self.session.lock:
            changes = [{"image": one.image, "label": one.label, "answer": names[one.answer]} for one in cells]
            return {"changes": changes, "labels": self._labels(), **self._position()}

    def _list(self, request: Request) -> tuple[str, int | None, Any]:
        """The queue, the label and the images that a request is about."""
        query = request.query_params
        queue = query.get("queue", "all")
        if queue not in TITLES:
            raise NotFoundError(f"there is no queue {queue!r}")
        label = None
        if query.get("label") or queue == "sweep":
            label = self._number(request, "label", len(self.session.target.labels))
        return queue, label, self.queues.order(queue, label, Filter(query.get("folder", ""), query.get("text", "")))

    def _image(self, request: Request) -> int:
        return _in_range(request.path_params["number"], len(self.session.target.names), "image")

    def _number(self, request: Request, name: str, limit: int | None, default: int = 0) -> int:
        return _in_range(request.query_params.get(name) or default, limit, name)

    def _cell(self, row: Any) -> Cell:
        if not isinstance(row, dict) or row.get("answer") not in ANSWERS:
            raise BadRequestError("answers: expected objects with image, label and answer")
        target = self.session.target
        image = _in_range(row.get("image"), len(target.names), "image")
        return Cell(_in_range(row.get("label"), len(target.labels), "label"), image, ANSWERS[row["answer"]])


def _in_range(value: Any, limit: int | None, name: str) -> int:
    """A whole number from 0 to below a limit, of a text or a value of JSON."""
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise BadRequestError(f"{name}: expected a whole number, got {text[:40]!r}")
    if limit is not None and int(text) >= limit:
        raise NotFoundError(f"there is no {name} {text}")
    return int(text)


def _json(value: Any, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}  # escaped as ASCII: names may hold bytes that are not UTF-8
    return Response(json.dumps(value).encode(), status, headers, "application/json")


def _error(error: LabelrError, status: int | None = None) -> Response:
    number = status or next((code for kind, code in STATUS.items() if isinstance(error, kind)), 409)
    return _json({"error": error.message, "hint": error.hint}, number)


def _getting(read: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """The endpoint of a function of the request."""

    async def endpoint(request: Request) -> Response:
        try:
            result = await run_in_threadpool(read, request)
        except LabelrError as error:
            return _error(error)
        return result if isinstance(result, Response) else _json(result)

    return endpoint


def _posting(write: Callable[[Mapping[str, Any]], Any]) -> Callable[[Request], Any]:
    """The endpoint of a function of the JSON object that a request sends."""

    async def endpoint(request: Request) -> Response:
        try:
            content = bytearray()
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BODY:
                    raise BadRequestError(f"the request is larger than {MAX_BODY:,} bytes")
            try:
                body = json.loads(content or b"{}")
            except (ValueError, RecursionError) as error:
                raise BadRequestError("expected JSON") from error
            if not isinstance(body, dict):
                raise BadRequestError("expected an object")
            return _json(await run_in_threadpool(write, body))
        except LabelrError as error:
            return _error(error)

    return endpoint


def make_app(api: Api, token: str, port: int) -> Guard:
    """The application that serves a review."""
    cookie = f"labelr-review-{port}"

    async def index(_: Request) -> Response:
        response = Response((STATIC / "index.html").read_bytes(), media_type="text/html", headers=HEADERS)
        response.headers["Cache-Control"] = "no-store"
        response.set_cookie(cookie, token, httponly=True, samesite="strict", path="/")
        return response

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in {path.name for path in STATIC.iterdir()}:
            return _error(NotFoundError("there is no such file"))
        path = STATIC / name
        headers = {"Cache-Control": "no-cache"}
        return Response(path.read_bytes(), media_type=TYPES.get(path.suffix), headers=headers)

    reading = {
        "/api/state": api.state, "/api/items": api.items, "/api/next": api.next, "/api/changes": api.changes,
        "/api/images/{number}": api.image, "/thumbs/{number}": api.thumbnail, "/images/{number}": api.picture,
    }  # fmt: skip
    writing = {
        "/api/answers": api.answer, "/api/undo": api.undo, "/api/redo": api.redo, "/api/labels": api.add_label,
        "/api/refit": api.train,
    }  # fmt: skip
    routes = [Route("/api/refit", _getting(api.training))]
    routes += [Route("/", index), Route("/static/{name}", static)]
    routes += [Route(path, _getting(function)) for path, function in reading.items()]
    routes += [Route(path, _posting(function), methods=["POST"]) for path, function in writing.items()]
    return Guard(_with_headers(Starlette(routes=routes)), token, cookie)


def _with_headers(app: ASGIApp) -> ASGIApp:
    """The application whose responses all have `HEADERS`."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped


class Server:
    """A server that runs in a thread of its own until it is stopped."""

    def __init__(self, port: int) -> None:
        try:
            self._socket = socket.create_server((HOSTS[0], port), reuse_port=False)
        except OSError as error:
            raise LabelrError(
                f"cannot listen on port {port}: {error.strerror or error}", "choose another one with `--port`"
            ) from error
        self.port = int(self._socket.getsockname()[1])
        self.token = secrets.token_urlsafe()
        self.address = f"http://{HOSTS[0]}:{self.port}/?token={self.token}"

    @property
    def address_once(self) -> str:
        """An address that opens the page once."""
        return f"http://{HOSTS[0]}:{self.port}/?token={self._app.once}"

    def start(self, api: Api) -> None:
        """Starts to serve."""
        self._app = make_app(api, self.token, self.port)
        config = uvicorn.Config(
            self._app, access_log=False, log_config=None, lifespan="off", http="h11",
            ws="none", server_header=False, proxy_headers=False, loop="asyncio", timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._ended.set()

    def wait(self) -> None:
        """Returns when the server has ended."""
        while not self._ended.wait(1):
            pass

    def stop(self) -> None:
        """Ends the server, within a moment also where requests are in progress."""
        self._server.should_exit = True
        self._ended.wait(0.5)
