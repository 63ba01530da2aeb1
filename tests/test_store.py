"""Saved models on disk: save, load, find, list, remove; and the directories of runs."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import put

from labelr.data.value_range import ValueRange
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.calibration import UNCALIBRATED
from labelr.model.info import Architecture, ModelInfo, Preprocessing
from labelr.model.predict import Model, build_network
from labelr.training.record import list_models_and_runs


@pytest.fixture
def copy(trained: Model, home: Path) -> Path:
    """A copy of the small model in this test's models folder, which may be damaged."""
    return Path(shutil.copytree(trained.path, home / "models" / "copy"))


def change(folder: Path, **values: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_model_holds_no_code_and_only_known_files(trained: Model) -> None:
    names = sorted(path.name for path in trained.path.iterdir())
    weights = trained.info.weights["file"]
    assert names == [
        "config.json",
        "errors.csv",
        "history.csv",
        "metrics.json",
        "model.json",
        "record.json",
        "splits.csv",
        weights,
    ]
    assert weights == f"weights-{trained.info.weights['sha256'][:12]}.safetensors"


def test_loaded_model_is_the_one_saved(trained: Model, copy: Path) -> None:
    loaded = store.load("copy")
    assert loaded.info == trained.info
    for name, tensor in trained.module.state_dict().items():
        assert torch.equal(tensor, loaded.module.state_dict()[name]), name


def test_value_range_is_saved_and_changes_the_digest(trained: Model, copy: Path) -> None:
    preprocessing = replace(trained.info.preprocessing, value_range=ValueRange(integers=(0.0, 3584.0)))
    info = replace(trained.info, preprocessing=preprocessing)
    (copy / "model.json").write_text(info.to_json())
    assert store.load("copy").info == info
    assert info.digest != trained.info.digest


def test_model_from_before_value_ranges_has_none(trained: Model, copy: Path) -> None:
    preprocessing = json.loads((copy / "model.json").read_text())["preprocessing"]
    del preprocessing["value_range"]
    change(copy, preprocessing=preprocessing)
    assert store.load("copy").info == trained.info


def test_digest_without_a_value_range_is_that_from_before_there_was_one() -> None:
    preprocessing, architecture = Preprocessing(image_size=32), Architecture(dropout=0.0)
    info = ModelInfo(
        labels=("dog",),
        thresholds=(0.5,),
        preprocessing=preprocessing,
        architecture=architecture,
        calibration=UNCALIBRATED,
    )
    assert info.digest == "923d65ed1496e09643dbaebca242502c52cbd8fb862f2de98ec88d5f8ac29ff1"


def test_saving_again_replaces_weights_and_leaves_one_file(trained: Model, copy: Path) -> None:
    network = build_network(trained.info)
    saved = store.save(copy, network, trained.info)
    assert [path.name for path in copy.glob("weights-*")] == [saved.weights["file"]]
    assert saved.weights != trained.info.weights
    loaded = store.load("copy").module.state_dict()
    assert torch.equal(loaded["head.linear.weight"], network.state_dict()["head.linear.weight"])


def test_damaged_weights_are_refused(copy: Path) -> None:
    weights = next(copy.glob("weights-*"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(LabelrError, match="its digest is not the one"):
        store.load("copy")


def test_missing_weights_are_an_error_that_says_so(copy: Path) -> None:
    next(copy.glob("weights-*")).unlink()
    with pytest.raises(LabelrError, match="has no weights-") as caught:
        store.load("copy")
    assert "copy the directory again" in caught.value.hint


@pytest.mark.slow
def test_network_is_not_built_for_labels_that_the_weights_lack(copy: Path) -> None:
    labels = list(map(str, range(10**6)))  # 16 GB
    change(copy, labels=labels, thresholds=[0.5] * 10**6, architecture={"stem": "deep", "width": 16, "dropout": 0.3})
    with pytest.raises(LabelrError, match="does not hold this model's weights"):
        store.load("copy")


@pytest.mark.parametrize(
    ("name", "value"), [("head.linear.bias", np.nan), ("stem.0.weight", np.inf), ("head.std", 0.0)]
)
def test_weights_that_are_not_finite_or_divide_by_zero_are_refused(
    trained: Model, copy: Path, name: str, value: float
) -> None:
    network = build_network(trained.info)
    with torch.no_grad():
        network.state_dict()[name].view(-1)[0] = value
    store.save(copy, network, trained.info)
    with pytest.raises(LabelrError, match=f"{name} has values that are not"):
        store.load("copy")


@pytest.mark.parametrize("name", ["model.json", "weights"])
def test_named_pipe_in_place_of_a_file_is_an_error(copy: Path, name: str) -> None:
    path = next(copy.glob(f"{name}*"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(LabelrError, match="has no"):
        store.load("copy")


@pytest.mark.parametrize("content", [b"", b"\0\n", b"x" * 10**5])
def test_damaged_name_of_the_default_is_an_error(copy: Path, content: bytes) -> None:
    (copy.parent / ".default").write_bytes(content)
    with pytest.raises(LabelrError, match=r"\.default is damaged"):
        store.load()


def test_weights_of_another_network_are_refused(copy: Path) -> None:
    change(copy, architecture={"stem": "deep", "width": 0.25, "dropout": 0.3})
    with pytest.raises(LabelrError, match="does not hold this model's weights"):
        store.load("copy")


def test_newer_format_is_refused_with_a_hint(copy: Path) -> None:
    change(copy, format=99)
    with pytest.raises(LabelrError) as caught:
        store.load("copy")
    assert "has format 99" in caught.value.message
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        {"labels": []},
        {"labels": ["a"]},
        {"labels": None},
        {"labels": ["a", "a", "b"]},
        {"labels": ["a", "b", "\ud800"]},
        {"labels": ["a", "b", ""]},
        {"labels": ["a", "b", " \n"]},
        {"data": 1},
        {"best_epoch": 1e999},
        {"created": "yesterday"},
        {"counts": {"a": {"positives": "many"}}},
        {"scores": [1]},
        {"config": {"lr": {"a": 1}}},
        {"thresholds": ["high", "low", "none"]},
        {"thresholds": [0.1, 0.2, 1.5]},
        {"calibration": {"temperature": 0.0, "bias": 0.0}},
        {"calibration": {"temperature": 1.0, "bias": float("nan")}},
        {"calibration": {"heat": 1.0}},
        {"calibration": None},
        {"weights": {"file": "../../other.safetensors", "sha256": "0" * 64}},
        {"weights": {}},
        {"architecture": {"stem": "deep", "width": 1e6, "dropout": 0.3}},
        {"architecture": {"stem": "tall", "width": 1, "dropout": 0.3}},
        {"preprocessing": {"image_size": 10**9}},
        {"preprocessing": {"image_size": 32, "std": [1.0, 0.0, 1.0]}},
        {"preprocessing": {"image_size": 32, "mean": [1.0, 10**400, 1.0]}},
        {"preprocessing": {"image_size": 32, "value_range": {"integers": [5, 5]}}},
        {"preprocessing": {"image_size": 32, "value_range": {"integers": 5}}},
        {"preprocessing": {"image_size": 32, "value_range": {"colours": [0, 5]}}},
        {"surprise": 1},
    ],
)
def test_model_json_with_impossible_values_is_damaged(copy: Path, values: dict[str, Any]) -> None:
    change(copy, **values)
    with pytest.raises(LabelrError, match=r"model\.json is damaged"):
        store.load("copy")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        "\xff",
        "\0",
        "[" * 10**5,
        '{"a": 1, "a": 1}',
        '{"a": ' + "9" * 5000 + "}",
    ],
)
def test_unparsable_model_json_is_damaged(copy: Path, text: str) -> None:
    (copy / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LabelrError, match=r"model\.json is damaged"):
        store.load("copy")


def test_newest_complete_model_is_found_without_a_name(copy: Path) -> None:
    newer = Path(shutil.copytree(copy, copy.with_name("newer")))
    unfinished = Path(shutil.copytree(copy, copy.with_name("unfinished")))
    change(newer, created="2999-01-01T00:00:00.000+00:00")
    change(unfinished, created="2999-01-02T00:00:00.000+00:00", complete=False)
    assert store.find() == newer


def test_model_whose_weights_are_still_being_copied_is_not_the_newest(copy: Path) -> None:
    newer = Path(shutil.copytree(copy, copy.with_name("newer")))
    change(newer, created="2999-01-01T00:00:00.000+00:00")
    next(newer.glob("weights-*")).unlink()
    assert store.find() == copy


def test_default_may_be_a_directory_elsewhere(trained: Model, copy: Path) -> None:
    store.pin(trained.path)
    assert store.find() == trained.path
    assert store.load().path == trained.path
    store.pin(None)
    assert store.find() == copy


def test_default_is_of_the_models_folder_wherever_that_is_moved(
    copy: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pin(copy)
    home.rename(tmp_path / "moved")
    monkeypatch.setenv("LABELR_HOME", str(tmp_path / "moved"))
    assert store.find() == tmp_path / "moved" / "models" / "copy"


@pytest.fixture
def linked(copy: Path, home: Path, tmp_path: Path) -> Path:
    """That copy by the path of a link to its cache directory."""
    (tmp_path / "link").symlink_to(home)
    return tmp_path / "link" / "models" / "copy"


def test_default_that_is_deleted_by_another_path_is_no_longer_the_default(copy: Path, linked: Path) -> None:
    store.pin(copy)
    store.remove(linked)
    assert store.pinned_model() is None


def test_default_that_is_renamed_by_another_path_stays_the_default(copy: Path, linked: Path) -> None:
    store.pin(copy)
    renamed = store.rename(linked, "other")
    assert store.find() == renamed == copy.with_name("other")


def test_default_is_named_as_in_the_models_folder_by_whatever_path_it_was_chosen(copy: Path, linked: Path) -> None:
    store.pin(linked)
    assert (copy.parent / ".default").read_text() == "copy\n"
    put(copy.parent, ".default", f"{linked}\n")
    assert store.pinned_model() == copy
    assert [(row["path"], row["default"]) for row in list_models_and_runs()] == [(str(copy), True)]


def test_damaged_model_is_found_by_another_path_to_the_models_folder(copy: Path, linked: Path) -> None:
    (copy / "model.json").unlink()
    next(copy.glob("weights-*")).unlink()
    assert store.find(linked, unfinished=True) == linked


def test_unfinished_model_does_not_become_the_default(copy: Path) -> None:
    change(copy, complete=False)
    with pytest.raises(LabelrError, match="not finished"):
        store.pin(copy)
    assert store.pinned_model() is None


def test_no_model_at_all_is_an_error_that_says_how_to_train_one() -> None:
    with pytest.raises(LabelrError, match="no trained model") as caught:
        store.find()
    assert "labelr fit" in caught.value.hint


def test_unknown_name_is_an_error_with_the_nearest_one(copy: Path) -> None:
    with pytest.raises(LabelrError, match="no model called 'coppy'") as caught:
        store.find("coppy")
    assert "`copy`" in caught.value.hint


def test_model_is_found_by_its_directory_too(trained: Model) -> None:
    assert store.find(str(trained.path)) == trained.path
    assert store.find(trained.path) == trained.path


@pytest.mark.parametrize("written", ["./some", "some/", "../work/some"])
def test_path_is_a_directory_even_if_a_model_has_that_name(
    trained: Model, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    shutil.copytree(trained.path, home / "models" / "some")
    shutil.copytree(trained.path, tmp_path / "work" / "some")
    monkeypatch.chdir(tmp_path / "work")
    assert store.find(written).resolve() == tmp_path / "work" / "some"
    assert store.find("some") == home / "models" / "some"


def test_folder_with_a_file_of_a_common_name_is_a_damaged_model_only_in_the_models_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "photos", home / "models" / "broken"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    assert store.find("broken", unfinished=True) == home / "models" / "broken"
    with pytest.raises(LabelrError, match="there is no model in 'photos'"):
        store.find("photos", unfinished=True)


def test_path_to_photographs_is_not_a_run_of_that_name(home: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (home / "models" / "photos").mkdir(parents=True)
    (home / "models" / "photos" / "run.json").write_text("{}")
    with pytest.raises(LabelrError, match="there is no model in"):
        store.find(f"{tmp_path}/photos")


@pytest.mark.parametrize("name", ["a/b", "../a", "..", ".", "", ".hidden", "a\\b", "a\nb", "-x", "x" * 200, "a..b"])
def test_name_that_is_a_path_or_hidden_is_refused(name: str) -> None:
    with pytest.raises(LabelrError, match="cannot be called"):
        store.check_name(name)


def test_too_long_name_is_told_how_long_it_may_be_and_of_which_characters() -> None:
    assert store.check_name("x" * 100)
    with pytest.raises(LabelrError, match="cannot be called") as caught:
        store.check_name("x" * 101)
    assert "at most 100 characters: letters, digits, `-`, `_`, `+` and single dots" in caught.value.hint


def test_name_in_another_script_is_taken(home: Path) -> None:
    assert store.check_name("Vögel-鳥_1.0") == "Vögel-鳥_1.0"


def test_damaged_models_are_skipped_with_a_warning(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(copy, copy.with_name("broken"))
    change(copy.with_name("broken"), labels=1)
    assert [path for path, _ in store.list_models()] == [copy]
    assert store.load().path == copy
    assert "broken/model.json is damaged: labels: expected array, got int; the model is skipped" in caplog.text


def test_only_models_of_the_models_folder_are_removed(trained: Model, copy: Path) -> None:
    with pytest.raises(LabelrError, match="is not in"):
        store.remove(trained.path)
    store.remove(copy)
    assert not copy.exists()


def test_model_with_a_lock_of_another_program_is_removed(copy: Path) -> None:
    put(copy, ".lock", "4711")
    store.remove(copy)
    assert not copy.exists()


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_nothing_of_a_model_that_cannot_be_locked_is_removed(copy: Path, tmp_path: Path, kind: str) -> None:
    target = put(tmp_path, "thesis.txt", "last words")
    if kind == "folder":
        put(copy / ".lock", "notes.txt", "theirs")
    else:
        (copy / ".lock").symlink_to(target)
    before = sorted(copy.rglob("*"))
    with pytest.raises(LabelrError, match=r"\.lock is in the place of a lock file"):
        store.remove(copy)
    assert sorted(copy.rglob("*")) == before
    assert target.read_text() == "last words"
