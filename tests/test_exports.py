"""Label files as annotation tools, data sets and office programs write them; see tests/exports for their sources.

The expected values were read from the files by eye. A row is written as its labels separated by ``|``. Other labels do
not apply, except that ``cat|!dog|?`` is an image with a cat, without a dog, and of which nothing else is known.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import put

from labelr import files
from labelr.config import ReadOptions
from labelr.data.load import read_labels
from labelr.errors import LabelrError
from labelr.tagging.pipeline import LabelSelection, Result
from labelr.tagging.tables import LABELS_FILE, PROBABILITIES_FILE, header, label_row, probability_row, write_table
from labelr.tagging.writers import image_csv

EXPORTS = Path(__file__).parent / "exports"

BARE = "no label applies: 1"
ONE_LESS = "images are matched without the first folder of each name"
OWN_NAMES = "matched by the names of the files alone"


class Case(NamedTuple):
    """An export and its expected content; images are named by their path below `root`."""

    folder: str  # of tests/exports
    layout: str  # a part of its description
    labels: str  # in order, or `file:` and a table whose header names them from the second column on
    rows: Mapping[str, str]
    root: str = ""
    splits: str = ""
    notes: tuple[str, ...] = ()  # a part of each
    missing: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    options: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return f"{self.folder} {self.options.get('layout', '')}".strip()


def prepare(folder: Path, export: str, images: Iterable[str]) -> Path:
    shutil.copytree(EXPORTS / export, folder)
    for image in images:
        put(folder, image, b"")
    return folder


def targets_of(row: str, labels: Iterable[str]) -> list[float]:
    marks = row.split("|") if row else []
    known = {**dict.fromkeys(marks, 1.0), **{mark[1:]: 0.0 for mark in marks if mark.startswith("!")}}
    assert {mark.lstrip("!") for mark in marks} - {"?"} <= set(labels)
    return [known.get(label, float("nan") if "?" in marks else 0.0) for label in labels]


def check(case: Case, folder: Path) -> None:
    images = [f"{case.root}/{name}".lstrip("/") for name in (*case.rows, *case.unlabelled, *case.unlisted)]
    data = prepare(folder, case.folder, images)
    label_files = [str(data / name) for name in case.options.get("labels", ())]
    reading = read_labels([data], ReadOptions.of({**case.options, "labels": label_files}))
    table, labels = reading, case.labels.split("|")
    if case.labels.startswith("file:"):
        labels = (data / case.labels[5:]).read_text(encoding="utf-8").splitlines()[0].split(",")[1:]
    assert table.root == data / case.root
    assert table.labels == tuple(labels)
    assert table.files == tuple(case.rows)
    expected = np.array([targets_of(row, labels) for row in case.rows.values()], dtype=np.float32)
    np.testing.assert_array_equal(table.targets, expected, strict=True)
    assert (table.named_splits, table.groups) == (tuple(case.splits.split()) or None, case.groups)
    assert case.layout in table.layout
    assert (reading.findings.missing, reading.findings.unlabelled, reading.findings.unlisted) == (
        case.missing,
        case.unlabelled,
        case.unlisted,
    )
    assert len(reading.findings.notes) == len(case.notes), reading.findings.notes
    assert all(piece in note for piece, note in zip(case.notes, reading.findings.notes, strict=True)), (
        reading.findings.notes
    )
    assert reading.findings.invalid == ()


# --- annotation tools ------------------------------------------------------------------------------------------------

BLURRY = 'blurry "bad", größe'
BLANK, CANCELLED = "/data/upload/1/11223344-empty.jpg", "/data/upload/1/0f9e8d7c-my_photo_1.jpg"
UPLOAD, EMPTY = "upload/1/ab12cd34-name.jpg", "upload/1/55667788-submitted_empty.jpg"
ORIGINALS = {"name.jpg": "cat|dog", "name2.jpg": "dog", "name3.jpg": ""}  # as they were before they were uploaded
TIED = "affirmed as often as denied for an image, taken as unknown: 3"
CASES = [
    Case(f"label-studio/choices-{kind}", "Label Studio", f"{BLURRY}|cat|dog",
         {UPLOAD: "cat|dog", "photos/name.jpg": "cat", EMPTY: ""},
         notes=(TIED, OWN_NAMES), missing=left_out, unlabelled=("photos/größe 1.jpg",))
    for kind, left_out in [("json", (CANCELLED, BLANK)), ("json-min", (BLANK,)), ("csv", (BLANK,))]
]  # fmt: skip
CASES += [
    Case("label-studio/boxes-json-min", "Label Studio", "cat|dog", ORIGINALS,
         notes=(OWN_NAMES,), missing=(BLANK,)),
    Case("label-studio/coco", "COCO", "cat|dog", {**ORIGINALS, "empty.jpg": ""},
         "images", notes=("no label applies: 2", OWN_NAMES)),
    Case("label-studio/coco-media", "COCO", "cat|dog", {"ab12cd34-name.jpg": "cat|dog", "11223344-empty.jpg": ""},
         "images", notes=(BARE, "without the first 6 folders of each name")),
    Case("cvat/task", "CVAT for images", "cat|dog|R&D <bad>",
         {"a.jpg": "cat|R&D <bad>", "sub dir/b.jpg": "cat|dog", 'sub dir/größe "q" & 1.png': "", "c.jpg": "dog"},
         notes=(BARE, "not read: age")),
    Case("cvat/project", "CVAT for images", "cat|dog|R&D <bad>",
         {"default/a.jpg": "cat", "Train/sub/b.jpg": "dog", "Train/c.jpg": ""}, "images",
         notes=(BARE, "not read: age"), missing=("Train/sub/b_1.jpg",), unlisted=("Train/a.jpg",)),
    Case("cvat/old", "CVAT for images", "cat", {"a.jpg": "cat", "b.jpg": ""}, notes=(BARE,)),
    Case("cvat/coco", "COCO", "cat|dog",
         {"default/a.jpg": "cat", "default/sub dir/b.jpg": "cat|dog", "default/empty.png": ""}, "images",
         notes=(BARE, OWN_NAMES)),
    Case("cvat/coco-subsets", "COCO, the objects in an image, 2 files", "cat|dog",
         {"Train/sub/b.jpg": "dog", "default/a.jpg": "dog"}, "images",
         notes=(OWN_NAMES,)),
    Case("cvat/yolo", "YOLO", "cat|dog",
         {"obj_train_data/a.jpg": "cat|dog", "obj_train_data/empty.png": "", "obj_train_data/sub dir/b.jpg": "dog"},
         notes=(BARE,)),
    Case("cvat/ultralytics", "YOLO", "cat|dog", {"Validation/c.jpg": "", "train/a.jpg": "dog"},
         "images", "val train", notes=(BARE,)),
    Case("datumaro/cvat", "CVAT for images", "cat|dog",
         {"a.jpg": "cat|dog", "sub dir/b_2.jpg": "dog", "c.jpg": "cat|dog", "empty.png": ""}, notes=(BARE,)),
    Case("datumaro/coco", "COCO", "cat|dog",
         {"a.jpg": "cat|dog", "sub dir/b_2.jpg": "cat|dog", "c.jpg": "", "empty.png": ""}, "images",
         notes=("no label applies: 2",)),
    Case("datumaro/voc", "Pascal VOC", "cat|dog", {"JPEGImages/a.jpg": "cat|dog"},
         notes=(OWN_NAMES,), unlisted=("JPEGImages/c.jpg",)),
]  # fmt: skip

RF, NOTHING = ".rf.0123456789abcdef0123456789abcdef.jpg", "empty_png.rf.9426901f6b6a41cc040a1994206a8b99.jpg"
PHOTO = "my-photo-1_jpeg.rf.1dcffa832c7739c8a764a25d72b5116a.jpg"
BIKE = "320744372_1598711317229100_4537241792240711178_n_jpg.rf.004843faf08adda1c67b4d2d4181975a.jpg"
SCOOTER = "320442806_416470363946455_913789474133940145_n_jpg.rf.009f1da014b00139ae6179652450b913.jpg"
CASES += [
    Case("roboflow/coco", "COCO, the objects in an image, 3 files", "cat|dog",
         {f"train/a_jpg{RF}": "cat|dog", "train/a_jpg.rf.79a28071be7ca7c93095c750f93f929d.jpg": "dog",
          f"train/{NOTHING}": "", f"valid/{PHOTO}": "cat"}, splits="train train train val", notes=(BARE,)),
    Case("roboflow/yolo", "YOLO", "cat|dog",
         {f"train/images/a_jpg{RF}": "cat|dog", f"train/images/{NOTHING}": "", f"valid/images/{PHOTO}": "dog"},
         splits="train train val", notes=("in data.yaml that do not exist: test: ../test/images", BARE)),
    Case("roboflow/classes", "one column a label, comma-separated, 3 files", "bus|car|motorbike|person|truck",
         {"test/082-05-01-2022_jpg.rf.92cf7d2ae0e5bfdead6aaa76250054e6.jpg": "motorbike|person",
          f"train/{BIKE}": "motorbike", f"train/{SCOOTER}": "motorbike|person",
          "train/DgL651vUEAAj1iB-2_jpg.rf.01bb44bd8146bbced312bf80e1525b58.jpg": "bus|car|motorbike|person",
          "train/328079512_586433859730983_4124605241028616993_n_jpg.rf.92dd3db4f021f5458678e9ca0088779b.jpg": "",
          "valid/IMG-20211217-WA0002_jpeg.rf.039fc19aa5eb041c006764a8b70397b1.jpg": "motorbike|person",
          "valid/P_20221003_131507_jpg.rf.0293ccf2b8bb6707568e15bba80312a2.jpg": "car|truck"},
         splits="test train train train train val val"),
    Case("roboflow/boxes", 'one row an image and label, in the column "class"', "0|2|4",
         {"train/2_141_jpg.rf.ac6593e08df76f1879a9291ad0b48225.jpg": "2",
          "train/20230516_095423_jpg.rf.b0c76612db55a213acaacd91e66fd355.jpg": "0",
          "train/4_193_jpg.rf.aca8d120735b1e2ed7106ccc258c5e06.jpg": "4"},
         notes=("ignored: width, height, xmin, ymin, xmax, ymax",)),
    Case("coco/instances", "COCO", "cat|dog|toothbrush",
         {"000000397133.jpg": "dog", "000000037777.jpg": "toothbrush", "000000252219.jpg": ""}, "images",
         notes=(BARE,)),
    Case("labelimg/voc", "Pascal VOC", "R&D <bad>|cat|dog",
         {"a.jpg": "cat|dog", "empty.jpg": "", "größe & 1.png": "R&D <bad>"}, notes=(BARE,)),
    Case("labelimg/yolo", "YOLO", "cat|dog", {"a.jpg": "cat|dog", "empty.jpg": ""}, notes=(BARE,)),
    Case("ultralytics/folders", "YOLO", "cat|dog",
         {"train/a.jpg": "cat|dog", "train/empty.jpg": "", "train/none.jpg": "", "train/sub/b.jpg": "dog",
          "val/c.jpg": "cat"}, "images", "train train train train val", ("no label applies: 2",)),
    Case("tools/exiftool", 'tags in the column "Keywords", separated by `,`', "cat|dog|outdoor",
         {"img1.jpg": "cat|outdoor", "img2.jpg": "dog", "img3.jpg": ""}, notes=("ignored: Subject", BARE)),
]  # fmt: skip

# --- formats of data sets and services -------------------------------------------------------------------------------

CODES = "/m/012mj|/m/01_m7|/m/01bqvp|/m/01cbzq|/m/01cd9|/m/06qrr|/m/0csby"
NO_SPLIT = "images without a split, which count as train: 2"
VERTEX = {"filename1.jpeg": "daisy|full_shot", "filename2.gif": "dandelion|medium_shot"}
CASES += [
    Case("open-images/human", "Open Images", f"{CODES}|Cocktail|Drink|Human head|Tree|Wine glass",
         {"000026e7ee790996.jpg": "Tree|/m/01bqvp|/m/0csby|/m/01cbzq|!Human head|!/m/01_m7|?",
          "f6ffd53184f58758.jpg": "Cocktail|Drink|Wine glass|/m/06qrr|?", "01d160559286c930.jpg": "!/m/012mj|?",
          "02deba0102b5ce2a.jpg": "/m/01cd9|?"}, "images", notes=("names of labels are from oidv7-class",)),
    Case("open-images/machine", "Open Images", "/m/06ht1|/m/0csby|Tree",
         {"000060e3121c7305.jpg": "/m/06ht1|?", "000026e7ee790996.jpg": "Tree|/m/0csby|?"}, "images",
         notes=("from class-descriptions.csv", "count as yes from 0.5, else as no: 3")),
    Case("open-images/boxes", "Open Images", "/m/02xwb|/m/04yx4|/m/09j2d|/m/0cmf2",
         {"0001eeaf4aed83f9.jpg": "/m/0cmf2|?", "000595fe6fee6369.jpg": "/m/02xwb|?",
          "00075905539074f2.jpg": "/m/04yx4|?", "000a1249af2bc5f0.jpg": "/m/09j2d|?"},
         notes=("labels are codes",)),
    Case("vertex/automl", "rows without a header", "daisy|dandelion|rose|tulip",
         {"image1.jpg": "daisy", "image5.jpg": "daisy|rose", "image2.jpg": "dandelion|tulip|rose",
          "image3.jpg": "daisy"}, splits="train val test train", notes=(NO_SPLIT,), unlabelled=("image4.jpg",)),
    Case("vertex/csv", "rows without a header",
         "closeup|daisy|dandelion|extreme_closeup|full_shot|medium_shot|sunflowers|tulips",
         {**VERTEX, "filename4.bmp": "sunflowers|closeup", "filename5.tiff": "tulips|extreme_closeup"},
         splits="test train train val", notes=(NO_SPLIT,), unlabelled=("filename3.png",)),
    Case("vertex/jsonl", "JSON Lines", "daisy|dandelion|extreme_closeup|full_shot|medium_shot|roses|tulips",
         {**VERTEX, "filename3.png": "roses", "filename5.tiff": "tulips|extreme_closeup"}, "images",
         "test train train val", (NO_SPLIT,), unlabelled=("filename4.bmp",)),
    Case("hugging-face/columns-csv", "one column a label", "cat|dog|outdoor",
         {"train/0001.png": "cat|outdoor", "train/0002.png": "", "train/0003.png": "dog"}),
    Case("hugging-face/label-csv-root", 'tags in the column "label", one an image', "cat|dog",
         {"train/0001.png": "cat", "train/0002.png": "dog", "test/0003.png": "cat"}),
    Case("hugging-face/objects", 'tags in the column "objects"', "0|1|2",
         {"train/0001.png": "0", "train/0002.png": "1", "train/0003.png": "2"}),
    Case("hugging-face/tags-jsonl", 'tags in the column "tags"', "cat|dog|indoor|outdoor",
         {"test/0004.png": "dog|indoor", "train/0001.png": "cat|outdoor", "train/0002.png": "",
          "train/sub/0003.png": "dog"}, splits="test train train train", notes=(BARE,)),
]  # fmt: skip

SCAN = "ignored: Follow-up #, Patient Age, Patient Gender, View Position, OriginalImage[Width, Height]"
CHEST = "No Finding|Enlarged Cardiomediastinum|Cardiomegaly|Lung Opacity|Lung Lesion|Edema|Consolidation|Pneumonia"
LUNGS = "Atelectasis|Pneumothorax|Pleural Effusion|Pleural Other|Fracture|Support Devices"
SMILING = "Brown_Hair|High_Cheekbones|Mouth_Slightly_Open|No_Beard|Smiling|Young"  # two in three
EARRINGS = "Pointy_Nose|Straight_Hair|Wearing_Earrings|Wearing_Lipstick"
HOUSES = "buildings|chaparral|sand|sparse residential area|trees"  # three in three
CASES += [
    Case("data-sets/planet", 'tags in the column "tags", separated by spaces',
         "agriculture|blooming|clear|conventional_mine|habitation|haze|partly_cloudy|primary|road|water",
         {"train-jpg/train_0.jpg": "haze|primary", "train-jpg/train_1.jpg": "agriculture|clear|primary|water",
          "train-jpg/train_4.jpg": "agriculture|clear|habitation|primary|road",
          "train-jpg/train_24.jpg": "conventional_mine|partly_cloudy|primary",
          "train-jpg/train_245.jpg": "clear|primary|blooming"}, notes=(OWN_NAMES,)),
    Case("data-sets/nih", 'tags in the column "Finding Labels", separated by `|`',
         "Cardiomegaly|Effusion|Emphysema|No Finding",
         {"images_001/images/00000001_000.png": "Cardiomegaly",
          "images_001/images/00000001_001.png": "Cardiomegaly|Emphysema",
          "images_001/images/00000001_002.png": "Cardiomegaly|Effusion",
          "images_002/images/00000002_000.png": "No Finding"}, notes=(SCAN, OWN_NAMES), groups=("1", "1", "1", "2"),
         options={"layout": "tags", "group": "Patient ID"}),
    Case("data-sets/chexpert", "one column a label, comma-separated, 2 files", f"{CHEST}|{LUNGS}",
         {"train/patient00001/study1/view1_frontal.jpg": "No Finding|Support Devices|!Pneumothorax|?",
          "train/patient00002/study2/view1_frontal.jpg": "Lung Opacity|Fracture|?",
          "train/patient00002/study1/view2_lateral.jpg": "Lung Opacity|Fracture|?",
          "valid/patient64541/study1/view1_frontal.jpg": "Enlarged Cardiomediastinum|Lung Opacity|Support Devices"},
         splits="train train train val",
         notes=("ignored: Sex, Age, Frontal/Lateral, AP/PA", "-1 counts as unknown", "no cell says no: No Finding",
                ONE_LESS)),
    Case("data-sets/celeba", "one column a label", "file:list_attr_celeba.csv",
         {"img_align_celeba/000001.jpg": f"{SMILING}|Arched_Eyebrows|Attractive|Heavy_Makeup|{EARRINGS}",
          "img_align_celeba/000002.jpg": f"{SMILING}|Bags_Under_Eyes|Big_Nose",
          "img_align_celeba/000003.jpg": "Big_Lips|Blurry|Male|Narrow_Eyes|No_Beard|Pointy_Nose|Wavy_Hair|Young"},
         notes=("-1 counts as no", OWN_NAMES), options={"minus_one": "no"}),
    Case("data-sets/hpa", 'tags in the column "Target", separated by spaces', "0|1|16|2|5|7",
         {"00070df0-bbc3-11e8-b2bc-ac1f6b6435d0.png": "16|0", "000a6c98-bb9b-11e8-b2b9-ac1f6b6435d0.png": "7|1|2|0",
          "000a9596-bbc4-11e8-b2bc-ac1f6b6435d0.png": "5", "000c99ba-bba4-11e8-b2b9-ac1f6b6435d0.png": "1"}),
    Case("data-sets/plant-pathology", 'tags in the column "labels", separated by spaces',
         "complex|frog_eye_leaf_spot|healthy|scab",
         {"800113bb65efe69e.jpg": "healthy", "8002cb321f8bfcdf.jpg": "scab|frog_eye_leaf_spot|complex",
          "80070f7fb5e2ccaa.jpg": "scab", "80077517781fb94f.jpg": "scab"}, "images"),
    Case("data-sets/mlrsnet", "one column a label", "file:labels/sparse_residential_area.csv",
         {"Images/s/sparse_residential_area_00900.jpg":
              f"{HOUSES}|pavement|railway|railway station|river|road|swimming pool|water",
          "Images/s/sparse_residential_area_00982.jpg": f"{HOUSES}|bare soil|pavement|road",
          "Images/s/sparse_residential_area_00991.jpg": f"{HOUSES}|swimming pool|water"}, notes=(OWN_NAMES,)),
]  # fmt: skip

# --- office programs and text files ----------------------------------------------------------------------------------

BESIDE = "a text file of tags beside each image, separated by "
WIDE, TAGS = {"layout": "wide"}, {"layout": "tags"}
CASES += [
    Case("tables/excel-ansi", "semicolon-separated, in cp1252", "cat", {"img1.jpg": "cat", "img2.jpg": ""},
         notes=("ignored: tags",), options=WIDE),
    Case("tables/excel-ansi", "in cp1252", "Größe", {"img1.jpg": "Größe", "img2.jpg": ""},
         notes=("ignored: cat", BARE), options=TAGS),
    Case("tables/excel-sep-line", "semicolon-separated", "cat|dog", {"img1.jpg": "cat", "img2.jpg": "dog"}),
    Case("tables/excel-utf8-semicolon", "separated by `,`", "Größe|a;b|cat|dog",
         {"img1.jpg": "cat|dog", "img2.jpg": "Größe", "img3.jpg": "a;b"}, notes=("ignored: cat",),
         options={**TAGS, "tag_separator": ","}),
    Case("tables/excel-unicode", "tab-separated, in utf-16", "Größe|cat|dog",
         {"img1.jpg": "cat|dog", "img2.jpg": "Größe"}, notes=("ignored: cat",),
         options={**TAGS, "labels": ("labels.txt",)}),
    Case("tables/google-sheets", "comma-separated", "cat|dog", {"img1.jpg": "cat", "img2.jpg": "", "img3.jpg": "dog"},
         notes=("ignored: tags",), options=WIDE),
    Case("tables/google-sheets", "separated by `,`", "cat|dog|outdoor",
         {"img1.jpg": "cat|outdoor", "img2.jpg": "", "img3.jpg": "dog"}, notes=("ignored: cat, dog", BARE),
         options=TAGS),
    Case("tables/libreoffice", "comma-separated", "cat", {"img1.jpg": "cat", "img2.jpg": ""},
         notes=("ignored: tags",), unlabelled=("img3.jpg",), options=WIDE),
    Case("tables/pandas-index", "one column a label", "cat", {"img1.jpg": "cat", "img2.jpg": ""}),
    Case("tables/pandas-sets", 'tags in the column "tags"', "a|b|x", {"img1.jpg": "a|b", "img2.jpg": "x"}),
    Case("tables/r-write-csv", "one column a label", "cat|dog",
         {"img1.jpg": "cat", "img2.jpg": "!cat|?", "img3.jpg": "dog"}, notes=("ignored: note",)),
    Case("sidecar/kohya", BESIDE + "`,`", "1girl|^_^|fate_(series)|hatsune_miku|long_hair|no_humans|scenery|solo",
         {"img1.jpg": "1girl|solo|long_hair|^_^|hatsune_miku", "img2.png": "no_humans|scenery|fate_(series)",
          "img3.webp": ""}, notes=("empty text file, to which no label applies: 1 (img3.webp)",),
         unlisted=("img4.jpg",)),
    Case("sidecar/webui", BESIDE + "`,`", "1girl|:d|long hair|saber (fate)|solo",
         {"img1.jpg": "1girl|solo|long hair|saber (fate)|:d", "img2.jpg": "1girl|solo|saber (fate)"}),
    Case("sidecar/gallery-dl", BESIDE + "lines", "1girl|long_hair|saber_(fate)|solo",
         {"12345.jpg": "1girl|long_hair|saber_(fate)|solo"}),
    Case("sidecar/booru", BESIDE + "spaces", "1girl|long_hair|saber_(fate)|solo",
         {"12345.jpg": "1girl|long_hair|saber_(fate)|solo"}),
    Case("sidecar/hydrus", BESIDE + "lines", "blonde hair|character:samus aran|creator:some artist|series:metroid",
         {"Image_123456.jpg": "character:samus aran|creator:some artist|blonde hair|series:metroid"},
         unlisted=("Image_123458.jpg",)),
]  # fmt: skip

for kind in ("default", "records"):
    CASES += [
        Case(f"tables/pandas-{kind}", "one column a label", "cat|n",
             {"img1.jpg": "cat|n", "img2.jpg": "!cat|?", "img3.jpg": "!n|?"}, notes=("ignored: tags",), options=WIDE),
        Case(f"tables/pandas-{kind}", 'tags in the column "tags"', "cat|dog|it's",
             {"img1.jpg": "cat|dog", "img2.jpg": "", "img3.jpg": "it's"}, notes=("ignored: cat, n", BARE),
             options=TAGS),
    ]  # fmt: skip

CASES += [
    Case("data-sets/nih", 'tags in the column "Finding Labels"', "Cardiomegaly|Effusion|Emphysema|No Finding",
         {"00000001_000.png": "Cardiomegaly", "00000001_001.png": "Cardiomegaly|Emphysema",
          "00000001_002.png": "Cardiomegaly|Effusion", "00000002_000.png": "No Finding"},
         notes=("ignored: Follow-up #, Patient ID, Patient Age, Patient Gender",)),
    Case("cvat/voc", "Pascal VOC", "R&D <bad>|cat|dog",  # c.jpg has tags, which are only in lists
         {"JPEGImages/a.jpg": "cat", "JPEGImages/c.jpg": "cat|dog", "JPEGImages/sub dir/b_2.jpg": "R&D <bad>"},
         notes=(OWN_NAMES,)),
    Case("tables/r-tags", 'tags in the column "tags"', "NA|cat|dog", {"img1.jpg": "cat|dog", "img2.jpg": "NA"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_export_has_the_expected_labels(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path / "data")


def test_files_of_images_that_labelr_wrote_are_read(tmp_path: Path) -> None:
    check_tagged(tmp_path, {"a.jpg": "cat", "sub/b.png": "dog|cat", "c.jpg": ""}, corrected={})


def test_table_that_disagrees_with_the_files_of_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match=r"disagree on 1 image: c\.jpg") as caught:
        check_tagged(tmp_path, {"a.jpg": "cat", "c.jpg": "dog"}, corrected={"c.jpg.csv": "label,probability\n"})
    assert "name the table with `--labels " in caught.value.hint


def check_tagged(folder: Path, rows: Mapping[str, str], corrected: Mapping[str, str]) -> None:
    """Reads the output of `labelr tag`, files of images and tables, after some files were corrected."""
    labels = ["dog", "cat", "cow"]
    selection = LabelSelection(tuple(labels), np.arange(3), np.full(3, 0.5))
    images = []
    for name, row in rows.items():
        put(folder, name)
        probs = np.where(np.array(targets_of(row, labels)) == 1, 0.9, 0.1).astype(np.float32)
        images.append(selection.apply(Result(name, (1, 1, 1), "", 8, 8, "", probs)))
        put(folder, f"{name}.csv", image_csv(images[-1], labels))
    for name, row_of in ((LABELS_FILE, label_row), (PROBABILITIES_FILE, probability_row)):
        write_table(folder / name, header(selection), map(row_of, images), excel=False, replacing=files.replacing)
    for name, text in corrected.items():
        put(folder, name, text)
    table = read_labels([folder], ReadOptions(labels=(str(folder),)))
    assert (table.files, table.labels) == (tuple(sorted(rows)), tuple(labels))
    np.testing.assert_array_equal(table.targets, [targets_of(rows[name], labels) for name in sorted(rows)])
    assert "`labelr tag` wrote" in table.layout


# --- ambiguous exports, and those without labels ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("export", "image", "message", "hint"),
    [
        ("roboflow/masks", "train/a.jpg", "has no column of file names: Pixel Value", "`--image-column NAME`"),
        ("tools/via-regions", "images/Set1/5760_3.jpg", "labels may be in any of", "`--label-column"),
        ("hugging-face/caption", "train/0001.png", "has no label columns", "a column with `--label-column text`"),
        ("sidecar/caption", "img1.jpg", 'field" may be one label, or several', '`--tag-separator "|"` for'),
        ("tables/google-sheets", "img1.jpg", "fits 2 layouts; its first lines:", "with `--layout`: `wide` ("),
        ("ultralytics/no-names", "images/train/a.jpg", "does not name its labels", "write `names: [cat, dog]`"),
    ],
)  # fmt: skip
def test_ambiguous_export_or_export_without_labels_is_an_error(
    export: str, image: str, message: str, hint: str, tmp_path: Path
) -> None:
    data = prepare(tmp_path / "data", export, [image])
    with pytest.raises(LabelrError) as caught:
        read_labels([data], ReadOptions())
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_upload_that_matches_two_images_is_an_error(tmp_path: Path) -> None:
    images = ["name.jpg", "photos/name.jpg", "submitted_empty.jpg"]
    data = prepare(tmp_path / "data", "label-studio/choices-json", images)
    with pytest.raises(
        LabelrError, match=r"-name\.jpg may mean any of 2 images in .*: name\.jpg, photos/name\.jpg"
    ) as caught:
        read_labels([data], ReadOptions())
    assert "write names with their folders" in caught.value.hint
