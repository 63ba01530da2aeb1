"""The report of a search: its sentences, charts and tables; names stay text, and nothing is loaded from the network."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pages import HOSTILE, Browser, Elements, assert_harmless, table_of

from labelr.config import TrainConfig, TuneOptions
from labelr.tuning.page import history_panel, render, score_axis, setting_panels, write_study_page
from labelr.tuning.space import Plan, Space
from labelr.tuning.trials import Trial, TuneResult, ranked

SPACE: Mapping[str, str] = {"lr": "1e-4..1e-2:log", "batch_size": "64,auto,16", "flip": "true,false"}
NONE = "\N{EN DASH}"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def trial(number: int, score: float | tuple[float, ...], state: str = "complete", **settings: Any) -> Trial:
    """A trial that was trained for three epochs, of which the last one was the best."""
    scores = score if isinstance(score, tuple) else (score,)
    given = {"lr": 1e-3, "batch_size": 16, "flip": True, **settings}
    return Trial(number, state, given, scores, 3 * len(scores), 60.0 * len(scores))


def failed(number: int, reason: str) -> Trial:
    return Trial(number, "failed", {"lr": 1e-3, "batch_size": 64, "flip": True}, reason=reason)


TRIALS = (
    trial(1, 0.70, lr=1e-4), trial(2, 0.81, lr=3e-3, batch_size=None), trial(3, 0.79, batch_size=64, flip=False),
    trial(4, 0.31, "pruned", lr=1e-2), failed(5, "out of memory"), trial(6, 0.75, lr=2e-3),
)  # fmt: skip


def make_result(trials: tuple[Trial, ...] = TRIALS, space: Mapping[str, str] = SPACE, **changes: Any) -> TuneResult:
    """A result; changes of the plan are given by its own names."""
    plan = Plan(
        data=changes.pop("data", ("/data/birds",)), config=changes.pop("config", TrainConfig(epochs=3)),
        space=Space.of(space)[0], options=changes.pop("options", TuneOptions(trials=len(trials) or 1, prune=True)),
    )  # fmt: skip
    parts: dict[str, Any] = {
        "study": "birds", "folder": Path("/studies/birds"), "val_images": 130,
        "importance": {"lr": 0.6, "flip": 0.3, "batch_size": 0.1}, **changes,
    }  # fmt: skip
    return TuneResult(plan=plan, ranking=tuple(ranked(trials)), **parts)


def page_of(result: TuneResult) -> str:
    return render(result, NOW)


def text_of(result: TuneResult) -> str:
    return Elements(page_of(result)).text


def refitted(val: float, test: float, **changes: Any) -> TuneResult:
    model = {"model": "/models/birds-2", "images": 180}
    return make_result(model=model, optimistic_bias={"val": val, "test": test}, **changes)


# --- what it says ----------------------------------------------------------------------------------------------------


def test_page_is_written_into_the_folder_of_the_study_in_place_of_the_last_one(tmp_path: Path) -> None:
    result = make_result(folder=tmp_path / "studies" / "birds")
    page = write_study_page(result)
    assert page == tmp_path / "studies" / "birds" / "report" / "report.html"
    assert "The best of 4 complete trials has mAP 0.81 " in page.read_text()
    write_study_page(replace(result, ranking=(trial(1, 0.9),)))
    assert "The only complete trial has mAP 0.90 " in page.read_text()
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


def test_headline_has_the_best_score_its_settings_and_what_became_of_all_trials() -> None:
    text = text_of(make_result())
    assert "The best of 4 complete trials has mAP 0.81 on validation images." in text
    assert "Trial 2: lr 0.003, batch size auto, flip true." in text
    assert "6 trials: 4 complete, 1 pruned, 1 failed. Data: /data/birds." in text


def test_page_has_the_command_of_the_best_settings_as_it_is_typed() -> None:
    result = make_result(data=("/data/my birds",))
    command = "labelr fit '/data/my birds' --epochs 3 --lr 0.003"
    assert result.command == command
    assert command in text_of(result)


def test_data_that_is_drawn_is_called_so() -> None:
    assert "Data: 1,800 synthetic images." in text_of(make_result(data=()))


def test_optimistic_bias_is_reported_with_the_score_to_expect() -> None:
    text = text_of(refitted(0.80, 0.74))
    assert "Expect mAP 0.74 on new images" in text
    assert "The optimistic bias of the validation score is 0.06: expect 0.74 on new images." in text
    assert "/models/birds-2" in text
    assert "How much less is unknown" not in text


def test_bias_below_the_error_of_the_scores_is_not_visible() -> None:
    text = text_of(refitted(0.8140, 0.8060))
    assert "No optimistic bias is visible" in text
    assert "mAP 0.81 on new images" in text


def test_scores_have_the_digits_that_the_validation_images_allow() -> None:
    few, many = (page_of(make_result(val_images=number)) for number in (12, 10_000))
    assert [row[2] for row in table_of(few, "trial-table")[:2]] == ["0.8", "0.8"]
    assert [row[2] for row in table_of(many, "trial-table")[:2]] == ["0.810", "0.790"]
    assert "the first digit of their standard error on 12 images" in Elements(few).text


def test_better_test_score_is_not_called_biased() -> None:
    text = text_of(refitted(0.80, 0.83))
    assert "No optimistic bias is visible" in text
    assert "The optimistic bias of" not in text


def test_page_says_that_the_bias_is_unknown_and_why() -> None:
    assert "unknown, since the best settings were not trained again." in text_of(make_result())
    without_test = make_result(model={"model": "/models/birds-2"})
    assert "unknown, since the best settings have no test split to be scored on." in text_of(without_test)


def test_single_seed_leaves_chance_open() -> None:
    text = text_of(make_result())
    assert "The second best, trial 3, has 0.79. Each point was trained once" in text


def test_spread_of_seeds_is_compared_with_the_other_trials() -> None:
    near, far = trial(2, (0.79, 0.81), lr=2e-3), trial(3, (0.78, 0.80), lr=3e-3)
    trials = (trial(1, (0.80, 0.82)), near, far)
    text = text_of(make_result(trials, options=TuneOptions(seeds=2)))
    assert "has mAP 0.81 on validation images" in text
    assert "the mean of 2 seeds, with a standard deviation of 0.01" in text
    assert "Trials within 0.01 of the best, the standard deviation over its seeds, may be equally good." in text
    assert "Each point was trained once" not in text


def test_each_setting_has_a_bar_of_its_importance() -> None:
    page = page_of(make_result())
    assert re.findall(r'<span class="name">([^<]*)</span>.*?width:([\d.]+)%.*?percent">([^<]*)<', page) == [
        ("lr", "60.0", "60 %"), ("flip", "30.0", "30 %"), ("batch size", "10.0", "10 %"),
    ]  # fmt: skip
    text = Elements(page).text
    assert "estimated from 4 complete trials" in text
    assert "These are few trials for 3 settings" in text
    many = tuple(trial(number, 0.5 + number / 100) for number in range(1, 31))
    assert "few trials" not in text_of(make_result(many))
    assert "Pruned trials are not included" in text
    assert "Pruned trials are not included" not in text_of(make_result(many))
    assert 'id="importance"' not in page_of(make_result(importance={}))


def test_table_has_the_trials_from_the_best_on() -> None:
    rows = table_of(page_of(make_result()), "trial-table")
    #       rank trial score flip batch lr epochs seconds state
    assert rows == [
        ["1", "2", "0.81", "true", "auto", "0.003", "3", "60.0", "complete"],
        ["2", "3", "0.79", "false", "64", "0.001", "3", "60.0", "complete"],
        ["3", "6", "0.75", "true", "16", "0.002", "3", "60.0", "complete"],
        ["4", "1", "0.70", "true", "16", "0.0001", "3", "60.0", "complete"],
        [NONE, "4", "0.31", "true", "16", "0.01", "3", "60.0", "pruned"],
        [NONE, "5", NONE, "true", "64", "0.001", "0", "0.0", "failed"],
    ]  # fmt: skip


def test_searched_epochs_stand_beside_those_that_were_trained() -> None:
    space = {"epochs": "3,9"}
    trials = (
        Trial(1, "complete", {"epochs": 9}, (0.8,), epochs=7),
        Trial(2, "complete", {"epochs": 3}, (0.7,), epochs=3),
    )
    page = page_of(make_result(trials, space, importance={}))
    assert [row[2:5] for row in table_of(page, "trial-table")] == [["0.80", "9", "7"], ["0.70", "3", "3"]]


def test_each_reason_of_failed_trials_is_shown_once() -> None:
    trials = (trial(1, 0.8), failed(2, "out of memory"), failed(3, "no <images> left"), failed(4, "out of memory"))
    page = page_of(make_result(trials))
    found = re.findall(r"<dt>(\d trials?)</dt><dd>([^<]*)</dd>", page)
    assert found[:2] == [("2 trials", "out of memory"), ("1 trial", "no &lt;images&gt; left")]
    assert "3 of 4 trials failed; the reasons are listed above the table of trials." in Elements(page).text


def test_many_reasons_are_bounded() -> None:
    trials = (trial(1, 0.8), *(failed(number, f"reason {number}") for number in range(2, 60)))
    page = page_of(make_result(trials))
    assert page.count("<dd>reason ") == 20
    assert "38 more reasons are in trials.csv" in Elements(page).text


def test_page_has_what_is_needed_to_repeat_the_search() -> None:
    options = TuneOptions(trials=40, seeds=3, jobs=2, time=90, prune=True, metric="exact_match")
    config = TrainConfig(epochs=3, seed=5, augment="strong", only=("crow", "jay"))
    text = text_of(make_result(options=options, config=config))
    for fact in (
        "exact match on validation images, at a threshold of 0.5", "--sampler auto", "--trials 40", "--time 90",
        "--seeds 3", "--prune True", "--jobs 2", "--lr 0.0001..0.01:log", "--batch-size 64,auto,16",
        "--only crow, jay", "--augment strong", "optuna 5", "2026-01-02T03:04:05+00:00",
    ):  # fmt: skip
        assert fact in text, fact


def test_titles_and_sections_are_what_there_is() -> None:
    page = Elements(page_of(make_result()))
    linked = [at["href"] for tag, at in page.elements if tag == "a"]
    anchors = [f"#{at['id']}" for tag, at in page.elements if tag == "section"]
    assert linked == anchors == ["#best", "#importance", "#settings", "#history", "#trials", "#made"]
    drawings = [at for tag, at in page.elements if tag == "svg"]
    assert len(drawings) == 4
    assert all(at["role"] == "img" and at["aria-label"] for at in drawings)


# --- what its charts show --------------------------------------------------------------------------------------------


def test_each_setting_has_a_panel_the_most_important_first() -> None:
    panels = setting_panels(make_result())
    assert [panel.title for panel in panels] == ["lr", "flip", "batch size"]
    lr, _, batch = panels
    assert (lr.x_log, lr.x_names, lr.mark) == (True, (), (3e-3, 0.81))
    assert sorted(lr.lines[0].points) == [
        (1e-4, 0.70),
        (1e-3, 0.79),
        (2e-3, 0.75),
        (3e-3, 0.81),
    ]  # of complete trials only
    assert not lr.lines[0].joined
    assert batch.x_names == ("64", "auto", "16")  # as given
    assert sorted(batch.lines[0].points) == [(0, 0.79), (1, 0.81), (2, 0.70), (2, 0.75)]


def test_categories_have_the_mean_of_their_trials() -> None:
    flip = next(panel for panel in setting_panels(make_result()) if panel.title == "flip")
    means = [line for line in flip.lines if line.role == "mean"]
    assert [line.points[0][1] for line in means] == pytest.approx([(0.70 + 0.81 + 0.75) / 3, 0.79])
    assert "the best, 0.81, at true." in flip.description


def test_spread_of_seeds_is_drawn_around_each_dot() -> None:
    result = make_result((trial(1, (0.78, 0.82)), trial(2, (0.7, 0.7))), options=TuneOptions(seeds=2))
    panel = setting_panels(result)[0]
    half = math.sqrt(2) * 0.02
    (span,) = panel.intervals
    assert span == pytest.approx((1e-3, 0.8 - half, 0.8 + half))
    assert panel.y_range[0] <= 0.7
    assert panel.y_range[1] >= 0.8 + half


def test_history_has_the_best_so_far_and_each_state_by_its_mark() -> None:
    panel = history_panel(make_result())
    lines = {line.name: line for line in panel.lines}
    assert lines["best so far"].points == ((1, 0.70), (2, 0.81), (3, 0.81), (6, 0.81))
    assert lines["complete"].points == ((1, 0.70), (2, 0.81), (3, 0.79), (6, 0.75))
    assert lines["pruned, at its last score"].points == ((4, 0.31),)
    assert lines["pruned, at its last score"].role == "guide"
    assert panel.mark == (2, 0.81)
    assert panel.description.startswith("mAP of 4 complete trials and 1 pruned")


@pytest.mark.parametrize("scores", [[0.8, 0.8], [0.0], [1.0, 1.0], [0.99999, 0.9999], [0.2, 0.9]])
def test_axis_of_scores_holds_all_and_is_never_too_narrow(scores: list[float]) -> None:
    (low, high), ticks = score_axis(scores)
    assert all(0 <= low <= score <= high <= 1 for score in scores)
    assert high - low > 0.0099
    assert (ticks[0], ticks[-1]) == (low, high)


# --- searches of any size --------------------------------------------------------------------------------------------


def test_single_trial_has_a_page_that_compares_nothing() -> None:
    page = page_of(make_result((trial(1, 0.8),), importance={}))
    text = Elements(page).text
    assert "The only complete trial has mAP 0.80 on validation images." in text
    assert "How reliable this is" not in text
    assert "There is no other complete trial" not in text


def test_all_trials_but_one_failed() -> None:
    trials = (*(failed(number, "out of memory") for number in range(1, 12)), trial(12, 0.8))
    text = text_of(make_result(trials, importance={}))
    assert "The only complete trial has mAP 0.80" in text
    assert "11 of 12 trials failed" in text
    assert "There is no other complete trial to compare it with." in text
    assert "11 trials out of memory" in text


def test_running_and_waiting_trials_are_counted_and_listed() -> None:
    trials = (trial(1, 0.8), Trial(2, "running", {"lr": 1e-3}), Trial(3, "waiting", {}))
    page = page_of(make_result(trials))
    assert "3 trials: 1 complete, 0 pruned, 0 failed, 1 running, 1 waiting." in page
    assert table_of(page, "trial-table")[2] == [NONE, "3", NONE, NONE, NONE, NONE, "0", "0.0", "waiting"]


def test_500_trials_of_8_settings_and_3_seeds_make_a_page_of_bounded_size() -> None:
    space = {
        **SPACE, "dropout": "0.0..0.6", "augment": "none,light,strong", "width": "0.25,0.5,1,2", "mixup": "0..1",
        "ema": "0.9,0.99",
    }  # fmt: skip
    trials = tuple(
        trial(
            number, tuple(0.5 + (number * k % 97) / 300 for k in (1, 2, 3)), dropout=number / 1000,
            augment=("none", "light", "strong")[number % 3], width=(0.25, 0.5, 1, 2)[number % 4], mixup=number / 600,
            ema=0.99, lr=1e-4 * (1 + number % 90),
        )
        for number in range(1, 501)
    )  # fmt: skip
    page = page_of(make_result(trials, space, options=TuneOptions(seeds=3)))
    assert len(page) < 3_000_000
    assert len(table_of(page, "trial-table")) == 500
    assert page.count('<figure class="panel">') == 9


def test_thousands_of_trials_are_listed_up_to_a_thousand() -> None:
    trials = tuple(trial(number, 0.5 + number / 10_000) for number in range(1, 1203))
    page = page_of(make_result(trials))
    assert len(table_of(page, "trial-table")) == 1000
    assert "These are the first 1,000 of 1,202 trials." in Elements(page).text


# --- names, and the network ------------------------------------------------------------------------------------------


def hostile_result() -> TuneResult:
    trials = (*TRIALS, *(failed(number, reason) for number, reason in enumerate(HOSTILE, 7)))
    model = {"model": f"/models/{HOSTILE[1]}"}
    return make_result(trials, study=HOSTILE[0], folder=Path(HOSTILE[1]), data=HOSTILE, model=model)


def test_hostile_names_stay_text_and_nothing_is_addressed_outside() -> None:
    page = Elements(page_of(hostile_result()))
    assert_harmless(page, HOSTILE)


@pytest.mark.slow
@pytest.mark.browser
def test_browser_shows_the_page_without_errors_and_asks_for_nothing_else(browser: Browser) -> None:
    shown = browser(page_of(hostile_result()))
    assert shown.requests == ["http://page.test/report.html"]
    assert shown.console == ""
    assert shown.page.count('<button type="button">') == 9  # the script has run


@pytest.mark.slow
@pytest.mark.browser
def test_click_on_a_heading_sorts_trials_by_number_or_by_word(browser: Browser) -> None:
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_of(make_result()))
    clicks = """<script>
      const column = (n) => {
        document.querySelectorAll("#trial-table th button")[n].click();
        const rows = [...document.querySelectorAll("#trial-table tbody tr")];
        return rows.map((row) => row.cells[n].textContent.trim()).join(" ");
      };
      document.title = [column(2), column(2), column(4), column(5)].join(";");
    </script></body>"""
    shown = browser(page.replace("</body>", clicks))
    assert re.findall(r"<title>(.*?)</title>", shown.page)[0].split(";") == [
        "0.81 0.79 0.75 0.70 0.31 " + NONE,
        "0.31 0.70 0.75 0.79 0.81 " + NONE,
        "64 64 16 16 16 auto",
        "0.01 0.003 0.002 0.001 0.001 0.0001",
    ]


@pytest.mark.slow
@pytest.mark.browser
def test_page_is_no_wider_than_a_telephone_however_long_the_names(browser: Browser) -> None:
    long = "x" * 150
    result = make_result((*TRIALS, failed(7, long)), study=long, data=(long,), folder=Path(long), model={"model": long})
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_of(result))
    measured = "<script>document.title = [document.documentElement.scrollWidth, innerWidth]</script></body>"
    shown = browser(page.replace("</body>", measured), "--window-size=390,900")
    inner, outer = re.findall(r"<title>(\d+),(\d+)</title>", shown.page)[0]
    assert int(inner) <= int(outer) < 600
