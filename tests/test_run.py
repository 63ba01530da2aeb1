"""The directories of runs: how they are named, locked, taken and removed."""

import contextlib
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from labelr import files, locks
from labelr.errors import BusyError, LabelrError
from labelr.model import store
from labelr.model.predict import Model
from labelr.training.record import list_models_and_runs
from labelr.training.run import reserve_folder


def test_simultaneous_runs_get_different_names() -> None:
    all_there, names = threading.Barrier(8), []

    def run() -> None:
        all_there.wait()
        with reserve_folder(None, default_name="photos") as folder:
            names.append(folder.name)
            all_there.wait()

    for _ in range(5):
        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(names) == sorted(["photos", *(f"photos-{number}" for number in range(2, 9))])
        names.clear()


def test_names_are_counted_up_when_taken(home: Path) -> None:
    with ExitStack() as stack:
        folders = [stack.enter_context(reserve_folder(None, default_name="My photos!")) for _ in range(3)]
    assert [folder.name for folder in folders] == ["My-photos", "My-photos-2", "My-photos-3"]


@pytest.mark.parametrize("name", ["_x", "+p", "a..b", "..", "...", "-", "x" * 300, "日本 写真", "a/b\n"])
def test_name_made_from_a_folder_is_valid(name: str) -> None:
    with reserve_folder(None, default_name=name) as folder:
        assert store.check_name(folder.name) == folder.name


def test_name_that_another_run_is_using_is_refused() -> None:
    with reserve_folder("mine", default_name="x"):
        for force in (False, True):
            with (
                pytest.raises(BusyError, match="another run is writing to"),
                reserve_folder("mine", default_name="x", force=force),
            ):
                pass


@pytest.mark.slow
def test_name_of_a_killed_run_is_free(home: Path) -> None:
    code = (
        "import os\nfrom labelr.training.run import reserve_folder\n"
        "with reserve_folder('mine', default_name='x'):\n    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (home / "models" / "mine").is_dir()
    with reserve_folder("mine", default_name="x") as folder:
        assert folder.name == "mine"


def test_existing_model_is_replaced_only_with_force(trained: Model, home: Path) -> None:
    copy = Path(shutil.copytree(trained.path, home / "models" / "copy"))
    with (
        pytest.raises(LabelrError, match="there is a model in") as caught,
        reserve_folder("copy", default_name="x"),
    ):
        pass
    assert "--force" in caught.value.hint
    with reserve_folder("copy", default_name="x", force=True) as folder:
        assert folder == copy
    assert {"errors.csv", "history.csv"} <= {path.name for path in copy.iterdir()}
    assert (copy / "model.json").is_file()


def test_directory_with_other_files_is_never_taken(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("thesis.txt", "splits.csv", "weights-mine.safetensors"):
        (mine / name).write_text("")
    for force in (False, True):
        with (
            pytest.raises(LabelrError, match="is not a model"),
            reserve_folder(None, default_name="x", output=mine, force=force),
        ):
            pass
    assert len(list(mine.iterdir())) == 3


def test_directory_without_a_model_is_removed_unless_it_existed_before(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        with reserve_folder(None, default_name="x", output=tmp_path / name) as folder:
            (folder / "splits.csv").write_text("image,split,digest\na.jpg,train,00\n")
    assert list(tmp_path.glob("new")) == []
    assert list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("name", ["model.json", "run.json"])
def test_directory_of_another_program_is_never_taken(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    before = {name: "{}", "checkpoint.pt": "", "config.json": "{}", "weights-mine.safetensors": "", ".lock": "mine"}
    for other, content in before.items():
        (mine / other).write_text(content)
    with (
        pytest.raises(LabelrError, match="is not a model"),
        reserve_folder(None, default_name="x", output=mine, force=True),
    ):
        pass
    assert {path.name: path.read_text() for path in mine.iterdir()} == before


@pytest.mark.parametrize("link", ["folds", "report"])
def test_model_with_a_link_to_a_folder_is_not_replaced(trained: Model, tmp_path: Path, link: str) -> None:
    copy, elsewhere = Path(shutil.copytree(trained.path, tmp_path / "copy")), tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(copy / link, ignore_errors=True)
    (copy / link).symlink_to(elsewhere)
    with (
        pytest.raises(LabelrError, match="is a link to another folder"),
        reserve_folder(None, default_name="x", output=copy, force=True),
    ):
        pass


def test_only_drafts_of_the_directory_itself_are_deleted(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for folder in (run / ".labelr-folder.tmp", elsewhere):
        folder.mkdir(parents=True)
    drafts = [run / ".labelr-1.tmp", run / ".labelr-folder.tmp" / ".labelr-2.tmp"]
    others = [run / "mine.tmp", elsewhere / ".labelr-3.tmp"]
    for path in (*drafts, *others):
        path.write_text("")
    (run / "linked").symlink_to(elsewhere)
    files.delete_drafts(run)
    assert [path.exists() for path in (*drafts, *others)] == [False, False, True, True]


QUERIES = """
import sys
from pathlib import Path
from labelr import files, locks
print(locks.is_locked(Path(sys.argv[1])), flush=True)
while True:
    locks.is_locked(Path(sys.argv[1]))
"""


def test_queries_never_make_a_run_fail_as_busy_and_change_nothing(home: Path) -> None:
    folder = home / "models" / "mine"
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            query = subprocess.Popen([sys.executable, "-c", QUERIES, folder], stdout=subprocess.PIPE, text=True)
            stack.enter_context(query)
            stack.callback(query.kill)
            assert query.stdout is not None
            assert query.stdout.readline() == "False\n"
        for _ in range(300):
            with reserve_folder("mine", default_name="x"):
                assert locks.is_locked(folder)
            assert not list(home.glob("models/mine/.lock"))


def test_lock_file_stays_and_is_not_written_to_by_queries(home: Path) -> None:
    lock = home / "models" / "mine" / ".lock"
    lock.parent.mkdir(parents=True)
    (lock.parent / "run.json").write_text("{}")
    (lock.parent / ".labelr-1.tmp").write_text("")
    lock.write_text("")

    def state() -> dict[Path, tuple[int, int, int]]:
        return {
            path: (status.st_ino, status.st_mtime_ns, status.st_size)
            for path in (lock.parent, *lock.parent.iterdir())
            for status in [path.stat()]
        }

    before = state()
    assert list_models_and_runs() == []
    assert state() == before
