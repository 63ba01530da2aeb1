"""The HTML report: its content, that names stay text, and that it loads nothing from the network."""

import json
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, TINY_OPTIONS, Cli, cpu_limit, make_evaluation, make_report_data
from pages import HOSTILE, Browser, Elements, assert_harmless, table_of
from sklearn.metrics import average_precision_score, precision_score, recall_score

import labelr
from labelr.data.value_range import ValueRange
from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.scoring.report import page as page_module
from labelr.scoring.report.page import ReportData, breakable, render, report_files, write_report
from labelr.scoring.report.sections import Thumbnail, make_thumbnail
from labelr.training.fit import FitResult, fit


def html_of(report: ReportData) -> str:
    return render(report, make_thumbnail)


@pytest.fixture
def small_report(shapes: Path, trained: Model) -> ReportData:
    return make_report_data(trained, make_evaluation(shapes, ["sun", "sea"], 3))


@pytest.fixture
def report(shapes: Path, trained: Model) -> ReportData:
    return make_report_data(trained, make_evaluation(shapes, ["sun", "sea", "sand"]))


@pytest.mark.slow
def test_report_and_charts_are_in_their_own_folder(small_report: ReportData, tmp_path: Path) -> None:
    page = write_report(tmp_path, small_report)
    assert page == tmp_path / "report" / "report.html"
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == ["confusion.png", "history.png", "pr_curves.png", "predictions.png", "report.html"]
    assert page.stat().st_size < 5_000_000


def test_charts_in_another_format_are_replaced_and_other_files_kept(small_report: ReportData, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    for name in ("history.png", "predictions.png", "confusion.png", "pr_curves.png", "report.html", "mine.txt"):
        (tmp_path / "report" / name).write_text("older")
    write_report(tmp_path, small_report, plot_format="svg")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"confusion.svg", "history.svg", "pr_curves.svg", "predictions.svg", "report.html", "mine.txt"}


def test_each_image_file_is_opened_once(
    small_report: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def open_and_count(path: Path, value_range: ValueRange) -> Thumbnail:
        opened.append(path)
        return make_thumbnail(path, value_range)

    monkeypatch.setattr(page_module, "make_thumbnail", open_and_count)
    write_report(tmp_path, small_report)
    assert sorted(opened) == sorted(small_report.evaluation.paths)


def test_headline_has_precision_and_recall(report: ReportData) -> None:
    of = report.evaluation
    preds = of.probs.astype(np.float64) >= of.thresholds
    found = (preds & (of.targets == 1)).sum()
    correct = 100 * found / (preds & ~np.isnan(of.targets)).sum()
    share = 100 * found / (of.targets == 1).sum()
    text = Elements(html_of(report)).text
    assert f"Of 100 labels it predicts, about {correct:.0f} are correct; it finds {share:.0f} of 100." in text
    assert "Measured on 40 images of the test split." in text


def test_metrics_of_each_label_equal_scikit_learns(report: ReportData) -> None:
    of = report.evaluation
    rows = table_of(html_of(report), "label-table")
    assert [row[0].rstrip("*") for row in rows] == list(of.labels)
    for column, row in enumerate(rows):
        known = ~np.isnan(of.targets[:, column])
        true, prob = of.targets[known, column], of.probs[known, column].astype(np.float64)
        chosen = prob >= 0.55
        expected = [
            precision_score(true, chosen), recall_score(true, chosen), average_precision_score(true, prob)
        ]  # fmt: skip
        assert [row[1], row[2]] == [str(int(true.sum())), str(int(chosen.sum()))]
        assert [row[3], row[4], row[6]] == [f"{value:.2f}" for value in expected]
        assert row[8] == "0.550"


def test_curve_has_the_threshold_marked_at_its_recall_and_precision(report: ReportData) -> None:
    first = html_of(report).split('id="label-1"')[1].split("</li>")[0]
    row = report.evaluation.label_rows[0]
    x, y = 44 + row["recall"] * (140 - 44), 104 - row["precision"] * (104 - 10)
    found = re.search(r'class="mark" cx="([\d.]+)" cy="([\d.]+)"', first)
    assert found
    assert float(found[1]) == pytest.approx(x, abs=0.06)
    assert float(found[2]) == pytest.approx(y, abs=0.06)
    counts = re.findall(r'<td class="(?:correct|wrong)">([\d,]+)</td>', first)
    assert counts == [str(row[name]) for name in ("tp", "fn", "fp", "tn")]


def test_hostile_names_stay_text_and_nothing_outside_is_linked(shapes: Path, trained: Model) -> None:
    evaluation = make_evaluation(shapes, HOSTILE)
    named = replace(evaluation, files=tuple(HOSTILE[row % 4] for row in range(40)), data=f"/{HOSTILE[0]}")
    page = Elements(html_of(make_report_data(replace(trained, path=Path(HOSTILE[1])), named)))
    assert_harmless(page, HOSTILE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("red_fox", "red_<wbr>fox"), ("a/b\\c", "a/<wbr>b\\<wbr>c"), ("redFox", "red<wbr>Fox"), ("UNESCO", "UNESCO"),
        ("season=Fall", "season=<wbr>Fall"), ("<b>_<i>", "&lt;b&gt;_&lt;i&gt;"), ("v1.5", "v1.5"),
        ("لون_أحمر", "لون_<wbr>أحمر"),
    ],
)  # fmt: skip
def test_long_names_are_rather_broken_after_separators(name: str, expected: str) -> None:
    assert breakable(name) == expected


@pytest.mark.slow
def test_pairs_of_many_labels_have_heat_maps_of_the_most_frequent(shapes: Path, trained: Model) -> None:
    evaluation = make_evaluation(shapes, [f"label {index}" for index in range(33)])
    page = html_of(make_report_data(trained, evaluation))
    assert "The heat maps show the 30 most frequent labels." in page
    assert page.count('<text class="ct"') == 60
    few = html_of(make_report_data(trained, make_evaluation(shapes, ["sun", "sea"])))
    assert "most frequent labels" not in few
    assert "1 pair occurs." in few


def test_image_that_no_longer_opens_is_replaced_by_the_reason(shapes: Path, trained: Model) -> None:
    evaluation = replace(make_evaluation(shapes, ["one", "two"], 3), paths=(Path("gone.jpg"),) * 3)
    assert "no image: no such file or directory" in html_of(make_report_data(trained, evaluation))


@pytest.mark.parametrize("number", [1, 13])
def test_report_holds_any_number_of_labels(number: int, shapes: Path, trained: Model) -> None:
    evaluation = make_evaluation(shapes, [f"label {index}" for index in range(number)])
    page = html_of(make_report_data(trained, evaluation))
    assert len(table_of(page, "label-table")) == number
    assert page.count('<table class="confusion">') == number
    assert ("<details><summary>13 labels" in page) == (number == 13)
    assert len(page) < 5_000_000


def test_report_shows_the_columns_of_the_history_that_exist(report: ReportData, tmp_path: Path) -> None:
    def text_with(history: str) -> str:
        (tmp_path / "history.csv").write_text(history)
        return Elements(html_of(replace(report, model=replace(report.model, path=tmp_path)))).text

    assert "Training history" not in Elements(html_of(replace(report, model=replace(report.model, path=tmp_path)))).text
    text = text_with("epoch,train_loss,val_loss,val_map,val_f1,lr,seconds\n1,0.5,0.6,0.3,nan,0.1,2\n")
    assert "Training history" in text
    assert "Mean average precision" in text
    assert "F1, precision and recall" not in text
    text = text_with("epoch,train_loss,val_loss\n1,0.5,nan\n2,0.4,nan\n")
    assert "2 epochs" in text
    assert "There was no validation split to evaluate epochs on." in text


def test_report_without_evaluated_images_shows_the_training(report: ReportData, shapes: Path) -> None:
    empty = make_evaluation(shapes, ["sun", "sea"], 0)
    page = html_of(replace(report, evaluation=empty, result=empty.to_json(), checked=empty))
    assert "No images were left to evaluate this model on." in page
    assert 'id="training"' in page
    assert 'id="labels"' not in page


def test_report_has_the_facts_to_reproduce_the_model(report: ReportData) -> None:
    text = Elements(html_of(report)).text
    info = report.model.info
    for fact in (info.weights["sha256"], f"torch {info.versions['torch']}", "6 test", "48 train", "--batch-size"):
        assert fact in text


@pytest.mark.slow
def test_fit_and_evaluate_write_reports(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    here, options = tmp_path / "here", TINY_OPTIONS[:-1]
    assert cli("fit", shapes, "-o", here, *options).code == 0
    page = Elements((here / "report" / "report.html").read_text()).text
    report = json.loads((here / "metrics.json").read_text())
    assert f"Mean average precision {report['metrics']['map_macro']:.1f}" in page  # of 6 images
    assert "rounded to the first digit of their standard error on 6 images" in page
    assert "of the test split, which it was not trained on" in page
    assert "of 12 images of the validation and test splits" in page
    command = ("evaluate", shapes, "--model", here, "-o", tmp_path / "out", "--plot-format", "svg")
    assert cli(*command).code == 0
    other = Elements((tmp_path / "out" / "report" / "report.html").read_text()).text
    assert "of labels.csv that the model was not trained on" in other
    assert "Some of these images were used in training" not in other
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"metrics.json", "report"}
    assert (tmp_path / "out" / "report" / "history.svg").is_file()
    for name in ("metrics.json", "per_label.csv", "predictions.csv", "errors.csv"):
        (tmp_path / "out" / name).unlink()
    again = cli(*command)
    assert again.code == 1
    assert "report.html exists already" in again.err


@pytest.mark.slow
def test_report_of_folds_has_means_and_spreads(folded: FitResult) -> None:
    folder = folded.model.path
    report = json.loads((folder / "metrics.json").read_text())
    page = Elements((folder / "report" / "report.html").read_text()).text
    assert f"{report['metrics']['f1_micro']:.2f} ± {report['spread']['f1_micro']:.2f}" in page
    assert "of 60 images (each predicted by a model that was not trained on it)" in page


@pytest.mark.slow
def test_model_is_complete_where_the_report_cannot_be_written_and_the_old_report_is_deleted(
    shapes: Path, trained: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = Path(shutil.copytree(trained.path, tmp_path / "here"))
    (here / "report").write_text("a file in the way")
    model = fit(shapes, {**TINY, "report": True, "seed": 5}, output=here, force=True).model
    assert model.info.complete
    assert model.info.weights != trained.info.weights
    assert "the model is complete, but its report is not: cannot write" in caplog.text
    (here / "report").unlink()
    (here / "report").mkdir()
    (here / "report" / "report.html").write_text("of the previous model")
    (here / "report" / "history.svg").write_text("of the previous model")
    fit(shapes, TINY, output=here, force=True)
    assert [path for path in report_files(here) if path.exists()] == []


@pytest.mark.slow
def test_report_of_90_labels_and_10000_images_is_written_in_20_seconds(
    shapes: Path, trained: Model, tmp_path: Path
) -> None:
    labels = [f"label number {index}" for index in range(90)]
    result = make_evaluation(shapes, labels, 500).to_json()
    report = make_report_data(trained, make_evaluation(shapes, labels, 10_000), result=result)
    start = time.process_time()
    page = write_report(tmp_path, report)
    assert time.process_time() - start < cpu_limit(20)
    assert page.stat().st_size < 5_000_000


@pytest.mark.slow
def test_thousands_of_labels_are_limited(shapes: Path, trained: Model) -> None:
    labels = [f"tag {index}" for index in range(2100)]
    evaluation = make_evaluation(shapes, labels, 20)
    result = make_evaluation(shapes, labels[:3], 20).to_json()
    rows = [{**result["per_label"][0], "label": label} for label in labels]
    page = html_of(make_report_data(trained, evaluation, result={**result, "per_label": rows}))
    assert len(table_of(page, "label-table")) == 2000
    assert "The first 2000 of 2,100 labels." in page
    assert "The 200 most frequent of 2100 labels" in page
    assert len(page) < 5_000_000


def test_unknown_plot_format_is_an_error(shapes: Path, trained: Model) -> None:
    with pytest.raises(LabelrError, match="plot_format: expected one of png, svg, got 'pdf'"):
        labelr.evaluate(shapes, trained, plot_format="pdf")


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.browser
def test_browser_shows_the_report_without_errors_and_other_requests(
    browser: Browser, shapes: Path, trained: Model
) -> None:
    evaluation = make_evaluation(shapes, [*HOSTILE, "sun"])
    named = replace(evaluation, files=tuple(HOSTILE[row % 4] for row in range(40)))
    shown = browser(html_of(make_report_data(trained, named)))
    assert shown.requests == ["http://page.test/report.html"]
    assert shown.console == ""
    page = Elements(shown.page)
    assert shown.page.count('<button type="button">') == 9  # the script has run
    for name in HOSTILE:
        assert " ".join(name.split()) in page.text


@pytest.mark.browser
def test_browser_reports_requests_and_errors(browser: Browser) -> None:
    shown = browser("<!doctype html><img src=http://evil.test/a.png><script>nonsense()</script>")
    assert "http://evil.test/a.png" in shown.requests
    assert "nonsense is not defined" in shown.console


@pytest.mark.slow
@pytest.mark.browser
def test_click_on_a_heading_sorts_the_labels_and_another_click_reverses_them(
    browser: Browser, report: ReportData
) -> None:
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html_of(report))  # for the clicks below
    clicks = """<script>
      const heading = document.querySelectorAll("#label-table th button")[3];
      const rows = () => [...document.querySelectorAll("#label-table tbody tr")];
      const column = () => rows().map((row) => row.cells[3].textContent);
      heading.click(); const down = column(); heading.click();
      document.title = JSON.stringify([down, column()]);
    </script></body>"""
    shown = browser(page.replace("</body>", clicks))
    down, up = json.loads(re.findall(r"<title>(.*?)</title>", shown.page)[0])
    precisions = sorted((f"{row['precision']:.2f}" for row in report.evaluation.label_rows), reverse=True)
    assert down == precisions
    assert up == precisions[::-1]


@pytest.mark.slow
@pytest.mark.browser
def test_tables_fit_a_phone_or_can_be_scrolled_and_words_are_whole(
    browser: Browser, shapes: Path, trained: Model
) -> None:
    names = ["mountain/landscape/with-snow", "golden_delicious_apple", "sea", "lesser black-backed gull, juvenile"]
    page = html_of(make_report_data(trained, make_evaluation(shapes, names)))
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("<details>", "<details open>")
    script = """<script>
      document.body.style.width = "360px";
      const tables = [...document.querySelectorAll("table")];
      const cut = tables.map((table) => table.parentElement).filter((box) =>
        box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "auto");
      let words = 0, broken = 0;
      for (const name of document.querySelectorAll("main bdi")) {
        const texts = document.createTreeWalker(name, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/\\p{L}+/gu)) {
          const range = document.createRange();
          range.setStart(texts.currentNode, word.index);
          range.setEnd(texts.currentNode, word.index + word[0].length);
          words += 1;
          broken += new Set([...range.getClientRects()].map((part) => part.width && part.top)).size > 1;
        }
      }
      document.title = [tables.length, cut.length, words, broken].join();
    </script></body>"""
    shown = browser(page.replace("</body>", script), "--window-size=360,900")
    tables, cut, words, broken = map(int, re.findall(r"<title>([\d,]+)</title>", shown.page)[0].split(","))
    assert tables > 6
    assert cut == 0
    assert words > 300
    assert broken == 0


@pytest.mark.browser
@pytest.mark.slow
def test_report_is_no_wider_than_a_phone_with_any_names(browser: Browser, shapes: Path, trained: Model) -> None:
    names = [*HOSTILE, "x" * 120, "日本語" * 30]
    evaluation = replace(make_evaluation(shapes, names), files=tuple(names[row % 6] * 3 for row in range(40)))
    page = re.sub(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html_of(make_report_data(trained, evaluation))
    )
    measured = "<script>document.title = [document.documentElement.scrollWidth, innerWidth]</script></body>"
    shown = browser(page.replace("</body>", measured), "--window-size=390,900")
    inner, outer = re.findall(r"<title>(\d+),(\d+)</title>", shown.page)[0]
    assert int(inner) <= int(outer)
    assert int(outer) < 600
