"""Helpers for tests of HTML reports: their elements, their tables, and a browser."""

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, NamedTuple

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=http://evil.test/a.png onerror=alert(1)>',
    "</title></style><script src='http://evil.test/a.js'></script>",
    "{{ 7 * 7 }} {% include 'x' %} & \\u003cb\\u003e",
)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text without scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.chunks: list[str] = []
        self.inside = ""
        self.feed(page.replace("<wbr>", ""))  # where a word may be broken

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.chunks.append(data)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - as `HTMLParser`
        self.inside = ""

    @property
    def text(self) -> str:
        """The text of the page, with single spaces."""
        return " ".join(" ".join(self.chunks).split())


def table_of(page: str, name: str) -> list[list[str]]:
    """The rows of the table with this id, their cells as text."""
    table = page.split(f'id="{name}"')[1].split("<tbody>")[1].split("</tbody>", maxsplit=1)[0]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[re.sub(r"<[^>]*>", "", cell) for cell in row] for row in cells]


class Shown(NamedTuple):
    """A page as the browser shows it.

    Attributes:
        page: The HTML after its script has run.
        console: Error messages.
        requests: The requested addresses, with that of the page itself.
    """

    page: str
    console: str
    requests: list[str]


Browser = Callable[..., Shown]


class Requests(BaseHTTPRequestHandler):
    """Answers requests to any host with the page, and records their addresses."""

    page = b""
    requested: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requested.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page)

    def do_CONNECT(self) -> None:
        self.requested.append(self.path)
        self.send_error(403)

    def log_message(self, *arguments: object) -> None:
        """Logs nothing."""


def browser_in(folder: Path) -> Browser:
    """Shows a page in headless Chromium, which sends all requests to this process."""

    def show(page: str, *options: str) -> Shown:
        Requests.page = page.encode()
        Requests.requested.clear()
        server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--no-first-run", "--enable-logging=stderr",
            f"--user-data-dir={folder}", f"--proxy-server=127.0.0.1:{server.server_port}",
            *options, "--dump-dom", "http://page.test/report.html",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
        return Shown(done.stdout, console, [path for path in Requests.requested if "test" in path])

    return show


def assert_harmless(page: Elements, names: Iterable[str]) -> None:
    """Fails unless the names are only text in a page, and it links to nothing outside."""
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert [tag for tag, _ in page.elements].count("style") == 1
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), tag
    for name in names:
        assert " ".join(name.split()) in page.text
