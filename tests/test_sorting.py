"""Images sorted into a folder for each label: links, copies, updates, and what is kept."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from pages import HOSTILE

from labelr.data.walk import SORTED_FILE, find_images
from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.tagging.sorting import link_name, safe_names
from labelr.tagging.tag import tag

KINDS = ("symlink", "hardlink", "copy")


def links(folder: Path) -> set[str]:
    """The sorted images, without the file that marks the folder."""
    paths = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {path.relative_to(folder).as_posix() for path in paths} - {SORTED_FILE}


def sort(photos: Path, model: Model, place: Path, **options: Any) -> Path:
    """Tags images so that all labels apply, unless options say otherwise, and sorts them; gives the folder."""
    tag(photos, model, output=place / "out", sort_into=place / "sorted", **{"threshold": 0, **options})
    return place / "sorted"


ALL = {"a.png", "deep__b.png", "deep__er__d.PNG", "z.png"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_label_has_a_folder_with_the_images_that_it_applies_to(
    photos: Path, tmp_path: Path, trained: Model, kind: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in find_images(photos)}
    contents = {path.read_bytes() for path in before}
    folder = sort(photos, trained, tmp_path, sort_as=kind, threshold=0.38)
    table = tag(photos, trained, output=tmp_path / "out", threshold=0.38).table
    expected = {f"{label}/{link_name(str(name))}" for name, row in table.iterrows() for label in row.index[row == 1]}
    assert links(folder) == expected != set()
    for link in expected:
        assert (folder / link).read_bytes() in contents
        assert (folder / link).is_symlink() == (kind == "symlink")
        assert (folder / link).stat().st_mtime_ns in before.values()
    assert {path: path.stat().st_mtime_ns for path in find_images(photos)} == before


@pytest.mark.parametrize("kind", KINDS)
def test_links_follow_the_images_of_the_next_run(photos: Path, tmp_path: Path, trained: Model, kind: str) -> None:
    folder = sort(photos, trained, tmp_path, sort_as=kind)
    (photos / "a.png").rename(photos / "new.png")
    shutil.copy(photos / "z.png", photos / "deep" / "b.png")
    sort(photos, trained, tmp_path, sort_as=kind)
    expected = {"new.png", *(ALL - {"a.png"})}
    assert links(folder) == {f"{label}/{name}" for label in trained.labels for name in expected}
    for label in trained.labels:
        assert (folder / label / "deep__b.png").read_bytes() == (photos / "z.png").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_other_labels_after_force_move_the_links(photos: Path, tmp_path: Path, trained: Model, kind: str) -> None:
    folder = sort(photos, trained, tmp_path, sort_as=kind, only=trained.labels[0])
    sort(photos, trained, tmp_path, sort_as=kind, only=trained.labels[1], force=True)
    assert links(folder) == {f"{trained.labels[1]}/{name}" for name in ALL}
    assert not (folder / trained.labels[0]).exists()


@pytest.mark.parametrize(("first", "second"), [("symlink", "copy"), ("copy", "hardlink"), ("hardlink", "symlink")])
def test_links_are_replaced_by_another_kind(
    photos: Path, tmp_path: Path, trained: Model, first: str, second: str
) -> None:
    folder = sort(photos, trained, tmp_path, sort_as=first)
    sort(photos, trained, tmp_path, sort_as=second)
    assert len(links(folder)) == 12
    assert {(folder / link).is_symlink() for link in links(folder)} == {second == "symlink"}
    same = (folder / trained.labels[0] / "a.png").samefile(photos / "a.png")
    assert same == (second != "copy")


@pytest.mark.parametrize("kind", KINDS)
def test_what_somebody_removed_added_or_changed_is_kept(
    photos: Path, tmp_path: Path, trained: Model, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = trained.labels[:2]
    folder = sort(photos, trained, tmp_path, sort_as=kind, only=[first, second])
    (folder / first / "a.png").unlink()
    (folder / first / "mine.png").write_bytes(b"mine")
    (folder / second / "z.png").unlink()
    (folder / second / "z.png").write_bytes(b"edited")
    for _ in range(2):
        sort(photos, trained, tmp_path, sort_as=kind, only=[first, second])
        assert links(folder / first) == {"mine.png", *(ALL - {"a.png"})}
        assert (folder / second / "z.png").read_bytes() == b"edited"
    (photos / "z.png").rename(photos / "moved.png")
    sort(photos, trained, tmp_path, sort_as=kind, only=[first, second])
    assert f"kept 1 file in {folder} that labelr did not make, or somebody has changed: {second}/z.png" in caplog.text
    assert links(folder / second) == {*ALL, "moved.png"}
    assert links(folder / first) == {"mine.png", "moved.png", "deep__b.png", "deep__er__d.PNG"}


def test_force_makes_removed_links_again(photos: Path, tmp_path: Path, trained: Model) -> None:
    folder = sort(photos, trained, tmp_path)
    (folder / trained.labels[0] / "a.png").unlink()
    sort(photos, trained, tmp_path, force=True)
    assert len(links(folder)) == 12


def test_folder_that_was_deleted_as_a_whole_is_made_again(photos: Path, tmp_path: Path, trained: Model) -> None:
    folder = sort(photos, trained, tmp_path)
    shutil.rmtree(folder)
    sort(photos, trained, tmp_path)
    assert len(links(folder)) == 12


def test_two_runs_share_a_folder_without_removing_each_others_links(
    photos: Path, tmp_path: Path, trained: Model, shapes: Path
) -> None:
    sort(photos, trained, tmp_path)
    for _ in range(2):
        tag(photos / "deep", trained, output=tmp_path / "deep_out", sort_into=tmp_path / "sorted", threshold=0)
        sort(photos, trained, tmp_path)
    expected = {*ALL, "b.png", "er__d.PNG"}
    assert links(tmp_path / "sorted") == {f"{label}/{name}" for label in trained.labels for name in expected}


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_no_known_run_are_counted_in_a_note(photos: Path, tmp_path: Path, trained: Model, kind: str) -> None:
    sort(photos, trained, tmp_path, sort_as=kind)
    (tmp_path / "sorted" / trained.labels[1] / "mine.png").write_bytes(b"mine")
    (tmp_path / "sorted" / trained.labels[1] / ".DS_Store").write_bytes(b"")
    options: dict[str, Any] = {"sort_into": tmp_path / "sorted", "sort_as": kind, "threshold": 0}
    summary = tag(photos, trained, output=tmp_path / "new", only=trained.labels[0], **options)
    assert len(summary.notes) == 1
    assert summary.notes[0].startswith(
        f"files in {tmp_path / 'sorted'} that belong to no run into this output directory"
    )
    assert summary.notes[0].endswith(": 13")
    assert len(links(tmp_path / "sorted")) == 14


def test_hard_link_that_is_the_last_name_of_a_photograph_stays(
    photos: Path, tmp_path: Path, trained: Model, caplog: pytest.LogCaptureFixture
) -> None:
    folder = sort(photos, trained, tmp_path, sort_as="hardlink", only=trained.labels[0])
    (photos / "a.png").unlink()
    sort(photos, trained, tmp_path, sort_as="hardlink", only=trained.labels[0])
    assert (folder / trained.labels[0] / "a.png").exists()
    assert f"kept 1 file in {folder} whose image is gone or was replaced" in caplog.text


def test_hard_link_stays_where_another_file_replaced_the_photograph(
    photos: Path, tmp_path: Path, trained: Model, caplog: pytest.LogCaptureFixture
) -> None:
    content = (photos / "a.png").read_bytes()
    folder = sort(photos, trained, tmp_path, sort_as="hardlink")
    shutil.copy(photos / "z.png", tmp_path / "new.png")
    (tmp_path / "new.png").rename(photos / "a.png")
    sort(photos, trained, tmp_path, sort_as="hardlink")
    assert content in {(folder / label / "a.png").read_bytes() for label in trained.labels}
    assert f"kept 1 file in {folder} whose image is gone or was replaced" in caplog.text


def test_copies_of_images_that_are_gone_stay_and_are_the_users_own(
    photos: Path, tmp_path: Path, trained: Model, caplog: pytest.LogCaptureFixture
) -> None:
    folder = sort(photos, trained, tmp_path, sort_as="copy")
    contents = {path: path.read_bytes() for path in folder.rglob("a.png")}
    (photos / "a.png").unlink()
    sort(photos, trained, tmp_path, sort_as="copy")
    assert f"kept 3 files in {folder} whose image is gone" in caplog.text
    shutil.copy(photos / "z.png", photos / "a.png")
    sort(photos, trained, tmp_path, sort_as="copy")
    assert {path: path.read_bytes() for path in folder.rglob("a.png")} == contents


def test_folder_of_something_else_is_refused_before_anything_is_tagged(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    for folder in (photos, photos / "a.png"):
        with pytest.raises(LabelrError, match=r"sort_into: .*(holds files that labelr did not sort|is a file)"):
            tag(photos, trained, output=tmp_path / "out", sort_into=folder)
    assert not (tmp_path / "out").exists()


def test_folder_among_the_images_is_neither_tagged_nor_trained_on(
    photos: Path, tmp_path: Path, trained: Model, cli: Cli
) -> None:
    for _ in range(2):
        summary = tag(photos, trained, output=tmp_path / "o", sort_into=photos / "sorted", sort_as="copy", threshold=0)
        assert (summary.found, summary.notes) == (5, [])
    assert len(list(find_images(photos))) == 5
    assert len(list(find_images(photos / "sorted"))) == 12


def test_sorted_images_are_unconfirmed_labels(photos: Path, tmp_path: Path, trained: Model, cli: Cli) -> None:
    folder = sort(photos, trained, tmp_path, sort_as="copy", threshold=0.38)
    done = cli("fit", folder, "--layout", "folders")
    assert "predictions of labelr that nobody corrected or confirmed" in done.err
    assert "--trust-predictions" in done.err


def test_link_in_place_of_a_label_folder_is_not_followed(photos: Path, tmp_path: Path, trained: Model) -> None:
    folder = sort(photos, trained, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    shutil.rmtree(folder / trained.labels[0])
    (folder / trained.labels[0]).symlink_to(tmp_path / "elsewhere")
    shutil.copy(photos / "a.png", photos / "new.png")
    with pytest.raises(LabelrError, match="behind a link"):
        sort(photos, trained, tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_hostile_names_of_images_are_sorted(shapes: Path, tmp_path: Path, trained: Model) -> None:
    photos = tmp_path / "photos"
    names = [*(text.replace("/", "!") for text in HOSTILE), "new\nline", os.fsdecode(b"caf\xe9"), "x" * 250]
    (photos / "sub").mkdir(parents=True)
    for name in names:
        shutil.copy(shapes / "images" / "00000.png", photos / f"{name}.png"[-255:])
        shutil.copy(shapes / "images" / "00000.png", photos / "sub" / f"{name}.png"[-255:])
    folder = sort(photos, trained, tmp_path, format="table")
    assert len(links(folder)) == 2 * len(names) * len(trained.labels)


def test_hard_links_lead_to_the_file_behind_a_link(photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "linked.png").symlink_to(photos / "a.png")
    folder = sort(photos, trained, tmp_path, sort_as="hardlink", only=trained.labels[0])
    assert not (folder / trained.labels[0] / "linked.png").is_symlink()
    assert (folder / trained.labels[0] / "linked.png").samefile(photos / "a.png")


def test_folder_that_vanishes_during_the_run_is_made_again(photos: Path, tmp_path: Path, trained: Model) -> None:
    def track(items: Any, description: Any, total: Any = None) -> Any:
        yield from items
        shutil.rmtree(tmp_path / "sorted")

    assert len(links(sort(photos, trained, tmp_path, track=track))) == 12


def test_name_that_not_every_system_takes_gets_a_digest() -> None:
    assert link_name("trip/b.jpg") == "trip__b.jpg"
    assert link_name("a:b?.jpg").startswith("a_b_-")
    assert link_name("a__b.jpg") != link_name("a/b.jpg")


def test_labels_become_names_that_every_system_takes() -> None:
    labels = ["..", "a/b", "a_b", "Dog", "dog", "CON", "lpt1.x", " x. ", "", "tab\t", "é" * 300, "fine label"]
    names = safe_names(labels)
    assert names[0].startswith("_")
    assert (names[5:7], names[-1]) == (["CON_", "lpt1.x_"], "fine label")
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name[:4] == "a_b-" for name in names[1:3])
    assert max(len(os.fsencode(name)) for name in names) <= 200


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=8))
def test_names_of_labels_are_safe_and_different(labels: list[str]) -> None:
    names = safe_names(labels)
    assert len({name.casefold() for name in names}) == len(labels)
    for name in names:
        assert name
        assert name not in (".", "..")
        assert not set(name) & set('/\\:*?"<>|~\0\n')
        assert name[0] not in ". "
        assert name[-1] not in ". "


@given(st.lists(st.text("a_/-.", min_size=1), unique=True))
def test_names_of_links_are_different_and_in_no_folder(images: list[str]) -> None:
    images = [image for image in images if not image.startswith("/") and "//" not in image]
    names = [link_name(image) for image in images]
    assert len(set(names)) == len(images)
    assert not any("/" in name for name in names)


@pytest.mark.parametrize("name", ["--sort-into=x", "--gallery"])
def test_stdout_leaves_no_place_for_folders(cli: Cli, photos: Path, trained: Model, name: str) -> None:
    done = cli("tag", photos, "--model", trained.path, "-o", "-", name)
    assert (done.code, done.out) == (2, "")
    assert "cannot be combined with results on stdout" in done.err


KILLED = """
import os, signal, sys
from labelr.tagging.sorting import Sorter
import labelr
make, number = Sorter._make, 0
def killed(self, path, result):
    global number
    number += 1
    if number == int(sys.argv[4]) and sys.argv[5] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    make(self, path, result)
    if number == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
Sorter._make = killed
labelr.tag(sys.argv[1], sys.argv[2], output=sys.argv[3] + "/out", threshold=0, sort_into=sys.argv[3] + "/sorted",
           sort_as="copy", threads=1, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_links_of_a_killed_run_are_still_those_of_labelr(
    photos: Path, tmp_path: Path, trained: Model, when: str
) -> None:
    command = [sys.executable, "-c", KILLED, str(photos), str(trained.path), str(tmp_path), "5", when]
    done = subprocess.run(command, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    folder = tmp_path / "sorted"
    assert len(links(folder)) == (4 if when == "before" else 5)
    sort(photos, trained, tmp_path, sort_as="copy", threads=1)
    assert len(links(folder)) == 12
    sort(photos, trained, tmp_path, sort_as="copy", threads=1, only=trained.labels[0], force=True)
    assert links(folder) == {f"{trained.labels[0]}/{name}" for name in ALL}
