"""The images to label next."""

import shutil
from pathlib import Path

import numpy as np
from conftest import read_table
from scipy.special import logit
from tag_results import read_csv

from labelr.config import TagOptions
from labelr.model.predict import Model
from labelr.tagging.pipeline import Tagger
from labelr.tagging.tables import most_uncertain
from labelr.tagging.tag import tag


def test_most_uncertain_images_are_listed_in_a_table_to_fill_in(
    photos: Path, shapes: Path, tmp_path: Path, trained: Model
) -> None:
    for number in range(10, 40):
        shutil.copy(shapes / "images" / f"{number:05d}.png", photos / f"n{number}.png")
    shutil.copy(photos / "n10.png", photos / "n10_copy.png")
    tag(photos, trained, output=tmp_path / "out", uncertain=9)
    rows = read_csv(tmp_path / "out" / "uncertain.csv")
    assert rows[0] == ["filename", *trained.labels]
    assert len(rows) == 10
    assert len({row[0] for row in rows}) == 10
    assert all(cell == "" for row in rows[1:] for cell in row[1:])
    assert not {"n10.png", "n10_copy.png"} <= {row[0] for row in rows}
    names = [line[0] for line in read_csv(tmp_path / "out" / "probabilities.csv")[1:]]
    probs = np.array([line[1:] for line in read_csv(tmp_path / "out" / "probabilities.csv")[1:]], float)
    distance = np.abs(logit(probs) - logit(trained.thresholds()))
    nearest = {names[row] for row in distance.argmin(axis=0)}
    assert nearest - {"n10_copy.png", "n10.png"} <= {row[0] for row in rows[1:4]} | {"n10.png", "n10_copy.png"}
    filled = [[row[0], "1", "0", "1"] for row in rows[1:]]
    lines = [",".join(row) for row in [rows[0], *filled]]
    (tmp_path / "filled.csv").write_text("\n".join(lines) + "\n")
    table = read_table(photos, labels=[str(tmp_path / "filled.csv")])
    assert len(table.files) == 9


def test_images_with_more_pixels_than_allowed_are_not_compared(shapes: Path, tmp_path: Path, trained: Model) -> None:
    for name in ("a.png", "b.png"):
        shutil.copy(shapes / "images" / "00000.png", tmp_path / name)
    tagger = Tagger.load(trained, TagOptions())
    images = list(tagger.tag(["a.png", "b.png"], tmp_path, lambda _: None))
    for max_pixels, num_listed in ((64 * 64, 1), (64 * 64 - 1, 2)):
        names = most_uncertain(images, tagger.selection, tmp_path, 5, max_pixels=max_pixels)
        assert len(names) == num_listed
