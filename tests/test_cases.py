"""Label files after public bug reports of other tools; each folder has a README with its source and what was wanted."""

from typing import Any

import numpy as np
import pytest
from conftest import SHARED

from labelr.config import ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.load import read_labels
from labelr.errors import LabelrError

CASES = SHARED / "cases"
ANIMALS = ("dog", "cat", "car", "tree")
NUMBERED = ("label_1", "label_2", "label_3", "label_4")


def read_case(name: str, **options: Any) -> Dataset:
    folder = CASES / name
    if not folder.is_dir():
        pytest.skip(f"the cases are not at {CASES}")
    if "labels" in options:
        options["labels"] = [str(folder / options["labels"])]
    return read_labels([folder], ReadOptions.of(options))


@pytest.mark.parametrize(
    ("name", "options", "labels", "num_images", "note"),
    [
        ("coco-loose-ends/orphans", {"skip_invalid": True}, ANIMALS, 40, ""),
        ("encodings/cp1251", {}, ("собака", "кошка", "машина", "дерево"), 30, "in cp1251"),
        ("encodings/gbk", {}, ("小狗", "猫咪", "汽车", "大树"), 30, "in gb18030"),
        ("lists-with-spaces/celeba", {}, ("Smiling", "Young", "Wearing_Hat", "Blurry"), 40, "-1 counts as no"),
        ("lists-with-spaces/nuswide", {}, NUMBERED, 40, "no header"),
        ("lists-with-spaces/paddle", {"labels": "train_list.txt"}, NUMBERED, 40, "label_1"),
        ("lists-with-spaces/paddle", {}, NUMBERED, 40, "label_1"),
        ("lists-with-spaces/mxnet", {"labels": "train.lst"}, NUMBERED, 40, "label_1"),
        ("lists-with-spaces/mxnet", {}, NUMBERED, 40, "label_1"),
        ("ragged-rows/data", {"skip_invalid": True}, ANIMALS, 38, "ignored: title"),
        ("ragged-rows/jsonl_one_cut_line", {"skip_invalid": True}, ("car", "cat", "dog", "none", "tree"), 29, ""),
        ("ragged-rows/voc_one_broken_xml", {"skip_invalid": True}, None, 29, ""),
        ("several-columns-of-classes/keras", {}, ("BinaryClass",), 40, "`--label-column MultiClass`"),
        (
            "several-columns-of-classes/keras", {"label_column": ["MultiClass", "BinaryClass"]},
            ("MultiClass=Jeans", "MultiClass=Shirts", "MultiClass=Watches", "BinaryClass"), 40, "",
        ),
        ("several-columns-of-classes/data", {"label_column": ["baseColour", "season"]}, None, 40, "ignored: gender"),
        ("timelapse/one_station", {}, ("boar", "deer", "fox"), 32, "ignored: RelativePath, DateTime, DeleteFlag"),
        ("timelapse/stations", {}, ("boar", "deer", "fox"), 36, 'from the columns "RelativePath" and "File"'),
        ("wildlife-insights/data", {}, ("Blank", "Eurasian Jay", "Red Fox", "Roe Deer"), 40, "is_blank"),
        ("words-for-true/it", {}, ("aperto", *ANIMALS), 30, ""),
        ("words-for-true/nl", {}, ("aperto", *ANIMALS), 30, ""),
        ("words-for-true/pl", {}, ("aperto", *ANIMALS), 30, ""),
    ],
)  # fmt: skip
def test_case_is_read(
    name: str, options: dict[str, Any], labels: tuple[str, ...] | None, num_images: int, note: str
) -> None:
    dataset = read_case(name, **options)
    assert len(dataset) == num_images
    assert labels is None or dataset.labels == labels
    assert dataset.findings.missing == ()
    assert note in "; ".join([dataset.layout, *dataset.findings.notes])
    assert not np.isnan(dataset.targets).any()


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("coco-loose-ends/orphans", "annotation 66 refers to image 40", "`--skip-invalid`"),
        ("ragged-rows/data", "row 7: expected 6 cells as in the header, got 7 (1 more row ", "`--skip-invalid`"),
        ("ragged-rows/jsonl_one_cut_line", "line 10", "`--skip-invalid`"),
        ("ragged-rows/voc_one_broken_xml", "f07.xml cannot be parsed", "`--skip-invalid`"),
        ("several-columns-of-classes/data", "any of the columns masterCategory", "`--label-column articleType`"),
        ("timelapse/partial", "IMG_0001.JPG (as site A/IMG_0001.JPG and site B/IMG_0001.JPG", "`--images`"),
    ],
)  # fmt: skip
def test_case_is_explained(name: str, message: str, hint: str) -> None:
    with pytest.raises(LabelrError) as caught:
        read_case(name)
    assert message in caught.value.message
    assert hint in caught.value.hint
