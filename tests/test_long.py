"""Long tables, and tables of Open Images."""

from pathlib import Path

import pytest
from conftest import assert_table, error_of, make_data, put, read_table

from labelr.config import ReadOptions
from labelr.data.load import read_labels

NAN = float("nan")


def test_rows_of_one_image_are_its_labels(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "image,label\na.jpg,dog\na.jpg,cat\nb.jpg,cat\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [1, 0]])


def test_row_without_a_label_is_an_image_without_labels(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "image,label\na.jpg,dog\na.jpg,cat\nb.jpg,\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [0, 0]])


def test_label_with_a_confidence_below_a_half_does_not_apply(tmp_path: Path) -> None:
    text = "image,label,confidence\na.jpg,dog,0.9\na.jpg,cat,0.4\nb.jpg,cat,0.5\n"
    assert_table(read_table(make_data(tmp_path, text)), ["a.jpg", "b.jpg"], ["cat", "dog"], [[0, 1], [1, 0]])


@pytest.mark.parametrize("cell", ["10", "-1", "nan", "1e999"])
def test_confidence_out_of_range_is_named(cell: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, f"image,label,confidence\na.jpg,dog,0.9\na.jpg,cat,{cell}\n")
    assert f'expected a number from 0 to 1, got "{cell}"' in error_of(data).message


def test_confidence_may_have_a_decimal_comma_or_be_a_word(tmp_path: Path) -> None:
    text = "image;label;confidence\na.jpg;dog;0,9\na.jpg;cat;0,4\nb.jpg;cat;yes\nb.jpg;dog;no\n"
    assert_table(read_table(make_data(tmp_path, text)), ["a.jpg", "b.jpg"], ["cat", "dog"], [[0, 1], [1, 0]])


@pytest.mark.parametrize("header", ["count", "individualCount", "individuals", "number", "Number of individuals"])
@pytest.mark.parametrize(("zero", "more"), [("0", "1"), ("0.0", "12"), ("0", "")])
def test_label_with_a_count_of_0_does_not_apply_and_a_note_says_so(
    header: str, zero: str, more: str, tmp_path: Path
) -> None:
    text = f"image,species,{header}\na.jpg,dog,{more}\na.jpg,cat,{zero}\nb.jpg,cat,{more}\n"
    table = read_table(make_data(tmp_path, text))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[0, 1], [1, 0]])
    assert table.findings.notes == (f'rows with 0 in the column "{header}", whose label does not apply: 1',)
    assert read_table(tmp_path, exclude=[header]).targets.tolist() == [[1, 1], [1, 0]]


def test_label_with_a_count_of_0_does_not_apply_to_the_only_row_of_an_image(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "filename,species,count\na.jpg,fox,0\nb.jpg,fox,2\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["fox"], [[0], [1]])


def test_label_counted_in_one_row_of_an_image_applies(tmp_path: Path) -> None:
    text = "image,species,sex,count\na.jpg,fox,male,0\na.jpg,fox,female,2\nb.jpg,dog,male,1\n"
    assert read_table(make_data(tmp_path, text)).targets.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    "rows",
    ["a.jpg,dog,0\na.jpg,cat,1\nb.jpg,cat,0\n", "a.jpg,dog,2\na.jpg,cat,3\nb.jpg,cat,1\n"],
    ids=["numbers of the rows of an image", "no zero"],
)
def test_number_that_is_no_count_of_0_is_ignored(rows: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, f"image,label,number\n{rows}"))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [1, 0]])
    assert table.findings.notes == ("columns that hold no labels, ignored: number",)


def test_label_for_nothing_applies_although_its_count_is_0(tmp_path: Path) -> None:
    text = "image,species,count\na.jpg,fox,1\na.jpg,dog,2\nb.jpg,empty,0\n"
    assert_table(
        read_table(make_data(tmp_path, text)), ["a.jpg", "b.jpg"], ["dog", "empty", "fox"], [[1, 0, 1], [0, 1, 0]]
    )


@pytest.mark.parametrize("header", ["occurrenceStatus", "status"])
@pytest.mark.parametrize("last", ["", "present"])
def test_status_says_whether_the_label_of_a_row_applies(header: str, last: str, tmp_path: Path) -> None:
    text = f"image,species,{header}\na.jpg,dog,present\na.jpg,cat,Absent\nb.jpg,cat,{last}\n"
    table = read_table(make_data(tmp_path, text))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[0, 1], [1, 0]])
    assert table.findings.notes == ()


def test_status_of_other_words_is_ignored(tmp_path: Path) -> None:
    text = "image,species,status\na.jpg,dog,present\na.jpg,cat,done\nb.jpg,cat,absent\n"
    assert read_table(make_data(tmp_path, text)).targets.tolist() == [[1, 1], [1, 0]]


def test_further_column_of_yes_and_no_is_ambiguous(tmp_path: Path) -> None:
    data = make_data(tmp_path, "image,label,value\na.jpg,dog,0\na.jpg,cat,1\nb.jpg,cat,1\n")
    error = error_of(data)
    assert 'the column "value" of yes and no may mean whether the label of a row applies' in error.message
    assert "`--exclude value`" in error.hint
    assert read_table(data, exclude=["value"]).targets.tolist() == [[1, 1], [1, 0]]


def test_confidence_that_is_not_a_number_is_named(tmp_path: Path) -> None:
    text = "image,label,confidence\na.jpg,dog,0.9\na.jpg,cat,high\n"
    assert (
        'row 3, column "confidence": expected a number from 0 to 1, got "high"'
        in error_of(make_data(tmp_path, text)).message
    )


def test_boxes_are_the_labels_of_their_image(tmp_path: Path) -> None:
    rows = "a.jpg,9,9,1,0,0,5,5\na.jpg,9,9,0,0,0,1,1\nb.jpg,9,9,1,0,0,1,1\n"
    text = f"filename,width,height,class,xmin,ymin,xmax,ymax\n{rows}"
    assert_table(read_table(make_data(tmp_path, text)), ["a.jpg", "b.jpg"], ["0", "1"], [[1, 1], [0, 1]])


def test_column_with_another_name_is_found_by_its_text(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "image,what,x\na.jpg,dog,1\na.jpg,cat,2\nb.jpg,dog,3\n"))
    assert table.labels == ("cat", "dog")
    assert table.layout.startswith('one row an image and label, in the column "what"')


def test_splits_are_read(tmp_path: Path) -> None:
    text = "image,label,split\na.jpg,dog,train\na.jpg,cat,train\nb.jpg,cat,val\n"
    assert read_table(make_data(tmp_path, text)).named_splits == ("train", "val")


def test_row_without_an_image_is_named(tmp_path: Path) -> None:
    text = "image,label\na.jpg,dog\n,cat\na.jpg,cow\n"
    assert "row 3: no file name" in error_of(make_data(tmp_path, text)).message


def test_excluded_column_is_not_the_label_column(tmp_path: Path) -> None:
    data = make_data(tmp_path, "image,label,category\na.jpg,tabby,cat\na.jpg,poodle,dog\nb.jpg,poodle,dog\n")
    assert read_table(data).labels == ("poodle", "tabby")
    assert_table(read_table(data, exclude=["label"]), ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [0, 1]])


def test_nothing_is_known_of_an_image_without_a_label_where_blank_is_unknown(tmp_path: Path) -> None:
    text = "image,label,score\na.jpg,dog,1\na.jpg,cat,1\nb.jpg,,1\nc.jpg,dog,0\n"
    reading = read_labels([make_data(tmp_path, text, ["a.jpg", "b.jpg", "c.jpg"])], ReadOptions(blank="unknown"))
    assert_table(reading, ["a.jpg", "c.jpg"], ["cat", "dog"], [[1, 1], [0, 0]])
    assert reading.findings.unlabelled == ("b.jpg",)


@pytest.mark.parametrize("header", ["image,label,confidence,", "ImageID,LabelName,Confidence,Source,"])
def test_skip_invalid_skips_images_with_invalid_rows(header: str, tmp_path: Path) -> None:
    source = "verification," if "Source" in header else ""
    rows = [f"{row},{source}x" for row in ("a.jpg,dog,1", "a.jpg,cat,?", "b.jpg,cat,1", "b.jpg,dog,0", "b.jpg,cow,1")]
    data = make_data(tmp_path, "\n".join([f"{header}scene", *rows]))
    assert "`--skip-invalid`" in error_of(data).hint
    reading = read_labels([data], ReadOptions(skip_invalid=True))
    assert (reading.files, reading.findings.missing, reading.findings.unlisted) == (("b.jpg",), (), ())
    assert 'row 3, column "' in reading.findings.invalid[0]


@pytest.mark.parametrize("header", ["image,label,scene", "ImageID,LabelName,scene,Confidence,Source"])
def test_groups_are_read(header: str, tmp_path: Path) -> None:
    end = ",1,verification" if "Source" in header else ""
    rows = [f"{row}{end}" for row in ("b.jpg,dog,x", "a.jpg,cat,y", "a.jpg,dog,y")]
    table = read_table(make_data(tmp_path, "\n".join([header, *rows])), group="scene")
    assert (table.files, table.groups) == (("b.jpg", "a.jpg"), ("x", "y"))


OPEN_IMAGES = """ImageID,Source,LabelName,Confidence
0a,verification,/m/01,1
0a,verification,/m/02,0
1e5,verification,/m/02,1.0
"""


def test_label_that_open_images_does_not_list_is_unknown(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, OPEN_IMAGES, images=["0a.jpg", "1e5.jpg"]))
    assert_table(table, ["0a.jpg", "1e5.jpg"], ["/m/01", "/m/02"], [[1, 0], [NAN, 1]])


def test_subset_of_open_images_is_the_split(tmp_path: Path) -> None:
    rows = "0a,verification,/m/01,1,train\n0a,verification,/m/02,0,train\n1e5,verification,/m/02,1,validation\n"
    data = make_data(tmp_path, f"ImageID,Source,LabelName,Confidence,Subset\n{rows}", images=["0a.jpg", "1e5.jpg"])
    assert read_table(data).named_splits == ("train", "val")


@pytest.mark.parametrize("row", ["1e5,verification,/m/02,1.0,3", ",verification,/m/02,1.0"])
def test_invalid_row_of_open_images_is_named(row: str, tmp_path: Path) -> None:
    data = make_data(tmp_path, f"{OPEN_IMAGES}{row}\n", images=["0a.jpg", "1e5.jpg"])
    assert "row 5: " in error_of(data).message
    table = read_table(data, skip_invalid=True)
    assert_table(table, ["0a.jpg", "1e5.jpg"], ["/m/01", "/m/02"], [[1, 0], [NAN, 1]])
    assert len(table.findings.invalid) == 1


@pytest.mark.parametrize("header", ["", "LabelName,DisplayName\n"])
def test_class_descriptions_name_the_labels(header: str, tmp_path: Path) -> None:
    put(tmp_path, "class-descriptions.csv", f'{header}/m/01,Dog\n/m/02,"Cat, big"\n')
    table = read_table(make_data(tmp_path, OPEN_IMAGES, images=["0a.jpg", "1e5.jpg"]))
    assert table.labels == ("Cat, big", "Dog")


CONFIDENT = "image,label,confidence\na.jpg,dog,0.9\nb.jpg,cat,0.1\n"


@pytest.mark.parametrize("name", ["confidence", "score", "prediction_score", "present"])
def test_confidence_counts_although_no_image_has_two_rows(name: str, tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, CONFIDENT.replace("confidence", name)))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[0, 1], [0, 0]])


def test_score_of_an_image_with_several_tags_is_no_confidence(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, "image,tags,score\na.jpg,dog|cat,0.1\nb.jpg,cat,7\n"))
    assert_table(table, ["a.jpg", "b.jpg"], ["cat", "dog"], [[1, 1], [1, 0]])


def test_score_that_is_no_confidence_is_left_out_if_excluded(tmp_path: Path) -> None:
    data = make_data(tmp_path, "image,label,score\na.jpg,dog,0.1\nb.jpg,cat,7\n")
    assert "`--exclude score`" in error_of(data).hint
    assert_table(read_table(data, exclude=["score"]), ["a.jpg", "b.jpg"], ["cat", "dog"], [[0, 1], [1, 0]])


def test_image_with_an_invalid_confidence_is_left_out_if_allowed(tmp_path: Path) -> None:
    table = read_table(make_data(tmp_path, CONFIDENT.replace("0.1", "high")), skip_invalid=True)
    assert (table.files, table.findings.unlisted) == (("a.jpg",), ())


def test_confidences_of_several_annotators_are_votes(tmp_path: Path) -> None:
    rows = "a.jpg,1,dog,1\na.jpg,2,dog,0\na.jpg,3,dog,0\nb.jpg,1,dog,1\n"
    table = read_table(make_data(tmp_path, f"image,rater,label,confidence\n{rows}"), annotator="rater")
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[0], [1]])


def test_sources_of_open_images_vote_if_they_are_named_as_annotators(tmp_path: Path) -> None:
    votes = [("human", 0), ("crowd", 0), ("machine", 1)]
    rows = "".join(f"a,{source},dog,{value}\n" for source, value in votes)
    data = make_data(tmp_path, f"ImageID,Source,LabelName,Confidence\n{rows}b,human,dog,1\n")
    assert read_table(data).targets.tolist() == [[1], [1]]
    assert read_table(data, annotator="Source").targets.tolist() == [[0], [1]]


def test_votes_on_the_presence_of_a_label_are_confidences(tmp_path: Path) -> None:
    rows = "a.jpg,1,dog,1\na.jpg,2,dog,0\na.jpg,3,dog,0\nb.jpg,1,dog,1\n"
    table = read_table(make_data(tmp_path, f"image,rater,label,present\n{rows}"), annotator="rater")
    assert_table(table, ["a.jpg", "b.jpg"], ["dog"], [[0], [1]])


def test_rows_that_contradict_each_other_are_an_error(tmp_path: Path) -> None:
    data = make_data(tmp_path, "image,label,present\na.jpg,dog,1\na.jpg,dog,0\nb.jpg,dog,1\nb.jpg,cat,0\n")
    assert "rows of a.jpg contradict each other on dog" in error_of(data).message
    assert read_table(data, skip_invalid=True).files == ("b.jpg",)
