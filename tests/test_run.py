"""The directories of runs: how they are named, locked, taken and removed."""

import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from labelr.errors import BusyError, LabelrError
from labelr.model import store
from labelr.model.predict import Model
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
