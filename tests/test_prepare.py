"""Which images are train, val and test: by labelr, by the label file, by a table."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError
from labelr.model.device import Runtime, pick_runtime
from labelr.training.fit import fit
from labelr.training.prepare import prepare, resolve

CPU = Runtime(torch.device("cpu"), "fp32", 1, 1)
GPU = Runtime(torch.device("cuda"), "bf16", 1, 1)


def dataset(data: Path, **settings: object) -> Dataset:
    return prepare([data], TrainConfig.of(settings), pick_runtime("cpu", threads=1, workers=1))


def parts_by_file(run: Dataset) -> dict[str, str]:
    return dict(zip(run.files, run.split_names, strict=True))


def add_column(data: Path, name: str, cells: list[str]) -> None:
    lines = (data / "labels.csv").read_text().splitlines()
    lines = [f"{line},{cell}" for line, cell in zip(lines, [name, *cells], strict=True)]
    (data / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def test_images_are_divided_in_the_shares_asked_for(data: Path) -> None:
    run = dataset(data, val_fraction=0.2, test_fraction=0.3)
    assert [len(run.split(name)) for name in ("train", "val", "test")] == pytest.approx([30, 12, 18], abs=2)


def test_split_does_not_depend_on_the_order_of_the_rows(data: Path) -> None:
    before = parts_by_file(dataset(data))
    lines = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert parts_by_file(dataset(data)) == before


def test_groups_of_a_column_are_never_divided(data: Path) -> None:
    patients = [f"p{number % 15}" for number in range(60)]
    add_column(data, "patient", patients)
    run = dataset(data, group="patient")
    assert run.labels == ("horizontal_stripes", "disc", "triangle")
    parts = parts_by_file(run)
    for patient in range(15):
        assert len({parts[f"{number:05d}.png"] for number in range(60) if patients[number] == f"p{patient}"}) == 1
    assert set(parts.values()) == {"train", "val", "test"}


def test_group_column_that_is_not_there_is_an_error_with_the_nearest_name(data: Path) -> None:
    add_column(data, "patient", ["p"] * 60)
    with pytest.raises(LabelrError, match="has no column 'patients'") as caught:
        dataset(data, group="patients")
    assert "`patient`" in caught.value.hint


def test_planted_copies_never_straddle_two_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make_synthetic_dataset(tmp_path / "data", 100, 3, size=128)
    lines = (data / "labels.csv").read_text().splitlines()
    for number in range(40):
        with Image.open(data / "images" / f"{number:05d}.png") as image:
            image.resize((90, 90)).save(data / "images" / f"copy{number}.jpg", quality=70)
        lines.append(f"copy{number}.jpg,{lines[number + 1].split(',', 1)[1]}")
    (data / "labels.csv").write_text("\n".join(lines))
    for seed in range(3):
        parts = parts_by_file(dataset(data, seed=seed))
        assert all(parts[f"{number:05d}.png"] == parts[f"copy{number}.jpg"] for number in range(40))
        assert set(parts.values()) == {"train", "val", "test"}


def test_split_column_is_honoured_and_is_no_label(data: Path) -> None:
    cells = ["Train"] * 40 + ["valid"] * 12 + ["test"] * 8
    add_column(data, "Split", cells)
    run = dataset(data)
    names = {"Train": "train", "valid": "val", "test": "test"}
    assert list(parts_by_file(run).values()) == [names[cell] for cell in cells]
    assert run.labels == ("horizontal_stripes", "disc", "triangle")


def test_validation_images_are_taken_from_training_where_the_split_column_names_none(data: Path) -> None:
    add_column(data, "split", ["train"] * 50 + ["test"] * 10)
    parts = list(parts_by_file(dataset(data, val_fraction=0.2)).values())
    assert parts[50:] == ["test"] * 10
    assert sorted(set(parts[:50])) == ["train", "val"]
    assert parts[:50].count("val") == pytest.approx(10, abs=2)


def test_split_cell_that_is_no_part_is_named_with_its_row(data: Path) -> None:
    add_column(data, "split", ["train"] * 59 + ["tset"])
    with pytest.raises(LabelrError, match='row 61, column "split": expected train, val or test, got "tset"'):
        dataset(data)


def test_label_called_split_with_zeros_and_ones_is_a_label(data: Path) -> None:
    add_column(data, "split", ["0", "1"] * 30)
    assert "split" in dataset(data).labels


def test_table_of_an_earlier_model_gives_the_same_split_again(data: Path, tmp_path: Path) -> None:
    before = parts_by_file(dataset(data, seed=5))
    tiny = {"image_size": 32, "width": 0.125, "epochs": 1, "threads": 1, "workers": 1}
    model = fit(data, {**tiny, "seed": 5}, output=tmp_path / "model").model
    assert parts_by_file(dataset(data, seed=6, splits=str(model.path / "splits.csv"))) == before
    assert parts_by_file(dataset(data, seed=6)) != before


def test_table_written_by_hand_needs_names_and_parts_only(data: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (data / "images").iterdir())
    parts = ["train", "val", "test"] * 20
    with (tmp_path / "parts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "split"), *zip(names, parts, strict=True)])
    run = dataset(data, splits=str(tmp_path / "parts.csv"))
    assert [parts_by_file(run)[name] for name in names] == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,split\n00000.png,train\n", "59 of 60 images are not in"),
        (
            "image,split\n00000.png,traim\n",
            "row 2: expected an image and train, val or test, got '00000.png' and 'traim'",
        ),
        ("name,kind\n00000.png,train\n", "expected the columns image and split, got name, kind"),
    ],
)
def test_table_that_does_not_fit_is_an_error(data: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "parts.csv").write_text(text)
    with pytest.raises(LabelrError, match=message):
        dataset(data, splits=str(tmp_path / "parts.csv"))


@pytest.mark.parametrize("name", ["scenes", "grocery"])
def test_label_shares_of_real_data_are_within_two_points_and_better_than_at_random(scenes: Path, name: str) -> None:
    rows = [line.split(",") for line in (scenes.parent / name / "train" / "labels.csv").read_text().splitlines()[1:]]
    targets = np.array([row[1:] for row in rows], dtype=np.float32)
    from labelr.data.splits import stratified_split

    parts = stratified_split(targets, [row[0] for row in rows], (0.8, 0.1, 0.1))
    rng = np.random.default_rng(0)
    whole = targets.mean(axis=0)

    def deviation(division: np.ndarray) -> np.ndarray:
        return np.stack([np.abs(targets[division == part].mean(axis=0) - whole) for part in range(3)])

    at_random = np.mean([deviation(rng.permutation(parts)).mean() for _ in range(20)])
    assert deviation(parts).max() < 0.02
    assert deviation(parts).mean() < 0.5 * at_random


@pytest.mark.parametrize(
    ("num_train", "expected"), [(2, 8), (255, 8), (256, 16), (511, 16), (512, 32), (1023, 32), (1024, 64), (10**6, 64)]
)
def test_batches_are_smaller_where_an_epoch_would_have_few_steps(num_train: int, expected: int) -> None:
    assert resolve(TrainConfig(), CPU, drawn=False, num_train=num_train).batch_size == expected
    assert resolve(TrainConfig(), CPU, drawn=True, num_train=num_train).batch_size == min(expected, 32)
    assert resolve(TrainConfig(batch_size=5), CPU, drawn=False, num_train=num_train).batch_size == 5


@pytest.mark.parametrize(
    ("settings", "drawn", "lr"),
    [({}, False, 4e-3), ({}, True, 4e-3), ({"optimizer": "adamw"}, False, 1.5e-3), ({"lr": 0.1}, False, 0.1)],
)
def test_learning_rate_suits_the_optimizer_unless_given(settings: dict[str, object], drawn: bool, lr: float) -> None:
    assert resolve(TrainConfig.of(settings), CPU, drawn=drawn, num_train=100).lr == lr


def test_drawn_images_get_a_smaller_network_unless_given() -> None:
    drawn, photographs = (resolve(TrainConfig(), CPU, drawn=drawn, num_train=5000) for drawn in (True, False))
    assert (drawn.width, drawn.image_size) == (0.5, 64)
    assert (photographs.width, photographs.image_size) == (1.0, 128)
    assert resolve(TrainConfig(), GPU, drawn=False, num_train=5000).image_size == 224
    assert resolve(TrainConfig(width=2), CPU, drawn=True, num_train=5000).width == 2


def test_number_of_epochs_and_patience_are_open_where_a_time_is_given() -> None:
    assert resolve(TrainConfig(), CPU, drawn=False, num_train=100).epochs == 30
    timed = resolve(TrainConfig(time=5), CPU, drawn=False, num_train=100)
    assert (timed.epochs, timed.patience) == (None, None)
    assert resolve(TrainConfig(), CPU, drawn=False, num_train=100).patience == 10
    assert resolve(TrainConfig(time=5, patience=3), CPU, drawn=False, num_train=100).patience == 3
    assert resolve(TrainConfig(epochs=3), CPU, drawn=False, num_train=100).epochs == 3
