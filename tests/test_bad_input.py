"""Bad input through the real command: a clear error, the right exit code, nothing half written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, Cli, Result

from labelr.data.synthetic import make_synthetic_dataset
from labelr.model.predict import Model


@pytest.fixture
def data(shapes: Path, tmp_path: Path) -> Path:
    """A copy of the synthetic data set that a test may damage."""
    return Path(shutil.copytree(shapes, tmp_path / "data"))


def edit(path: Path, change: Callable[[list[str]], None]) -> None:
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


def assert_clear_error(result: Result, message: str, hint: str, code: int = 1) -> None:
    assert result.code == code, result
    assert result.out == ""
    error, _, advice = result.err[result.err.index("Error: ") :].partition("\n\nHint: ")
    assert message in error
    assert hint in advice
    assert "Traceback" not in result.err


def models(home: Path) -> list[str]:
    return [path.name for path in (home / "models").glob("*")]


def test_missing_folder(cli: Cli, tmp_path: Path, home: Path) -> None:
    result = cli("fit", tmp_path / "nowhere")
    assert_clear_error(result, f"the data folder {tmp_path / 'nowhere'} does not exist", "name a folder")
    assert models(home) == []


@pytest.mark.parametrize("command", [["fit"], ["evaluate"], ["tag"], ["fit", "--synthetic", "--output"]])
def test_path_longer_than_any_file_system_takes(cli: Cli, trained: Model, home: Path, command: list[str]) -> None:
    shutil.copytree(trained.path, home / "models" / "small")
    result = cli(*command, "x" * 5000)
    assert result.code == 1
    assert "File name too long" in result.err
    assert "Traceback" not in result.err


def test_folder_without_images(cli: Cli, tmp_path: Path, home: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_clear_error(cli("fit", tmp_path / "empty"), "no images and no label file", "labels.csv")
    assert models(home) == []


def test_no_label_file(cli: Cli, data: Path) -> None:
    (data / "labels.csv").unlink()
    assert_clear_error(cli("fit", data), f"no label file in {data}", "--labels")


def test_two_label_files_are_both_named(cli: Cli, data: Path, trained: Model) -> None:
    shutil.copy(data / "labels.csv", data / "annotations.csv")
    assert_clear_error(cli("fit", data), "annotations.csv, labels.csv", "--labels FILE")
    assert cli("evaluate", data, "--labels", data / "labels.csv", "--model", trained.path).code == 0


def test_cell_that_is_not_0_1_or_empty_is_named_with_row_and_column(
    cli: Cli, data: Path, trained: Model, home: Path
) -> None:
    edit(data / "labels.csv", lambda lines: lines.__setitem__(17, "00016.png,1,yess,0"))
    expected = f'{data / "labels.csv"}, row 18, column "disc": expected 0, 1 or nothing, got "yess"'
    assert_clear_error(cli("fit", data), expected, "--skip-invalid")
    assert models(home) == []
    result = cli("evaluate", data, "--skip-invalid", "--model", trained.path)
    assert result.code == 0
    assert "59 images" in result.err


def test_image_listed_twice(cli: Cli, data: Path) -> None:
    edit(
        data / "labels.csv",
        lambda lines: lines.append(lines[3].replace(",1", ",2").replace(",0", ",1").replace(",2", ",0")),
    )
    assert_clear_error(cli("fit", data), "00002.png (rows 4 and 62 differ in", "keep one row")


def test_listed_images_that_are_missing(cli: Cli, data: Path, trained: Model) -> None:
    for number in range(5):
        (data / "images" / f"0000{number}.png").unlink()
    result = cli("fit", data)
    assert_clear_error(result, "5 of 60 images in labels.csv are not in", "--skip-missing")
    assert "00000.png, 00001.png, 00002.png, and 2 more" in result.err
    skipped = cli("evaluate", data, "--skip-missing", "--model", trained.path)
    assert skipped.code == 0
    assert "55 images" in skipped.err


@pytest.mark.slow
def test_corrupt_truncated_and_empty_images_are_counted_and_listed(cli: Cli, data: Path) -> None:
    images = data / "images"
    (images / "00000.png").write_bytes(b"")
    (images / "00001.png").write_bytes((images / "00001.png").read_bytes()[:900])
    (images / "00002.png").write_bytes(b"GIF89a" + bytes(50))
    result = cli("fit", data, *TINY_OPTIONS)
    assert result.code == 0
    assert "Warning: 3 of 60 images cannot be opened" in result.err
    errors = (Path(result.out.strip()) / "errors.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in errors] == ["filename", "00000.png", "00001.png", "00002.png"]
    assert all(line.split(",", 1)[1] for line in errors)
    assert_clear_error(cli("fit", data, "--on-error", "fail"), "3 of 60 images cannot be opened", "--on-error skip")


@pytest.mark.parametrize("name", ["a/b", "../a", ".."])
def test_model_name_that_is_a_path(cli: Cli, data: Path, home: Path, name: str) -> None:
    assert_clear_error(cli("fit", data, "--name", name), f"a model cannot be called {name!r}", "--output", code=2)
    assert models(home) == []


def test_name_that_is_taken(cli: Cli, data: Path, trained: Model, home: Path) -> None:
    shutil.copytree(trained.path, home / "models" / "mine")
    assert_clear_error(cli("fit", data, "--name", "mine"), "there is a model in", "--force")


def test_unknown_model_is_answered_with_the_nearest_name(cli: Cli, data: Path, trained: Model, home: Path) -> None:
    shutil.copytree(trained.path, home / "models" / "birds")
    for command in (["evaluate", data], ["tag", data]):
        assert_clear_error(cli(*command, "--model", "brids"), "no model called 'brids'", "`birds`")


def test_no_model_yet(cli: Cli, data: Path) -> None:
    assert_clear_error(cli("tag", data), "no trained model", "labelr fit")


def test_cache_directory_that_cannot_be_written(
    cli: Cli, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABELR_HOME", str(tmp_path / "file" / "home"))
    assert_clear_error(cli("fit", data), "cannot write", "LABELR_HOME")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_cache_directory_that_is_read_only(cli: Cli, data: Path, home: Path) -> None:
    home.mkdir()
    home.chmod(0o500)
    assert_clear_error(cli("fit", data), "Permission denied", "LABELR_HOME")


@pytest.mark.slow
def test_full_disk_while_the_model_is_saved(data: Path, home: Path) -> None:
    code = (
        "import resource, sys\nfrom labelr.cli.app import main\n"
        "sys.argv = ['labelr', *sys.argv[1:]]\nresource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))\n"
        "try:\n    main()\nfinally:\n    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))"
    )
    command = [sys.executable, "-c", code, "fit", str(data), *TINY_OPTIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert_clear_error(Result(done.returncode, done.stdout, done.stderr), "cannot write", "free some space")
    assert "checkpoint.pt: File too large" in done.stderr
    assert models(home) == []


@pytest.mark.slow
def test_full_disk_while_tagging_leaves_no_half_table(trained: Model, home: Path, tmp_path: Path) -> None:
    photos = make_synthetic_dataset(tmp_path / "many", 400, 1) / "images"
    code = (
        "import resource, sys\nfrom labelr.cli.app import main\n"
        "sys.argv = ['labelr', *sys.argv[1:]]\nresource.setrlimit(resource.RLIMIT_FSIZE, (4_000, -1))\n"
        "try:\n    main()\nfinally:\n    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "tag",
        str(photos),
        "--model",
        str(trained.path),
        "-o",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert_clear_error(Result(done.returncode, done.stdout, done.stderr), "cannot write", "free some space")
    assert not [path.name for path in (tmp_path / "out").glob("*labels.csv*")]
