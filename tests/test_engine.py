"""ONNX files as models to tag with, and which engine runs which model."""

import csv
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from programs import make_program, make_proto, predict

from labelr.config import MachineOptions
from labelr.data.images import read_pixels
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.engine import ONNX_FILE, OnnxModel, with_metadata
from labelr.model.predict import Model

UNNEEDED = (
    "torch", "torchvision", "safetensors", "scipy", "pandas", "sklearn", "matplotlib", "optuna", "jinja2", "joblib",
    "asyncio", "http", "ssl", "xml", "multiprocessing", "psutil", "yaml", "python_calamine", "charset_normalizer",
    "filelock", "tifffile", "rich.markdown", "labelr.cli.fit", "labelr.cli.models", "labelr.cli.doctor", "labelr.xmp",
    "labelr.data.formats", "labelr.data.load", "labelr.data.embedded", "labelr.tagging.photo_files",
    "labelr.tagging.cluster",
)  # fmt: skip
"""What tagging with an ONNX file on stdout does without, each of which would delay the first label."""


@pytest.fixture
def birds(trained: Model, tmp_path: Path) -> Path:
    path = tmp_path / "birds.onnx"
    path.write_bytes(with_metadata(make_program(trained.info), trained.info, "fp32"))
    return path


@pytest.fixture
def saved(trained: Model) -> Path:
    """A saved model called ``saved``, without an ONNX file."""
    return Path(shutil.copytree(trained.path, store.models_folder() / "saved"))


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("number", [0, 1, 7, 32])
def test_a_file_predicts_any_number_of_images(birds: Path, number: int) -> None:
    model = OnnxModel.load(birds, MachineOptions(threads=1))
    size = model.info.preprocessing.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (number, size, size, 3), np.uint8)
    np.testing.assert_allclose(model.predict_pixels([pixels]), predict(model.info, pixels), atol=1e-6)


def test_a_file_tags_a_folder(cli: Cli, birds: Path, photos: Path, tmp_path: Path, trained: Model) -> None:
    done = cli("tag", photos, "--model", birds, "--output", tmp_path / "out")
    assert (done.code, done.out) == (3, f"{tmp_path / 'out'}\n")  # an image is damaged
    header, *rows = table(tmp_path / "out" / "probabilities.csv")
    assert header == ["filename", *trained.labels]
    size = trained.info.preprocessing.image_size
    for name, *probs in rows:
        pixels = read_pixels(photos / name, size, value_range=trained.info.preprocessing.value_range)
        np.testing.assert_allclose([*map(float, probs)], predict(trained.info, pixels[None])[0], atol=1e-5)
    assert len(rows) == 4


def test_tagging_again_opens_nothing(cli: Cli, birds: Path, photos: Path, tmp_path: Path) -> None:
    command = ("tag", photos, "--model", birds, "--output", tmp_path / "out")
    cli(*command)
    (photos / "a.png").write_bytes((photos / "z.png").read_bytes())
    assert "4 tagged (3 of them in an earlier run)" in cli(*command).err


def test_results_of_another_engine_are_not_mixed(
    cli: Cli, birds: Path, saved: Path, photos: Path, tmp_path: Path
) -> None:
    cli("tag", photos, "--model", saved, "--no-amp", "--output", tmp_path / "out")
    done = cli("tag", photos, "--model", birds, "--output", tmp_path / "out")
    assert done.code == 1
    assert "precision was fp32 on cpu and is onnx fp32 on cpu" in " ".join(done.err.split())


@pytest.mark.slow
@pytest.mark.parametrize(("output", "needed"), [("-", ()), ("out", ("filelock",))])
def test_tagging_with_a_file_imports_only_what_it_needs(
    birds: Path, photos: Path, tmp_path: Path, output: str, needed: tuple[str, ...]
) -> None:
    unneeded = {*UNNEEDED} - {*needed}
    code = (
        "import sys\nbefore = set(sys.modules)  # of a tool that measures coverage\nfrom labelr.cli.app import main\n"
        f"sys.argv = ['labelr', 'tag', {str(photos / 'z.png')!r}, '--model', {str(birds)!r}, '-o', {output!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print('CODE', end.code)\n"
        f"print('LOADED', *sorted({unneeded!r} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-2:] == ["CODE None", "LOADED"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--device", "cuda"), "the engine onnx computes on the CPU"),
        (("--amp",), "the engine onnx computes on the CPU"),
        (("--engine", "torch"), "an ONNX file is not for the engine torch"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(
    cli: Cli, birds: Path, photos: Path, tmp_path: Path, option: tuple[str, ...], message: str
) -> None:
    done = cli("tag", photos, "--model", birds, "--output", tmp_path / "out", *option)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_the_file_in_a_saved_models_folder_runs(
    cli: Cli, birds: Path, saved: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copy(birds, saved / ONNX_FILE)
    cli("tag", photos, "--model", "saved", "--engine", "onnx", "--output", tmp_path / "saved")
    cli("tag", photos, "--model", birds, "--output", tmp_path / "birds")
    assert table(tmp_path / "saved" / "probabilities.csv") == table(tmp_path / "birds" / "probabilities.csv")
    assert '"model": "saved"' in (tmp_path / "saved" / "summary.json").read_text()


def test_a_saved_model_without_a_file_names_the_command(cli: Cli, saved: Path, photos: Path) -> None:
    done = cli("tag", photos, "--model", "saved", "--engine", "onnx")
    assert done.code == 1
    assert "saved has no model.onnx" in done.err
    assert "labelr export saved --force --output" in done.err


def test_a_file_of_an_earlier_training_is_refused(cli: Cli, saved: Path, photos: Path, trained: Model) -> None:
    earlier = replace(trained.info, weights={"file": f"weights-{'a' * 12}.safetensors", "sha256": "a" * 64})
    (saved / ONNX_FILE).write_bytes(with_metadata(make_program(earlier), earlier, "fp32"))
    done = cli("tag", photos, "--model", "saved", "--engine", "onnx")
    assert done.code == 1
    assert "is of an earlier training of saved" in " ".join(done.err.split())


def test_a_saved_model_may_have_a_name_like_a_file(cli: Cli, trained: Model, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(trained.path, store.models_folder() / "v2.onnx")
    assert cli("tag", photos, "--model", "v2.onnx", "--output", tmp_path / "out").code == 3


def test_without_onnxruntime_the_extra_is_named(
    cli: Cli, birds: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = cli("tag", photos, "--model", birds)
    assert done.code == 1
    assert "pip install 'labelr[onnx]'" in done.err


def test_without_torch_a_saved_model_is_refused(
    cli: Cli, saved: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    done = cli("tag", photos, "--model", "saved")
    assert done.code == 1
    assert "torch, which computes saved models, is not installed" in done.err


@pytest.mark.slow
def test_without_torch_other_commands_say_so(shapes: Path) -> None:
    code = "import sys\nsys.modules['torch'] = None\nfrom labelr.cli.app import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", str(shapes)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the package torch is not installed\n")


def test_only_tag_takes_a_file(cli: Cli, birds: Path, shapes: Path) -> None:
    done = cli("evaluate", shapes, "--model", birds)
    assert done.code == 1
    assert "only `labelr tag` takes ONNX files" in " ".join(done.err.split())


@pytest.mark.parametrize("changes", [{"size": 31}, {"names": ("x", "probabilities")}, {"names": ("images", "y")}])
def test_a_program_of_another_shape_is_refused(trained: Model, tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "other.onnx"
    program = make_proto(trained.info, **changes).SerializeToString()  # type: ignore[arg-type]
    path.write_bytes(with_metadata(program, trained.info, "fp32"))
    with pytest.raises(LabelrError, match="was not written by `labelr export`"):
        OnnxModel.load(path, MachineOptions())


def test_a_program_with_unknown_operators_is_refused(
    trained: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    proto, path = make_proto(trained.info), tmp_path / "other.onnx"
    proto.graph.node[3].op_type = "Launch"
    path.write_bytes(with_metadata(proto.SerializeToString(), trained.info, "fp32"))
    with pytest.raises(LabelrError, match="cannot be loaded"):
        OnnxModel.load(path, MachineOptions())
    assert capfd.readouterr() == ("", "")
