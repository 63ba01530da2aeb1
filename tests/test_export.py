"""Exported files: the same probabilities as the saved model, and what is refused."""

import csv
import json
import os
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import TINY, Cli, put
from onnx import numpy_helper
from PIL import Image

import labelr
from labelr.config import MachineOptions
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError
from labelr.exporting.program import build_program, quantize
from labelr.fields import SettingError
from labelr.model.calibration import Calibration
from labelr.model.device import pick_runtime
from labelr.model.engine import OnnxInfo, OnnxModel, with_metadata
from labelr.model.info import Architecture
from labelr.model.predict import Model, build_network
from labelr.training.fit import fit


def table(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """The header, the names and the values of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, [row[0] for row in rows], np.array([row[1:] for row in rows], np.float64)


def largest_difference(model: Model, folder: Path) -> float:
    """Between the probabilities of a model and of its program, on batches of 1, 7 and 32 images."""
    machine = MachineOptions(device="cpu", amp=False, threads=1)
    model = replace(model, runtime=pick_runtime(machine))
    path = folder / "program.onnx"
    path.write_bytes(with_metadata(build_program(model), model.info, "fp32"))
    size = model.info.preprocessing.image_size
    images = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), np.uint8)
    wanted, program = model.predict_pixels([images]), OnnxModel.load(path, machine)
    return max(float(np.abs(program.run(images[:number]) - wanted[:number]).max()) for number in (1, 7, 32))


@pytest.fixture(scope="module")
def exported(trained: Model, tmp_path_factory: pytest.TempPathFactory) -> labelr.Export:
    """The model ``trained`` as a file; nobody changes it."""
    return labelr.export(trained, tmp_path_factory.mktemp("exports") / "birds.onnx", progress=False)


@pytest.mark.slow
def test_an_exported_file_tags_as_the_saved_model_does(
    cli: Cli, trained: Model, exported: labelr.Export, photos: Path, tmp_path: Path
) -> None:
    assert exported.max_difference < 1e-5
    assert exported.model_digest == trained.info.digest
    assert exported.bytes == Path(exported.path).stat().st_size
    cli("tag", photos, "--model", trained.path, "--no-amp", "--output", tmp_path / "torch")
    cli("tag", photos, "--model", exported.path, "--output", tmp_path / "onnx")
    for name in ("labels.csv", "probabilities.csv"):
        (header, names, wanted), (other, others, found) = (table(tmp_path / out / name) for out in ("torch", "onnx"))
        assert (header, names) == (other, others)
        np.testing.assert_allclose(found, wanted, atol=0 if name == "labels.csv" else 0.002)


@pytest.mark.slow
def test_a_program_has_the_views_and_the_calibration(trained: Model, tmp_path: Path) -> None:
    one_view = replace(trained.info.preprocessing, flip_averaging=False)
    info = replace(trained.info, preprocessing=one_view, calibration=Calibration(temperature=0.4, bias=1.5))
    assert largest_difference(replace(trained, info=info), tmp_path) < 1e-5


@pytest.mark.slow
def test_backbones_can_be_exported(trained: Model, tmp_path: Path) -> None:
    backbone = Architecture(dropout=0.3, backbone="efficientnet-lite0")
    info = replace(
        trained.info, architecture=backbone, preprocessing=replace(trained.info.preprocessing, image_size=64)
    )
    assert largest_difference(replace(trained, info=info, module=build_network(info)), tmp_path) < 1e-4


@pytest.mark.slow
def test_a_file_keeps_no_paths_of_this_machine(trained: Model, exported: labelr.Export) -> None:
    program = Path(exported.path).read_bytes()
    assert str(Path(labelr.__file__).parent).encode() not in program
    assert str(trained.path.parent).encode() not in program
    proto = onnx.ModelProto.FromString(program)
    assert proto.ir_version == 8
    assert [entry.version for entry in proto.opset_import if not entry.domain] == [18]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param


@pytest.mark.slow
def test_int8_is_smaller_and_scored_on_the_validation_split(cli: Cli, tmp_path: Path) -> None:
    colours = tmp_path / "colours"
    rows = "".join(f"{number}.png,{number % 2},{1 - number % 2}\n" for number in range(40))
    put(colours, "labels.csv", f"filename,red,blue\n{rows}")
    for number in range(40):
        red, blue = (200, number) if number % 2 else (number, 200)
        Image.new("RGB", (32, 32), (red, 40, blue)).save(colours / f"{number}.png")
    model = fit(colours, {**TINY, "epochs": 10, "val_fraction": 0.3}, output=tmp_path / "model").model
    done = cli("export", model.path, "--int8", "--output", tmp_path / "int8.onnx", "--json")
    result = json.loads(done.out)
    assert result["precision"] == "int8"
    assert result["map_macro"] == {"fp32": 1.0, "int8": 1.0}
    assert result["bytes"] < 0.6 * sum(4 * weight.numel() for weight in model.module.parameters())


@pytest.mark.slow
def test_int8_keeps_the_probabilities_of_certain_labels(trained: Model) -> None:
    info = replace(trained.info, calibration=Calibration(temperature=1.2, bias=0.1))
    module = deepcopy(trained.module)
    module.head.linear.weight.data *= 200  # so that float32 has probabilities of 1, whose logit is infinite
    program = build_program(replace(trained, info=info, module=module))
    size = info.preprocessing.image_size
    images = np.random.default_rng(0).integers(0, 256, (16, size, size, 3), np.uint8)
    images[:8] //= 8
    fp32, int8 = (
        OnnxModel.of(OnnxInfo.parse(content, Path("x.onnx")), content, Path("x.onnx"), MachineOptions(threads=1)).run(
            images
        )
        for content in (with_metadata(each, info, "fp32") for each in (program, quantize(program, [images])))
    )
    assert (fp32 == 1).any()
    assert np.isfinite(int8).all()
    certain = np.abs(fp32 - 0.5) > 0.49
    assert ((int8 > 0.5) == (fp32 > 0.5))[certain].mean() > 0.95


@pytest.mark.slow
def test_int8_weights_do_not_overflow_on_any_processor(trained: Model) -> None:
    size = trained.info.preprocessing.image_size
    images = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    proto = onnx.ModelProto.FromString(quantize(build_program(trained), [images]))
    weights = [
        numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.INT8
    ]
    large = [tensor for tensor in weights if tensor.ndim > 1]
    assert large
    assert max(int(np.abs(tensor.astype(int)).max()) for tensor in large) <= 64


def test_an_existing_file_is_kept(cli: Cli, trained: Model, tmp_path: Path) -> None:
    (tmp_path / "birds.onnx").write_text("mine")
    done = cli("export", trained.path, "--output", tmp_path / "birds.onnx")
    assert done.code == 1
    assert "exists already" in done.err
    assert (tmp_path / "birds.onnx").read_text() == "mine"


@pytest.mark.parametrize("name", [".", "-", "pipe"])
def test_the_output_is_a_file(
    cli: Cli, trained: Model, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    done = cli("export", trained.path, "--output", name, "--force")
    assert (done.code, done.err) == (1, f"Error: {name} is no regular file\n\nHint: name a file\n")
    assert Path("pipe").is_fifo()


def test_an_unknown_format_is_refused(cli: Cli, trained: Model) -> None:
    assert cli("export", trained.path, "--format", "torchscript").code == 2


def test_a_model_that_does_not_exist_is_refused(cli: Cli) -> None:
    done = cli("export", "nothing")
    assert done.code == 1
    assert "no model called 'nothing'" in done.err


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_without_a_package_the_extra_is_named(
    cli: Cli, trained: Model, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = cli("export", trained.path)
    assert done.code == 1
    assert f"needs {package}, not installed" in done.err
    assert "pip install 'labelr[export]'" in done.err


def test_int8_needs_the_training_data(trained: Model) -> None:
    from labelr.exporting.export import _load_data

    with pytest.raises(LabelrError, match="cannot read the data that trained was trained on") as caught:
        _load_data(replace(trained, info=replace(trained.info, data=("/gone",))), (), lambda items, *_: items)
    assert "--data" in caught.value.hint


@pytest.mark.parametrize(
    ("folds", "hint"), [(None, "leave out `--int8`"), (2, "leave out `--int8`: a model of `--folds`")]
)
def test_int8_needs_a_validation_split(cli: Cli, shapes: Path, tmp_path: Path, folds: int | None, hint: str) -> None:
    settings = {**TINY, "epochs": 1, **({"folds": folds} if folds else {"val_fraction": 0.0})}
    fit(shapes, settings, output=tmp_path / "f2")
    done = cli("export", tmp_path / "f2", "--int8", "--output", tmp_path / "f2.onnx")
    assert done.code == 1
    assert done.err.startswith(f"Error: int8 needs validation images, which f2 has none of\n\nHint: {hint}")
    assert not (tmp_path / "f2.onnx").exists()


@pytest.mark.parametrize("change", ["split", "label"])
def test_int8_on_other_data_hints_at_the_option_that_names_it(trained: Model, tmp_path: Path, change: str) -> None:
    from labelr.exporting.export import _load_data

    data = make_synthetic_dataset(tmp_path / "other", 30, 3, seed=7)
    if change == "label":
        table = data / "labels.csv"
        table.write_text(table.read_text().replace("disc", "disk", 1))
    with pytest.raises(LabelrError, match="cannot read the data that trained was trained on") as caught:
        _load_data(trained, data, lambda items, *_: items)
    assert caught.value.hint == "name its folder with `--data`"


def test_data_without_int8_is_an_error(cli: Cli, trained: Model, shapes: Path) -> None:
    with pytest.raises(SettingError, match="data is only for int8"):
        labelr.export(trained, data=shapes)
    done = cli("export", trained.path, "--data", shapes)
    assert (done.code, done.err) == (2, "Error: data is only for int8\n\nHint: add `--int8`, or leave `--data` out\n")


def test_int8_that_scores_less_is_refused() -> None:
    from labelr.exporting.export import _check_loss

    _check_loss({"fp32": 0.9, "int8": 0.896})
    for after in (0.894, float("nan")):
        with pytest.raises(LabelrError, match="int8 lowers mAP on the validation split from"):
            _check_loss({"fp32": 0.9, "int8": after})
