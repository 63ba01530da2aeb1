"""Evaluating a saved model: labels, thresholds, files and errors."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Cli
from PIL import Image

import labelr
from labelr.data.value_range import ValueRange
from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.scoring.evaluate import check_output


@pytest.fixture
def table(shapes: Path, tmp_path: Path) -> Callable[[Callable[[list[str]], list[str]]], Path]:
    """Makes a label file for the synthetic images by changing each row's cells, the header's too."""

    def make(change: Callable[[list[str]], list[str]]) -> Path:
        lines = [change(line.split(",")) for line in (shapes / "labels.csv").read_text().splitlines()]
        path = tmp_path / "other.csv"
        path.write_text("\n".join(",".join(cells) for cells in lines))
        return path

    return make


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty smooth random images, of which none looks like another, with the label "light"."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = ["filename,light"]
    for number in range(20):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((320, 240), Image.Resampling.BICUBIC).save(folder / "images" / f"{number}.png")
        rows.append(f"{number}.png,{number % 2}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="module")
def photographed(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that was trained on them for a moment."""
    return labelr.fit(photographs, TINY, epochs=1, output=tmp_path_factory.mktemp("models") / "photographed").model


def without_disc(cells: list[str]) -> list[str]:
    extra = "dog" if cells[0] == "filename" else "1"
    return [cells[0], cells[3], cells[1], extra]  # another order, too


def test_different_label_set_is_an_error_that_names_both_sides(
    cli: Cli, shapes: Path, trained: Model, table: Callable[..., Path]
) -> None:
    result = cli("evaluate", shapes, "--model", trained.path, "--labels", table(without_disc))
    assert (result.code, result.out) == (1, "")
    assert "lacks 1 of the model's labels: disc; the model does not have 1 of the labels: dog" in result.err
    assert "`--common-labels`" in result.err


def test_common_labels_are_evaluated_with_their_own_thresholds(
    shapes: Path, trained: Model, table: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    whole = labelr.evaluate(shapes, trained, split="all")
    common = labelr.evaluate(
        shapes, trained, options={"labels": str(table(without_disc))}, split="all", common_labels=True
    )
    assert common.labels == ("horizontal_stripes", "triangle")
    assert [row for row in whole.label_rows if row["label"] != "disc"] == common.label_rows
    assert "lacks 1 label of the model" in caplog.text
    assert "does not have 1 of the labels: dog; they are not evaluated" in caplog.text


def test_images_without_a_known_common_label_are_left_out_and_counted(
    shapes: Path, trained: Model, table: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    unknown = {"00000.png", "00001.png"}
    path = table(
        lambda cells: [cells[0], "" if cells[0] in unknown else cells[1], {"filename": "dog"}.get(cells[0], "1")]
    )
    found = labelr.evaluate(shapes, trained, options={"labels": str(path)}, split="all", common_labels=True)
    assert len(found.probs) == 58
    assert unknown.isdisjoint(found.files)
    assert "left out: 2 images without a known label of these" in caplog.text


@pytest.mark.parametrize("options", [{"only": ("disc",)}, {"exclude": ("horizontal_stripes", "triangle")}])
def test_excluded_labels_are_not_missing(shapes: Path, trained: Model, options: dict[str, tuple[str, ...]]) -> None:
    assert labelr.evaluate(shapes, trained, options=options, split="all").labels == ("disc",)


def test_choosing_only_labels_that_the_model_does_not_have_is_an_error(
    shapes: Path, trained: Model, table: Callable[..., Path]
) -> None:
    options = {"labels": str(table(without_disc)), "only": ("dog",)}
    with pytest.raises(LabelrError, match="does not have 1 of the labels: dog") as caught:
        labelr.evaluate(shapes, trained, options=options, split="all")
    assert "horizontal_stripes" in caught.value.hint


def test_label_in_another_case_is_suggested(shapes: Path, trained: Model, table: Callable[..., Path]) -> None:
    path = table(lambda cells: [cell.replace("disc", "Disc") for cell in cells])
    with pytest.raises(LabelrError, match="lacks 1 of the model's labels: disc") as caught:
        labelr.evaluate(shapes, trained, options={"labels": str(path)})
    assert "did you mean `Disc`? The model calls it `disc`" in caught.value.hint
    path = table(lambda cells: [cell.replace("disc", "desert") for cell in cells])
    with pytest.raises(LabelrError, match="lacks 1 of the model's labels: disc") as caught:
        labelr.evaluate(shapes, trained, options={"labels": str(path)})
    assert caught.value.hint == "evaluate the common labels with `common_labels=True`"


@pytest.mark.slow
def test_images_that_do_not_open_are_listed_in_errors_csv(shapes: Path, trained: Model, tmp_path: Path) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "data"))
    (data / "images" / "00003.png").write_bytes(b"no image")
    labelr.evaluate(data, trained, split="all", output=tmp_path / "out")
    with (tmp_path / "out" / "errors.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["filename"] == "00003.png"
    assert row["reason"]
    html = (tmp_path / "out" / "report" / "report.html").read_text()
    assert "Some of these images were used in training: expect lower scores" in html


def test_output_that_cannot_be_written_is_an_error_before_the_evaluation(
    cli: Cli, shapes: Path, trained: Model, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    result = cli("evaluate", shapes, "--model", trained.path, "--split", "all", "-v", "-o", tmp_path / "file")
    assert result.code == 1
    assert f"the output {tmp_path / 'file'} is a file" in result.err
    assert (tmp_path / "file").read_text() == "mine"


def test_table_names_the_model(cli: Cli, shapes: Path, trained: Model) -> None:
    assert "Scores of trained on 60 images:" in cli("evaluate", shapes, "--model", trained.path, "--split", "all").out


def test_unfinished_model_is_warned_of(cli: Cli, shapes: Path, trained: Model, home: Path) -> None:
    folder = Path(shutil.copytree(trained.path, home / "models" / "half"))
    said = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**said, "complete": False}))
    for command in (("evaluate", shapes, "--split", "all"), ("tag", shapes / "images", "--dry-run")):
        assert "Warning: the training of half was stopped" in cli(*command, "--model", "half").err


def test_near_duplicates_of_training_images_are_left_out_and_counted(
    cli: Cli, photographs: Path, photographed: Model, tmp_path: Path
) -> None:
    with (photographed.path / "splits.csv").open() as file:
        rows = list(csv.DictReader(file))
    seen, unseen = (next(row["image"] for row in rows if row["split"] == split) for split in ("train", "test"))
    data = tmp_path / "more"
    data.mkdir()
    for name, source in (("seen.jpg", seen), ("unseen.jpg", unseen)):
        with Image.open(photographs / "images" / source) as image:  # smaller, and compressed
            image.resize((200, 150)).save(data / name, quality=70)
    shutil.copy(photographs / "images" / seen, data / "copy.png")
    (data / "labels.csv").write_text("filename,light\nseen.jpg,1\nunseen.jpg,0\ncopy.png,1\n")
    result = cli("evaluate", data, "--model", photographed.path, "--json")
    report = json.loads(result.out)
    assert (report["images"], report["left_out"]) == (1, {"trained_on": 1, "near_duplicates": 1})
    assert f"left out: 1 near-duplicate of images that {photographed.name} was trained on" in result.err
    everything = json.loads(cli("evaluate", data, "--model", photographed.path, "--split", "all", "--json").out)
    assert (everything["images"], everything["left_out"]) == (3, {"trained_on": 0, "near_duplicates": 0})


def test_model_without_fingerprints_is_warned_of(cli: Cli, photographs: Path, photographed: Model, home: Path) -> None:
    folder = Path(shutil.copytree(photographed.path, home / "models" / "old"))
    lines = (folder / "splits.csv").read_text().splitlines()
    (folder / "splits.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    result = cli("evaluate", photographs, "--model", "old")
    assert result.code == 0
    assert "Warning: old keeps no fingerprints of its images" in result.err


def test_no_common_label_is_an_error(shapes: Path, trained: Model, table: Callable[..., Path]) -> None:
    path = table(lambda cells: [cells[0], "dog" if cells[0] == "filename" else "1"])
    with pytest.raises(LabelrError, match="lacks 3 of the model's labels") as caught:
        labelr.evaluate(shapes, trained, options={"labels": str(path)}, common_labels=True)
    assert "common_labels" not in caught.value.hint


def test_images_without_known_labels_are_an_error(shapes: Path, trained: Model, table: Callable[..., Path]) -> None:
    dog = {"filename": "dog", "00000.png": "1"}
    path = table(lambda cells: [*(cells if cells[0] == "filename" else [cells[0], "", "", ""]), dog.get(cells[0], "0")])
    with pytest.raises(LabelrError, match="all labels to evaluate are unknown") as caught:
        labelr.evaluate(shapes, trained, options={"labels": str(path)}, split="all")
    assert "mark labels" in caught.value.hint


@pytest.mark.slow
def test_thresholds_of_a_file_are_used(cli: Cli, shapes: Path, trained: Model, tmp_path: Path) -> None:
    path = tmp_path / "thresholds.csv"
    path.write_text("label,threshold\ndisc,0\ntriangle,1\n")
    command = ("evaluate", shapes, "--model", trained.path, "--split", "all")
    report = json.loads(cli(*command, "--threshold-file", path, "--json").out)
    stripes, disc, triangle = report["per_label"]
    assert report["threshold"] == str(path)
    assert stripes["threshold"] == trained.info.thresholds[0]
    assert (disc["threshold"], disc["predicted"]) == (0, 60)
    assert (triangle["threshold"], triangle["predicted"]) == (1, 0)
    tables = cli(*command, "--threshold-file", path).out
    assert "F1 at 0.5" in tables
    assert "F1 at fitted thresholds" in tables
    assert "F1 at thresholds.csv" in tables


@pytest.mark.slow
def test_results_are_sorted_and_can_be_used_as_thresholds(
    cli: Cli, shapes: Path, trained: Model, tmp_path: Path
) -> None:
    command = ("evaluate", shapes, "--model", trained.path, "--split", "all", "--json")
    report = json.loads(cli(*command, "--output", tmp_path / "out", "--sort", "ap").out)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == report
    precisions = [row["ap"] for row in report["per_label"]]
    assert precisions == sorted(precisions, reverse=True)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (shapes / "labels.csv").open() as file:
        assert [(row["filename"], row["disc:target"]) for row in rows] == [
            (row["filename"], row["disc"]) for row in csv.DictReader(file)
        ]
    again = cli(*command, "--output", tmp_path / "out")
    assert again.code == 1
    assert "--force" in again.err
    again = cli(*command, "--threshold-file", tmp_path / "out" / "per_label.csv")
    assert json.loads(again.out)["metrics"] == report["metrics"]


def test_tag_evaluate_and_predict_see_the_same_probabilities_and_thresholds(
    cli: Cli, shapes: Path, trained: Model, tmp_path: Path
) -> None:
    evaluation = labelr.evaluate(shapes, trained, split="all")
    labelr.tag(shapes / "images", trained, output=tmp_path / "tags")
    with (tmp_path / "tags" / "probabilities.csv").open() as file:
        tagged = {row["filename"]: [float(row[label]) for label in trained.labels] for row in csv.DictReader(file)}
    with (tmp_path / "tags" / "labels.csv").open() as file:
        chosen = {row["filename"]: [int(row[label]) for label in trained.labels] for row in csv.DictReader(file)}
    assert np.array([tagged[name] for name in evaluation.files]) == pytest.approx(evaluation.probs, abs=1e-5)
    decided = evaluation.per_label["predicted"].tolist()
    assert np.sum([chosen[name] for name in evaluation.files], axis=0).tolist() == decided


@pytest.mark.slow
def test_fit_chooses_the_value_range_and_evaluate_tag_and_predict_use_it(
    cli: Cli, shapes: Path, tmp_path: Path
) -> None:
    data = tmp_path / "xrays"
    (data / "images").mkdir(parents=True)
    for path in (shapes / "images").iterdir():
        with Image.open(path) as image:
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 4 + 5000).save(
                data / "images" / path.name
            )
    shutil.copy(shapes / "labels.csv", data)
    model = labelr.fit(data, TINY, output=tmp_path / "model", epochs=1).model
    assert model.info.preprocessing.value_range == ValueRange(integers=(4992.0, 6016.0))
    assert labelr.check(data).to_json()["value_range"] == {"integers": (4992.0, 6016.0), "floats": None}
    assert "value range: integers from 4,992 to 6,016, of images of more than 8 bits" in cli("check", data).out
    assert "integers from 4,992 to 6,016" in cli("models", "show", model.path).out
    evaluation = labelr.evaluate(data, model, split="all")
    assert np.ptp(evaluation.probs, axis=0).max() > 0.01  # the images do not all look alike
    paths = [data / "images" / file for file in evaluation.files]
    assert model.predict(paths).probs == pytest.approx(evaluation.probs, abs=1e-5)
    labelr.tag(data / "images", model, output=tmp_path / "tags")
    with (tmp_path / "tags" / "probabilities.csv").open() as file:
        tagged = {row["filename"]: [float(row[label]) for label in model.labels] for row in csv.DictReader(file)}
    assert np.array([tagged[name] for name in evaluation.files]) == pytest.approx(evaluation.probs, abs=1e-5)


def test_tag_takes_thresholds_from_a_file(cli: Cli, shapes: Path, trained: Model, tmp_path: Path) -> None:
    path = tmp_path / "thresholds.csv"
    path.write_text("label,threshold\ndisc,0\n")
    command = ("tag", shapes / "images", "--model", trained.path, "-o", tmp_path / "tags", "--json")
    summary = json.loads(cli(*command, "--threshold-file", path).out)
    assert summary["threshold"] == str(path)
    assert summary["per_label"]["disc"] == 60


def test_few_positives_are_warned_of_and_intervals_and_baselines_are_shown(
    cli: Cli, shapes: Path, trained: Model
) -> None:
    result = cli("evaluate", shapes, "--model", trained.path)
    assert "Warning: scores are unreliable for 3 of 3 labels, with fewer than 10 positives here: horiz" in result.err
    assert "Warning" in cli("evaluate", shapes, "--model", trained.path, "--json").err
    assert "95 % interval" in result.out
    assert "label prior" in result.out
    assert "random guessing" in result.out


def test_labels_that_are_not_evaluable_are_counted_below_the_table(
    cli: Cli, shapes: Path, trained: Model, table: Callable[..., Path]
) -> None:
    path = table(lambda cells: cells if cells[0] == "filename" else [*cells[:3], "0"])
    result = cli("evaluate", shapes, "--model", trained.path, "--labels", path, "--split", "all")
    assert "Macro averages cover 2 of 3 labels: the others have no positive or no negative here." in result.out
    assert re.search(r"triangle .* not evaluable", result.out)


def test_results_are_replaced_only_with_force(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    check_output(tmp_path, force=False)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(LabelrError, match=r"metrics\.json exists already") as caught:
        check_output(tmp_path, force=False)
    assert "--force" in caught.value.hint
    check_output(tmp_path, force=True)
