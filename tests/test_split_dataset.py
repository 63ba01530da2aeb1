"""The split of a data set: by labelr, by a column of the label file, by a table."""

import csv
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_data, put
from PIL import Image

from labelr.config import ReadOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.load import read_labels
from labelr.data.scan import Scan
from labelr.data.splits import split_dataset
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError
from labelr.training.fit import fit, load_splits


def dataset(data: Path, **settings: object) -> Dataset:
    return load_splits([data], TrainConfig.of(settings))


def splits_by_file(run: Dataset) -> dict[str, str]:
    return dict(zip(run.files, run.split_names, strict=True))


def add_column(data: Path, name: str, cells: list[str]) -> None:
    lines = (data / "labels.csv").read_text().splitlines()
    lines = [f"{line},{cell}" for line, cell in zip(lines, [name, *cells], strict=True)]
    (data / "labels.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def data(shapes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes, tmp_path / "data"))


def test_images_are_split_by_the_given_fractions(data: Path) -> None:
    run = dataset(data, val_fraction=0.2, test_fraction=0.3)
    assert [len(run.split(name)) for name in ("train", "val", "test")] == pytest.approx([30, 12, 18], abs=2)


def test_split_does_not_depend_on_the_order_of_the_rows(data: Path) -> None:
    before = splits_by_file(dataset(data))
    lines = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert splits_by_file(dataset(data)) == before


def test_groups_of_a_column_stay_in_one_split(data: Path) -> None:
    patients = [f"p{number % 15}" for number in range(60)]
    add_column(data, "patient", patients)
    run = dataset(data, group="patient")
    assert run.labels == ("horizontal_stripes", "disc", "triangle")
    splits = splits_by_file(run)
    for patient in range(15):
        assert len({splits[f"{number:05d}.png"] for number in range(60) if patients[number] == f"p{patient}"}) == 1
    assert set(splits.values()) == {"train", "val", "test"}


def test_group_column_that_is_not_there_is_an_error_with_the_nearest_name(data: Path) -> None:
    add_column(data, "patient", ["p"] * 60)
    with pytest.raises(LabelrError, match="has no column 'patients'") as caught:
        dataset(data, group="patients")
    assert "`patient`" in caught.value.hint


def test_copies_stay_in_one_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make_synthetic_dataset(tmp_path / "data", 100, 3, size=128)
    lines = (data / "labels.csv").read_text().splitlines()
    for number in range(40):
        with Image.open(data / "images" / f"{number:05d}.png") as image:
            image.resize((90, 90)).save(data / "images" / f"copy{number}.jpg", quality=70)
        lines.append(f"copy{number}.jpg,{lines[number + 1].split(',', 1)[1]}")
    (data / "labels.csv").write_text("\n".join(lines))
    for seed in range(3):
        splits = splits_by_file(dataset(data, seed=seed))
        assert all(splits[f"{number:05d}.png"] == splits[f"copy{number}.jpg"] for number in range(40))
        assert set(splits.values()) == {"train", "val", "test"}


def test_split_column_is_honoured_and_is_no_label(data: Path) -> None:
    cells = ["Train"] * 40 + ["valid"] * 12 + ["test"] * 8
    add_column(data, "Split", cells)
    run = dataset(data)
    names = {"Train": "train", "valid": "val", "test": "test"}
    assert list(splits_by_file(run).values()) == [names[cell] for cell in cells]
    assert run.labels == ("horizontal_stripes", "disc", "triangle")


def test_validation_images_are_taken_from_training_where_the_split_column_names_none(data: Path) -> None:
    add_column(data, "split", ["train"] * 50 + ["test"] * 10)
    splits = list(splits_by_file(dataset(data, val_fraction=0.2)).values())
    assert splits[50:] == ["test"] * 10
    assert sorted(set(splits[:50])) == ["train", "val"]
    assert splits[:50].count("val") == pytest.approx(10, abs=2)


def test_near_duplicates_in_different_splits_of_a_column_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8))
    photo = coarse.resize((320, 240), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "a.png")
    photo.resize((160, 120)).save(tmp_path / "b.jpg")
    for name, colour in (("c.png", "red"), ("d.png", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
    rows = "a.png,1,train\nb.jpg,1,test\nc.png,0,train\nd.png,0,val\n"
    (tmp_path / "labels.csv").write_text(f"filename,dog,split\n{rows}")
    dataset(tmp_path)
    assert "2 images have a copy or near-duplicate in another split: scores will be too good" in caplog.text


def test_invalid_split_cell_is_named_with_its_row(data: Path) -> None:
    add_column(data, "split", ["train"] * 59 + ["tset"])
    with pytest.raises(LabelrError, match='row 61, column "split": expected train, val or test, got "tset"'):
        dataset(data)


def test_column_called_split_with_zeros_and_ones_is_a_label_only_where_it_is_named(data: Path) -> None:
    add_column(data, "split", ["0", "1"] * 30)
    read = dataset(data)
    assert "split" not in read.labels
    assert any("split" in note and "no label" in note for note in read.findings.notes)
    assert dataset(data, only=("split",)).labels == ("split",)


@pytest.mark.slow
def test_table_of_an_earlier_model_gives_the_same_split_again(data: Path, tmp_path: Path) -> None:
    before = splits_by_file(dataset(data, seed=5))
    tiny = {"image_size": 32, "width": 0.125, "epochs": 1, "threads": 1, "workers": 1}
    model = fit(data, {**tiny, "seed": 5}, output=tmp_path / "model").model
    assert splits_by_file(dataset(data, seed=6, splits=str(model.path / "splits.csv"))) == before
    assert splits_by_file(dataset(data, seed=6)) != before


def test_table_written_by_hand_needs_only_names_and_splits(data: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (data / "images").iterdir())
    splits = ["train", "val", "test"] * 20
    with (tmp_path / "splits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "split"), *zip(names, splits, strict=True)])
    run = dataset(data, splits=str(tmp_path / "splits.csv"))
    assert [splits_by_file(run)[name] for name in names] == splits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,split\n00000.png,train\n", "59 of 60 images are not in"),
        (
            "image,split\n00000.png,traim\n",
            'row 2, column "split": expected train, val or test, got "traim"',
        ),
        ("name,kind\n00000.png,indoor\n", "has no column `split`: name, kind"),
        ("image,split\n00000.png,train\n00000.PNG,test\n", r"1 image in two splits: 00000.png \(train and test\)"),
    ],
)
def test_table_that_does_not_fit_is_an_error(data: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(LabelrError, match=message):
        dataset(data, splits=str(tmp_path / "splits.csv"))


def _nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace("image,split", "Image,Split"),
        lambda text: text.replace("image,split", "filename,set"),
        lambda text: text.replace(",val", ",Validation "),
        lambda text: text.replace("train,val", "Train,VALID"),
        lambda text: text.upper().replace("IMAGE,SPLIT", "image,split"),
        lambda text: text.replace(".jpg", ""),
        lambda text: text.replace("\n", "\n./").removesuffix("./"),
        lambda text: text.replace("sub/", "sub\\"),
        lambda text: text.replace("\n", "\n/home/me/photos/").removesuffix("/home/me/photos/"),
        _nfd,
        lambda text: text.encode("cp1252"),
        lambda text: text.encode("utf-16"),
    ],
)
def test_table_is_read_as_a_label_file_is(write: Callable[[str], str | bytes], tmp_path: Path) -> None:
    labels = "filename,dog\nsub/Kühe.jpg,1\nsub/b.jpg,0\nsub/c.jpg,1\n"
    data = make_data(tmp_path / "data", labels, ["sub/Kühe.jpg", "sub/b.jpg", "sub/c.jpg"])
    path = put(tmp_path, "mine.csv", write("image,split\nsub/Kühe.jpg,train\nsub/b.jpg,val\nsub/c.jpg,test\n"))
    read = replace(read_labels([data], ReadOptions()), scans=(Scan("0a"), Scan("0b"), Scan("0c")))
    assert split_dataset(read, TrainConfig(splits=(str(path),))).split_names == ["train", "val", "test"]


def test_table_may_be_a_spreadsheet(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", "filename,dog\na.jpg,1\nb.jpg,0\n")
    path = tmp_path / "mine.xlsx"
    pd.DataFrame({"Image": ["b.jpg", "a.jpg"], "Split": ["val", "train"]}).to_excel(path, index=False)
    read = replace(read_labels([data], ReadOptions()), scans=(Scan("0a"), Scan("0b")))
    assert split_dataset(read, TrainConfig(splits=(str(path),))).split_names == ["train", "val"]


def test_lists_in_a_folder_assign_images_by_name(data: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (data / "images").iterdir())
    for row, split in enumerate(("train", "val", "test")):
        put(tmp_path / "lists", f"{split}.txt", "\n".join(names[row::3]))
    run = dataset(data, splits=tmp_path / "lists")
    assert [splits_by_file(run)[name] for name in names] == ["train", "val", "test"] * 20


def test_several_lists_are_splits_by_their_names(data: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (data / "images").iterdir())
    lists = [tmp_path / "my_train.txt", tmp_path / "val.csv", tmp_path / "test.txt"]
    for path, own in zip(lists, (names[:40], ["filename", *names[40:50]], names[50:]), strict=True):
        path.write_text("\n".join(own))
    assert Counter(dataset(data, splits=lists).split_names) == {"train": 40, "val": 10, "test": 10}
    lists[2].write_text("\n".join(names[49:]))
    with pytest.raises(LabelrError, match=r"train\.txt, .*val\.csv, .* has 1 image in two splits"):
        dataset(data, splits=lists)


def test_table_without_validation_images_says_where_they_are_from(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"{path.name},train\n" for path in (data / "images").iterdir())
    (tmp_path / "splits.csv").write_text(f"image,split\n{rows}")
    with caplog.at_level("INFO"):
        splits = dataset(data, splits=str(tmp_path / "splits.csv")).split_names
    assert Counter(splits) == {"train": 54, "val": 6}
    assert "the split names no validation images: 10 % of the training images are" in caplog.text


def test_encoding_option_applies_to_the_table(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", "filename,dog\na.jpg,1\nø.jpg,0\n".encode("cp850"), ["a.jpg", "ø.jpg"])
    path = put(tmp_path, "mine.csv", "image,split\na.jpg,train\nø.jpg,val\n".encode("cp850"))
    config = TrainConfig(splits=(str(path),), encoding="cp850")
    read = replace(read_labels([data], config), scans=(Scan("0a"), Scan("0b")))
    assert split_dataset(read, config).split_names == ["train", "val"]


@pytest.mark.parametrize("name", ["scenes", "grocery"])
def test_label_shares_of_real_data_are_within_two_points_and_better_than_at_random(scenes: Path, name: str) -> None:
    rows = [line.split(",") for line in (scenes.parent / name / "train" / "labels.csv").read_text().splitlines()[1:]]
    targets = np.array([row[1:] for row in rows], dtype=np.float32)
    from labelr.data.splits import stratified_split

    splits = stratified_split(targets, [row[0] for row in rows], (0.8, 0.1, 0.1))
    rng = np.random.default_rng(0)
    whole = targets.mean(axis=0)

    def deviation(assigned: np.ndarray) -> np.ndarray:
        return np.stack([np.abs(targets[assigned == split].mean(axis=0) - whole) for split in range(3)])

    at_random = np.mean([deviation(rng.permutation(splits)).mean() for _ in range(20)])
    assert deviation(splits).max() < 0.02
    assert deviation(splits).mean() < 0.5 * at_random
