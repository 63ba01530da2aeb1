"""The command line: streams, exit codes, results for people and for machines."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, Cli

from labelr.cli.app import resume_command
from labelr.data.synthetic import make_synthetic_dataset
from labelr.model.predict import Model

METRICS = {
    *("loss", "hamming_loss", "exact_match", "jaccard_samples", "map_macro", "map_micro", "auroc_macro", "auroc_micro"),
    *("lrap", "coverage_error", "ranking_loss", "one_error", "brier", "ece"),
    *(
        f"{name}_{average}"
        for name in ("precision", "recall", "f1")
        for average in ("micro", "macro", "weighted", "samples")
    ),
}


@pytest.fixture
def model(trained: Model, home: Path) -> Path:
    """The small model under the name `small`."""
    return Path(shutil.copytree(trained.path, home / "models" / "small"))


def test_version_is_on_stdout(cli: Cli) -> None:
    assert re.fullmatch(r"labelr \d+\.\d+\.\d+\n", cli("--version").out)


@pytest.mark.parametrize("command", [[], ["fit"], ["evaluate"], ["tag"], ["models"], ["models", "list"]])
def test_every_command_has_help(cli: Cli, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert result.code == 0
    assert "Usage: labelr" in result.out
    assert result.err == ""


def test_fit_prints_the_models_directory_alone_on_stdout(cli: Cli, drawn: Path, home: Path) -> None:
    result = cli("fit", drawn, *TINY_OPTIONS)
    assert result.code == 0
    assert result.out == f"{home / 'models' / 'drawn'}\n"
    assert (
        f"{drawn / 'labels.csv'}: one column a label, comma-separated; 60 images, 3 labels, 0 unknown cells"
        in result.err
    )
    assert [line.split()[1] for line in result.err.splitlines() if line.startswith("epoch ")] == ["1/2", "2/2"]
    assert "Scores on the test split, 6 images:" in result.err


def test_fit_without_val_and_test_parts_shows_no_scores(cli: Cli, drawn: Path) -> None:
    result = cli("fit", drawn, "--val-fraction", "0", "--test-fraction", "0", *TINY_OPTIONS)
    assert result.code == 0
    assert "nan" not in result.err
    assert "Scores" not in result.err


def test_new_model_in_the_place_of_an_old_one_does_not_keep_its_scores(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    cli("fit", drawn, "-o", here, *TINY_OPTIONS)
    before = (here / "metrics.json").read_text()
    assert cli("fit", drawn, "-o", here, "--force", "--seed", "9", *TINY_OPTIONS).code == 0
    assert (here / "metrics.json").read_text() != before
    assert len(list(here.glob("weights-*"))) == 1
    assert not list(here.glob(".*"))


def test_second_fit_takes_the_next_free_name(cli: Cli, drawn: Path, home: Path) -> None:
    for name in ("drawn", "drawn-2"):
        assert cli("fit", drawn, "--quiet", *TINY_OPTIONS).out == f"{home / 'models' / name}\n"


def test_quiet_fit_says_nothing_on_stderr(cli: Cli, drawn: Path) -> None:
    assert cli("fit", drawn, "--quiet", *TINY_OPTIONS).err == ""


def test_verbose_fit_says_what_it_runs_on(cli: Cli, drawn: Path) -> None:
    plain, verbose = (cli("fit", drawn, *options, *TINY_OPTIONS).err for options in ([], ["--verbose"]))
    assert re.search(r"on (cpu|cuda|mps) in (fp32|bf16|fp16), 1 threads, 1 workers", verbose)
    assert "parameters" in verbose
    assert "parameters" not in plain


def test_fit_json_is_one_object_with_the_promised_keys(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    result = json.loads(cli("fit", drawn, "--json", "-o", tmp_path / "here", "--seed", 3, *TINY_OPTIONS).out)
    assert result["model"] == str(tmp_path / "here")
    assert result["name"] == "here"
    assert result["best_epoch"] in (1, 2)
    assert result["settings"]["seed"] == 3
    assert set(result["metrics"]) == METRICS


@pytest.mark.parametrize(
    ("options", "number"),
    [(["--synthetic", "30"], 30), (["--synthetic=30"], 30), (["--synthetic"], 1800)],
)
def test_synthetic_stands_with_and_without_a_number(cli: Cli, home: Path, options: list[str], number: int) -> None:
    for count in (30, 1800):  # drawn before, so that only the choice is tested
        make_synthetic_dataset(home / "synthetic" / f"{count}-images-6-labels-seed-0", 30, 6)
    result = cli("fit", *options, "--epochs", "1", *TINY_OPTIONS[2:4], "--image-size", "32", "--threads", "1")
    assert result.code == 0
    assert f"{number}-images-6-labels" in result.err


def test_options_come_from_the_environment(cli: Cli, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELR_FIT_SEED", "5")
    result = cli("fit", drawn, "--json", *TINY_OPTIONS)
    assert json.loads(result.out)["settings"]["seed"] == 5


def test_settings_come_from_a_file_and_options_win(
    cli: Cli, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.toml").write_text(
        "image_size = 32\nwidth = 0.125\nepochs = 3\nbatch_size = 8\nseed = 7\nthreads = 1"
    )
    monkeypatch.setenv("LABELR_FIT_SEED", "9")
    done = cli("fit", drawn, "--config", tmp_path / "s.toml", "--epochs", "1", "--json")
    settings = json.loads(done.out)["settings"]
    assert {name: settings[name] for name in ("image_size", "width", "epochs", "batch_size", "seed")} == {
        "image_size": 32, "width": 0.125, "epochs": 1, "batch_size": 8, "seed": 9,
    }  # fmt: skip


def test_option_takes_the_place_of_the_setting_that_it_excludes(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("time = 1\ntarget_recall = 0.9")
    options = [*TINY_OPTIONS, "--target-precision", "0.5", "--config", tmp_path / "s.toml", "--json"]
    settings = json.loads(cli("fit", drawn, *options).out)["settings"]
    assert (settings["epochs"], settings["time"]) == (2, None)
    assert (settings["target_precision"], settings["target_recall"]) == (0.5, None)


def test_command_to_go_on_with_keeps_what_came_from_the_environment_and_the_end_of_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LABELR_FIT_LR", "0.1")
    monkeypatch.setenv("LABELR_FIT_FORCE", "1")
    monkeypatch.setattr(sys, "argv", ["labelr", "fit", "--force", "--name", "my model", "--", "-photos"])
    expected = "LABELR_FIT_LR=0.1 labelr fit --name 'my model' --resume -- -photos"
    assert resume_command("--resume") == expected
    assert resume_command(None) is None


def test_command_to_go_on_with_does_not_tell_the_password_of_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELR_TUNE_STORAGE", "postgresql://me:secret@host/db")
    monkeypatch.setenv("LABELR_TUNE_JOBS", "2")
    monkeypatch.setattr(sys, "argv", ["labelr", "tune", "photos"])
    assert resume_command("") == "LABELR_TUNE_JOBS=2 labelr tune photos"


def test_option_with_the_value_of_its_default_wins_over_a_file_too(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"dropout": 0.5, "augment": "none"}')
    done = cli("fit", drawn, *TINY_OPTIONS, "--config", tmp_path / "s.json", "--dropout", "0.3", "--json")
    settings = json.loads(done.out)["settings"]
    assert (settings["dropout"], settings["augment"]) == (0.3, "none")


def test_number_of_drawn_images_comes_from_a_file_where_it_is_not_given(cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"synthetic": 40, "num_labels": 2}')
    assert cli("fit", "--synthetic", *TINY_OPTIONS, "--config", tmp_path / "s.json").code == 0
    assert len(list((home / "synthetic").rglob("*.png"))) == 40


def test_model_is_made_again_by_its_config_json(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    weights = []
    first = cli("fit", drawn, *TINY_OPTIONS, "--seed", "3").out.strip()
    for folder in (first, cli("fit", drawn, "--config", f"{first}/config.json").out.strip()):
        weights += [path.name for path in Path(folder).glob("weights-*")]
    assert weights[0] == weights[1]


def test_unknown_setting_in_a_file_is_wrong_usage(cli: Cli, drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("epoch = 3")
    done = cli("fit", drawn, "--config", tmp_path / "s.toml")
    assert (done.code, done.out) == (2, "")
    assert "s.toml: unknown setting 'epoch'" in done.err
    assert "did you mean `epochs`" in done.err


def test_evaluate_leaves_out_what_the_model_has_learned_from(cli: Cli, drawn: Path, model: Path) -> None:
    result = cli("evaluate", drawn, "--json")
    report = json.loads(result.out)
    with (model / "splits.csv").open() as file:
        unseen = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert report["images"] == len(unseen)
    assert f"{60 - len(unseen)} of 60 images that the model has learned from are left out" in result.err
    assert report["metrics"] == json.loads((model / "metrics.json").read_text())["metrics"]


def test_evaluate_knows_learned_images_by_content_not_by_name(
    cli: Cli, drawn: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "renamed").mkdir()
    lines = (drawn / "labels.csv").read_text().splitlines()
    for line in lines[1:]:
        shutil.copy(drawn / "images" / line.split(",")[0], tmp_path / "renamed" / f"new_{line.split(',')[0]}")
    (tmp_path / "renamed" / "labels.csv").write_text("\n".join([lines[0], *(f"new_{line}" for line in lines[1:])]))
    report = json.loads(cli("evaluate", tmp_path / "renamed", "--json").out)
    assert report["metrics"] == json.loads((model / "metrics.json").read_text())["metrics"]


@pytest.mark.parametrize(("split", "images"), [("all", 60), ("train", 48), ("val", 6), ("test", 6)])
def test_evaluate_scores_the_part_asked_for(cli: Cli, drawn: Path, model: Path, split: str, images: int) -> None:
    report = json.loads(cli("evaluate", drawn, "--split", split, "--json").out)
    assert abs(report["images"] - images) <= 2


def test_evaluate_json_has_the_promised_keys(cli: Cli, drawn: Path, model: Path) -> None:
    report = json.loads(cli("evaluate", drawn, "--model", "small", "--threshold", "0.4", "--json").out)
    assert {
        "model", "data", "images", "labels", "threshold", "metrics", "intervals", "baselines", "f1_at", "per_label",
    } <= set(report)  # fmt: skip
    assert report["model"] == str(model)
    assert report["threshold"] == 0.4
    assert set(report["metrics"]) == METRICS
    assert set(report["per_label"][0]) == {
        "label", "support", "predicted", "precision", "recall", "f1", "ap", "auroc", "threshold",
        "tp", "fp", "fn", "tn",
    }  # fmt: skip


def test_evaluate_prints_a_table_that_is_not_cut(
    cli: Cli, drawn: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    result = cli("evaluate", drawn, "--model", model)
    assert re.search(r"horizontal_stripes .*\d\.\d{3} .*\d\.\d{3} .*0\.\d{3}", result.out)
    assert "…" not in result.out


def test_evaluate_refuses_when_every_image_was_learned_from(cli: Cli, drawn: Path, model: Path, tmp_path: Path) -> None:
    with (model / "splits.csv").open() as file:
        learned = {row["image"] for row in csv.DictReader(file) if row["split"] != "test"}
    lines = (drawn / "labels.csv").read_text().splitlines()
    table = tmp_path / "learned.csv"
    table.write_text("\n".join(line for line in lines if line.split(",")[0] in learned | {"filename"}))
    result = cli("evaluate", drawn, "--labels", table)
    assert result.code == 1
    assert "learned from every image" in result.err
    assert "--split all" in result.err


def test_evaluate_leaves_out_a_copy_of_a_learned_image_whatever_part_the_copy_is_in(
    cli: Cli, drawn: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(drawn, tmp_path / "data"))
    lines = (data / "labels.csv").read_text().splitlines()
    parts = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    rows = [f"{line},{part}" for line, part in zip(lines[1:], parts, strict=True)]
    for number in range(4):
        shutil.copy(data / "images" / f"0000{number}.png", data / "images" / f"copy{number}.png")
        rows.append(f"copy{number}.png,{lines[number + 1].split(',', 1)[1]},test")
    (data / "labels.csv").write_text("\n".join([f"{lines[0]},split", *rows]))
    fitted = cli("fit", data, *TINY_OPTIONS)
    assert "8 images have a copy in another split" in fitted.err
    assert json.loads(cli("evaluate", data, "--json").out)["images"] == 10


def test_evaluate_without_the_table_of_parts_asks_for_split_all(cli: Cli, drawn: Path, model: Path) -> None:
    (model / "splits.csv").unlink()
    result = cli("evaluate", drawn)
    assert result.code == 1
    assert "has no splits.csv" in result.err
    assert "--split all" in result.err
    assert cli("evaluate", drawn, "--split", "all").code == 0


def test_max_pixels_holds_in_training_and_scoring_alike(cli: Cli, drawn: Path, model: Path) -> None:
    result = cli("evaluate", drawn, "--split", "all", "--max-pixels", "4095")
    assert "too large: 64 x 64 pixels, the limit is 4,095 pixels" in result.err
    assert cli("evaluate", drawn, "--split", "all", "--max-pixels", "4096").code == 0


def test_evaluate_names_labels_that_the_data_lacks(cli: Cli, model: Path, tmp_path: Path, drawn: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text((drawn / "labels.csv").read_text().replace("disc", "disk", 1))
    result = cli("evaluate", drawn, "--labels", table)
    assert result.code == 1
    assert "lacks 1 of the model's labels: disc" in result.err
    assert "`disk`" in result.err


def test_evaluate_ignores_labels_that_the_model_does_not_know(
    cli: Cli, model: Path, tmp_path: Path, drawn: Path
) -> None:
    lines = (drawn / "labels.csv").read_text().splitlines()
    table = tmp_path / "more.csv"
    table.write_text("\n".join([f"{lines[0]},extra", *(f"{line},1" for line in lines[1:])]))
    result = cli("evaluate", drawn, "--labels", table, "--json")
    assert json.loads(result.out)["labels"] == ["horizontal_stripes", "disc", "triangle"]
    assert "does not know 1 of the labels" in result.err


def test_models_are_listed_shown_and_removed(cli: Cli, model: Path) -> None:
    row = json.loads(cli("models", "list", "--json").out)[0]
    assert {"name", "path", "created", "labels", "map_macro", "bytes"} <= set(row)
    assert (row["name"], row["path"], row["labels"]) == ("small", str(model), 3)
    assert row["bytes"] == sum(path.stat().st_size for path in model.iterdir())
    assert "small" in cli("models", "list").out
    description = json.loads(cli("models", "show", "small", "--json").out)
    assert description["labels"] == ["horizontal_stripes", "disc", "triangle"]
    assert description["config"]["epochs"] == 2
    assert "horizontal_stripes" in cli("models", "show", model).out
    assert cli("models", "rm", "small").code == 0
    assert not model.exists()
    assert cli("models", "rm", "small").code == 1


def test_removing_several_models_removes_none_where_one_is_unknown(cli: Cli, model: Path) -> None:
    result = cli("models", "rm", "small", "smal")
    assert result.code == 1
    assert "`small`" in result.err
    assert model.exists()


def test_models_read_their_options_from_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELR_MODELS_LIST_JSON", "1")
    assert cli("models", "list").out == "[]\n"


def test_model_named_twice_is_removed_once(cli: Cli, model: Path) -> None:
    assert cli("models", "rm", "small", "small") == (0, f"{model}\n", "")


def test_damaged_model_is_warned_of_in_the_list(cli: Cli, model: Path) -> None:
    (model / "model.json").write_text("{")
    assert cli("models", "list").err.startswith("Warning: ")


def test_list_without_models_says_how_to_train_one(cli: Cli) -> None:
    result = cli("models", "list")
    assert (result.code, result.out) == (0, "")
    assert "labelr fit" in result.err
    assert cli("models", "list", "--json").out == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit"],
        ["fit", "data", "--synthetic"],
        ["fit", "data", "--name", "a", "--output", "b"],
        ["fit", "data", "--epochs", "none"],
        ["fit", "data", "--epochs", "0"],
        ["fit", "data", "--stem", "tall"],
        ["fit", "data", "--device", "tpu"],
        ["fit", "data", "--val-fraction", "0.7", "--test-fraction", "0.4"],
        ["fit", "data", "--target-precision", "0.9", "--target-recall", "0.9"],
        ["fit", "data", "--target-precision", "1.1"],
        ["fit", "data", "--folds", "1"],
        ["fit", "data", "--folds", "3", "--time", "1"],
        ["fit", "data", "--folds", "3", "--splits", "splits.csv"],
        ["fit", "data", "--folds", "3", "--test-fraction", "0.2"],
        ["fit", "data", "--plot-format", "pdf"],
        ["fit", "data", "--nonsense"],
        ["evaluate"],
        ["evaluate", "data", "--split", "half"],
        ["evaluate", "data", "--threshold", "high"],
        ["evaluate", "data", "--threshold", "0.4", "--threshold-file", "thresholds.csv"],
        ["evaluate", "data", "--sort", "name"],
        ["evaluate", "data", "--plot-format", "pdf"],
        ["tag"],
        ["tag", "photos", "--threshold", "1.5"],
        ["tag", "photos", "--threshold", "0.4", "--threshold-file", "thresholds.csv"],
        ["tag", "photos", "--on-error", "ignore"],
        ["tag", "one", "two"],
        ["nonsense"],
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_was_expected(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert "Error" in result.err
    assert "Traceback" not in result.err


def test_cache_is_listed_and_cleared_and_models_stay(cli: Cli, drawn: Path, home: Path) -> None:
    empty = cli("cache", "ls")
    assert (empty.out, empty.err) == ("", f"The cache in {home / 'pixels'} is empty.\n")
    model = cli("fit", drawn, *TINY_OPTIONS).out.strip()
    rows = json.loads(cli("cache", "ls", "--json").out)
    assert {row["name"].split("-1-")[0]: row["images"] for row in rows} == {"squish-32px": 60}
    assert f"MB in {home / 'pixels'}" in cli("cache", "ls").err
    assert "squish-32px" in cli("cache", "ls").out
    assert json.loads(cli("cache", "clear", "--json").out)["images"] == 60
    assert cli("cache", "clear").err == "Deleted the pixels of 0 images, 0 MB.\n"
    assert json.loads(cli("cache", "ls", "--json").out) == []
    assert cli("evaluate", drawn, "--model", model).code == 0


def test_without_a_cache_nothing_is_written_and_the_model_is_the_same(cli: Cli, drawn: Path, home: Path) -> None:
    without = cli("fit", drawn, *TINY_OPTIONS, "--cache-limit", 0)
    assert not (home / "pixels").exists()
    assert "60 of 60 images are not in the pixel cache and are decoded whenever they are needed" in without.err
    cached = cli("fit", drawn, *TINY_OPTIONS)
    assert "are decoded whenever" not in cached.err
    digests = [json.loads((Path(run.out.strip()) / "model.json").read_text())["weights"] for run in (without, cached)]
    assert digests[0] == digests[1]


def test_evaluation_is_the_same_with_and_without_the_cache(cli: Cli, drawn: Path, model: Path) -> None:
    results = [
        cli("evaluate", drawn, "--model", model, "--split", "all", "--json", *options).out
        for options in (["--cache-limit", 0], [], [])
    ]
    assert len(set(results)) == 1


def test_epochs_and_time_exclude_each_other(cli: Cli, drawn: Path) -> None:
    done = cli("fit", drawn, "--epochs", 3, "--time", 1)
    assert (done.code, done.out) == (2, "")
    assert "Hint: give `--epochs` or `--time`, not both" in done.err
