"""The page: what stands on it, that names stay text, and that it asks nothing of the network."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, TINY_OPTIONS, Cli, make_evaluation, make_source
from pages import HOSTILE, Browser, Elements, assert_harmless, table_of
from sklearn.metrics import average_precision_score, precision_score, recall_score

import labelr
from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.scoring.report.page import render, report_files, write_report
from labelr.scoring.report.sections import Album
from labelr.scoring.report.source import Source
from labelr.training.fit import fit


def page_of(source: Source) -> str:
    return render(source, Album(source.evaluation))


@pytest.fixture
def source(drawn: Path, trained: Model) -> Source:
    return make_source(trained, make_evaluation(drawn, ["sun", "sea", "sand"]))


def test_page_and_charts_stand_in_a_folder_of_their_own(source: Source, tmp_path: Path) -> None:
    page = write_report(tmp_path, source)
    assert page == tmp_path / "report" / "report.html"
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == ["confusion.png", "history.png", "pr_curves.png", "predictions.png", "report.html"]
    assert page.stat().st_size < 5_000_000


def test_charts_of_another_format_are_replaced_and_other_files_stay(source: Source, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    for name in ("history.png", "predictions.png", "confusion.png", "pr_curves.png", "report.html", "mine.txt"):
        (tmp_path / "report" / name).write_text("older")
    write_report(tmp_path, source, plot_format="svg")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"confusion.svg", "history.svg", "pr_curves.svg", "predictions.svg", "report.html", "mine.txt"}


def test_headline_says_how_many_labels_are_right_and_how_many_are_found(source: Source) -> None:
    of = source.evaluation
    preds = of.probs.astype(np.float64) >= of.thresholds
    found = (preds & (of.targets == 1)).sum()
    right = 100 * found / (preds & ~np.isnan(of.targets)).sum()
    share = 100 * found / (of.targets == 1).sum()
    said = Elements(page_of(source)).said
    assert f"Of 100 labels it writes, about {right:.0f} are right; it finds {share:.0f} of 100." in said
    assert "Measured on 40 images of the test part." in said


def test_numbers_of_each_label_are_scikit_learns(source: Source) -> None:
    of = source.evaluation
    rows = table_of(page_of(source), "label-table")
    assert [row[0].rstrip("*") for row in rows] == list(of.labels)
    for column, row in enumerate(rows):
        known = ~np.isnan(of.targets[:, column])
        true, prob = of.targets[known, column], of.probs[known, column].astype(np.float64)
        chosen = prob >= 0.55
        expected = [
            precision_score(true, chosen), recall_score(true, chosen), average_precision_score(true, prob)
        ]  # fmt: skip
        assert [row[1], row[2]] == [str(int(true.sum())), str(int(chosen.sum()))]
        assert [row[3], row[4], row[6]] == [f"{value:.3f}" for value in expected]
        assert row[8] == "0.550"


def test_curve_has_the_threshold_marked_at_its_recall_and_precision(source: Source) -> None:
    first = page_of(source).split('id="label-1"')[1].split("</li>")[0]
    row = source.evaluation.per_label[0]
    x, y = 24 + row["recall"] * (150 - 24 - 8), 110 - row["precision"] * (110 - 8)
    found = re.search(r'class="mark" cx="([\d.]+)" cy="([\d.]+)"', first)
    assert found
    assert float(found[1]) == pytest.approx(x, abs=0.06)
    assert float(found[2]) == pytest.approx(y, abs=0.06)
    counts = re.findall(r'<td class="(?:right|wrong)">([\d,]+)</td>', first)
    assert counts == [str(row[name]) for name in ("tp", "fn", "fp", "tn")]


def test_hostile_names_stay_text_and_nothing_is_addressed_outside(drawn: Path, trained: Model) -> None:
    evaluation = make_evaluation(drawn, HOSTILE)
    named = replace(evaluation, files=tuple(HOSTILE[row % 4] for row in range(40)), data=f"/{HOSTILE[0]}")
    page = Elements(page_of(make_source(replace(trained, path=Path(HOSTILE[1])), named)))
    assert_harmless(page, HOSTILE)


def test_images_are_small_jpegs_turned_as_they_are_seen(tmp_path: Path, trained: Model, drawn: Path) -> None:
    from PIL import Image

    picture = Image.new("RGB", (600, 300), "red")
    picture.paste("blue", (0, 0, 300, 300))  # its left half, which the turn makes its top
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    evaluation = replace(make_evaluation(drawn, ["one", "two"], 1), paths=(tmp_path / "turned.jpg",))
    shown = Album(evaluation)(0)
    assert shown.pixels is not None
    assert shown.pixels.shape == (224, 112, 3)
    assert shown.pixels[20, 56].tolist() == pytest.approx([0, 0, 254], abs=12)
    assert shown.pixels[200, 56].tolist() == pytest.approx([254, 0, 0], abs=12)
    assert shown.address in page_of(make_source(trained, evaluation))


def test_image_that_does_not_open_any_more_is_said_with_the_reason(drawn: Path, trained: Model) -> None:
    evaluation = replace(make_evaluation(drawn, ["one", "two"], 3), paths=(Path("gone.jpg"),) * 3)
    assert "no picture: no such file or directory" in page_of(make_source(trained, evaluation))


def test_noise_does_not_make_the_page_large(drawn: Path, trained: Model, tmp_path: Path) -> None:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    evaluation = make_evaluation(drawn, ["one", "two"], 1)
    shown = Album(replace(evaluation, paths=(tmp_path / "noise.png",)))(0)
    assert 1_000 < len(shown.address) < 24_000


@pytest.mark.parametrize("number", [1, 3, 90])
def test_page_holds_any_number_of_labels(number: int, drawn: Path, trained: Model) -> None:
    evaluation = make_evaluation(drawn, [f"label {index}" for index in range(number)])
    page = page_of(make_source(trained, evaluation))
    assert len(table_of(page, "label-table")) == number
    assert page.count('<table class="confusion">') == number
    assert ("<details><summary>90 labels" in page) == (number == 90)
    assert len(page) < 5_000_000


def test_model_without_history_has_a_page_without_it_and_an_older_one_has_what_it_says(
    source: Source, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    without = page_of(replace(source, model=replace(source.model, path=older)))
    assert 'id="training"' not in without
    (older / "history.csv").write_text("epoch,train_loss,val_loss,val_map,val_f1,lr,seconds\n1,0.5,0.6,0.3,nan,0.1,2\n")
    said = Elements(page_of(replace(source, model=replace(source.model, path=older), own=False))).said
    assert "How the model's training went" in said
    assert "Mean average precision" in said
    assert "F1, precision and recall" not in said
    (older / "history.csv").write_text("epoch,train_loss,val_loss\n1,0.5,nan\n2,0.4,nan\n")
    alone = Elements(page_of(replace(source, model=replace(source.model, path=older)))).said
    assert "2 epochs" in alone
    assert "No images were set aside to score each epoch on." in alone


def test_no_scored_images_leave_a_page_of_the_training(source: Source, drawn: Path) -> None:
    empty = make_evaluation(drawn, ["sun", "sea"], 0)
    page = page_of(replace(source, evaluation=empty, doubted=empty))
    assert "No images were left to score this model on." in page
    assert 'id="training"' in page
    assert 'id="labels"' not in page


def test_page_says_where_the_model_has_learned_from_the_images(drawn: Path, trained: Model, tmp_path: Path) -> None:
    labelr.evaluate(drawn, trained, split="all", output=tmp_path)
    said = Elements((tmp_path / "report" / "report.html").read_text()).said
    assert "The model has learned from some of these images" in said


def test_page_holds_what_it_takes_to_make_the_model_again(source: Source) -> None:
    said = Elements(page_of(source)).said
    info = source.model.info
    for fact in (info.weights["sha256"], f"torch {info.versions['torch']}", "6 test", "48 train", "--batch-size"):
        assert fact in said


def test_fit_writes_a_page_and_evaluate_another(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    here, options = tmp_path / "here", TINY_OPTIONS[:-1]
    assert cli("fit", drawn, "-o", here, *options).code == 0
    page = Elements((here / "report" / "report.html").read_text()).said
    report = json.loads((here / "metrics.json").read_text())
    assert f"{report['metrics']['map_macro']:.3f}" in page
    assert "of the test part, which it has not learned from" in page
    assert "given for 12 images of the validation and test parts" in page
    command = ("evaluate", drawn, "--model", here, "-o", tmp_path / "out", "--plot-format", "svg")
    assert cli(*command).code == 0
    other = Elements((tmp_path / "out" / "report" / "report.html").read_text()).said
    assert "of labels.csv that the model has not learned from" in other
    assert "The model has learned from some of these images" not in other
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"metrics.json", "report"}
    assert (tmp_path / "out" / "report" / "history.svg").is_file()
    for name in ("metrics.json", "per_label.csv", "predictions.csv", "errors.csv"):
        (tmp_path / "out" / name).unlink()
    again = cli(*command)
    assert again.code == 1
    assert "report.html is there already" in again.err


@pytest.mark.slow
def test_folds_have_a_page_with_means_and_spreads(drawn: Path, tmp_path: Path) -> None:
    model = fit(drawn, {**TINY, "folds": 2, "report": True}, output=tmp_path / "here").model
    report = json.loads((model.path / "metrics.json").read_text())
    page = Elements((model.path / "report" / "report.html").read_text()).said
    assert f"{report['metrics']['f1_micro']:.3f} ± {report['spread']['f1_micro']:.3f}" in page
    assert "given for 60 images (each shown to a model that had not seen it)" in page


def test_model_is_complete_where_the_page_cannot_be_written_and_the_old_page_is_gone(
    drawn: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = tmp_path / "here"
    first = fit(drawn, TINY, output=here).model
    (here / "report").write_text("a file in the way")
    model = fit(drawn, {**TINY, "report": True, "seed": 5}, output=here, force=True).model
    assert model.info.complete
    assert model.info.weights != first.info.weights
    assert "the model is complete, but its page is not: cannot write" in caplog.text
    (here / "report").unlink()
    (here / "report").mkdir()
    (here / "report" / "report.html").write_text("of the model before")
    (here / "report" / "history.svg").write_text("of the model before")
    fit(drawn, TINY, output=here, force=True)
    assert [path for path in report_files(here) if path.exists()] == []


@pytest.mark.slow
def test_page_of_90_labels_and_10000_images_is_written_in_20_seconds(
    drawn: Path, trained: Model, tmp_path: Path
) -> None:
    labels = [f"label number {index}" for index in range(90)]
    numbers = make_evaluation(drawn, labels, 500).to_json()
    source = make_source(trained, make_evaluation(drawn, labels, 10_000), numbers=numbers)
    start = time.process_time()
    page = write_report(tmp_path, source)
    assert time.process_time() - start < 20
    assert page.stat().st_size < 5_000_000


@pytest.mark.slow
def test_thousands_of_labels_are_bounded(drawn: Path, trained: Model) -> None:
    labels = [f"tag {index}" for index in range(2100)]
    evaluation = make_evaluation(drawn, labels, 20)
    numbers = make_evaluation(drawn, labels[:3], 20).to_json()
    rows = [{**numbers["per_label"][0], "label": label} for label in labels]
    page = page_of(make_source(trained, evaluation, numbers={**numbers, "per_label": rows}))
    assert len(table_of(page, "label-table")) == 2000
    assert "The first 2000 of 2,100 labels." in page
    assert "The 200 most frequent of 2100 labels" in page
    assert len(page) < 5_000_000


def test_unknown_plot_format_is_an_error(drawn: Path, trained: Model) -> None:
    with pytest.raises(LabelrError, match="plot_format: expected one of png, svg, got 'pdf'"):
        labelr.evaluate(drawn, trained, plot_format="pdf")


# --- in a browser ----------------------------------------------------------------------------------------------------


def test_browser_runs_the_page_without_errors_and_asks_for_nothing_else(
    browser: Browser, drawn: Path, trained: Model
) -> None:
    evaluation = make_evaluation(drawn, [*HOSTILE, "sun"])
    named = replace(evaluation, files=tuple(HOSTILE[row % 4] for row in range(40)))
    shown = browser(page_of(make_source(trained, named)))
    assert shown.requests == ["http://page.test/report.html"]
    assert shown.console == ""
    page = Elements(shown.page)
    assert shown.page.count('<button type="button">') == 9  # the script has run
    for name in HOSTILE:
        assert " ".join(name.split()) in page.said


def test_browser_would_tell_of_requests_and_of_errors(browser: Browser) -> None:
    shown = browser("<!doctype html><img src=http://evil.test/a.png><script>nonsense()</script>")
    assert "http://evil.test/a.png" in shown.requests
    assert "nonsense is not defined" in shown.console


def test_click_on_a_heading_sorts_the_labels_and_another_turns_them(browser: Browser, source: Source) -> None:
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_of(source))  # for the clicks below
    clicks = """<script>
      const heading = document.querySelectorAll("#label-table th button")[3];
      const rows = () => [...document.querySelectorAll("#label-table tbody tr")];
      const column = () => rows().map((row) => row.cells[3].textContent);
      heading.click(); const down = column(); heading.click();
      document.title = JSON.stringify([down, column()]);
    </script></body>"""
    shown = browser(page.replace("</body>", clicks))
    down, up = json.loads(re.findall(r"<title>(.*?)</title>", shown.page)[0])
    precisions = sorted((f"{row['precision']:.3f}" for row in source.evaluation.per_label), reverse=True)
    assert down == precisions
    assert up == precisions[::-1]


@pytest.mark.slow
def test_page_is_no_wider_than_a_telephone_however_long_the_names(
    browser: Browser, drawn: Path, trained: Model
) -> None:
    names = [*HOSTILE, "x" * 120, "日本語" * 30]
    evaluation = replace(make_evaluation(drawn, names), files=tuple(names[row % 6] * 3 for row in range(40)))
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_of(make_source(trained, evaluation)))
    measured = "<script>document.title = [document.documentElement.scrollWidth, innerWidth]</script></body>"
    shown = browser(page.replace("</body>", measured), "--window-size=390,900")
    inner, outer = re.findall(r"<title>(\d+),(\d+)</title>", shown.page)[0]
    assert int(inner) <= int(outer)
    assert int(outer) < 600
