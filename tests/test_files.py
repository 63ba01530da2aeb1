"""The cache directory, atomic writes, digests and CSV."""

import hashlib
import json
import ntpath
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labelr import files, serialization
from labelr.errors import LabelrError


def test_home_is_the_cache_directory_unless_overridden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABELR_HOME", str(tmp_path / "there"))
    assert files.home() == tmp_path / "there"
    monkeypatch.delenv("LABELR_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert files.home().name == "labelr"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("s3://bucket/x", "s3://bucket/x"),
        (Path("s3://bucket/x"), "s3://bucket/x"),
        (Path("https://example.org/a.csv"), "https://example.org/a.csv"),
        (Path("file:///data/x"), "file:///data/x"),
    ],
)
def test_address_is_no_path_and_keeps_its_slashes(path: str | Path, shown: str) -> None:
    with pytest.raises(LabelrError) as caught:
        files.local_path(path)
    assert caught.value.message.startswith(f"{shown} is an address")
    assert caught.value.hint


@pytest.mark.parametrize("path", ["photos", "C:/photos", "a:b/c", "/data/s3:", "Trip: 2020/a.jpg"])
def test_other_paths_are_local(path: str) -> None:
    assert files.local_path(path) == Path(path)


def test_folder_that_looks_like_an_address_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trip:/day").mkdir(parents=True)
    assert files.local_path("trip:/day") == Path("trip:/day")


def test_atomic_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_atomically(target, "old")
    files.write_atomically(target, "new\n")
    assert target.read_bytes() == b"new\n"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_write_makes_files_that_others_may_read(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        files.write_atomically(tmp_path / "a.txt", b"")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_text_with_file_names_that_are_not_utf8_keeps_their_bytes(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / "a.txt", os.fsdecode(b"caf\xe9.jpg"))
    assert (tmp_path / "a.txt").read_bytes() == b"caf\xe9.jpg"


def test_write_below_a_file_is_an_error_that_says_how_to_choose_another_place(tmp_path: Path, home: Path) -> None:
    for folder, way in ((tmp_path, "an option such as `--output`"), (home, "the variable LABELR_HOME")):
        files.make_folder(folder)
        (folder / "file").write_text("")
        with pytest.raises(LabelrError, match="cannot write") as caught:
            files.write_atomically(folder / "file" / "a.txt", "x")
        assert caught.value.hint == f"choose another place with {way}"


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom labelr import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "files.write_atomically(Path(sys.argv[1]), b'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, check=False)
    assert "LabelrError: cannot write" in done.stderr
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_folders_on_several_drives_of_windows_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.common_folder([Path("/a/b"), Path("/a/c/d")]) == Path("/a")
    monkeypatch.setattr(os.path, "commonpath", ntpath.commonpath)
    with pytest.raises(LabelrError, match="on different drives"):
        files.common_folder([Path("C:\\a"), Path("D:\\b")])


def test_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    assert files.digest(tmp_path / "a") == hashlib.sha256(b"hello").hexdigest()
    assert files.digest(tmp_path) == ""


def test_csv_quotes_what_needs_it() -> None:
    assert serialization.csv_text(["a", "b"], [('x,"y"', "1\n2")]) == 'a,b\n"x,""y""","1\n2"\n'


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to("pipe")
    with files.open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
    others = [tmp_path, tmp_path / "pipe", tmp_path / "link to a pipe", Path("/dev/zero"), Path("/proc/self/maps")]
    for other in others:
        if other.exists():
            with pytest.raises(OSError, match="not a regular file"):
                files.open_regular(other)


def test_json_escapes_what_a_terminal_obeys_and_keeps_the_text() -> None:
    text = "\x1b\x7f\x9b\u202e\ufeff\U000e0041\udce9\n日本 👩\u200d🔬"
    for written in (serialization.json_text([text]), serialization.json_line([text])):
        assert json.loads(written) == [text]
        assert not set(written) & set("\x1b\x7f\x9b\u202e\ufeff\U000e0041\udce9")
        assert "日本 👩\u200d🔬" in written


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    value = {"a": float("nan"), "b": [1.5, (float("inf"),)], "c": np.float64("nan")}
    assert (
        json.loads(serialization.json_text(value))
        == json.loads(serialization.json_line(value))
        == {"a": None, "b": [1.5, [None]], "c": None}
    )


def test_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(LabelrError, match="it has 2,147,483,648 bytes, and at most"):
        serialization.read_json(tmp_path / "large.json", dict[str, int], "")
    (tmp_path / "many.json").write_bytes(b"[" + b"[]," * 5_000_000 + b"1]")
    with pytest.raises(LabelrError, match="it has more than 8,000,000 values"):
        serialization.read_json(tmp_path / "many.json", dict[str, int], "")
