"""Recognition of layouts, and the layouts that are not CSV tables."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_table, case, error_of, make_data, put, read_table

from labelr.config import LAYOUTS, ReadOptions
from labelr.data.formats import layouts
from labelr.data.label_table import Annotation, LabelTable
from labelr.data.load import read_labels
from labelr.model.predict import Model
from labelr.tagging.tag import tag

NAN = float("nan")


def test_layout_option_knows_all_layouts() -> None:
    assert tuple(layouts.LAYOUTS) == LAYOUTS


def test_file_of_unknown_layout_is_shown_with_its_first_lines(tmp_path: Path) -> None:
    error = error_of(make_data(tmp_path, "when;who\n1815;Ada\n1912;Alan\n\n1903;" + "x" * 200))
    assert error.message.endswith("its first lines:\n    when;who\n    1815;Ada\n    1912;Alan")
    assert "`--layout`: wide, tags, long" in error.hint


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels.json", '{"images": [', "cannot be parsed"),
        ("labels.json", "[" * 100_000, "cannot be parsed"),
        ("labels.xml", "<annotations><image></annotations>", "cannot be parsed"),
        ("labels.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "cannot be parsed"),
        ("labels.yaml", "names: [a", "cannot be parsed"),
        ("labels.json", '{"x": 1}', "has no layout that labelr knows"),
    ],
)
def test_file_that_cannot_be_parsed_is_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    put(tmp_path, name, text)
    put(tmp_path, "a.jpg")
    error = error_of(tmp_path)
    assert message in error.message
    assert str(tmp_path / name) in error.message


def test_file_without_the_chosen_layout_is_an_error(tmp_path: Path) -> None:
    data = make_data(tmp_path, "filename,dog\na.jpg,1\nb.jpg,0\n")
    assert "is not a JSON of COCO" in error_of(data, layout="coco", labels=[str(data / "labels.csv")]).message
    assert "is not an XML of CVAT" in error_of(data, layout="cvat", labels=[str(data / "labels.csv")]).message
    assert "is not a folder of Pascal" in error_of(data, layout="voc", labels=[str(data / "labels.csv")]).message
    assert "is not a folder that" in error_of(data, layout="tagged", labels=[str(data / "labels.csv")]).message


@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00"])
def test_label_with_half_a_character_is_named(half: str, tmp_path: Path) -> None:
    put(tmp_path, "labels.jsonl", f'{{"file_name": "a.jpg", "tags": ["dog", "party {half}"]}}')
    put(tmp_path, "a.jpg")
    assert f"the label 'party {half}' has half a character" in error_of(tmp_path).message
    put(tmp_path, "labels.jsonl", '{"file_name": "a.jpg", "tags": ["dog", "party \\ud83d\\ude00"]}')
    assert read_table(tmp_path).labels == ("dog", "party \U0001f600")


# --- several annotations of an image ---------------------------------------------------------------------------------


def test_majority_of_annotations_counts() -> None:
    entries = [
        Annotation("a", {"dog"}),
        Annotation("a", {"dog", "cat"}),
        Annotation("a", {"dog"}),
        Annotation("b", {"cat"}),
        Annotation("b", set()),
    ]
    records = LabelTable.of(entries, "votes")
    assert records.labels == ("cat", "dog")
    np.testing.assert_array_equal(records.targets, [[0, 1], [NAN, 0]])
    assert records.notes == ("labels affirmed as often as denied for an image, taken as unknown: 1",)


def test_votes_of_tens_of_thousands_are_counted() -> None:
    records = LabelTable.of([Annotation("a", {"dog"})] * 40_000 + [Annotation("a", {"cat"})] * 3, "votes")
    np.testing.assert_array_equal(records.targets, [[0, 1]])


def test_label_that_an_incomplete_annotation_does_not_name_is_unknown() -> None:
    records = LabelTable.of(
        [Annotation("a", {"dog"}, {"cat"}, complete=False), Annotation("b", {"cat"}, complete=False)], "some"
    )
    np.testing.assert_array_equal(records.targets, [[0, 1], [1, NAN]])


# --- folders ---------------------------------------------------------------------------------------------------------


def test_image_in_several_folders_has_several_labels(tmp_path: Path) -> None:
    for name, content in (("cat/1.jpg", "x"), ("dog/1.jpg", "x"), ("dog/2.jpg", "y"), ("cow/1.jpg", "z")):
        put(tmp_path, name, content)
    reading = read_labels([tmp_path], ReadOptions())
    files = ["cat/1.jpg", "cow/1.jpg", "dog/2.jpg"]
    assert_table(reading, files, ["cat", "cow", "dog"], [[1, 0, 1], [0, 1, 0], [0, 0, 1]])
    assert reading.findings.notes == ("images in several folders, which have several labels: 1",)
    assert reading.findings.unlisted == ()


def test_folders_of_splits_are_not_labels(tmp_path: Path) -> None:
    for name in ("train/cat/1.jpg", "train/dog/2.jpg", "valid/cat/3.jpg"):
        put(tmp_path, name, name)
    table = read_table(tmp_path)
    assert_table(
        table, ["train/cat/1.jpg", "train/dog/2.jpg", "valid/cat/3.jpg"], ["cat", "dog"], [[1, 0], [0, 1], [1, 0]]
    )
    assert table.named_splits == ("train", "train", "val")


def test_nested_folders_are_labels_only_if_the_layout_is_chosen(tmp_path: Path) -> None:
    for name in ("2024/jan/1.jpg", "2024/feb/2.jpg"):
        put(tmp_path, name, name)
    assert error_of(tmp_path).message == f"no label file in {tmp_path}"
    assert read_table(tmp_path, layout="folders").labels == ("2024", "feb", "jan")


@pytest.mark.parametrize(
    ("outside", "hint"),
    [
        ("stray.jpg", "put each image into a folder named after its label"),
        ("train/3.jpg", "folders called train count as splits, not as labels"),
    ],
)
def test_images_in_no_folder_are_named_where_folders_are_labels(outside: str, hint: str, tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "dog/2.jpg", outside):
        put(tmp_path, name, name)
    error = error_of(tmp_path, layout="folders")
    assert error.message == f"{tmp_path}: 1 image is in no folder: {outside}"
    assert hint in error.hint


COMBINATIONS = ("cat/1.jpg", "dog/2.jpg", "cat_dog/3.jpg", "unlabeled/4.jpg")


def make_folders(folder: Path, files: Iterable[str]) -> Path:
    for name in files:
        put(folder, name, name)
    return folder


def test_folders_are_split_into_labels_at_a_separator(tmp_path: Path) -> None:
    table = read_table(make_folders(tmp_path, COMBINATIONS), tag_separator="_")
    files = ["cat/1.jpg", "cat_dog/3.jpg", "dog/2.jpg", "unlabeled/4.jpg"]
    assert_table(table, files, ["cat", "dog"], [[1, 0], [1, 1], [0, 1], [0, 0]])
    assert table.layout == "folders named after labels, joined by `_`"
    assert table.findings.notes == (
        "images in unlabeled, to which no label applies: 1; if nothing is known of them, use `--blank unknown`",
    )


def test_images_of_an_unlabelled_folder_are_unknown_if_blank_means_that(tmp_path: Path) -> None:
    table = read_table(make_folders(tmp_path, COMBINATIONS), tag_separator="_", blank="unknown")
    assert table.findings.unlabelled == ("unlabeled/4.jpg",)
    assert table.findings.notes == ("images in unlabeled, of which nothing is known: 1",)


@pytest.mark.parametrize(
    ("folders", "named", "option"),
    [
        (["cat", "dog", "cat_dog"], "1 (cat_dog)", "_"),
        (["cat-dog", "dog-cow", "cow-cat"], "3 (cat-dog, cow-cat, dog-cow)", "-"),
        (["cat", "dog", "cat & dog"], "1 (cat & dog)", '"&"'),
        (["cat", "dog", "cat dog"], "1 (cat dog)", '" "'),
        (["cat", "dog", "cat and dog"], "1 (cat and dog)", '" and "'),
        (["Hund", "Katze", "Hund und Katze"], "1 (Hund und Katze)", '" und "'),
        (["Cat_Dog", "cat", "dog"], "1 (Cat_Dog)", "_"),
        (["big_cat", "dog", "big_cat__dog"], "1 (big_cat__dog)", "__"),
    ],
)
def test_folders_that_look_like_combinations_are_named_with_the_option(
    folders: list[str], named: str, option: str, tmp_path: Path
) -> None:
    table = read_table(make_folders(tmp_path, [f"{folder}/{folder}.jpg" for folder in folders]))
    assert table.labels == tuple(sorted(folders))
    (note,) = table.findings.notes
    assert note == (
        f"folders that look like combinations of labels, each taken as a label of its own: {named}; "
        f"separate them with `--tag-separator {option}`"
    )


def test_combinations_with_several_separators_are_all_named(tmp_path: Path) -> None:
    data = make_folders(tmp_path, [f"{folder}/{folder}.jpg" for folder in ("cat", "dog", "cat-dog", "cat_dog")])
    (note,) = read_table(data).findings.notes
    assert note.endswith(
        "2 (cat_dog, cat-dog); separate them with `--tag-separator _` or `--tag-separator -`, after you rename them to "
        "have the same separator"
    )


def test_spaces_around_the_separator_of_folders_are_no_part_of_labels(tmp_path: Path) -> None:
    table = read_table(make_folders(tmp_path, ["cat/1.jpg", "cat & dog/2.jpg"]), tag_separator="&")
    assert table.labels == ("cat", "dog")


def test_label_in_a_combination_is_that_of_the_folder_in_another_case(tmp_path: Path) -> None:
    table = read_table(make_folders(tmp_path, ["cat/1.jpg", "dog/2.jpg", "Cat_Dog/3.jpg"]), tag_separator="_")
    assert_table(table, ["Cat_Dog/3.jpg", "cat/1.jpg", "dog/2.jpg"], ["cat", "dog"], [[1, 1], [1, 0], [0, 1]])
    assert table.findings.notes == (
        "labels in names of folders, taken for the folder of another case: Cat (cat), Dog (dog)",
    )


def test_folders_that_differ_in_case_alone_are_kept_apart(tmp_path: Path) -> None:
    table = read_table(make_folders(tmp_path, ["cat/1.jpg", "Cat/2.jpg", "Cat_dog/3.jpg"]), tag_separator="_")
    assert table.labels == ("Cat", "cat", "dog")


def test_folders_with_a_word_in_common_are_not_taken_for_combinations(tmp_path: Path) -> None:
    folders = ["golden_retriever", "labrador_retriever", "_cat", "cat", "sea_lion"]
    assert read_table(make_folders(tmp_path, [f"{folder}/{folder}.jpg" for folder in folders])).findings.notes == ()


def test_folder_for_images_without_a_label_is_a_label_and_said(tmp_path: Path) -> None:
    data = make_folders(tmp_path, ["cat/1.jpg", "None/2.jpg"])
    table = read_table(data)
    assert table.labels == ("None", "cat")
    assert table.findings.notes == (
        "the folder None is taken as a label of its own; if its images have no label, use `--exclude None`",
    )
    assert_table(read_table(data, exclude=("None",)), ["None/2.jpg", "cat/1.jpg"], ["cat"], [[0], [1]])


def test_combinations_of_roboflow_are_labels_with_a_separator() -> None:
    table = read_table(case("folders-of-combinations") / "data", tag_separator="_")
    assert table.labels == ("car", "cat", "dog", "tree")
    row = next(row for row, file in enumerate(table.files) if "/dog_cat_car/" in file)
    np.testing.assert_array_equal(table.targets[row], [1, 1, 1, 0])
    assert set(table.named_splits or ()) == {"train", "val", "test"}


def test_thumbnails_of_a_nas_are_no_labels() -> None:
    table = read_table(case("nas-thumbnails") / "folders_with_eadir")
    assert table.labels == ("cat", "dog")
    assert len(table) == 30


def test_images_of_browsers_are_learned_from_too() -> None:
    assert len(read_table(case("jfif-hif-skipped") / "by_folder")) == 40


def test_text_file_beside_an_image_holds_its_tags(tmp_path: Path) -> None:
    for name in ("a.jpg", "x/b.png", "c.jpg"):
        put(tmp_path, name)
    put(tmp_path, "a.txt", "dog, big cat\n")
    put(tmp_path, "x/b.png.txt", "dog\nbird \\(animal\\)\n")
    reading = read_labels([tmp_path], ReadOptions())
    assert_table(reading, ["a.jpg", "x/b.png"], ["big cat", "bird (animal)", "dog"], [[1, 0, 1], [0, 1, 1]])
    assert reading.findings.unlisted == ("c.jpg",)


@pytest.mark.parametrize("folder", ["pets", "pets/images"])
def test_text_files_beside_images_may_end_in_upper_case(folder: str, tmp_path: Path) -> None:
    for name, tags in (("a", "dog, pet"), ("b", "cat, pet")):
        put(tmp_path, f"{folder}/{name}.JPG")
        put(tmp_path, f"{folder}/{name}.{'TXT' if name == 'b' else 'txt'}", tags)
    table = read_table(tmp_path / "pets")
    assert table.labels == ("cat", "dog", "pet")
    np.testing.assert_array_equal(table.targets, [[0, 1, 1], [1, 0, 1]])


@pytest.mark.parametrize("place", ["images", "labels"])
def test_files_of_boxes_may_end_in_upper_case(place: str, tmp_path: Path) -> None:
    put(tmp_path, "data.yaml", "names: [cat, dog]\n")
    for name, suffix in (("a", "txt"), ("b", "TXT")):
        put(tmp_path, f"images/{name}.JPG")
        put(tmp_path, f"{place}/{name}.{suffix}", "1 0.5 0.5 0.1 0.1\n")
    np.testing.assert_array_equal(read_table(tmp_path).targets, [[0, 1], [0, 1]])


def test_xml_of_voc_may_end_in_upper_case(tmp_path: Path) -> None:
    for name, label, suffix in (("a", "cat", "xml"), ("b", "dog", "XML")):
        put(tmp_path, f"{name}.jpg")
        text = f"<annotation><filename>{name}.jpg</filename><object><name>{label}</name></object></annotation>"
        put(tmp_path, f"{name}.{suffix}", text)
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 0], [0, 1]])


@pytest.mark.parametrize("broken", ["a.txt", "z.txt"])
def test_text_file_that_cannot_be_read_is_named_or_left_out(broken: str, tmp_path: Path) -> None:
    images = ["dogs/a.jpg", "cats/b.jpg", "cats/z.jpg"]
    for image in make_folders(tmp_path, images).rglob("*.jpg"):
        put(image.parent, f"{image.stem}.txt", "cat, pet" if image.stem != broken[0] else "cat\0")
    error = error_of(tmp_path)
    assert f"{broken} is not text" in error.message
    assert "--skip-invalid" in error.hint
    table = read_table(tmp_path, skip_invalid=True)
    assert table.labels == ("cat", "pet")
    assert len(table) == 2
    (reason,) = table.findings.invalid
    assert broken in reason
    assert table.findings.unlisted == ()


def test_text_file_that_may_not_be_read_is_named(tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    data = make_folders(tmp_path, ["dogs/a.jpg", "cats/b.jpg"])
    put(data, "cats/b.txt", "cat")
    forbid(put(data, "dogs/a.txt", "dog"))
    assert "a.txt: Permission denied" in error_of(data).message


def test_file_of_boxes_that_cannot_be_read_is_named_or_left_out(tmp_path: Path) -> None:
    data = make_folders(tmp_path, [f"{folder}/{folder}.jpg" for folder in ("a", "b", "c")])
    put(data, "classes.txt", "cat\ndog\n")
    for name, text in {"a/a.txt": "0 .5 .5 .1 .1", "b/b.txt": "\0", "c/c.txt": "1 .5 .5 .1 .1"}.items():
        put(data, name, text)
    error = error_of(data)
    assert "b.txt is not text" in error.message
    table = read_table(data, skip_invalid=True)
    assert_table(table, ["a/a.jpg", "c/c.jpg"], ["cat", "dog"], [[1, 0], [0, 1]])


def test_patterns_of_images_do_not_hide_text_files(tmp_path: Path) -> None:
    data = make_folders(tmp_path, ["dogs/a.jpg", "cats/b.jpg"])
    for name in ("dogs/a.txt", "cats/b.txt"):
        put(data, name, "pet, cat")
    assert read_table(data, ignore=("*.txt",)).labels == ("cat", "pet")


def test_text_files_in_a_linked_folder_are_read(tmp_path: Path) -> None:
    for name in ("data/a", "elsewhere/b"):
        put(tmp_path, f"{name}.jpg")
        put(tmp_path, f"{name}.txt", "dog, cat")
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "data")
    table = read_table(tmp_path / "data")
    assert_table(table, ["a.jpg", "linked/b.jpg"], ["cat", "dog"], [[1, 1], [1, 1]])


def test_tags_of_both_text_files_of_an_image_are_merged(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    put(tmp_path, "a.txt", "dog")
    put(tmp_path, "a.jpg.txt", "cat")
    assert read_table(tmp_path).labels == ("cat", "dog")


# --- the output of `labelr tag` --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tag_output(trained: Model, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of `labelr tag`; do not modify it."""
    output = tmp_path_factory.mktemp("tag") / "output"
    tag(shapes / "images", trained, output=output, threshold=0.4, format=("csv", "table", "jsonl"))
    return output


@pytest.fixture
def tagged(tag_output: Path, tmp_path: Path) -> Path:
    """A copy of the output of `labelr tag` to correct."""
    return Path(shutil.copytree(tag_output, tmp_path / "tagged"))


def test_corrected_files_of_images_are_preferred_to_jsonl(tagged: Path, shapes: Path) -> None:
    (tagged / "labels.csv").unlink()
    for path in tagged.glob("*.png.csv"):
        path.write_text("label,probability\nzebra,1\n")
    assert read_table(tagged, images=str(shapes / "images")).labels == ("zebra",)


@pytest.mark.parametrize("named", ["", "labels.csv"])
def test_output_of_tag_is_read(named: str, tagged: Path, shapes: Path, trained: Model) -> None:
    table = read_table(shapes, labels=[str(tagged / named)])
    rows = [line.split(",") for line in (tagged / "labels.csv").read_text().splitlines()[1:]]
    assert len(rows) == 60
    assert_table(table, [row[0] for row in rows], trained.labels, [[float(cell) for cell in row[1:]] for row in rows])


def test_label_may_have_the_name_of_a_metadata_column(tmp_path: Path) -> None:
    for name, labels in (("a.jpg", ["cat", "score"]), ("b.jpg", ["cat"])):
        put(tmp_path, f"in/{name}")
        put(tmp_path, f"out/{name}.csv", "\n".join(["label,probability", *(f"{label},0.9" for label in labels)]))
    put(tmp_path, "out/labels.csv", "filename,cat,score,size\na.jpg,1,1,0\nb.jpg,1,0,0\n")
    table = read_table(tmp_path / "in", labels=[str(tmp_path / "out")])
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "score", "size"], [[1, 1, 0], [1, 0, 0]])


def test_corrected_table_is_read(tagged: Path, shapes: Path) -> None:
    lines = (tagged / "labels.csv").read_text().splitlines()
    flipped = [1 - int(cell) for cell in lines[1].split(",")[1:]]
    corrected = ",".join(["00000.png", *map(str, flipped)])
    (tagged / "labels.csv").write_text("\n".join([lines[0], corrected, *lines[2:]]) + "\n")
    assert read_table(shapes, labels=[str(tagged / "labels.csv")]).targets[0].tolist() == flipped
    both = error_of(shapes, labels=[str(tagged)])
    assert "disagree on 1 image: 00000.png" in both.message
    assert f"--labels {tagged / 'labels.csv'}" in both.hint


def test_corrected_files_of_images_are_read(tagged: Path, shapes: Path) -> None:
    (tagged / "00000.png.csv").write_bytes("\ufefflabel;probability\r\nbird;\r\ndisc;1\r\ntriangle;0\r\n".encode())
    (tagged / "labels.csv").unlink()
    table = read_table(shapes, labels=[str(tagged)])
    assert [label for label, cell in zip(table.labels, table.targets[0], strict=True) if cell == 1] == ["bird", "disc"]


def test_file_of_an_image_that_may_not_be_read_is_named(
    tagged: Path, shapes: Path, forbid: Callable[[Path], None]
) -> None:
    forbid(tagged / "00001.png.csv")
    assert "00001.png.csv: Permission denied" in error_of(shapes, labels=(str(tagged),)).message


def test_output_of_tag_for_images_without_ending_is_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "b"):
        put(tmp_path, name, b"\xff\xd8\xff")
        put(tmp_path, f"out/{name}.csv", "label,probability\ncat,0.9\n")
    put(tmp_path, "out/labels.csv", "filename,cat,dog\na.jpg,1,0\nb,1,0\n")
    table = read_table(tmp_path, labels=(str(tmp_path / "out"),))
    assert_table(table, ["a.jpg", "b"], ["cat", "dog"], [[1, 0], [1, 0]])


def test_invalid_file_of_an_image_is_named(tagged: Path, shapes: Path) -> None:
    (tagged / "00000.png.csv").write_text("disc\n")
    (tagged / "labels.csv").unlink()
    message = error_of(shapes, labels=[str(tagged)]).message
    assert message == f'{tagged / "00000.png.csv"}: expected "label" as the first column, got "disc"'


# --- Label Studio ----------------------------------------------------------------------------------------------------

FIELDS = '"annotator": 1, "annotation_id": 1, "created_at": "", "updated_at": "", "lead_time": 1'


def test_text_field_beside_choices_is_ignored_and_named(tmp_path: Path) -> None:
    rows = ['"choice": {"choices": ["dog", "cat"]}', '"choice": "cat"']
    text = ",".join(
        f'{{"id": {number}, "image": "{name}.jpg", "meta": {{"size": 7}}, "caption": "x", {row}, {FIELDS}}}'
        for number, (name, row) in enumerate(zip("ab", rows, strict=True))
    )
    put(tmp_path, "export.json", f"[{text}]")
    for name in ("a.jpg", "b.jpg"):
        put(tmp_path, name)
    reading = read_labels([tmp_path], ReadOptions())
    assert_table(reading, ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [1, 0]])
    assert len(reading.findings.notes) == 1
    assert reading.findings.notes[0].startswith("text fields, ignored, ")
    assert reading.findings.notes[0].endswith(": caption")


def test_ambiguous_label_fields_are_named(tmp_path: Path) -> None:
    put(tmp_path, "export.json", f'[{{"id": 1, "image": "a.jpg", "caption": "x", "choice": "cat", {FIELDS}}}]')
    put(tmp_path, "a.jpg")
    error = error_of(tmp_path)
    assert "may be in any of the fields caption, choice" in error.message
    assert "as JSON" in error.hint


@pytest.mark.parametrize(
    ("others", "left_out"), [(["cat"], 1), (["cat", "cat"], 2)], ids=["against one", "against a majority"]
)
def test_ground_truth_wins_over_the_other_annotations(others: list[str], left_out: int, tmp_path: Path) -> None:
    def annotate(label: str, **fields: object) -> dict[str, object]:
        return {"result": [{"type": "choices", "value": {"choices": [label]}}], "ground_truth": False, **fields}

    tasks = [
        {"data": {"image": "a.jpg"}, "annotations": [*map(annotate, others), annotate("dog", ground_truth=True)]},
        {"data": {"image": "b.jpg"}, "annotations": [annotate("cat")]},
        {
            "data": {"image": "c.jpg"},
            "annotations": [annotate("dog", ground_truth=True, was_cancelled=True), annotate("cat")],
        },
    ]
    put(tmp_path, "export.json", json.dumps(tasks))
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(tmp_path, name)
    table = read_table(tmp_path)
    assert_table(table, ["a.jpg", "b.jpg", "c.jpg"], ["cat", "dog"], [[0, 1], [1, 0], [1, 0]])
    assert table.findings.notes == (f"annotations without `ground_truth` beside one with it, left out: {left_out}",)


def test_annotators_who_contradict_each_other_on_all_images_are_told(tmp_path: Path) -> None:
    annotations = [{"result": [{"value": {"choices": [label]}}]} for label in ("cat", "dog")]
    put(tmp_path, "export.json", json.dumps([{"data": {"image": "a.jpg"}, "annotations": annotations}]))
    put(tmp_path, "a.jpg")
    error = error_of(tmp_path)
    assert error.message.endswith("no image has a known label: its annotations contradict each other")
    assert "add a third" in error.hint


def make_tasks(folder: Path, *results: list[dict[str, object]]) -> Path:
    """An export of Label Studio with some results of each of the images ``a.jpg``, ``b.jpg``, ..."""
    names = [f"{letter}.jpg" for letter in "abc"[: len(results)]]
    tasks = [
        {"data": {"image": name}, "annotations": [{"result": own}]} for name, own in zip(names, results, strict=True)
    ]
    put(folder, "export.json", json.dumps(tasks))
    for name in names:
        put(folder, name)
    return folder


def choose(control: str, *choices: str) -> dict[str, object]:
    return {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": choices}}


def test_equal_choices_of_several_controls_are_labels_of_their_own(tmp_path: Path) -> None:
    data = make_tasks(
        tmp_path,
        [choose("roof", "Good"), choose("walls", "Bad")],
        [choose("roof", "Bad"), choose("walls", "Bad"), choose("kind", "Barn")],
    )
    table = read_table(data)
    labels = ["kind=Barn", "roof=Bad", "roof=Good", "walls=Bad"]
    assert_table(table, ["a.jpg", "b.jpg"], labels, [[0, 0, 1, 1], [1, 1, 0, 1]])
    assert table.findings.notes == ('choices of several controls, so that labels are called as in "roof=Bad": Bad',)


def test_distinct_choices_of_several_controls_keep_their_names(tmp_path: Path) -> None:
    table = read_table(make_tasks(tmp_path, [choose("place", "indoor"), choose("animal", "dog")], []))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog", "indoor"], [[1, 1], [0, 0]])
    assert table.findings.notes == ()


def test_shapes_of_several_tools_with_one_label_are_one_label(tmp_path: Path) -> None:
    shapes: list[dict[str, object]] = [
        {"from_name": "box", "type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["dog"]}},
        {"from_name": "line", "type": "polygonlabels", "value": {"points": [], "polygonlabels": ["dog"]}},
    ]
    table = read_table(make_tasks(tmp_path, shapes, []))
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[1], [0]])
    assert table.findings.notes == ()


@pytest.mark.parametrize(
    ("kind", "held"), [("rating", 4), ("number", 3), ("text", ["fine"]), ("datetime", "2026-01-01")]
)
def test_results_that_are_no_choices_are_named(kind: str, held: object, tmp_path: Path) -> None:
    other: dict[str, object] = {"from_name": "more", "type": kind, "value": {kind: held}}
    table = read_table(make_tasks(tmp_path, [choose("animal", "dog"), other], [choose("animal", "cat")]))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[0, 1], [1, 0]])
    assert table.findings.notes == (f"results that are no choices, not read: more ({kind})",)


def test_equal_choices_in_several_fields_of_json_min_are_labels_of_their_own(tmp_path: Path) -> None:
    rows = [
        '"roof": {"choices": ["Good", "New"]}, "walls": "Bad", "stars": [{"rating": 4}]',
        '"roof": "Bad", "walls": {"choices": ["Bad", "Wet"]}',
    ]
    tasks = [f'{{"id": 1, "image": "{name}.jpg", {row}, {FIELDS}}}' for name, row in zip("ab", rows, strict=True)]
    put(tmp_path, "export.json", f"[{','.join(tasks)}]")
    for name in ("a.jpg", "b.jpg"):
        put(tmp_path, name)
    table = read_table(tmp_path)
    labels = ["roof=Bad", "roof=Good", "roof=New", "walls=Bad", "walls=Wet"]
    assert_table(table, ["a.jpg", "b.jpg"], labels, [[0, 1, 1, 1, 0], [1, 0, 0, 1, 1]])
    assert table.findings.notes == (
        "results that are no choices, not read: stars (rating)",
        'choices of several controls, so that labels are called as in "roof=Bad": Bad',
    )


# --- YOLO ------------------------------------------------------------------------------------------------------------


def test_path_that_is_invalid_on_the_file_system_does_not_exist(tmp_path: Path) -> None:
    put(tmp_path, "data.yaml", f"names: [cat]\ntrain: {'x' * 5000}\n")
    put(tmp_path, "a.jpg")
    put(tmp_path, "a.txt", "0 0.5 0.5 0.1 0.1\n")
    reading = read_labels([tmp_path], ReadOptions())
    assert_table(reading, ["a.jpg"], ["cat"], [[1]])
    assert reading.findings.notes[0].startswith("paths in data.yaml that do not exist: train: xxx")


def test_images_beside_a_relative_data_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "photos/train/a.jpg")
    put(tmp_path, "photos/train/a.txt", "0 0.5 0.5 0.1 0.1\n")
    put(tmp_path, "set/data.yaml", "path: ../photos\ntrain: train\nnames: [cat]\n")
    monkeypatch.chdir(tmp_path)
    assert_table(read_table(Path("set")), [str(tmp_path / "photos/train/a.jpg")], ["cat"], [[1]])


def test_folder_with_names_but_without_boxes_is_not_yolo(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        put(tmp_path, f"folders/{label}/{label}.jpg", label)
        put(tmp_path, f"sidecars/{label}.jpg")
        put(tmp_path, f"sidecars/{label}.txt", f"{label}, animal")
    for kind in ("folders", "sidecars"):
        put(tmp_path, f"{kind}/classes.txt", "cat\ndog\n")
    assert_table(read_table(tmp_path / "folders"), ["cat/cat.jpg", "dog/dog.jpg"], ["cat", "dog"], [[1, 0], [0, 1]])
    sidecars = read_table(tmp_path / "sidecars")
    assert_table(sidecars, ["cat.jpg", "dog.jpg"], ["animal", "cat", "dog"], [[1, 1, 0], [1, 0, 1]])


def test_yolo_is_recognised_though_few_images_have_boxes(tmp_path: Path) -> None:
    put(tmp_path, "classes.txt", "cat\n")
    for number in range(30):
        put(tmp_path, f"{number:02d}.jpg")
        put(tmp_path, f"{number:02d}.txt", "0 0.5 0.5 0.1 0.1\n" if number == 29 else "")
    assert read_table(tmp_path).targets[:, 0].tolist() == [*[0] * 29, 1]


def test_names_must_be_a_list(tmp_path: Path) -> None:
    put(tmp_path, "data.yaml", "names: cat\n")
    put(tmp_path, "a.jpg")
    assert "does not name its labels" in error_of(tmp_path, layout="yolo").message


@pytest.mark.parametrize("place", ["{kind}/{split}", "{split}/{kind}", "data/{split}"])
def test_image_without_boxes_takes_none_of_another_split(place: str, tmp_path: Path) -> None:
    put(tmp_path, "data.yaml", "names: [cat, dog]\n")
    for split in ("train", "val"):
        for name in ("1", "2"):
            put(tmp_path, f"{place.format(kind='images', split=split)}/{name}.jpg")
    for split, name in (("train", "2"), ("val", "1")):
        put(tmp_path, f"{place.format(kind='labels', split=split)}/{name}.txt", "1 0.5 0.5 0.1 0.1\n")
    np.testing.assert_array_equal(read_table(tmp_path).targets, [[0, 0], [0, 1], [0, 1], [0, 0]])


def test_boxes_in_a_folder_of_any_name_are_found(tmp_path: Path) -> None:
    put(tmp_path, "data.yaml", "names: [cat, dog]\n")
    for name, box in (("1", "1 0.5 0.5 0.1 0.1\n"), ("2", "0 0.5 0.5 0.1 0.1\n")):
        put(tmp_path, f"photos/{name}.jpg")
        put(tmp_path, f"boxes/{name}.txt", box)
    assert_table(read_table(tmp_path), ["photos/1.jpg", "photos/2.jpg"], ["cat", "dog"], [[0, 1], [1, 0]])


# --- Vertex AI -------------------------------------------------------------------------------------------------------


def test_coordinates_of_boxes_are_not_labels(tmp_path: Path) -> None:
    rows = [
        "TRAIN,gs://b/a.jpg,cat,0.1,0.1,,,0.9,0.9,,", "TRAIN,gs://b/a.jpg,dog,0,.25,1,.25,1,1.0,0,1e-3",
        "TEST,gs://b/b.jpg,dog,0.1,0.1,,,0.9,0.9",
    ]  # fmt: skip
    assert_table(read_table(make_data(tmp_path, "\n".join(rows))), ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [0, 1]])


def test_numbers_may_be_labels(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "a.jpg,cat,0,1\nb.jpg,0\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["0", "1", "cat"], [[1, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg,10,20,30,40,dog\na.jpg,1,2,3,4,cat\nb.jpg,,,,,\n",
        "a.jpg,dog,10,20,30,40\na.jpg,cat,1,2,3,4\nb.jpg,,,,,\n",
        "train,a.jpg,1.5,2,3,4,dog\ntrain,a.jpg,1,2,3,4,cat\ntrain,b.jpg,,,,,\n",
    ],
    ids=["label last", "label first", "split"],
)  # fmt: skip
def test_label_of_a_box_in_pixels_is_the_label(text: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, text))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [0, 0]])
    assert table.findings.notes == ("images without an object, to which no label applies: 1",)


def test_class_number_of_a_box_in_pixels_is_its_label(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "a.jpg,10,20,30,40,7\nb.jpg,50,20,60,40,0\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["0", "7"], [[0, 1], [1, 0]])


def test_class_numbers_of_boxes_in_one_cell_each_are_the_labels(tmp_path: Path) -> None:
    put(
        tmp_path,
        "train.txt",
        "a.jpg 10,20,30,40,0 50,20,60,40,2\nb.jpg 1,2,3,4,0 5,6,7,8,0\nc.jpg 1,2,3,4,2 5,6,7,8,2\n",
    )
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(tmp_path, name)
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg", "c.jpg"], ["0", "2"], [[1, 1], [1, 0], [0, 1]])


def test_row_without_a_box_among_boxes_is_an_error_or_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{row}.jpg,1,2,3,4,dog\n" for row in range(100))
    data = make_data(tmp_path, f"{rows}a.jpg,1,2,x,4,dog\n", [f"{row}.jpg" for row in range(100)])
    assert error_of(data).message.endswith('row 101: expected the corners of a box and its label, got "1,2,x,4,dog"')
    assert read_table(data, skip_invalid=True).labels == ("dog",)


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg,1,0,note0\nb.jpg,0,0,note1\n", "a.jpg,3,0.30\nb.jpg,4,0.20\n", "a.jpg,dog,yes\nb.jpg,cat,no\n",
        "a.jpg,2021,dog\nb.jpg,2022,cat\n", "a.jpg,3,10,20,30,40\nb.jpg,0,50,60,70,80\n", "a.jpg,['dog']\nb.jpg,[]\n",
        "a.jpg,10,20,30,40\nb.jpg,50,60,70,80\n",
    ],
    ids=["marks and words", "probabilities", "words and marks", "years", "boxes whose order is open", "lists", "boxes"],
)  # fmt: skip
def test_table_that_lacks_its_header_is_said(text: str, tmp_path: Path) -> None:
    assert "has no header: its first row names an image, a.jpg" in error_of(make_data(tmp_path, text)).message


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a.jpg 3,5\nb.jpg 1\nc.jpg 2,5\n", ["1", "2", "3", "5"]),
        ("a.jpg dog,cat\nb.jpg dog\nc.jpg cow\n", ["cat", "cow", "dog"]),
        ("a.jpg\tdog,cat\nb.jpg\tdog\nc.jpg\tpug, small\n", ["cat", "dog", "pug, small"]),
    ],
)
def test_commas_in_a_list_separate_labels(text: str, labels: list[str], tmp_path: Path) -> None:
    put(tmp_path, "train.txt", text)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(tmp_path, name)
    assert read_table(tmp_path).labels == tuple(labels)


# --- COCO ------------------------------------------------------------------------------------------------------------


def test_supercategory_is_a_label_only_if_it_is_its_own(tmp_path: Path) -> None:
    above = {"person": "person", "cat": "animal", "animal": "none"}
    document = {
        "images": [{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}],
        "categories": [
            {"id": number, "name": name, "supercategory": over} for number, (name, over) in enumerate(above.items())
        ],
        "annotations": [{"image_id": 0, "category_id": 1}],
    }
    put(tmp_path, "instances.json", json.dumps(document))
    for name in ("a.jpg", "b.jpg"):
        put(tmp_path, name)
    assert_table(read_table(tmp_path), ["a.jpg", "b.jpg"], ["person", "cat"], [[0, 1], [0, 0]])
