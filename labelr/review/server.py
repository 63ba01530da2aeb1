"""Runs a review, and its web server: the page, its JSON and the images, for who has the token alone."""

import json
import secrets
import socket
import threading
from collections.abc import Callable
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

from labelr.config import ReadOptions
from labelr.errors import BusyError, LabelrError
from labelr.review.api import Api, BadRequestError, NotFoundError
from labelr.review.background import Background
from labelr.review.queues import Queues
from labelr.review.save import Saver
from labelr.review.session import ConflictError, Session
from labelr.review.targets import read_target

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
HOSTS = ("127.0.0.1", "localhost")
MAX_BODY = 2**24
"""Bytes of a request, at most."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data: blob:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
STATUS = {
    BadRequestError: HTTPStatus.BAD_REQUEST,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    BusyError: HTTPStatus.CONFLICT,
}


def review(
    path: Path,
    options: ReadOptions,
    *,
    data: Path | None = None,
    model: str | None = None,
    refit: bool = False,
    port: int = 0,
    blind: bool = False,
    read_only: bool = False,
    ready: Callable[[str, str], None],
) -> None:
    """Serves the page on which a person reviews labels, until a signal stops it.

    Args:
        path: The output of `labelr tag`, a labelled data set, or a table of suspected or uncertain images.
        options: How label files are read.
        data: The data set that a table is of; None for the folder of the table.
        model: The model whose predictions are shown, and which is trained again; None for the one that tagged.
        refit: Whether to train it again at the start.
        port: On which the server listens; 0 for a free one.
        blind: Whether proposals and given labels are hidden.
        read_only: Whether answers are refused.
        ready: Takes the address of the page once it can be opened, and one for the browser that opens it once.

    Raises:
        LabelrError: If the target cannot be understood, the model cannot be used, or the port is in use.
        Stopped: When a signal arrives.
    """
    target = read_target(path, options, data=data)
    saver = Saver(target, read_only=read_only)
    session = Session(target, read_only=read_only, blind=blind)
    queues = Queues(session)
    work = Background(session, queues, saver, model)
    if refit and (reason := work.refusal()):
        hint = "name one with `--model`" if work.kind is None else "start without `--refit`, and answer these first"
        raise LabelrError(f"the model cannot be trained again: {reason}", hint)
    server = Server(port)
    saver.changed = queues.forget
    saver.start(session)
    if refit:
        work.train()
    elif model is not None:
        work.predict()
    server.start(Api(session, queues, saver, work))
    try:
        ready(server.address, server.address_once)
        server.wait()
    finally:
        server.stop()
        work.stop()
        saver.stop()


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
            response = _error(LabelrError(refused, "open the address that `labelr review` printed"), 403)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refuse(self, request: Request) -> str:
        """Why a request is refused; empty if it is not."""
        given = request.query_params.get("token", ""), request.cookies.get(self._cookie, "")
        if request.url.path == "/" and _is_same(given[0], self.once):
            self.once = secrets.token_urlsafe()  # others on this machine may see what a browser was started with
        elif not any(_is_same(each, self._token) for each in given):  # a reload still has the one that was used
            return "the token is missing or wrong"
        host = request.headers.get("host", "")
        if _name_of(host) not in HOSTS:  # a name that leads here is another site's (DNS rebinding)
            return "this is not the host of the page"
        if request.method not in ("GET", "HEAD") and request.headers.get("origin") != f"http://{host}":
            return "the request is not from the page"
        return ""


def _is_same(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode(), secret.encode())


def _name_of(host: str) -> str | None:
    """The name in a Host header, without its port; None if there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # of a bracket that is not closed
        return None


def _json(value: Any, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}  # escaped as ASCII: names may hold bytes that are not UTF-8
    return Response(json.dumps(value).encode(), status, headers, "application/json")


def _error(error: LabelrError, status: int | None = None) -> Response:
    number = status or next((code for kind, code in STATUS.items() if isinstance(error, kind)), 409)
    return _json({"error": error.message, "hint": error.hint}, number)


def _endpoint(answer: Callable[[Any], Any], *, reads_body: bool = False) -> Callable[[Request], Any]:
    """The endpoint of a function of the request, or of the JSON object that it sends."""

    async def endpoint(request: Request) -> Response:
        try:
            result = await run_in_threadpool(answer, await _body_of(request) if reads_body else request)
        except LabelrError as error:
            return _error(error)
        return result if isinstance(result, Response) else _json(result)

    return endpoint


async def _body_of(request: Request) -> dict[str, Any]:
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
    return body


def make_app(api: Api, token: str, port: int) -> Guard:
    """The application that serves a review."""
    cookie = f"labelr-review-{port}"

    async def index(_: Request) -> Response:
        headers = {"Cache-Control": "no-store"}
        response = Response((STATIC / "index.html").read_bytes(), media_type="text/html", headers=headers)
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
        "/api/refit": api.training,
    }  # fmt: skip
    writing = {
        "/api/answers": api.answer, "/api/undo": api.undo, "/api/redo": api.redo, "/api/labels": api.add_label,
        "/api/refit": api.train,
    }  # fmt: skip
    routes = [Route("/", index), Route("/static/{name}", static)]
    routes += [Route(path, _endpoint(answer)) for path, answer in reading.items()]
    routes += [Route(path, _endpoint(answer, reads_body=True), methods=["POST"]) for path, answer in writing.items()]
    return Guard(Starlette(routes=routes), token, cookie)


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
            self._app, headers=list(HEADERS.items()), access_log=False, log_config=None, lifespan="off", http="h11",
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
