"""The model card: what it says, and that no text of a model is taken for Markdown."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, put

from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.scoring.card import model_card


@pytest.fixture
def birds(trained: Model, home: Path) -> Path:
    return Path(shutil.copytree(trained.path, home / "models" / "birds"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def cells_of(card: str, first: str) -> list[str]:
    """The cells of the row that begins with a text."""
    (row,) = re.findall(rf"^\| {re.escape(first)} \| (.*) \|$", card, re.MULTILINE)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)]


def test_card_states_data_scores_thresholds_limits_licence_and_settings(birds: Path, trained: Model) -> None:
    card, info = model_card(birds), trained.info
    metrics = json.loads((birds / "metrics.json").read_text())
    assert re.findall("^##? (.*)", card, re.MULTILINE) == [
        "birds", "Data", "Scores", "Labels", "Limits", "Licence", "Settings", "Use",
    ]  # fmt: skip
    splits = [line.split(",")[1] for line in (birds / "splits.csv").read_text().splitlines()]
    assert f"60 images: {splits.count('train')} train, {splits.count('val')} val, {splits.count('test')} test." in card
    low, high = metrics["intervals"]["map_macro"]
    assert cells_of(card, "mAP")[1] == f"{low:.1f} .. {high:.1f}"
    for label, threshold in zip(info.labels, info.thresholds, strict=True):
        cells, row = cells_of(card, label.replace("_", r"\_")), info.counts[label]
        assert cells[:4] == [str(row["positives"]), str(row["negatives"]), str(row["unknown"]), f"{threshold:.3f}"]
        assert cells[4] == str(next(row for row in metrics["per_label"] if row["label"] == label)["support"])
    assert f"temperature {info.calibration.temperature:.3f}" in card
    assert "support below 10: " in card
    assert "holds no pretrained weights" in card
    assert cells_of(card, "--epochs") == ["2"]
    assert "labelr tag PHOTOS --model birds" in card


def test_card_names_no_image_and_no_folder_above_the_data(birds: Path, trained: Model) -> None:
    pretraining = {
        "backbone": "resnet18", "source": "file", "licence": "MIT", "weights": "/home/anna/w.pth", "sha256": "0" * 64,
    }  # fmt: skip
    config = {**trained.info.config, "labels": ["/home/anna/labels.csv"]}
    change(birds / "model.json", data=["/home/anna/my photos"], pretraining=pretraining, config=config)
    card = model_card(birds)
    assert "anna" not in card
    assert "00000.png" not in card
    assert "Folder: my photos." in card
    assert cells_of(card, "Pretrained by") == ["file, MIT"]
    assert cells_of(card, "Pretrained weights") == ["w.pth"]


def test_limits_name_optimistic_scores_unknown_cells_and_the_value_range(birds: Path, trained: Model) -> None:
    counts = {label: {"positives": 3, "negatives": 40, "unknown": 17} for label in trained.labels}
    preprocessing = json.loads((birds / "model.json").read_text())["preprocessing"]
    preprocessing["value_range"] = {"integers": [0.0, 4096.0], "floats": None}
    change(birds / "model.json", counts=counts, preprocessing=preprocessing, scored_on="val")
    change(birds / "metrics.json", not_evaluable=[trained.labels[0]], missed_target=[trained.labels[1]])
    limits = model_card(birds).partition("## Limits")[2].partition("## Licence")[0]
    for text in (
        "optimistic",
        "fewer than 10 positives",
        "51 unknown cells",
        "from 0 to 4,096",
        "to score: ",
        "miss the",
    ):
        assert text in limits


@pytest.mark.parametrize(
    "label",
    [
        "a | b", "*a* _b_ `c`", "[x](javascript:alert(1))", "<script>alert(1)</script>", "![x](http://a.b/c.png)",
        "two\n\n# lines", "two\n  | cells |", "\\", "&lt;", "https://a.b", "www.a.b", "@anna :smile: $x$ ~~y~~",
        "\u202eabc",
    ],
)  # fmt: skip
def test_no_label_is_taken_for_markdown(birds: Path, trained: Model, label: str) -> None:
    plain, card = (card_with(birds, trained, some) for some in ("plain", label))
    assert len(card.splitlines()) == len(plain.splitlines())
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {3, 6, 11}
    unescaped = re.sub(r"\\[!-/:-@\[-`{-~]", "", card.partition("## Limits")[2].partition("## Licence")[0])
    assert not re.search(r"[<\[`*_|&@$\u202e]|://|www\.", unescaped)


def card_with(folder: Path, model: Model, label: str) -> str:
    """The card of a model that has another first label."""
    labels = (label, *model.labels[1:])
    change(folder / "model.json", labels=labels, counts={})
    change(folder / "metrics.json", labels=labels, few_positives=[label], missed_target=[label], per_label=[])
    return model_card(folder)


def test_markdown_shows_the_label_as_it_is(birds: Path, trained: Model) -> None:
    assert r"| \<b\>\|\*x\* |" in card_with(birds, trained, "<b>|*x*")


def test_model_without_scores_and_splits_has_a_card(birds: Path) -> None:
    for name in ("metrics.json", "splits.csv", "history.csv"):
        (birds / name).unlink()
    assert "Not measured." in model_card(birds)


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics.json", '{"metrics": {}}'), ("metrics.json", "[]"), ("splits.csv", "a\n"), ("model.json", "{")],
)
def test_damaged_model_is_an_error(birds: Path, name: str, content: str) -> None:
    put(birds, name, content)
    with pytest.raises(LabelrError, match=re.escape(name)):
        model_card(birds)


def test_unfinished_model_has_no_card(birds: Path) -> None:
    change(birds / "model.json", complete=False)
    with pytest.raises(LabelrError, match="is not finished"):
        model_card(birds)


def test_command_prints_the_card_or_writes_it_to_a_new_file(cli: Cli, birds: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "README.md"
    assert cli("models", "card", "birds").out == model_card(birds)
    assert cli("models", "card", "birds", "-o", target) == (0, f"{target}\n", "")
    assert target.read_text() == model_card(birds)
    assert "`--force`" in cli("models", "card", "birds", "-o", target).err
    assert cli("models", "card", "birds", "-o", target, "--force", "--json").code == 0
    assert json.loads(cli("models", "card", "birds", "--json").out)["card"] == model_card(birds)
