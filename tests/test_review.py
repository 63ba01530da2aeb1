"""`labelr review` without its page: what is read, what is written, who may ask, and what survives."""

import http.client
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import TINY, Cli, put
from PIL import Image

from labelr.config import ReadOptions
from labelr.data import pixel_cache
from labelr.data.load import read_labels
from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.model.store import load_info, newest_model
from labelr.review.api import Api, cached_thumbnail, read_image
from labelr.review.background import Background
from labelr.review.queues import Filter, Queues
from labelr.review.save import Saver
from labelr.review.server import Server
from labelr.review.session import ANSWERS, Cell, ConflictError, Session
from labelr.review.targets import Target, read_target
from labelr.tagging.tag import tag
from labelr.training.fit import fit

NAMES = ("a.jpg", "b.jpg", "c d.jpg", "e.jpg")
WIDE = b"filename,dog,cat\na.jpg,1,0\nb.jpg,0,\nc d.jpg,,1\ne.jpg,0,0\n"
Answers = Sequence[tuple[str, str, str | None]]


def make_photos(folder: Path, names: Sequence[str] = NAMES, **tables: bytes) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (48, 32), (number * 40, 0, 0)).save(folder / name)
    for name, content in tables.items():
        (folder / f"{name}.csv").write_bytes(content)
    return folder


class Review:
    """A review of a folder in this process, without a server."""

    def __init__(self, folder: Path, *, read_only: bool = False, blind: bool = False, **options: Any) -> None:
        self.target: Target = read_target(folder, ReadOptions(**options))
        self.saver = Saver(self.target, read_only=read_only)
        self.session = Session(self.target, read_only=read_only, blind=blind)
        self.saver.start(self.session)

    def answer(self, answers: Answers) -> None:
        target = self.target
        self.session.answer([
            Cell(target.labels.index(label), target.names.index(name), ANSWERS[answer])
            for name, label, answer in answers
        ])  # fmt: skip

    def answers(self) -> dict[tuple[str, str], str]:
        names = {code: name for name, code in ANSWERS.items()}
        found = ((cell, names[cell.answer]) for cell in self.session.changes(0))
        return {(self.target.names[cell.image], self.target.labels[cell.label]): name for cell, name in found if name}

    def close(self) -> bytes:
        self.saver.notify()
        self.saver.stop()
        assert not self.saver.warning
        return self.target.table.read_bytes()


def review(folder: Path, answers: Answers, *, undo: int = 0, **options: Any) -> bytes:
    """The label file after some answers and undone steps."""
    opened = Review(folder, **options)
    if answers:
        opened.answer(answers)
    for _ in range(undo):
        opened.session.undo()
    return opened.close()


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    content: bytes


class Page:
    """A page in a process of its own, and requests as the browser makes them."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "labelr", "review", *map(str, arguments), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        base, _, self.token = self.address.partition("/?token=")
        self.port = int(base.rpartition(":")[2])

    def request(self, path: str, body: Any = None, **headers: str) -> Response:
        return request(self.port, self.token, path, body, **headers)

    def get(self, path: str) -> Any:
        return json.loads(self.request(path).content)

    def post(self, path: str, body: Any = None) -> Any:
        return json.loads(self.request(path, body or {}).content)

    def answer(self, image: int, label: int, answer: str | None) -> Any:
        return self.post("/api/answers", {"answers": [{"image": image, "label": label, "answer": answer}]})

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        assert not out
        assert "Traceback" not in err
        return self.process.returncode


def request(port: int, token: str, path: str, body: Any = None, **headers: str) -> Response:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    own = {"Cookie": f"labelr-review-{port}={token}"} if token else {}
    own |= {} if body is None else {"Origin": f"http://127.0.0.1:{port}"}
    connection.request("GET" if body is None else "POST", path, content, own | headers)
    with closing(connection):
        response = connection.getresponse()
        return Response(response.status, response.headers, response.read())


@contextmanager
def opened(*arguments: str | Path) -> Iterator[Page]:
    page = Page(*arguments)
    try:
        yield page
    finally:
        page.process.kill()
        page.process.communicate()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", labels=WIDE)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in this process."""
    opened = Review(make_photos(tmp_path_factory.mktemp("served"), labels=WIDE))
    queues = Queues(opened.session)
    server = Server(0)
    work = Background(opened.session, queues, opened.saver, None)
    server.start(Api(opened.session, queues, opened.saver, work))
    yield server
    server.stop()


# --- who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/state", "/images/0", "/thumbs/0", "/nothing"])
@pytest.mark.parametrize("token", ["", "wrong", "é"])
def test_no_path_answers_without_the_token(served: Server, path: str, token: str) -> None:
    response = request(served.port, "", f"{path}?token={token}" if token.isascii() else path)
    assert response.status == 403
    assert served.token not in response.content.decode()


def test_page_sets_a_cookie_that_scripts_cannot_read(served: Server) -> None:
    response = request(served.port, "", f"/?token={served.token}")
    assert response.status == 200
    cookie = response.headers["Set-Cookie"]
    assert all(part in cookie for part in (f"labelr-review-{served.port}=", "HttpOnly", "SameSite=strict"))


def test_address_for_the_browser_opens_the_page_once(served: Server) -> None:
    path = "/" + served.address_once.rpartition("/")[2]
    assert [request(served.port, "", path).status for _ in range(2)] == [200, 403]
    assert request(served.port, served.token, path).status == 200  # a reload, with the cookie


def test_wrong_cookie_of_an_earlier_page_does_not_shut_out_its_address(served: Server) -> None:
    assert request(served.port, "old", f"/?token={served.token}").status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "", "localhost@evil.example", "[::2]", "[::1"]
)
def test_other_hosts_are_refused(served: Server, host: str) -> None:
    assert request(served.port, served.token, "/api/state", Host=host).status == 403


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1:8080"])
def test_forwarded_port_of_this_machine_is_allowed(served: Server, host: str) -> None:
    assert request(served.port, served.token, "/api/undo", {}, Host=host, Origin=f"http://{host}").status == 409


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_changes_from_other_pages_are_refused(served: Server, origin: str) -> None:
    assert request(served.port, served.token, "/api/labels", {"name": "x"}, Origin=origin).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/images/../labels.csv",
        "/images/%2e%2e%2flabels.csv", "/images/4", "/thumbs/99999999999999999999", "/images/-1", "/images/a.jpg",
        "/api/images/1e3", "/api/items?queue=nothing", "/api/items?queue=sweep&label=2",
    ],
)  # fmt: skip
def test_nothing_but_images_of_the_data_set_is_served(served: Server, path: str) -> None:
    assert request(served.port, served.token, path).status in (400, 404)


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"[" * 100_000, {}, {"answers": [1]}, {"answers": [{"image": 0, "label": 0, "answer": "maybe"}]},
        {"answers": [{"image": True, "label": 0, "answer": "yes"}]}, {"answers": [{"image": 0, "answer": "yes"}]},
        {"answers": [{"image": 99, "label": 0, "answer": "yes"}]}, {"answers": [{"answer": []}]}, b" " * (2**24 + 1),
    ],
)  # fmt: skip
def test_damaged_answers_are_refused(served: Server, body: Any) -> None:
    response = request(served.port, served.token, "/api/answers", body)
    assert response.status in (400, 404)
    assert json.loads(response.content)["error"]


def test_every_response_has_the_headers_that_confine_the_page(served: Server) -> None:
    for path in ("/", "/api/state", "/images/0", "/thumbs/0"):
        headers = request(served.port, served.token, path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"


# --- images -----------------------------------------------------------------------------------------------------------


def test_thumbnail_is_a_small_picture_with_a_tag(served: Server) -> None:
    response = request(served.port, served.token, "/thumbs/1?size=160")
    assert response.headers["Content-Type"] == "image/jpeg"
    assert response.content[:3] == b"\xff\xd8\xff"
    tag = response.headers["ETag"]
    assert request(served.port, served.token, "/thumbs/1?size=160", **{"If-None-Match": tag}).status == 304


def test_thumbnails_are_cached_and_cleared_like_pixels(photos: Path, cli: Cli) -> None:
    first, second = (cached_thumbnail(photos / "a.jpg", 160, 10**9) for _ in range(2))
    assert first == second
    assert [(row["kind"], row["images"]) for row in pixel_cache.describe()] == [("thumbnails", 1)]
    assert "1 thumbnail" in cli("cache", "clear").err
    assert pixel_cache.describe() == []


def test_image_that_browsers_do_not_show_is_converted(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif", 10**6)[1] == "image/jpeg"


def test_broken_image_has_an_error_and_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"GIF?")
    with pytest.raises(LabelrError, match=r"a\.jpg"):
        cached_thumbnail(tmp_path / "a.jpg", 160, 10**9)


# --- the label file ---------------------------------------------------------------------------------------------------

PATCHED = {
    "a wide table": (WIDE, [("a.jpg", "dog", "no"), ("b.jpg", "cat", "yes"), ("c d.jpg", "cat", "unknown")],
                     b"filename,dog,cat\na.jpg,0,0\nb.jpg,0,1\nc d.jpg,,\ne.jpg,0,0\n"),
    "semicolons, CRLF, an old encoding, words, notes": (
        "filename;Größe;cat;t\r\na.jpg;ja;nein;é\r\n\r\nb.jpg;nein;;x\r\nc d.jpg;;ja;\"a;b\"\r\n".encode("cp1252"),
        [("a.jpg", "Größe", "no"), ("b.jpg", "cat", "yes")],
        "filename;Größe;cat;t\r\na.jpg;nein;nein;é\r\n\r\nb.jpg;nein;ja;x\r\nc d.jpg;;ja;\"a;b\"\r\n".encode("cp1252")),
    "a byte order mark, and no last line break": (
        b"\xef\xbb\xbf" + WIDE[:-1], [("e.jpg", "cat", "yes")], b"\xef\xbb\xbf" + WIDE[:-2] + b"1"),
    "UTF-16 with tabs": (
        WIDE.replace(b",", b"\t").decode().encode("utf-16"), [("e.jpg", "dog", "yes")],
        WIDE.replace(b",", b"\t").replace(b"e.jpg\t0", b"e.jpg\t1").decode().encode("utf-16")),
    "only yes is marked": (
        b"filename,dog,cat\na.jpg,x,\nb.jpg,,\nc d.jpg,,x\n", [("a.jpg", "dog", "no"), ("b.jpg", "cat", "yes"),
                                                               ("c d.jpg", "dog", "unknown")],
        b"filename,dog,cat\na.jpg,,\nb.jpg,,x\nc d.jpg,?,x\n"),
    "no header for the file names": (
        b"dog,cat\na.jpg,1,-1\nb.jpg,-1,-1\nc d.jpg,1,1\n", [("a.jpg", "dog", "no"), ("b.jpg", "cat", "yes")],
        b"dog,cat\na.jpg,-1,-1\nb.jpg,-1,1\nc d.jpg,1,1\n"),
    "quotes and line breaks": (
        b'"filename","dog","cat, big","t"\n"a.jpg","1","0","2\nrows"\n"b.jpg","0","1","say ""hi"""\nc d.jpg,1,1,z\n',
        [("a.jpg", "cat, big", "yes"), ("c d.jpg", "dog", "no")],
        b'"filename","dog","cat, big","t"\n"a.jpg","1","1","2\nrows"\n"b.jpg","0","1","say ""hi"""\nc d.jpg,0,1,z\n'),
    "the last no": (b"filename,dog\na.jpg,0\nb.jpg,\nc d.jpg,1\n", [("a.jpg", "dog", "yes")],
                    b"filename,dog\na.jpg,1\nb.jpg,?\nc d.jpg,1\n"),
    "tags": (b"filename,tags,by\na.jpg,dog|cat,me\nb.jpg,,me\nc d.jpg,cat,you\n",
             [("a.jpg", "dog", "no"), ("b.jpg", "cat", "yes")],
             b"filename,tags,by\na.jpg,cat,me\nb.jpg,cat,me\nc d.jpg,cat,you\n"),
    "tags in quotes": (b'filename,tags\na.jpg,"dog, cat"\nb.jpg,"cat, cow"\nc d.jpg,cat\n', [("c d.jpg", "dog", "yes")],
                       b'filename,tags\na.jpg,"dog, cat"\nb.jpg,"cat, cow"\nc d.jpg,"cat, dog"\n'),
    "groups of columns": (b",Animals,\nfilename,dog,cat\na.jpg,1,0\nb.jpg,0,1\n", [("b.jpg", "dog", "yes")],
                          b",Animals,\nfilename,dog,cat\na.jpg,1,0\nb.jpg,1,1\n"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "answers", "after"), PATCHED.values(), ids=PATCHED)
def test_answers_change_only_their_cells(before: bytes, answers: Answers, after: bytes, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", labels=before)
    assert review(folder, answers) == after
    assert (folder / "labels.csv.bak").read_bytes() == before


@pytest.mark.parametrize(("before", "answers", "after"), PATCHED.values(), ids=PATCHED)
def test_labels_are_read_as_answered(before: bytes, answers: Answers, after: bytes, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", labels=before)
    old = read_labels([folder], ReadOptions()).to_frame()
    review(folder, answers)
    new = read_labels([folder], ReadOptions()).to_frame()
    expected = old.copy()
    for name, label, answer in answers:
        expected.loc[name, label] = {"yes": 1.0, "no": 0.0}.get(str(answer), float("nan"))
    kept = [column for column in expected.columns if column in new.columns]
    assert new[kept].equals(expected.loc[new.index, kept])
    assert not (expected.drop(columns=kept) == 1).any(axis=None)


@pytest.mark.parametrize("name", ["a wide table", "only yes is marked", "quotes and line breaks", "UTF-16 with tabs"])
def test_undo_after_a_restart_restores_every_byte(name: str, tmp_path: Path) -> None:
    before, answers, _ = PATCHED[name]
    folder = make_photos(tmp_path / "photos", labels=before)
    review(folder, answers)
    assert review(folder, [], undo=1) == before


def test_new_label_is_a_column(photos: Path) -> None:
    opened = Review(photos)
    opened.session.add_label("owl")
    opened.answer([("b.jpg", "owl", "yes")])
    assert opened.close() == b"filename,dog,cat,owl\na.jpg,1,0,?\nb.jpg,0,,1\nc d.jpg,,1,?\ne.jpg,0,0,?\n"
    assert Review(photos).target.labels == ["dog", "cat", "owl"]


UNFIT = {
    "an encoding without it": ("filename,größe,cat\na.jpg,1,0\nb.jpg,0,1\n".encode("cp1252"), "日本", "größe"),
    "the separator of tags": (b"filename,tags\na.jpg,dog|cat\nb.jpg,cat\n", "a|b", "dog"),
    "another separator": (b"filename,tags\na.jpg,dog|cat\nb.jpg,cat\n", "a;b", "dog"),
    "another column": (b"filename,cat,note\na.jpg,1,x y\nb.jpg,0,hello z\n", "note", "cat"),
    "a column of another layout": (b"filename,dog,cat\na.jpg,1,0\nb.jpg,0,1\n", "label", "dog"),
}


@pytest.mark.parametrize(("content", "name", "other"), UNFIT.values(), ids=UNFIT)
def test_label_that_the_file_cannot_hold_is_refused(content: bytes, name: str, other: str, tmp_path: Path) -> None:
    opened = Review(make_photos(tmp_path / "photos", ["a.jpg", "b.jpg"], labels=content))
    with pytest.raises(LabelrError) as caught:
        make_api(opened).add_label({"name": f" {name} "})
    assert caught.value.hint
    opened.session.add_label(name)  # as a file may be converted later
    opened.answer([("a.jpg", other, "no")])
    assert opened.close() != content


def test_label_that_the_table_of_answers_cannot_hold_is_refused(tmp_path: Path) -> None:
    opened = Review(make_photos(tmp_path / "photos", ["dog/a.jpg", "cat/b.jpg"]))
    with pytest.raises(LabelrError, match=r"reviewed\.csv could no longer be read with a label called"):
        make_api(opened).add_label({"name": "label"})
    assert make_api(opened).add_label({"name": "owl"})["label"] == 2


def test_label_with_which_the_file_could_not_be_read_is_not_written(photos: Path) -> None:
    opened = Review(photos)
    opened.session.add_label("label")  # as of another program
    opened.answer([("a.jpg", "label", "yes")])
    opened.saver.stop()
    assert "could no longer be read with a label called 'label'" in opened.saver.warning
    assert (photos / "labels.csv").read_bytes() == WIDE


def test_new_label_in_a_table_of_1_and_minus_1(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", NAMES[:2], labels=b"filename,dog,cat\na.jpg,1,-1\nb.jpg,-1,1\n")
    opened = Review(folder)
    opened.session.add_label("owl")
    opened.answer([("a.jpg", "dog", "no")])
    opened.saver.save()
    assert (folder / "labels.csv").read_bytes() == b"filename,dog,cat\na.jpg,-1,-1\nb.jpg,-1,1\n"
    opened.answer([("b.jpg", "owl", "yes")])
    assert opened.close() == b"filename,dog,cat,owl\na.jpg,0,0,?\nb.jpg,0,1,1\n"


@pytest.mark.parametrize(("header", "written"), [(b"filename", b"'=1+1"), (b"path", b"=1+1")])
def test_new_label_like_a_formula_is_read_as_it_was_named(header: bytes, written: bytes, tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", NAMES[:2], labels=header + b",dog\na.jpg,1\nb.jpg,0\n")
    opened = Review(folder)
    opened.session.add_label("=1+1")
    opened.answer([("a.jpg", "=1+1", "yes")])
    assert opened.close() == header + b",dog," + written + b"\na.jpg,1,1\nb.jpg,0,?\n"
    assert review(folder, [("b.jpg", "=1+1", "no")]).endswith(b"b.jpg,0,0\n")


def test_rows_and_columns_sorted_by_another_program_are_matched_by_name(photos: Path) -> None:
    opened = Review(photos)
    opened.answer([("a.jpg", "dog", "no")])
    opened.saver.save()
    (photos / "labels.csv").write_bytes(b"filename,cat,dog\ne.jpg,1,0\nc d.jpg,1,\nb.jpg,,0\na.jpg,0,0\n")
    opened.saver.check()
    assert opened.target.given[:, opened.target.names.index("e.jpg")].tolist() == [0, 1]
    assert opened.answers() == {("a.jpg", "dog"): "no"}
    assert "your answers are kept" in opened.saver.warning


def test_copy_of_the_original_never_takes_the_name_of_another_file(photos: Path) -> None:
    (photos / "labels.csv.bak").write_text("mine")
    opened = Review(photos)
    assert "labels.csv.1.bak is the file as it was before" in opened.saver.writes
    opened.answer([("a.jpg", "dog", "no")])
    opened.saver.save()
    opened.answer([("b.jpg", "dog", "yes")])
    opened.close()
    again = Review(photos)
    assert "labels.csv.1.bak is the file as it was before" in again.saver.writes
    again.answer([("e.jpg", "dog", "yes")])
    again.close()
    assert (photos / "labels.csv.bak").read_text() == "mine"
    assert (photos / "labels.csv.1.bak").read_bytes() == WIDE
    assert not (photos / "labels.csv.2.bak").exists()


def test_file_mode_is_kept(photos: Path) -> None:
    (photos / "labels.csv").chmod(0o640)
    review(photos, [("a.jpg", "dog", "no")])
    assert (photos / "labels.csv").stat().st_mode & 0o777 == 0o640


def test_linked_label_file_stays_a_link(photos: Path, tmp_path: Path) -> None:
    (photos / "labels.csv").rename(tmp_path / "elsewhere.csv")
    (photos / "labels.csv").symlink_to(tmp_path / "elsewhere.csv")
    review(photos, [("a.jpg", "dog", "no")])
    assert (photos / "labels.csv").is_symlink()
    assert (tmp_path / "elsewhere.csv").read_bytes() == WIDE.replace(b"a.jpg,1", b"a.jpg,0")


def test_other_layouts_are_written_as_a_table_beside_them(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", ["dog/a.jpg", "dog/b.jpg", "cat/c.jpg"])
    assert (
        review(folder, [("dog/a.jpg", "dog", "no")])
        == b"filename,cat,dog\ncat/c.jpg,1,0\ndog/a.jpg,0,0\ndog/b.jpg,0,1\n"
    )
    again = Review(folder)  # reads the folders, not its own table
    assert again.answers() == {("dog/a.jpg", "dog"): "no"}
    again.session.undo()
    assert b"dog/a.jpg,0,1" in again.close()


def test_lines_in_quotes_are_written_as_a_table_beside_them(tmp_path: Path) -> None:
    before = b'"filename,dog,cat"\n"a.jpg,1,0"\n"b.jpg,0,1"\n'
    folder = make_photos(tmp_path / "photos", NAMES[:2], labels=before)
    opened = Review(folder)
    assert "labels.csv has lines in quotes" in opened.saver.writes
    opened.answer([("a.jpg", "dog", "no")])
    assert opened.close() == b"filename,dog,cat\na.jpg,0,0\nb.jpg,0,1\n"
    assert (folder / "labels.csv").read_bytes() == before


def test_table_of_answers_that_another_program_wrote_is_kept(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", ["dog/a.jpg", "dog/b.jpg", "cat/c.jpg"])
    review(folder, [("dog/a.jpg", "dog", "no")])
    (folder / "reviewed.csv").write_text("mine")
    opened = Review(folder)
    opened.answer([("dog/b.jpg", "dog", "no")])
    opened.saver.stop()
    assert (folder / "reviewed.1.csv").read_text() == "mine"
    assert "reviewed.1.csv" in opened.saver.warning


def test_edit_of_another_program_is_kept(photos: Path) -> None:
    opened = Review(photos)
    opened.answer([("a.jpg", "dog", "no")])
    (photos / "labels.csv").write_bytes(WIDE.replace(b"e.jpg,0,0", b"e.jpg,1,0"))
    opened.saver.stop()
    assert (photos / "labels.csv").read_bytes() == b"filename,dog,cat\na.jpg,0,0\nb.jpg,0,\nc d.jpg,,1\ne.jpg,1,0\n"
    assert "changed by another program" in opened.saver.warning


@pytest.mark.parametrize("is_open", [True, False])
def test_old_copy_saved_over_the_file_loses_no_answer(photos: Path, is_open: bool) -> None:
    opened = Review(photos)
    opened.answer([("a.jpg", "dog", "no"), ("b.jpg", "dog", "yes")])
    opened.saver.save()
    answered = (photos / "labels.csv").read_bytes()
    if not is_open:
        opened.close()
    (photos / "labels.csv").write_bytes(WIDE.replace(b"e.jpg,0,0", b"e.jpg,1,0"))
    opened = opened if is_open else Review(photos)
    opened.saver.check()
    opened.saver.save()
    opened.saver.stop()
    assert "2 answers that it no longer holds: kept" in opened.saver.warning
    assert opened.answers() == {("a.jpg", "dog"): "no", ("b.jpg", "dog"): "yes"}
    assert (photos / "labels.csv").read_bytes() == answered.replace(b"e.jpg,0,0", b"e.jpg,1,0")
    assert Review(photos).close() == answered.replace(b"e.jpg,0,0", b"e.jpg,1,0")


def test_cell_that_was_edited_after_it_was_answered_counts_as_given(photos: Path) -> None:
    review(photos, [("a.jpg", "dog", "no"), ("b.jpg", "dog", "yes")])
    edited = (photos / "labels.csv").read_bytes().replace(b"a.jpg,0", b"a.jpg,")
    (photos / "labels.csv").write_bytes(edited)
    again = Review(photos)
    assert again.answers() == {("b.jpg", "dog"): "yes"}
    again.saver.stop()
    assert "1 answer whose cells it edited: no longer counted" in again.saver.warning
    assert (photos / "labels.csv").read_bytes() == edited


def killed(folder: Path, answers: Answers, *, undo: int = 0) -> None:
    """A review that ends before it writes the label file."""
    target = read_target(folder, ReadOptions())
    Saver(target)
    session = Session(target)
    cells = [Cell(target.labels.index(label), target.names.index(name), ANSWERS[answer])
             for name, label, answer in answers]  # fmt: skip
    if cells:
        session.answer(cells)
    for _ in range(undo):
        session.undo()


def test_answers_of_labels_left_out_meanwhile_are_written_later(photos: Path) -> None:
    killed(photos, [("a.jpg", "dog", "no"), ("b.jpg", "cat", "yes")])
    assert review(photos, [("e.jpg", "cat", "yes")], exclude=("dog",)) == WIDE.replace(
        b"b.jpg,0,", b"b.jpg,0,1"
    ).replace(b"e.jpg,0,0", b"e.jpg,0,1")
    assert review(photos, []).startswith(b"filename,dog,cat\na.jpg,0,0\nb.jpg,0,1\n")
    assert Review(photos).answers()["a.jpg", "dog"] == "no"


def test_undo_of_a_label_left_out_meanwhile_is_written_later(photos: Path) -> None:
    review(photos, [("a.jpg", "dog", "no")])
    killed(photos, [], undo=1)
    review(photos, [("e.jpg", "cat", "yes")], only=("cat",))
    review(photos, [("c d.jpg", "cat", "no")], only=("cat",))
    assert review(photos, []).startswith(b"filename,dog,cat\na.jpg,1,0\n")


def test_answers_of_an_image_missing_for_a_moment_are_written_later(photos: Path) -> None:
    killed(photos, [("a.jpg", "dog", "no"), ("b.jpg", "cat", "yes")])
    (photos / "a.jpg").rename(photos.parent / "a.jpg")
    review(photos, [("e.jpg", "cat", "yes")], skip_missing=True)
    (photos.parent / "a.jpg").rename(photos / "a.jpg")
    assert review(photos, []) == b"filename,dog,cat\na.jpg,0,0\nb.jpg,0,1\nc d.jpg,,1\ne.jpg,0,1\n"


def test_label_file_that_vanished_loses_no_answer(photos: Path) -> None:
    opened = Review(photos)
    (photos / "labels.csv").unlink()
    opened.answer([("a.jpg", "dog", "no")])
    opened.saver.stop()
    assert "Not written yet" in opened.saver.warning
    (photos / "labels.csv").write_bytes(WIDE)
    assert review(photos, []) == WIDE.replace(b"a.jpg,1", b"a.jpg,0")


# --- answers ----------------------------------------------------------------------------------------------------------


def test_answers_are_undone_and_redone_step_by_step(photos: Path) -> None:
    session = Review(photos).session
    session.answer([Cell(0, 0, 1), Cell(1, 0, 0)])
    session.answer([Cell(0, 0, 2)])
    session.undo()
    assert session.answers[:, 0].tolist() == [1, 0]
    session.undo()
    assert session.answers[:, 0].tolist() == [-1, -1]
    session.undo(again=True)
    session.undo(again=True)
    assert session.answers[:, 0].tolist() == [2, 0]
    with pytest.raises(ConflictError):
        session.undo(again=True)


def test_answer_that_changes_nothing_is_no_step(photos: Path) -> None:
    session = Review(photos).session
    session.answer([Cell(0, 0, 1)])
    assert session.answer([Cell(0, 0, 1)]) == []
    assert len(session.done) == 1


def test_two_sessions_see_each_other_and_lose_nothing(photos: Path) -> None:
    first, second = Review(photos), Review(photos)
    first.answer([("a.jpg", "dog", "no")])
    second.answer([("b.jpg", "cat", "yes"), ("a.jpg", "dog", "unknown")])
    first.session.refresh()
    assert first.answers() == second.answers() == {("a.jpg", "dog"): "unknown", ("b.jpg", "cat"): "yes"}
    first.session.undo()
    second.session.refresh()
    assert second.answers() == {("a.jpg", "dog"): "no"}
    assert first.close() == second.close() == WIDE.replace(b"a.jpg,1", b"a.jpg,0")


def test_torn_line_of_a_killed_process_is_dropped(photos: Path) -> None:
    review(photos, [("a.jpg", "dog", "no")])
    with (photos / ".labelr-review" / "labels.csv.jsonl").open("ab") as journal:
        journal.write(b'{"answers": [["b.jpg", "d')
    assert review(photos, [("e.jpg", "dog", "yes")]) == WIDE.replace(b"a.jpg,1", b"a.jpg,0").replace(
        b"e.jpg,0", b"e.jpg,1"
    )
    assert Review(photos).answers() == {("a.jpg", "dog"): "no", ("e.jpg", "dog"): "yes"}


def test_full_disk_refuses_an_answer_and_harms_no_other(photos: Path) -> None:
    session = Review(photos).session
    session.answer([Cell(0, 0, 0)])
    size = session.target.journal.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))
    try:
        with pytest.raises(LabelrError, match="cannot write"):
            session.answer([Cell(1, 1, 1)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert session.target.journal.stat().st_size == size
    session.answer([Cell(1, 2, 1)])
    assert Review(photos).answers() == {("a.jpg", "dog"): "no", ("c d.jpg", "cat"): "yes"}


@pytest.mark.parametrize("line", [b"[]\n", b"nonsense\n", b'{"answers": 1}\n', b'{"answers": [["a.jpg"]]}\n'])
def test_damaged_journal_is_an_error_that_names_it(photos: Path, line: bytes) -> None:
    (photos / ".labelr-review").mkdir()
    (photos / ".labelr-review" / "labels.csv.jsonl").write_bytes(line)
    with pytest.raises(LabelrError, match=r"labels\.csv\.jsonl is damaged"):
        Review(photos)


@pytest.mark.parametrize("is_deleted", [True, False])
def test_journal_that_vanished_is_written_again(photos: Path, is_deleted: bool) -> None:
    opened, target = Review(photos), read_target(photos, ReadOptions())
    Saver(target)
    other = Session(target)
    opened.answer([("a.jpg", "dog", "no")])
    opened.saver.save()
    other.refresh()
    if is_deleted:
        shutil.rmtree(photos / ".labelr-review")
    else:
        os.truncate(opened.session.journal.path, 10)
    opened.answer([("b.jpg", "dog", "yes")])
    opened.saver.save()
    assert [cell.image for cell in other.answer([Cell(0, 3, 1)])] == [3]
    assert other.revision == 3
    opened.close()
    assert b"\0" not in opened.session.journal.path.read_bytes()
    again = Review(photos)
    assert len(again.answers()) == 3
    assert [again.session.undo() and None for _ in range(3)] == [None] * 3
    assert again.close() == WIDE


def test_journal_that_was_replaced_is_left_alone(photos: Path) -> None:
    opened = Review(photos)
    opened.answer([("a.jpg", "dog", "no")])
    journal = opened.session.journal.path
    other = journal.with_name("other")
    other.write_bytes(journal.read_bytes().replace(b"a.jpg", b"b.jpg") * 2)
    other.replace(journal)
    content = journal.read_bytes()
    with pytest.raises(LabelrError, match="was replaced by another program"):
        opened.answer([("b.jpg", "dog", "yes")])
    opened.saver.stop()
    assert journal.read_bytes() == content


def test_journal_behind_a_link_is_not_written(photos: Path, tmp_path: Path) -> None:
    (photos / ".labelr-review").mkdir()
    (tmp_path / "mine").write_text("")
    (photos / ".labelr-review" / "labels.csv.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(LabelrError, match="link"):
        Review(photos).session.answer([Cell(0, 0, 1)])
    assert not (tmp_path / "mine").read_text()


def test_read_only_review_changes_nothing(photos: Path) -> None:
    before = sorted(photos.rglob("*"))
    opened = Review(photos, read_only=True)
    with pytest.raises(ConflictError, match="read only"):
        opened.session.answer([Cell(0, 0, 1)])
    opened.saver.stop()
    assert sorted(photos.rglob("*")) == before


@pytest.mark.parametrize("name", ["", " ", "dog", "a\nb", "x" * 201])
def test_label_needs_a_new_name(photos: Path, name: str) -> None:
    with pytest.raises(LabelrError):
        Review(photos).session.add_label(name)


# --- queues -----------------------------------------------------------------------------------------------------------


def make_queues(photos: Path, *, blind: bool = False) -> Queues:
    opened = Review(photos, blind=blind)
    probs = np.array([[0.1, 0.9, 0.4, 0.6], [0.2, 0.3, 0.95, 0.52]], np.float32)
    opened.session.predict({0: (probs[0], 0.5), 1: (probs[1], 0.5)})
    return Queues(opened.session)


def names_in(queues: Queues, queue: str, label: int | None = None, chosen: Filter = Filter()) -> list[str]:  # noqa: B008
    return [queues.session.target.names[image] for image in queues.order(queue, label, chosen).tolist()]


def test_sweep_is_sorted_by_probability(photos: Path) -> None:
    queues = make_queues(photos)
    assert names_in(queues, "sweep", 0) == ["b.jpg", "e.jpg", "c d.jpg", "a.jpg"]
    assert queues.threshold_at(0, queues.order("sweep", 0, Filter())) == 2


def test_probability_at_its_threshold_is_told_in_full(photos: Path) -> None:
    queues = make_queues(photos)
    prob = float(np.float32(0.233346))
    queues.session.predict({1: (np.full(4, prob, np.float32), prob)})
    item = next(item for item in queues.items("sweep", 1, np.arange(4)) if item["name"] == "b.jpg")
    assert item["value"]
    assert item["prob"] >= float(queues.session.target.thresholds[1])


def test_sweep_without_probabilities_is_sorted_by_what_is_given(photos: Path) -> None:
    assert names_in(Queues(Review(photos).session), "sweep", 0) == ["a.jpg", "c d.jpg", "b.jpg", "e.jpg"]


def test_uncertain_images_are_nearest_to_a_threshold(photos: Path) -> None:
    assert names_in(make_queues(photos), "uncertain") == ["e.jpg", "c d.jpg", "b.jpg", "a.jpg"]


def test_uncertain_labels_are_those_nearest_to_their_thresholds(photos: Path) -> None:
    queues = make_queues(photos)
    item = queues.items("uncertain", None, np.array([2]))[0]
    assert [cell[0] for cell in item["cells"]] == [0, 1]  # 0.4 and 0.95
    assert [cell[0] for cell in queues.items("uncertain", 1, np.array([2]))[0]["cells"]] == [1]


def test_suspects_contradict_their_probability(photos: Path) -> None:
    queues = make_queues(photos)
    assert names_in(queues, "suspects") == ["a.jpg", "b.jpg", "e.jpg"]
    first = queues.items("suspects", None, queues.order("suspects", None, Filter()))[0]
    assert first["cells"] == [[0, pytest.approx(0.1), 1, None, 0]]
    assert first["reason"] == "dog: given yes, probability 0.10"


def test_unreviewed_images_have_no_answer(photos: Path) -> None:
    queues = make_queues(photos)
    queues.session.answer([Cell(1, 0, 1)])
    assert names_in(queues, "unreviewed") == ["b.jpg", "c d.jpg", "e.jpg"]
    assert queues.next_open("sweep", 1, queues.order("sweep", 1, Filter()), 3) is None


def test_filters_select_by_folder_text_and_label(tmp_path: Path) -> None:
    table = b"filename,dog\nx/a.jpg,1\nx/y/B.jpg,0\nz/c.jpg,1\n"
    queues = Queues(Review(make_photos(tmp_path, ["x/a.jpg", "x/y/B.jpg", "z/c.jpg"], labels=table)).session)
    assert queues.folders == ["x", "x/y", "z"]
    assert names_in(queues, "all", None, Filter("x")) == ["x/a.jpg", "x/y/B.jpg"]
    assert names_in(queues, "all", None, Filter("", "b.J")) == ["x/y/B.jpg"]
    assert names_in(queues, "all", 0) == ["x/a.jpg", "z/c.jpg"]


def test_blind_review_hides_what_is_given_and_predicted(photos: Path) -> None:
    queues = make_queues(photos, blind=True)
    assert names_in(queues, "sweep", 0) == list(NAMES)
    items = queues.items("sweep", 0, queues.order("sweep", 0, Filter()))
    assert {(item["prob"], item["given"], item["predicted"], item["value"]) for item in items} == {(None,) * 4}


def make_api(opened: Review) -> Api:
    queues = Queues(opened.session)
    return Api(opened.session, queues, opened.saver, Background(opened.session, queues, opened.saver, None))


def test_blind_review_filters_and_counts_by_answers(photos: Path) -> None:
    opened = Review(photos, blind=True)
    queues, api = Queues(opened.session), make_api(opened)
    assert names_in(queues, "all", 1) == names_in(queues, "unreviewed", 1) == []
    assert [api.state(None)["labels"][1][key] for key in ("yes", "no", "unknown")] == [0, 0, 4]  # type: ignore[arg-type]
    opened.answer([("b.jpg", "cat", "yes")])
    assert names_in(queues, "all", 1) == ["b.jpg"]
    assert api.state(None)["labels"][1]["yes"] == 1  # type: ignore[arg-type]


def test_blind_review_shows_what_is_given_and_predicted_once_there_is_an_answer(photos: Path) -> None:
    opened = Review(photos, blind=True)
    opened.session.predict({0: (np.array([0.1, 0.9, 0.4, 0.6], np.float32), 0.5)})
    api, answer = make_api(opened), {"image": 0, "label": 0, "answer": "no"}
    queues = api.queues
    suspect = queues.order("suspects", None, Filter())[:1]
    assert queues.items("suspects", None, suspect)[0]["reason"] == ""
    shown = {"prob": pytest.approx(0.1), "given": 1, "predicted": 0}
    assert api.answer({"answers": [answer]})["changes"] == [answer | shown]
    assert queues.cell(0, 0) == {"answer": "no", **shown}
    assert queues.items("suspects", None, suspect)[0]["reason"] == "dog: given yes, probability 0.10"
    hidden = {"prob": None, "given": None, "predicted": None}
    assert api.undo({})["changes"] == [answer | hidden | {"answer": None}]


# --- the output of `labelr tag` ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tagged(trained: Model, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of `labelr tag`; nobody changes it."""
    folder = tmp_path_factory.mktemp("tagged") / "out"
    tag(shapes / "images", trained, {"threshold": 0.3}, output=folder)
    return folder


@pytest.fixture
def output(tagged: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tagged, tmp_path / "out")


def test_only_answers_about_an_output_become_labels(output: Path, shapes: Path, trained: Model) -> None:
    tagged = (output / "labels.csv").read_bytes()
    names, labels = [f"{number:05d}.png" for number in range(3)], trained.labels
    answers: Answers = [(names[0], label, "yes") for label in labels]
    review(output, [*answers, (names[1], labels[0], "yes"), (names[2], labels[1], "unknown")])
    options = ReadOptions(labels=(str(output / "reviewed.csv"),))
    learned = read_labels([shapes / "images"], options)
    assert learned.files == tuple(names[:2])
    assert learned.num_unknown == len(labels) - 1
    assert not learned.findings.unconfirmed
    assert (output / "labels.csv").read_bytes() == tagged


def test_tag_keeps_answers_about_its_output(shapes: Path, trained: Model, tmp_path: Path) -> None:
    output = tmp_path / "out"
    tag(shapes / "images", trained, {"threshold": 0.3}, output=output)
    answered = review(output, [("00000.png", trained.labels[0], "no")])
    tag(shapes / "images", trained, {"threshold": 0.3}, output=output)
    tag(shapes / "images", trained, {"threshold": 0.6}, output=output, force=True)
    assert (output / "reviewed.csv").read_bytes() == answered
    assert Review(output).answers() == {("00000.png", trained.labels[0]): "no"}


def test_corrections_in_the_table_of_an_output_are_given(output: Path, trained: Model) -> None:
    target = Review(output).target
    assert (target.given == -1).all()
    assert target.thresholds.tolist() == [0.3] * len(trained.labels)
    header, first, *rest = (output / "labels.csv").read_text().splitlines()
    name, mark, *others = first.split(",")
    changed = str(1 - int(mark))
    (output / "labels.csv").write_text("\n".join([header, ",".join([name, changed, *others]), *rest]) + "\n")
    given = Review(output).target.given
    assert given[0, 0] == int(changed)
    assert (given == -1).sum() == given.size - 1


@pytest.mark.parametrize("setting", ["top_k", "min_labels"])
def test_predicted_labels_of_an_output_are_those_that_were_written(
    setting: str, shapes: Path, trained: Model, tmp_path: Path
) -> None:
    threshold = 0.0 if setting == "top_k" else 1.0
    tag(shapes / "images", trained, {setting: 1, "threshold": threshold}, output=tmp_path / "out")
    opened = Review(tmp_path / "out")
    written = [line.split(",")[1:] for line in (tmp_path / "out" / "labels.csv").read_text().splitlines()[1:]]
    predicted = [opened.session.values(label) for label in range(3)]
    assert np.stack(predicted, axis=1).astype(str).tolist() == written
    assert sum(row.count("1") for row in written) == len(written)
    assert sum(Queues(opened.session).cell(label, 0)["predicted"] for label in range(3)) == 1
    opened.session.predict({0: (np.full(len(opened.target.names), 0.5, np.float32), 0.5)})
    assert (opened.session.values(0) == 1).all()


def test_labels_of_an_output_keep_their_probabilities_under_other_names(
    shapes: Path, trained: Model, tmp_path: Path, home: Path
) -> None:
    shutil.copytree(trained.path, home / "models" / trained.name)
    names = tmp_path / "names.csv"
    names.write_text("label,written\ndisc,triangle\ntriangle,disc\n")
    only = ["disc", "triangle"]
    plain = tag(shapes / "images", trained, only=only, output=tmp_path / "plain").probabilities
    for output, prefix in (("swapped", None), ("prefixed", "auto:")):
        tag(shapes / "images", trained, only=only, rename=names, prefix=prefix, output=tmp_path / output)
        target = Review(tmp_path / output).target
        for label, name in (("disc", "triangle"), ("triangle", "disc")):
            number = target.labels.index(f"{prefix or ''}{name}")
            assert target.probs is not None
            assert target.probs[number].tolist() == plain[label].tolist()
            assert target.numbers_by_name(target.model, trained.labels)[label] == number


@pytest.mark.slow
def test_model_of_an_output_predicts_labels_under_other_names(shapes: Path, trained: Model, tmp_path: Path) -> None:
    tag(shapes / "images", trained, prefix="auto:", output=tmp_path / "out")
    page = Review(tmp_path / "out")
    target, before = page.target, page.target.probs
    assert before is not None
    target.probs = np.full_like(before, np.nan)
    background = Background(page.session, Queues(page.session), page.saver, str(trained.path))
    background.predict()
    wait_until(lambda: not background.running)
    assert background.error == ""
    np.testing.assert_allclose(np.asarray(target.probs, np.float32), before, atol=1e-4)


def test_moved_photos_of_an_output_are_named(output: Path, shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes / "images", tmp_path / "moved")
    assert Review(output, images=str(tmp_path / "moved")).target.root == tmp_path / "moved"


# --- tables of images to look at --------------------------------------------------------------------------------------


def test_table_of_suspects_is_a_queue(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "worst.csv"
    table.write_text("filename,label,given,probability,rank\nb.jpg,dog,0,0.900000,1\na.jpg,dog,1,0.200000,2\n")
    target = read_target(table, ReadOptions(), data=photos)
    Saver(target)
    queues = Queues(Session(target))
    assert names_in(queues, "suspects") == ["b.jpg", "a.jpg"]


@pytest.mark.parametrize("row", ["a.jpg", "a.jpg,", "a.jpg,dog,1,high,2", "a.jpg,dog,1,nan,2", "a.jpg,dog,1,7,2"])
def test_row_of_suspects_without_a_label_or_a_probability_is_an_error(row: str, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "worst.csv"
    table.write_text(f"filename,label,given,probability,rank\nb.jpg,dog,0,0.9,1\n{row}\n")
    with pytest.raises(
        LabelrError, match=r"worst\.csv: a\.jpg has no label, or a probability that is not between 0 and 1"
    ):
        read_target(table, ReadOptions(), data=photos)


def test_table_of_suspects_needs_its_data_set(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "worst.csv"
    table.write_text("filename,label,given,probability,rank\nq.jpg,dog,0,0.9,1\n")
    with pytest.raises(LabelrError, match="1 image not in") as caught:
        read_target(table, ReadOptions(), data=photos)
    assert "--data" in caught.value.hint
    with pytest.raises(LabelrError):
        read_target(table, ReadOptions())


def test_uncertain_images_of_an_output_come_in_its_order(trained: Model, shapes: Path, tmp_path: Path) -> None:
    tag(shapes / "images", trained, {"uncertain": 5}, output=tmp_path / "out")
    listed = [line.split(",")[0] for line in (tmp_path / "out" / "uncertain.csv").read_text().splitlines()[1:]]
    target = read_target(tmp_path / "out" / "uncertain.csv", ReadOptions())
    Saver(target)
    assert names_in(Queues(Session(target)), "uncertain") == listed


def test_uncertain_images_are_read_as_a_spreadsheet_writes_them(trained: Model, shapes: Path, tmp_path: Path) -> None:
    tag(shapes / "images", trained, {"uncertain": 5, "csv_style": "excel"}, output=tmp_path / "out")
    lines = (tmp_path / "out" / "uncertain.csv").read_text("utf-8-sig").splitlines()
    target = read_target(tmp_path / "out" / "uncertain.csv", ReadOptions())
    assert target.uncertain is not None
    assert [target.names[image] for image in target.uncertain] == [line.split(";")[0] for line in lines[1:]]


def test_suspects_are_read_with_semicolons_and_decimal_commas(photos: Path, tmp_path: Path) -> None:
    table = put(tmp_path, "worst.csv", "\ufefffilename;label;given;probability;rank\nb.jpg;dog;0;0,9;1\n")
    target = read_target(table, ReadOptions(), data=photos)
    assert target.suspects == [(1, 0)]
    assert target.probs is not None
    assert target.probs[0, 1] == np.float32(0.9)


def test_table_of_suspects_with_a_huge_cell_is_an_error(photos: Path, tmp_path: Path) -> None:
    table = put(tmp_path, "worst.csv", f"filename,label,given\n{'x' * 200_000},dog,1\n")
    with pytest.raises(LabelrError, match="1 image not in"):
        read_target(table, ReadOptions(), data=photos)
    with pytest.raises(LabelrError, match="characters"):
        read_target(table, ReadOptions(max_cells=100_000), data=photos)


# --- processes --------------------------------------------------------------------------------------------------------


def wait_until(is_true: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_signal_ends_the_page_at_once_and_writes_the_file(photos: Path) -> None:
    with opened(photos) as page:
        page.answer(0, 0, "no")
        start = time.monotonic()
        assert page.stop(signal.SIGINT) == 130
        assert time.monotonic() - start < 5  # a second where nothing else runs
    assert (photos / "labels.csv").read_bytes() == WIDE.replace(b"a.jpg,1", b"a.jpg,0")


@pytest.mark.slow
def test_answers_survive_kill_9(photos: Path) -> None:
    with opened(photos) as page:
        page.answer(0, 0, "no")
        page.process.kill()
        page.process.wait()
    with opened(photos) as page:
        assert page.get("/api/images/0")["cells"][0]["answer"] == "no"
        wait_until(lambda: b"a.jpg,0" in (photos / "labels.csv").read_bytes())
        page.post("/api/undo")
        wait_until(lambda: (photos / "labels.csv").read_bytes() == WIDE)


@pytest.mark.slow
def test_two_processes_see_each_others_answers(photos: Path) -> None:
    with opened(photos) as first, opened(photos) as second:
        since = second.get("/api/state")["revision"]
        first.answer(0, 0, "no")
        second.answer(1, 1, "yes")
        changes = second.get(f"/api/changes?since={since}")["changes"]
        assert [(one["image"], one["label"], one["answer"]) for one in changes] == [(0, 0, "no"), (1, 1, "yes")]
        assert first.stop() == second.stop() == 143
    expected = WIDE.replace(b"a.jpg,1", b"a.jpg,0").replace(b"b.jpg,0,", b"b.jpg,0,1")
    assert (photos / "labels.csv").read_bytes() == expected


@pytest.mark.slow
def test_opening_the_page_changes_no_file_and_it_warns_of_one_that_another_program_changes(
    photos: Path, home: Path
) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in (photos, *photos.rglob("*"))}
    with opened(photos) as page:
        for path in ("/", "/api/state", "/api/items?queue=all", "/thumbs/0", "/images/1", "/api/images/2"):
            assert page.request(path).status == 200
        assert page.get("/api/changes?since=0")["warning"] is None
        after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in (photos, *photos.rglob("*"))}
        assert after == before
        (photos / "labels.csv").write_bytes(WIDE.replace(b"e.jpg,0", b"e.jpg,1"))
        assert "changed by another program" in page.get("/api/changes?since=0")["warning"]
        assert page.get("/api/images/3")["cells"][0]["given"] == 1
        assert page.stop() == 143
    assert (photos / "labels.csv").read_bytes() == WIDE.replace(b"e.jpg,0", b"e.jpg,1")
    assert {*before} == {photos, *photos.rglob("*")}


@pytest.mark.slow
def test_model_is_trained_again_on_answers(output: Path, trained: Model) -> None:
    with opened(output, "--model", trained.path) as page:
        wait_until(lambda: page.get("/api/refit")["done"])
        items = page.get("/api/items?queue=sweep&label=0&limit=60")["items"]
        answers = [{"image": item["image"], "label": label, "answer": "yes" if (item["image"] + label) % 2 else "no"}
                   for item in items for label in range(3)]  # fmt: skip
        page.post("/api/answers", {"answers": answers})
        assert page.post("/api/refit") == {"running": True}
        assert "error" in page.post("/api/refit")
        wait_until(lambda: not page.get("/api/refit")["running"], 300)
        assert page.get("/api/refit")["error"] is None
        assert page.get("/api/items?queue=sweep&label=0&limit=60")["items"] != items
        assert page.stop() == 143


def make_background(output: Path, trained: Model, **options: Any) -> tuple[Review, Background]:
    opened = Review(output, **options)
    return opened, Background(opened.session, Queues(opened.session), opened.saver, str(trained.path))


def test_model_is_not_trained_again_without_a_yes_and_a_no_for_each_label(output: Path, trained: Model) -> None:
    opened, work = make_background(output, trained)
    labels, names = opened.target.labels, opened.target.names
    opened.answer([(name, label, answer) for label in labels[:2] for name, answer in zip(names, ("yes", "no"))])  # noqa: B905
    assert labels[2] in work.refusal()
    assert labels[0] not in work.refusal()
    with pytest.raises(ConflictError, match=labels[2]):
        work.train()
    opened.answer([(names[0], labels[2], "yes"), (names[1], labels[2], "unknown")])
    assert labels[2] in work.refusal()
    opened.answer([(names[2], labels[2], "no")])
    assert not work.refusal()
    opened.close()


def test_option_refit_without_enough_answers_names_the_labels(output: Path, trained: Model, cli: Cli) -> None:
    result = cli("review", output, "--no-browser", "--model", trained.path, "--refit")
    assert (result.code, result.out) == (1, "")
    assert opened_labels(output)[0] in result.err


def opened_labels(output: Path) -> list[str]:
    return Review(output, read_only=True).target.labels


def test_given_labels_of_a_data_set_count_as_trained_on(shapes: Path, trained: Model, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "shapes")
    opened, work = make_background(tmp_path / "shapes", trained)
    assert not work.refusal()
    label = opened.target.labels[0]
    opened.answer([(name, label, "no") for name in opened.target.names])
    assert label in work.refusal()
    opened.close()


def predicted(work: Background) -> Background:
    """The work once a model has predicted, by a process of its own."""
    work.predict()
    wait_until(lambda: not work.running)
    return work


@pytest.mark.slow
def test_image_that_does_not_open_costs_no_other_prediction(shapes: Path, trained: Model, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "shapes")
    put(tmp_path / "shapes" / "images", "00001.png", b"no image")
    opened, work = make_background(tmp_path / "shapes", trained)
    assert predicted(work).error == ""
    assert opened.target.probs is not None
    has_none = np.isnan(opened.target.probs).all(axis=0)
    assert [opened.target.names[image] for image in np.flatnonzero(has_none)] == ["00001.png"]
    opened.saver.stop()


@pytest.mark.slow
def test_reason_why_a_model_cannot_predict_is_shown(shapes: Path, trained: Model, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "shapes")
    model = shutil.copytree(trained.path, tmp_path / "model")
    opened = Review(tmp_path / "shapes")
    work = Background(opened.session, Queues(opened.session), opened.saver, str(model))
    next(model.glob("*.safetensors")).write_bytes(b"damaged")
    assert ".safetensors" in predicted(work).error
    opened.saver.stop()


@pytest.mark.slow
def test_options_in_the_environment_do_not_change_predictions(
    shapes: Path, trained: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"PREFIX": "auto:", "GALLERY": "true", "ONLY": trained.labels[0], "THREADS": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(f"LABELR_TAG_{name}", value)
    shutil.copytree(shapes, tmp_path / "shapes")
    opened, work = make_background(tmp_path / "shapes", trained)
    assert predicted(work).error == ""
    assert opened.target.probs is not None
    assert not np.isnan(opened.target.probs).any()
    opened.saver.stop()


@pytest.mark.slow
def test_label_that_a_model_lacks_keeps_its_probabilities(output: Path, shapes: Path, tmp_path: Path) -> None:
    kept = opened_labels(output)[1]
    smaller = fit(shapes, {**TINY, "only": (kept,)}, output=tmp_path / "smaller").model
    opened = Review(output)
    before = np.array(opened.target.probs)
    work = Background(opened.session, Queues(opened.session), opened.saver, str(smaller.path))
    work.predict()
    wait_until(lambda: work.done)
    assert opened.target.probs is not None
    assert [(opened.target.probs[number] == before[number]).all() for number in range(3)] == [True, False, True]
    opened.saver.stop()


def make_data_with_notes(shapes: Path, folder: Path, *, in_quotes: bool) -> Path:
    """The data set with two more columns, which may have its lines in quotes."""
    shutil.copytree(shapes, folder)
    header, *rows = (folder / "labels.csv").read_text().splitlines()
    lines = [f"{header},-a,b", *(f"{row},{number % 2},{number % 2}" for number, row in enumerate(rows))]
    lines = [f'"{line}"' if in_quotes else line for line in lines]
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("in_quotes", [False, True])  # the second one is not written in place
def test_training_reads_with_the_options_of_the_page_and_replaces_no_other_model(
    in_quotes: bool, shapes: Path, trained: Model, tmp_path: Path, home: Path
) -> None:
    data = make_data_with_notes(shapes, tmp_path / "data", in_quotes=in_quotes)
    earlier = put(home / "models" / f"{trained.path.name}-reviewed", "model.json", "an earlier one")
    with opened(data, "--model", trained.path, "--exclude=-a", "--exclude=b", "--max-pixels=5000") as page:
        wait_until(lambda: page.get("/api/refit")["done"])
        page.answer(0, 0, "yes")
        assert page.post("/api/refit") == {"running": True}
        wait_until(lambda: not page.get("/api/refit")["running"])
        assert page.get("/api/refit")["error"] is None
        page.stop()
    assert earlier.read_text() == "an earlier one"
    assert sorted(path.name for path in earlier.parents[1].iterdir()) == ["trained-reviewed", "trained-reviewed-2"]
    info = load_info(earlier.parents[1] / "trained-reviewed-2")
    assert info.labels == trained.labels


def children_of(process: int) -> list[str]:
    """The processes that a process has started and that have not ended, on Linux."""
    return " ".join(path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")).split()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_training_ends_with_a_page_that_is_killed(shapes: Path, trained: Model, tmp_path: Path, home: Path) -> None:
    shutil.copytree(shapes, tmp_path / "data")
    with opened(tmp_path / "data", "--model", trained.path, "--refit") as page:
        wait_until(lambda: "epoch" in page.get("/api/refit")["line"] or not page.get("/api/refit")["running"])
        (training,) = children_of(page.process.pid)
        page.process.kill()
        page.process.communicate()
    wait_until(lambda: not Path(f"/proc/{training}").exists(), 20)
    assert newest_model() is None


@pytest.mark.slow
def test_page_of_100_000_images_answers_at_once_in_little_memory(tmp_path: Path) -> None:
    count = 100_000
    folder = make_photos(tmp_path / "photos", ["00000.jpg", "50000.jpg"])
    for number in (number for number in range(count) if number % 50_000):  # a file may not have more links
        os.link(folder / f"{number // 50_000 * 50_000:05d}.jpg", folder / f"{number:05d}.jpg")
    rows = (f"{number:05d}.jpg,{number % 2},{number % 3 // 2},0,1,0" for number in range(count))
    (folder / "labels.csv").write_text("filename,a,b,c,d,e\n" + "\n".join(rows) + "\n")
    with opened(folder) as page:
        start = time.monotonic()
        for path in ("/", "/api/state", "/api/items?queue=sweep&label=0&limit=60"):
            assert page.request(path).status == 200
        first_page = time.monotonic() - start
        start = time.monotonic()
        page.get("/api/items?queue=sweep&label=1&offset=50000&limit=60&text=77")
        query = time.monotonic() - start
        page.answer(99_999, 0, "no")
        wait_until(lambda: (folder / "labels.csv").read_text().endswith("99999.jpg,0,0,0,1,0\n"))
        status = Path(f"/proc/{page.process.pid}/status")
        memory = int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024 if status.exists() else 0
        page.stop()
    print(f"first page {first_page:.2f} s, query {query:.3f} s, memory {memory:.0f} MB")  # noqa: T201
    assert first_page < 3  # measured 0.2 s on an idle machine
    assert query < 1
    assert memory < 600


def test_command_without_its_extra_says_what_to_install(
    photos: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = cli("review", photos)
    assert result.code == 1
    assert "labelr[review]" in result.err


@pytest.mark.parametrize(
    ("name", "message"), [("missing", "does not exist"), ("photos/a.jpg", "is not text"), ("empty", "no images")]
)
def test_what_cannot_be_reviewed_is_an_error(photos: Path, cli: Cli, name: str, message: str) -> None:
    (photos.parent / "empty").mkdir()
    result = cli("review", photos.parent / name, "--no-browser")
    assert result.code == 1
    assert message in result.err


@pytest.mark.parametrize("options", [["--model", "nothing"], ["--refit"]])
def test_model_that_cannot_be_used_is_an_error(photos: Path, cli: Cli, options: list[str]) -> None:
    result = cli("review", photos, "--no-browser", *options)
    assert (result.code, result.out) == (1, "")
    assert "model" in result.err


def test_port_in_use_is_an_error(photos: Path, cli: Cli, served: Server) -> None:
    result = cli("review", photos, "--no-browser", "--port", served.port)
    assert result.code == 1
    assert f"port {served.port}" in result.err


# --- hostile names and choices ----------------------------------------------------------------------------------------


def test_names_are_kept_byte_by_byte(tmp_path: Path) -> None:
    names = ['<script>alert(1)</script>".jpg', "two\nlines.jpg", "é.jpg", "=1+1.jpg", "a,b;c.jpg"]
    folder = make_photos(tmp_path / "x", [name.replace("</", "<") for name in names])
    names = sorted(file.name for file in folder.iterdir())
    quoted = "".join('"{}",1\n'.format(name.replace('"', '""')) for name in names)
    (folder / "labels.csv").write_bytes(os.fsencode("filename,dog\n" + quoted))
    opened = Review(folder)
    assert sorted(opened.target.names) == names
    opened.answer([(name, "dog", "no") for name in names])
    assert opened.close() == os.fsencode("filename,dog\n" + quoted.replace('",1', '",0'))
    assert set(Review(folder).answers().values()) == {"no"}
    queues = Queues(opened.session)
    assert json.loads(json.dumps(queues.items("all", None, queues.order("all", None, Filter()))))


def test_names_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"dog/\xff.jpg")
    folder = make_photos(tmp_path / "x", [name, "cat/a.jpg"])
    assert os.fsencode(f"{name},0,0") in review(folder, [(name, "dog", "no")])
    opened = Review(folder)
    assert opened.answers() == {(name, "dog"): "no"}
    assert json.loads(json.dumps(Queues(opened.session).items("all", None, np.array([0, 1]))))


def test_labels_that_are_left_out_stay_out(photos: Path) -> None:
    review(photos, [("a.jpg", "dog", "no"), ("b.jpg", "cat", "yes")])
    opened = Review(photos, exclude=("cat",))
    assert opened.target.labels == ["dog"]
    assert opened.answers() == {("a.jpg", "dog"): "no"}


def test_chosen_labels_of_an_output(output: Path, trained: Model) -> None:
    target = Review(output, only=(trained.labels[1],)).target
    assert target.labels == [trained.labels[1]]
    assert target.probs is not None
    assert target.probs.shape == (1, len(target.names))


@pytest.mark.parametrize("is_output", [True, False])
@pytest.mark.parametrize("option", ["only", "exclude"])
def test_table_of_answers_keeps_the_labels_that_a_review_leaves_out(
    option: str, is_output: bool, output: Path, trained: Model, tmp_path: Path
) -> None:
    folder, labels = output, trained.labels
    if not is_output:  # folders named after labels
        folder, labels = make_photos(tmp_path / "folders", ["cat/a.jpg", "dog/b.jpg"]), ("cat", "dog")
    name = Review(folder).target.names[0]
    review(folder, [(name, labels[0], "no")])
    chosen: dict[str, Any] = {option: labels[1:2] if option == "only" else labels[:1]}
    content = review(folder, [(name, labels[1], "yes")], **chosen).decode().splitlines()
    assert content[0].split(",") == ["filename", *labels]
    assert content[1].split(",")[:3] == [name, "0", "1"]
    assert review(folder, []).decode().splitlines() == content


def test_column_that_cannot_be_read_stays_out_of_the_table_of_answers(tmp_path: Path) -> None:
    table = b'"filename,dog,cat,rest"\n"a.jpg,1,0,1"\n"b.jpg,0,1,what"\n"c d.jpg,0,1,0"\n'
    folder = make_photos(tmp_path / "photos", NAMES[:3], labels=table)
    assert review(folder, [("a.jpg", "dog", "no")], exclude=("rest",)).startswith(b"filename,dog,cat\na.jpg,0,0\n")


def test_table_of_answers_that_was_deleted_is_written_again(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", ["dog/a.jpg", "dog/b.jpg", "cat/c.jpg"])
    content = review(folder, [("dog/a.jpg", "dog", "no")])
    (folder / "reviewed.csv").unlink()
    assert review(folder, []) == content


def test_answers_about_images_left_out_meanwhile_come_back_into_the_table_of_answers(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", ["dog/a.jpg", "dog/b.jpg", "cat/c.jpg"])
    review(folder, [("dog/a.jpg", "dog", "no")])
    assert b"a.jpg" not in review(folder, [("cat/c.jpg", "dog", "yes")], ignore=("a.jpg",))
    assert b"dog/a.jpg,0,0" in review(folder, [])


def test_data_is_of_a_table(photos: Path) -> None:
    with pytest.raises(LabelrError, match="--data"):
        read_target(photos, ReadOptions(), data=photos)
