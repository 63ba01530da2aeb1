"""Results for other programs: Parquet, COCO, Label Studio and CVAT."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from pages import HOSTILE
from tag_results import tree

from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.tagging.tag import tag

FORMATS = ("table", "parquet", "coco", "label-studio", "cvat")
FILES = ("labels.parquet", "coco.json", "label-studio.json", "cvat.xml")
IMAGES = ("a.png", "deep/b.png", "deep/er/d.PNG", "z.png")


@pytest.fixture
def out(photos: Path, tmp_path: Path, trained: Model) -> Path:
    tag(photos, trained, output=tmp_path / "out", format=FORMATS, always="holiday", threshold=0.38)
    return tmp_path / "out"


def check(cli: Cli, photos: Path, labels: Path, *options: str) -> dict[str, Any]:
    found = cli("check", photos, "--labels", labels, "--json", *options).out
    result: dict[str, Any] = json.loads(found)
    return result


@pytest.mark.parametrize("file", FILES)
def test_own_reader_finds_the_labels_of_the_table_and_that_nobody_confirmed_them(
    cli: Cli, photos: Path, out: Path, file: str
) -> None:
    found, table = check(cli, photos, out / file), check(cli, photos, out / "labels.csv")
    positives = {label["label"]: label["positives"] for label in found["per_label"]}
    expected = {label["label"]: label["positives"] for label in table["per_label"]}
    assert {**dict.fromkeys(expected, 0), **positives} == {**expected, "holiday": 4}
    assert (found["images"], len(found["unconfirmed"])) == (4, 4)


def test_predictions_for_label_studio_are_unconfirmed_also_away_from_the_journal(
    cli: Cli, photos: Path, out: Path, tmp_path: Path
) -> None:
    shutil.copy(out / "label-studio.json", tmp_path / "tasks.json")
    assert len(check(cli, photos, tmp_path / "tasks.json")["unconfirmed"]) == 4
    done = cli("fit", photos, "--labels", tmp_path / "tasks.json")
    assert done.code == 1
    assert "predictions of labelr that nobody corrected or confirmed" in done.err


def test_annotations_of_label_studio_count_and_not_its_predictions(
    cli: Cli, photos: Path, out: Path, tmp_path: Path
) -> None:
    tasks = json.loads((out / "label-studio.json").read_text())
    for task in tasks:
        result = {**task["predictions"][0]["result"][0], "value": {"choices": ["mine"]}}
        task["annotations"] = [{"result": [result], "was_cancelled": False}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    found = check(cli, photos, tmp_path / "export.json")
    assert (found["labels"], found["unconfirmed"]) == (["mine"], [])


def test_parquet_has_a_list_of_tags_and_a_column_of_probabilities_for_each_label(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    summary = tag(photos, trained, output=tmp_path / "out", format="parquet", prefix="p:", always="x", threshold=0.38)
    frame = parquet.read_table(tmp_path / "out" / "labels.parquet").to_pandas().set_index("filename")
    assert list(frame.columns) == ["labels", *(f"p:{label}:probability" for label in trained.labels)]
    np.testing.assert_array_equal(frame.iloc[:, 1:].to_numpy(), summary.probabilities.to_numpy())
    for name, row in summary.table.iterrows():
        assert set(frame.labels[name]) == {"x", *row.index[row == 1]}


def test_parquet_is_written_in_row_groups(
    photos: Path, tmp_path: Path, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("labelr.tagging.tables.MAX_ROWS", 3)
    tag(photos, trained, output=tmp_path / "out", format="parquet")
    about = parquet.read_metadata(tmp_path / "out" / "labels.parquet")
    assert [about.row_group(number).num_rows for number in range(about.num_row_groups)] == [3, 1]


def test_parquet_without_pyarrow_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])  # nothing that is not imported already can be found
    monkeypatch.delitem(sys.modules, "pyarrow", raising=False)
    with pytest.raises(LabelrError, match=r"pip install 'labelr\[parquet\]'"):
        tag(photos, trained, output=tmp_path / "out", format="parquet")
    assert not (tmp_path / "out").exists()


def test_coco_has_a_box_of_the_whole_image_for_each_tag(out: Path, trained: Model) -> None:
    coco = json.loads((out / "coco.json").read_text())
    assert [category["name"] for category in coco["categories"]] == [*trained.labels, "holiday"]
    assert [image["file_name"] for image in coco["images"]] == list(IMAGES)
    assert {tuple(annotation["bbox"]) for annotation in coco["annotations"]} == {(0, 0, 64, 64)}
    always = [annotation for annotation in coco["annotations"] if "score" not in annotation]
    assert [annotation["image_id"] for annotation in always] == [1, 2, 3, 4]
    scores = [annotation["score"] for annotation in coco["annotations"] if "score" in annotation]
    assert all(0.38 <= score <= 1 for score in scores)


def test_label_studio_gets_the_least_certain_decision_as_the_score(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    summary = tag(photos, trained, output=tmp_path / "out", format="label-studio", threshold=0.38)
    tasks = json.loads((tmp_path / "out" / "label-studio.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [f"/data/local-files/?d=photos/{name}" for name in IMAGES]
    for task, (_, probs), (_, applies) in zip(
        tasks, summary.probabilities.iterrows(), summary.table.iterrows(), strict=True
    ):
        certain = [prob if yes else 1 - prob for prob, yes in zip(probs, applies, strict=True)]
        assert task["predictions"][0]["score"] == pytest.approx(min(certain), abs=1e-6)


def test_hostile_names_are_read_back(cli: Cli, shapes: Path, tmp_path: Path, trained: Model) -> None:
    folder, out = tmp_path / "pho tos&<", tmp_path / "out"
    names = {f"{text.replace('/', '!')}.png" for text in (*HOSTILE, "new\nline", "quo\"t'e", "a%20b?x=1#y", "鳥 é")}
    folder.mkdir()
    for name in names:
        shutil.copy(shapes / "images" / "00000.png", folder / name)
    tag(folder, trained, output=out, format=FORMATS)
    for file in FILES:
        assert check(cli, folder, out / file)["images"] == len(names)


def test_images_whose_names_are_no_text_are_left_out_and_counted(
    shapes: Path, tmp_path: Path, trained: Model, caplog: pytest.LogCaptureFixture
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", os.fsdecode(b"caf\xe9.png"), "bell\x07.png"):
        shutil.copy(shapes / "images" / "00000.png", folder / name)
    summary = tag(folder, trained, output=out, format=FORMATS)
    assert summary.ok == 3
    assert "2 images whose names are no text left out of labels.parquet, coco.json" in caplog.text
    assert [image["file_name"] for image in json.loads((out / "coco.json").read_text())["images"]] == ["a.png"]


def test_no_images_at_all_make_complete_files(tmp_path: Path, trained: Model, cli: Cli) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no image")
    tag(folder, trained, output=out, format=FORMATS)
    assert json.loads((out / "label-studio.json").read_text()) == []
    assert json.loads((out / "coco.json").read_text())["images"] == []
    assert b"<size>0</size>" in (out / "cvat.xml").read_bytes()


def test_images_that_are_gone_leave_the_files(photos: Path, tmp_path: Path, trained: Model) -> None:
    options: dict[str, Any] = {"format": FORMATS, "threshold": 0.4}
    tag(photos, trained, output=tmp_path / "out", **options)
    (photos / "a.png").unlink()
    tag(photos, trained, output=tmp_path / "out", **options)
    tag(photos, trained, output=tmp_path / "fresh", **options)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("file", [*FILES, "label-studio.xml"])
def test_edited_file_is_not_overwritten(photos: Path, tmp_path: Path, trained: Model, file: str) -> None:
    tag(photos, trained, output=tmp_path / "out", format=FORMATS)
    with (tmp_path / "out" / file).open("ab") as edited:
        edited.write(b" ")
    with pytest.raises(LabelrError, match=f"{file} was edited after labelr wrote it"):
        tag(photos, trained, output=tmp_path / "out", format=FORMATS)


@pytest.mark.parametrize("name", FORMATS[1:])
def test_stdout_takes_no_such_file(cli: Cli, photos: Path, trained: Model, name: str) -> None:
    done = cli("tag", photos, "--model", trained.path, "-o", "-", "--format", name)
    assert (done.code, done.out) == (2, "")


# --- readers of others ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default")  # of the other package, and what it imports
def test_label_studio_accepts_the_predictions_for_the_configuration(out: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    config = interface.LabelInterface((out / "label-studio.xml").read_text())
    tasks = json.loads((out / "label-studio.json").read_text())
    assert [config.validate_prediction(task["predictions"][0], return_errors=True) for task in tasks] == [[]] * 4


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("kind", "file"), [("coco", "annotations/instances_default.json"), ("cvat", "cvat.xml")])
def test_datumaro_finds_the_same_labels(photos: Path, out: Path, tmp_path: Path, kind: str, file: str) -> None:
    datumaro = pytest.importorskip("datumaro")
    place = tmp_path / kind / file
    place.parent.mkdir(parents=True)
    shutil.copy(out / ("coco.json" if kind == "coco" else file), place)
    (tmp_path / kind / "images").mkdir()
    for name in ("default",) if kind == "coco" else [path.name for path in photos.iterdir()]:
        (tmp_path / kind / "images" / name).symlink_to(photos if kind == "coco" else photos / name)
    dataset = datumaro.Dataset.import_from(str(tmp_path / kind), kind)
    names = [category.name for category in dataset.categories()[datumaro.AnnotationType.label].items]
    found = {item.id: {names[each.label] for each in item.annotations} for item in dataset}
    lines = (out / "labels.csv").read_text().splitlines()
    labels = lines[0].split(",")[1:]
    expected = {}
    for line in lines[1:]:
        name, *cells = line.split(",")
        own = {label for label, cell in zip(labels, cells, strict=True) if cell == "1"}
        expected[str(Path(name).with_suffix(""))] = {"holiday", *own}
    assert found == expected
