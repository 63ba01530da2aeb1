"""The command line: streams, exit codes, results for people and for machines."""

import csv
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, Cli

from labelr import locks
from labelr.cli.app import resume_command
from labelr.model import store
from labelr.model.calibration import UNCALIBRATED
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


@pytest.mark.parametrize(
    "command",
    [[], ["fit"], ["evaluate"], ["tag"], ["tune"], ["check"], ["backbones"], ["cache"], ["models"], ["models", "list"]],
)
def test_every_command_has_help(cli: Cli, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert result.code == 0
    assert "Usage: labelr" in result.out
    assert result.err == ""


# --- fit -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fit_prints_the_models_directory_alone_on_stdout_and_its_main_scores_on_stderr(
    cli: Cli, shapes: Path, home: Path
) -> None:
    result = cli("fit", shapes, *TINY_OPTIONS)
    assert result.code == 0
    assert result.out == f"{home / 'models' / 'shapes'}\n"
    assert (
        f"{shapes / 'labels.csv'}: one column a label, comma-separated; 60 images, 3 labels, 0 unknown cells"
        in result.err
    )
    assert [line.split()[1] for line in result.err.splitlines() if line.startswith("epoch ")] == ["1/2", "2/2"]
    assert "parameters" not in result.err
    # it ends with the sentences of the report and the main scores
    lines = result.err.splitlines()
    assert any(
        "labels" in line and line.endswith(".") and ("it finds" in line or "predicts no" in line) for line in lines
    )
    assert "Measured on 6 images of the test split, which it was not trained on." in lines
    table = [line for line in lines if line.startswith("│")]
    assert next(line.split("│")[1].strip() for line in table) == "mAP"
    assert len(table) <= 6
    assert re.search(r"mAP *│ [01]\.\d+ ", table[0])
    assert "label prior" in result.err
    assert "TP" not in result.err


@pytest.mark.slow
def test_fit_shows_all_tables_with_verbose_and_none_with_json(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    everything = cli("fit", shapes, *TINY_OPTIONS, "--output", tmp_path / "here", "--verbose")
    assert re.search(r"device (cpu|cuda|mps), (fp32|bf16|fp16), 1 thread, 1 worker", everything.err)
    assert "parameters" in everything.err
    assert "Scores on the test split, 6 images:" in everything.err
    assert "label ranking AP" in everything.err
    assert " TP " in everything.err
    same = cli("fit", shapes, *TINY_OPTIONS, "--output", tmp_path / "here", "--resume", "--verbose", "--json")
    assert json.loads(same.out)["metrics"]
    assert "Measured on 6 images of the test split" in same.err
    assert "│" not in same.err


@pytest.mark.slow
def test_fit_without_val_and_test_splits_saves_the_last_epoch_and_has_no_scores_suspects_and_thresholds(
    cli: Cli, shapes: Path, tmp_path: Path
) -> None:
    options = ["--val-fraction", "0", "--test-fraction", "0", "--suspects", tmp_path / "s.csv", *TINY_OPTIONS]
    result = cli("fit", shapes, *options)
    assert result.code == 0
    assert "nan" not in result.err
    assert "Scores" not in result.err
    assert "s.csv is empty: no image was held out of training; check all with `--folds`" in result.err
    assert (tmp_path / "s.csv").read_text() == "filename,label,given,probability,rank\n"
    folder = Path(result.out.strip())
    info = store.load_info(folder)
    assert (info.best_epoch, info.calibration, info.thresholds) == (2, UNCALIBRATED, (0.5, 0.5, 0.5))
    assert set(json.loads((folder / "metrics.json").read_text())["metrics"].values()) == {None}


@pytest.mark.slow
def test_quiet_fit_of_a_taken_name_prints_the_next_free_one_and_logs_its_scores(
    cli: Cli, shapes: Path, trained: Model, home: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained.path, home / "models" / "shapes")
    result = cli("fit", shapes, "--quiet", "--log-file", tmp_path / "log", *TINY_OPTIONS)
    assert (result.out, result.err) == (f"{home / 'models' / 'shapes-2'}\n", "")
    log = (tmp_path / "log").read_text()
    assert " Measured on 6 images of the test split, which it was not trained on.\n" in log
    assert re.search(r" metric: mAP, value: [01]\.\d+, ", log)


@pytest.mark.slow
def test_fit_json_has_the_promised_keys_and_nothing_is_left_of_the_model_that_it_replaces(
    cli: Cli, shapes: Path, trained: Model, tmp_path: Path
) -> None:
    here = Path(shutil.copytree(trained.path, tmp_path / "here"))
    result = json.loads(cli("fit", shapes, "--json", "-o", here, "--force", "--seed", 3, *TINY_OPTIONS).out)
    assert (here / "metrics.json").read_text() != (trained.path / "metrics.json").read_text()
    assert len(list(here.glob("weights-*"))) == 1
    assert not list(here.glob(".*"))
    assert result["model"] == str(here)
    assert result["name"] == "here"
    assert result["best_epoch"] in (1, 2)
    assert result["settings"]["seed"] == 3
    assert not {"synthetic", "num_labels", "weights", "train", "time"} & result["settings"].keys()
    assert [row["epoch"] for row in result["history"]] == [1, 2]
    assert result["seconds"] == pytest.approx(sum(row["seconds"] for row in result["history"]), abs=0.01)
    assert set(result["metrics"]) == METRICS


@pytest.mark.slow
def test_options_win_over_the_environment_and_both_over_a_file(
    cli: Cli, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.toml").write_text(
        "image_size = 32\nwidth = 0.125\ntime = 3\nbatch_size = 8\nseed = 7\nthreads = 1\ndropout = 0.5"
    )
    monkeypatch.setenv("LABELR_FIT_SEED", "9")
    monkeypatch.setenv("LABELR_FIT_EPOCHS", "2")
    done = cli("fit", shapes, "--config", tmp_path / "s.toml", "--epochs", "1", "--dropout", "0.3", "--json")
    settings = json.loads(done.out)["settings"]
    expected = {
        "image_size": 32, "width": 0.125, "epochs": 1, "batch_size": 8, "seed": 9, "dropout": 0.3,
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected
    assert "time" not in settings


def test_number_of_synthetic_images_comes_from_a_file_if_not_given(cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"synthetic": 40, "num_labels": 2}')
    assert cli("fit", "--synthetic", *TINY_OPTIONS, "--config", tmp_path / "s.json").code == 0
    assert len(list((home / "synthetic").rglob("*.png"))) == 40


@pytest.mark.slow
def test_config_json_and_no_cache_give_the_same_model(cli: Cli, shapes: Path, trained: Model, home: Path) -> None:
    done = cli("fit", shapes, "--config", trained.path / "config.json", "--cache-limit", 0)
    assert not (home / "pixels").exists()
    assert "60 of 60 images are not in the pixel cache, and decoded whenever needed" in done.err
    assert json.loads((Path(done.out.strip()) / "model.json").read_text())["weights"] == trained.info.weights


def test_unknown_setting_in_a_file_is_wrong_usage(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("epoch = 3")
    done = cli("fit", shapes, "--config", tmp_path / "s.toml")
    assert (done.code, done.out) == (2, "")
    assert "s.toml: unknown setting 'epoch'" in done.err
    assert "did you mean `epochs`" in done.err


def test_command_that_resumes_keeps_the_environment_and_the_end_of_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LABELR_FIT_LR", "0.1")
    monkeypatch.setenv("LABELR_FIT_FORCE", "1")
    monkeypatch.setattr(sys, "argv", ["labelr", "fit", "--force", "--name", "my model", "--", "-photos"])
    expected = "LABELR_FIT_LR=0.1 labelr fit --name 'my model' --resume -- -photos"
    assert resume_command("--resume") == expected
    assert resume_command(None) is None


def test_command_that_resumes_does_not_show_the_password_of_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELR_TUNE_STORAGE", "postgresql://me:secret@host/db")
    monkeypatch.setenv("LABELR_TUNE_JOBS", "2")
    monkeypatch.setattr(sys, "argv", ["labelr", "tune", "photos"])
    assert resume_command("") == "LABELR_TUNE_JOBS=2 labelr tune photos"


def test_evaluate_leaves_out_what_the_model_has_learned_from(cli: Cli, shapes: Path, model: Path) -> None:
    result = cli("evaluate", shapes, "--threads", 1, "--json")
    report = json.loads(result.out)
    with (model / "splits.csv").open() as file:
        unseen = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert report["images"] == len(unseen)
    assert f"left out: {60 - len(unseen)} of 60 images that small was trained on" in result.err
    assert report["metrics"] == json.loads((model / "metrics.json").read_text())["metrics"]


def test_evaluate_knows_learned_images_by_content_not_by_name(
    cli: Cli, shapes: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "renamed").mkdir()
    lines = (shapes / "labels.csv").read_text().splitlines()
    for line in lines[1:]:
        shutil.copy(shapes / "images" / line.split(",")[0], tmp_path / "renamed" / f"new_{line.split(',')[0]}")
    (tmp_path / "renamed" / "labels.csv").write_text("\n".join([lines[0], *(f"new_{line}" for line in lines[1:])]))
    report = json.loads(cli("evaluate", tmp_path / "renamed", "--threads", 1, "--json").out)
    assert report["metrics"] == json.loads((model / "metrics.json").read_text())["metrics"]


@pytest.mark.parametrize(("split", "images"), [("all", 60), ("train", 48), ("val", 6), ("test", 6)])
def test_evaluate_scores_the_requested_split(cli: Cli, shapes: Path, model: Path, split: str, images: int) -> None:
    report = json.loads(cli("evaluate", shapes, "--split", split, "--json").out)
    assert abs(report["images"] - images) <= 2


def test_evaluate_json_has_the_promised_keys(cli: Cli, shapes: Path, model: Path) -> None:
    report = json.loads(cli("evaluate", shapes, "--model", "small", "--threshold", "0.4", "--json").out)
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
    cli: Cli, shapes: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    result = cli("evaluate", shapes, "--model", model)
    assert re.search(r"horizontal_stripes .*\d\.\d{3} .*\d\.\d{3} .*0\.\d{3}", result.out)
    assert "…" not in result.out


def test_evaluate_refuses_when_every_image_was_learned_from(
    cli: Cli, shapes: Path, model: Path, tmp_path: Path
) -> None:
    with (model / "splits.csv").open() as file:
        learned = {row["image"] for row in csv.DictReader(file) if row["split"] != "test"}
    lines = (shapes / "labels.csv").read_text().splitlines()
    table = tmp_path / "learned.csv"
    table.write_text("\n".join(line for line in lines if line.split(",")[0] in learned | {"filename"}))
    result = cli("evaluate", shapes, "--labels", table)
    assert result.code == 1
    assert "trained on every image" in result.err
    assert "--split all" in result.err


@pytest.mark.slow
def test_evaluate_leaves_out_a_copy_of_a_learned_image_whatever_split_the_copy_is_in(
    cli: Cli, shapes: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "data"))
    lines = (data / "labels.csv").read_text().splitlines()
    splits = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    rows = [f"{line},{split}" for line, split in zip(lines[1:], splits, strict=True)]
    for number in range(4):
        shutil.copy(data / "images" / f"0000{number}.png", data / "images" / f"copy{number}.png")
        rows.append(f"copy{number}.png,{lines[number + 1].split(',', 1)[1]},test")
    (data / "labels.csv").write_text("\n".join([f"{lines[0]},split", *rows]))
    fitted = cli("fit", data, *TINY_OPTIONS)
    assert "8 images have a copy or near-duplicate in another split" in fitted.err
    assert json.loads(cli("evaluate", data, "--json").out)["images"] == 10


def test_evaluate_without_splits_csv_asks_for_split_all(cli: Cli, shapes: Path, model: Path) -> None:
    (model / "splits.csv").unlink()
    result = cli("evaluate", shapes)
    assert result.code == 1
    assert "has no splits.csv" in result.err
    assert "--split all" in result.err
    assert cli("evaluate", shapes, "--split", "all").code == 0


def test_max_pixels_holds_in_training_and_scoring_alike(cli: Cli, shapes: Path, model: Path) -> None:
    result = cli("evaluate", shapes, "--split", "all", "--max-pixels", "4095")
    assert "too large: 64 x 64 pixels, the limit is 4,095 pixels" in result.err
    assert cli("evaluate", shapes, "--split", "all", "--max-pixels", "4096").code == 0


def test_evaluate_names_labels_that_the_data_lacks(cli: Cli, model: Path, tmp_path: Path, shapes: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text((shapes / "labels.csv").read_text().replace("disc", "disk", 1))
    result = cli("evaluate", shapes, "--labels", table)
    assert result.code == 1
    assert "lacks 1 of the model's labels: disc" in result.err
    assert "`disk`" in result.err


def test_evaluate_ignores_labels_that_the_model_does_not_know(
    cli: Cli, model: Path, tmp_path: Path, shapes: Path
) -> None:
    lines = (shapes / "labels.csv").read_text().splitlines()
    table = tmp_path / "more.csv"
    table.write_text("\n".join([f"{lines[0]},extra", *(f"{line},1" for line in lines[1:])]))
    result = cli("evaluate", shapes, "--labels", table, "--json")
    assert json.loads(result.out)["labels"] == ["horizontal_stripes", "disc", "triangle"]
    assert "does not have 1 of the labels" in result.err


def test_models_are_listed_shown_and_removed(cli: Cli, model: Path) -> None:
    row = json.loads(cli("models", "list", "--json").out)[0]
    assert {"name", "path", "created", "labels", "map_macro", "bytes"} <= set(row)
    assert (row["name"], row["path"], row["labels"]) == ("small", str(model), 3)
    assert row["bytes"] == sum(path.stat().st_size for path in model.iterdir())
    assert "small" in cli("models", "list").out
    description = json.loads(cli("models", "show", "small", "--json").out)
    assert description["labels"] == ["horizontal_stripes", "disc", "triangle"]
    assert description["config"]["epochs"] == 2
    shown = cli("models", "show", model).out
    assert "horizontal_stripes" in shown
    assert "Scores on the test split:" in shown
    assert "label ranking AP" in shown
    assert "lrap" not in shown
    assert "synthetic" not in shown
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


def test_model_that_a_file_manager_has_named_is_used_and_removed(cli: Cli, model: Path, shapes: Path) -> None:
    copy = Path(shutil.copytree(model, model.with_name("small (copy)")))
    assert cli("evaluate", shapes, "--model", "small (copy)", "--threads", 1).code == 0
    assert cli("models", "default", "small (copy)").out == f"{copy}\n"
    assert cli("models", "rm", "small (copy)").code == 0
    assert not copy.exists()


@pytest.mark.parametrize("name", ["..", "models/..", "../models", "/"])
def test_only_models_are_removed(cli: Cli, model: Path, home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(home)
    for folder in (home, home / "models"):
        (folder / "config.json").write_text("{}")
    assert cli("models", "rm", name).code == 1
    assert model.is_dir()


def test_model_named_twice_is_removed_once(cli: Cli, model: Path) -> None:
    assert cli("models", "rm", "small", "small") == (0, f"{model}\n", "")


@pytest.mark.parametrize(
    ("file", "reason"),
    [("model.json", "has no model.json"), ("weights-*", "has no weights-"), ("content", "model.json is damaged")],
)
def test_damaged_models_are_listed_with_the_reason_and_can_be_removed(
    cli: Cli, model: Path, file: str, reason: str
) -> None:
    if file == "content":
        (model / "model.json").write_text("{")
    else:
        next(model.glob(file)).unlink()
    (row,) = json.loads(cli("models", "list", "--json").out)
    assert (row["name"], row["complete"], row["resumable"], row["labels"]) == ("small", False, False, None)
    assert reason in row["damaged"]
    listed = cli("models", "list")
    assert "damaged" in listed.out
    assert listed.err.startswith("Warning: small cannot be used: ")
    assert reason in listed.err
    verified = cli("models", "verify")
    assert verified.code == 3
    assert reason in verified.out
    assert cli("models", "rm", "small").code == 0
    assert not model.exists()


def test_model_of_a_newer_format_is_listed_with_what_to_do(cli: Cli, model: Path) -> None:
    (model / "model.json").write_text((model / "model.json").read_text().replace('"format": 1', '"format": 99'))
    listed = cli("models", "list")
    assert "model.json has format 99, and this labelr reads up to 1\nHint: upgrade labelr: " in listed.err


def test_verify_reads_the_weights(cli: Cli, model: Path) -> None:
    assert json.loads(cli("models", "verify", "--json").out) == [
        {
            "name": "small",
            "path": str(model),
            "damaged": None,
            "hint": None,
            "checked": f"SHA-256 {next(model.glob('weights-*')).name[8:20]}..., shapes of 138 tensors, 3 labels",
            "state": "ok",
        }
    ]
    weights = next(model.glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert json.loads(cli("models", "list", "--json").out)[0]["damaged"] is None
    found = cli("models", "verify", "small", "--json")
    assert found.code == 3
    assert "its digest is not the one in model.json" in json.loads(found.out)[0]["damaged"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metrics.json", None, "has no metrics.json"),
        ("metrics.json", "{}", "metrics.json is damaged"),
        ("history.csv", None, "has no history.csv"),
        ("history.csv", "nonsense", "history.csv is damaged"),
        ("history.csv", "epoch,lr\n1,high\n", "history.csv is damaged"),
        ("config.json", None, "has no config.json"),
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[]", "config.json is damaged"),
    ],
)
def test_verify_reads_scores_history_and_settings(
    cli: Cli, model: Path, name: str, content: str | None, reason: str
) -> None:
    (model / name).unlink()
    if content is not None:
        (model / name).write_text(content)
    found = cli("models", "verify", "--json")
    assert found.code == 3
    (row,) = json.loads(found.out)
    assert (row["state"], row["checked"]) == ("damaged", None)
    assert reason in row["damaged"]


def test_verify_reports_a_model_whose_training_is_not_finished(cli: Cli, model: Path) -> None:
    info = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(info | {"complete": False}))
    (model / "metrics.json").unlink()  # as in the middle of a training
    found = cli("models", "verify")
    assert found.code == 3
    assert "unfinished" in found.out
    (row,) = json.loads(cli("models", "verify", "--json").out)
    assert (row["state"], row["damaged"]) == ("unfinished", None)


def test_verify_reports_each_model_once_and_each_hint_once_beside_unknown_names(cli: Cli, model: Path) -> None:
    for name in ("half", "half2"):
        next(Path(shutil.copytree(model, model.with_name(name))).glob("weights-*")).unlink()
    names = ("smal", "half", "half2", model.with_name("half"), "small")
    found = cli("models", "verify", *names)
    assert found.code == 3
    assert re.findall(r"^│ (\w+) ", found.out, re.MULTILINE) == ["smal", "half", "half2", "small"]
    assert "no model called 'smal'" in found.out
    assert found.err.count("copy the directory again") == 1
    assert "did you mean `small`?" in found.err
    assert [row["damaged"] is None for row in json.loads(cli("models", "verify", *names, "--json").out)] == [
        False, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("command", [["tag", "photos", "--model"], ["models", "show"], ["models", "default"]])
def test_named_model_without_its_info_is_damaged(
    cli: Cli, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (model / "model.json").unlink()
    shutil.copytree(model, "elsewhere")
    for name in ("small", str(model), "elsewhere", "./elsewhere"):
        result = cli(*command, name)
        assert result.code == 1
        assert result.err.startswith(f"Error: {Path(name).name} is damaged: it has no model.json\n\nHint: copy ")


def test_removed_models_are_printed_as_json(cli: Cli, model: Path) -> None:
    copy = Path(shutil.copytree(model, model.with_name("copy")))
    assert json.loads(cli("models", "rm", "small", "copy", "--json").out) == [
        {"name": "small", "path": str(model)}, {"name": "copy", "path": str(copy)},
    ]  # fmt: skip


def test_folders_that_labelr_did_not_write_and_running_runs_are_not_damaged(cli: Cli, home: Path, model: Path) -> None:
    (home / "models" / "notes").mkdir()
    (home / "models" / "notes" / "a.txt").write_text("mine")
    assert cli("models", "rm", "notes").code == 1
    (model / "model.json").unlink()
    with locks.locked(model):
        rows = {row["name"]: row for row in json.loads(cli("models", "list", "--json").out)}
        assert set(rows) == {"small"}
        assert rows["small"]["running"]
        assert rows["small"]["damaged"] is None
        assert "running" in cli("models", "list").out


def test_default_model_is_pinned_shown_marked_and_unset(cli: Cli, model: Path, home: Path, shapes: Path) -> None:
    newer = Path(shutil.copytree(model, home / "models" / "zebra"))
    free = cli("models", "default")
    assert (free.out, free.err) == (f"{newer}\n", "No default is set: the newest model is used.\n")
    assert cli("models", "default", "small").out == f"{model}\n"
    assert cli("models", "default") == (0, f"{model}\n", "")
    rows = json.loads(cli("models", "list", "--json").out)
    assert {row["name"]: row["default"] for row in rows} == {"small": True, "zebra": False}
    assert "default" in cli("models", "list").out
    used = cli("evaluate", shapes, "--threads", 1)
    assert re.search(r"using the default model: small, trained on shapes, mAP \d\.\d{3} \(test\)\n", used.err)
    assert cli("models", "default", "--unset").out == f"{newer}\n"
    assert "using the newest model: zebra" in cli("tag", shapes / "images", "--dry-run", "-o", home / "tags").err


def test_default_model_that_is_gone_is_an_error_that_says_how_to_choose_another(
    cli: Cli, model: Path, shapes: Path
) -> None:
    assert cli("models", "default", "small").code == 0
    model.rename(model.with_name("renamed"))
    result = cli("evaluate", shapes)
    assert result.code == 1
    assert f"the default model cannot be used: there is no directory {model}" in result.err
    assert "`labelr models default NAME`" in result.err
    listed = cli("models", "list")
    assert re.search(r"│ small .*│ damaged *│ yes ", listed.out)
    assert f"Warning: small cannot be used: there is no directory {model}\nHint: choose another default" in listed.err
    assert cli("models", "verify").code == 3
    assert cli("models", "default", "--unset").code == 0
    assert "using the newest model: renamed" in cli("evaluate", shapes, "--threads", 1).err


def test_default_model_elsewhere_is_listed_and_verified(cli: Cli, model: Path, trained: Model) -> None:
    assert cli("models", "default", trained.path).code == 0
    rows = json.loads(cli("models", "list", "--json").out)
    assert {row["path"]: row["default"] for row in rows} == {str(model): False, str(trained.path): True}
    assert len(json.loads(cli("models", "verify", "--json").out)) == 2
    listed = cli("models", "list").out
    assert "│ small " in listed
    assert f"│ {trained.path} " in listed
    assert listed.endswith(f"in {model.parent}\n")


def test_default_model_must_have_its_weights_undamaged(cli: Cli, model: Path, home: Path) -> None:
    other = Path(shutil.copytree(model, home / "models" / "zebra"))
    assert cli("models", "default", "small").code == 0
    for folder in (model, other):
        weights = next(folder.glob("weights-*"))
        weights.write_bytes(weights.read_bytes()[:-1])
    chosen = cli("models", "default", "zebra")
    assert (chosen.code, chosen.out) == (1, "")
    assert "its digest is not the one" in chosen.err
    assert cli("models", "default").code == 1
    next(model.glob("weights-*")).unlink()
    shown = cli("models", "default")
    assert (shown.code, shown.out) == (1, "")
    assert f"the default model cannot be used: {model} has no weights-" in shown.err


def test_default_is_unset_where_no_model_is_left(cli: Cli, model: Path) -> None:
    assert cli("models", "default", "small").code == 0
    shutil.rmtree(model)
    assert cli("models", "default", "--unset") == (0, "", "No default is set: there is no trained model.\n")
    assert json.loads(cli("models", "default", "--unset", "--json").out) == {
        "name": None, "path": None, "pinned": False,
    }  # fmt: skip


def test_removed_default_model_is_no_longer_the_default(cli: Cli, model: Path, home: Path) -> None:
    shutil.copytree(model, home / "models" / "zebra")
    assert cli("models", "default", "zebra").code == 0
    assert "zebra was the default model" in cli("models", "rm", "zebra").err
    assert json.loads(cli("models", "default", "--json").out) == {
        "name": "small", "path": str(model), "pinned": False,
    }  # fmt: skip


@pytest.mark.parametrize(("arguments", "code"), [(["small", "--unset"], 2), (["smal"], 1)])
def test_default_model_stays_after_a_mistake(cli: Cli, model: Path, arguments: list[str], code: int) -> None:
    assert cli("models", "default", "small").code == 0
    assert cli("models", "default", *arguments).code == code
    assert cli("models", "default").out == f"{model}\n"


@pytest.mark.parametrize("content", ["", "a\0b", "x" * 50_000, "pipe", "folder", "device"])
def test_damaged_choice_of_a_default_is_a_warning_and_can_be_replaced(cli: Cli, model: Path, content: str) -> None:
    path = model.parent / ".default"

    def damage() -> None:
        path.unlink(missing_ok=True)
        kinds = {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir, "device": lambda: path.symlink_to("/dev/zero")}
        kinds.get(content, lambda: path.write_text(content))()

    damage()
    listed = cli("models", "list")
    assert listed.code == 0
    assert "`labelr models default --unset`" in listed.err
    assert [cli("models", *line).code for line in (["verify"], ["show", "small"])] == [0, 0]
    assert cli("models", "default").code == 1
    assert cli("models", "default", "small") == (0, f"{model}\n", "")
    damage()
    assert cli("models", "default", "--unset").code == 0
    assert not path.exists()


def test_model_is_shown_without_its_settings_where_their_record_is_damaged(cli: Cli, model: Path) -> None:
    (model / "record.json").write_text("{")
    shown = cli("models", "show", "small")
    assert shown.code == 0
    assert "temperature" in shown.out
    assert "Warning: its settings are not shown: " in shown.err


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


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        (
            "fit",
            "`labelr fit` needs images to train on",
            "`labelr fit photos`, or the label file, such as `labelr fit labels.csv --images photos`, or take syn",
        ),
        ("tune", "`labelr tune` needs images to train on", "`labelr tune photos`"),
        (
            "check",
            "`labelr check` needs DATA: folders of labelled images",
            "add it, such as `labelr check photos`",
        ),
        (
            "evaluate",
            "`labelr evaluate` needs DATA: folders of labelled images",
            "such as `labelr evaluate photos`",
        ),
        ("tag", "there are no images to tag", "name a folder, such as `labelr tag photos`"),
        ("models show", "`labelr models show` needs NAME: name or directory of a model", "`labelr models show photos`"),
        ("models rename", "`labelr models rename` needs NAME", "`labelr models rename NAME NEW`"),
        ("models export a", "`labelr models export` needs FILE: the file to write", "`labelr models export NAME FILE`"),
        ("tag a ''", "a path is empty", "a variable of the shell may not be set"),
        ("check ''", "a path is empty", "a variable of the shell may not be set"),
        ("review ''", "a path is empty", "a variable of the shell may not be set"),
        ("tag a -o ''", "`--output`: a path is empty", "a variable of the shell may not be set"),
        ("tag a --rename=", "`--rename`: a path is empty", "a variable of the shell may not be set"),
        ("fit a --images ''", "`--images`: a path is empty", "a variable of the shell may not be set"),
        ("fit a --config ''", "`--config`: a path is empty", "a variable of the shell may not be set"),
        ("fit data --ephocs 3", "`labelr fit` has no option `--ephocs`", "did you mean `--epochs`?"),
        ("fit data --learning-rate 3", "`labelr fit` has no option `--learning-rate`", "did you mean `--lr`?"),
        ("fit data --no-filp", "`labelr fit` has no option `--no-filp`", "did you mean `--no-flip`?"),
        ("fit data -z", "`labelr fit` has no option `-z`", "see `labelr fit --help`"),
        ("fit --epochs", "option '--epochs' requires an argument", ""),
        (
            "fit data --lr 1e-3,1e-4",
            "`--lr`: expected a number",
            "try several values with `labelr tune DATA --lr 1e-3,1e-4`",
        ),
        (
            "tune data --weight-decay 0..1:log",
            "`--weight-decay`: '0..1:log' is not a range of values",
            "for numbers above 0",
        ),
        ("tune data --lr 1e-2..1e-4", "`--lr`: '1e-2..1e-4' ends below its start", "`1e-4..1e-2`"),
        ("models default a b", "`labelr models default` got more arguments than it takes: b", "see `labelr models def"),
        ("fitt", "`labelr` has no command 'fitt'", "did you mean `fit`?"),
        ("train data", "`labelr` has no command 'train'", "did you mean `fit`?"),
        ("models shwo", "`labelr models` has no command 'shwo'", "did you mean `show`?"),
        ("nonsense", "`labelr` has no command 'nonsense'", "choose one of fit, evaluate, tag,"),
    ],
)
def test_wrong_usage_says_what_is_wrong_and_what_to_do(cli: Cli, line: str, message: str, hint: str) -> None:
    result = cli(*shlex.split(line))
    assert result.code == 2
    assert result.err.startswith(f"Error: {message}")
    assert f"\n\nHint: {hint}" in result.err if hint.startswith(("did", "see", "try")) else hint in result.err


@pytest.mark.parametrize(
    "line",
    [
        "fit data --config URL", "fit data --log-dir URL", "fit data --suspects URL", "check data --fix URL",
        "tune data --lr 1e-3,1e-4 -o URL", "models show URL", "review URL", "tag data --rename URL",
    ],
)  # fmt: skip
def test_address_in_place_of_a_path_is_an_error_that_shows_it_unchanged(cli: Cli, line: str) -> None:
    result = cli(*line.replace("URL", "s3://bucket/x").split())
    assert result.code == 1
    assert result.err.startswith("Error: s3://bucket/x is an address, where labelr takes local files only\n")


@pytest.mark.parametrize(
    "line",
    [
        "fit URL", "evaluate URL", "check URL", "tune URL --lr 1e-3,1e-4", "tag URL", "fit data -o URL",
        "fit data --labels URL", "evaluate data --model URL", "evaluate data -o URL", "tag data -o URL",
        "tag --files-from URL -o here",
    ],
)  # fmt: skip
def test_address_of_the_web_in_place_of_a_path_is_an_error_that_shows_it_unchanged(cli: Cli, line: str) -> None:
    result = cli(*line.replace("URL", "https://example.org/x").split())
    assert result.code == 1
    assert result.err.startswith("Error: https://example.org/x is an address, where labelr takes local files only\n")


def test_cache_is_listed_and_cleared_and_models_stay(cli: Cli, shapes: Path, model: Path, home: Path) -> None:
    empty = cli("cache", "ls")
    assert (empty.out, empty.err) == ("", f"The cache in {home / 'pixels'} is empty.\n")
    assert cli("evaluate", shapes, "--split", "all").code == 0
    rows = json.loads(cli("cache", "ls", "--json").out)
    assert {row["name"].split("px-")[0]: row["images"] for row in rows} == {"squish-32": 60}
    assert f"MB in {home / 'pixels'}" in cli("cache", "ls").err
    assert "squish-32px" in cli("cache", "ls").out
    assert json.loads(cli("cache", "clear", "--json").out)["images"] == 60
    assert cli("cache", "clear").err == "Deleted the pixels of 0 images and the features of 0 images, 0 MB.\n"
    assert json.loads(cli("cache", "ls", "--json").out) == []
    assert model.is_dir()


@pytest.mark.slow
def test_evaluation_is_the_same_with_and_without_the_cache(cli: Cli, shapes: Path, model: Path) -> None:
    results = [
        cli("evaluate", shapes, "--model", model, "--split", "all", "--json", *options).out
        for options in (["--cache-limit", 0], [], [])
    ]
    assert len(set(results)) == 1
