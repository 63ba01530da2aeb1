"""The division into train, val and test."""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import cpu_limit
from numpy.typing import NDArray

from labelr.data.dataset import Dataset
from labelr.data.label_table import SPLITS, Targets
from labelr.data.scan import Scan
from labelr.data.splits import SPLITS_FILE, SplitRow, read_splits, stratified_split, write_splits
from labelr.errors import LabelrError

Parts = NDArray[np.int64]

FRACTIONS = (0.8, 0.1, 0.1)


def make_targets(seed: int, rows: int, prevalences: NDArray[np.float64]) -> Targets:
    rng = np.random.default_rng(seed)
    return (rng.random((rows, len(prevalences))) < prevalences).astype(np.float32)


def digests_of(contents: list[int]) -> list[str]:
    return [hashlib.sha256(str(content).encode()).hexdigest() for content in contents]


def split(targets: Targets, *, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS) -> Parts:
    """The split of images that are all different."""
    return stratified_split(targets, digests_of(list(range(len(targets)))), fractions, seed=seed)


def shares(parts: Parts, targets: Targets) -> NDArray[np.float64]:
    """Which share of each label's positives lies in each part, ``(P, L)``."""
    totals = np.nansum(targets, axis=0)
    return np.stack([np.nansum(targets[parts == part], axis=0) / totals for part in range(len(SPLITS))])


def imbalance(parts: Parts, targets: Targets) -> float:
    """How far, on average, a part's share of a label is from the part's share of the images."""
    images = np.bincount(parts, minlength=3)[:, None] / len(parts)
    return float(np.abs(shares(parts, targets) - images).mean())


def deviations(fractions: tuple[float, float, float]) -> NDArray[np.float64]:
    """How far each part's share of each label is from its fraction, over ten data sets, ``(10, P, L)``."""
    found = []
    for seed in range(10):
        targets = make_targets(seed, 2000, np.linspace(0.05, 0.5, 20))
        parts = split(targets, seed=seed, fractions=fractions)
        found.append(np.abs(shares(parts, targets) - np.array(fractions)[:, None]))
    return np.stack(found)


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.5, 0.1, 0.4)])
def test_each_part_has_its_fraction_of_each_label(fractions: tuple[float, float, float]) -> None:
    found = deviations(fractions)
    assert found.mean(axis=0).max() <= 0.02
    assert (found <= 0.02).mean() >= 0.98
    assert found.max() <= 0.05


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_part_has_its_fraction_of_the_images(seed: int) -> None:
    parts = split(make_targets(seed, 2000, np.linspace(0.05, 0.5, 20)), seed=seed)
    np.testing.assert_allclose(np.bincount(parts) / 2000, FRACTIONS, atol=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_label_with_three_positives_or_more_is_in_every_part(seed: int) -> None:
    targets = make_targets(seed, 2000, np.linspace(0.05, 0.5, 20))
    rng = np.random.default_rng(seed)
    for label, positives in enumerate([3, 3, 4, 5, 7]):
        targets[:, label] = 0
        targets[rng.choice(2000, positives, replace=False), label] = 1
    parts = split(targets, seed=seed)
    assert (shares(parts, targets) > 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_single_positive_of_a_label_is_in_train(seed: int) -> None:
    targets = make_targets(seed, 200, np.linspace(0.05, 0.5, 6))
    targets[:, 3] = 0
    targets[seed * 7, 3] = 1
    assert split(targets, seed=seed, fractions=(0.2, 0.4, 0.4))[seed * 7] == 0


@pytest.mark.parametrize("seed", range(5))
def test_two_positives_of_a_label_are_in_train_and_in_another_part(seed: int) -> None:
    targets = np.zeros((100, 2), dtype=np.float32)
    targets[::2, 0] = 1
    targets[[5, 60], 1] = 1
    first, second = sorted(split(targets, seed=seed, fractions=(0.2, 0.4, 0.4))[[5, 60]].tolist())
    assert first == 0
    assert second > 0


def test_order_of_the_rows_makes_no_difference() -> None:
    targets = make_targets(0, 500, np.linspace(0.02, 0.5, 10))
    digests = digests_of(list(range(500)))
    parts = stratified_split(targets, digests, FRACTIONS)
    order = np.random.default_rng(1).permutation(500)
    reordered = stratified_split(targets[order], [digests[row] for row in order], FRACTIONS)
    np.testing.assert_array_equal(reordered, parts[order])


def test_same_seed_gives_the_same_split() -> None:
    targets = make_targets(0, 500, np.linspace(0.02, 0.5, 10))
    np.testing.assert_array_equal(split(targets, seed=5), split(targets, seed=5))


def test_another_seed_gives_another_split() -> None:
    targets = make_targets(0, 500, np.linspace(0.02, 0.5, 10))
    assert (split(targets, seed=5) != split(targets, seed=6)).any()


def test_group_is_never_divided() -> None:
    targets = make_targets(0, 1000, np.linspace(0.05, 0.5, 10))
    groups = np.random.default_rng(1).integers(100, 300, 1000)
    parts = stratified_split(targets, digests_of(list(range(1000))), FRACTIONS, groups=groups)
    assert all(len(set(parts[groups == group])) == 1 for group in set(groups.tolist()))


def test_numbers_of_the_groups_make_no_difference() -> None:
    targets = make_targets(0, 500, np.linspace(0.02, 0.5, 10))
    digests = digests_of(list(range(500)))
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 100, 500)
    parts = stratified_split(targets, digests, FRACTIONS, groups=groups)
    renumbered = stratified_split(targets, digests, FRACTIONS, groups=rng.permutation(1000)[groups])
    np.testing.assert_array_equal(renumbered, parts)


def test_groups_leave_each_part_about_its_fraction_of_the_images() -> None:
    targets = make_targets(0, 1000, np.linspace(0.05, 0.5, 10))
    groups = np.random.default_rng(1).integers(0, 200, 1000)
    parts = stratified_split(targets, digests_of(list(range(1000))), FRACTIONS, groups=groups)
    np.testing.assert_allclose(np.bincount(parts) / 1000, FRACTIONS, atol=0.03)


def test_images_of_the_same_content_are_never_divided() -> None:
    targets = make_targets(0, 1000, np.linspace(0.05, 0.5, 10))
    contents = np.random.default_rng(1).integers(0, 300, 1000)
    parts = stratified_split(targets, digests_of(contents.tolist()), FRACTIONS)
    assert all(len(set(parts[contents == content])) == 1 for content in set(contents.tolist()))


@pytest.mark.parametrize(
    ("fractions", "used"), [((0.9, 0.1, 0.0), {0, 1}), ((0.9, 0.0, 0.1), {0, 2}), ((1.0, 0.0, 0.0), {0})]
)
def test_part_of_fraction_zero_stays_empty(fractions: tuple[float, float, float], used: set[int]) -> None:
    targets = make_targets(0, 300, np.linspace(0.0, 0.5, 10))
    assert set(split(targets, fractions=fractions).tolist()) == used


def test_one_label_is_divided_by_its_fractions() -> None:
    targets = make_targets(0, 1000, np.array([0.3]))
    np.testing.assert_allclose(shares(split(targets), targets)[:, 0], FRACTIONS, atol=0.01)


def test_ninety_labels_are_all_in_every_part() -> None:
    targets = make_targets(0, 2000, np.linspace(0.005, 0.1, 90))
    assert (shares(split(targets), targets) > 0).all()


def test_images_without_any_positive_are_divided_by_the_fractions() -> None:
    parts = split(np.zeros((1000, 4), dtype=np.float32))
    assert np.bincount(parts).tolist() == [800, 100, 100]


def test_unknown_cells_count_as_no_positives() -> None:
    targets = make_targets(0, 500, np.linspace(0.05, 0.5, 10))
    unknown = np.where(np.random.default_rng(1).random(targets.shape) < 0.5, np.nan, 0).astype(np.float32)
    with_holes = np.where(targets == 0, unknown, targets)
    assert np.isnan(with_holes).any()
    np.testing.assert_array_equal(split(with_holes), split(targets))


def test_label_that_is_unknown_everywhere_changes_nothing() -> None:
    targets = make_targets(0, 500, np.linspace(0.05, 0.5, 10))
    unknown = np.full((500, 1), np.nan, dtype=np.float32)
    np.testing.assert_array_equal(split(np.hstack([targets, unknown])), split(targets))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_very_few_images_go_to_train_first(rows: int) -> None:
    assert split(np.ones((rows, 2), dtype=np.float32)).tolist().count(0) >= 1


def test_no_images_give_an_empty_split() -> None:
    assert split(np.zeros((0, 3), dtype=np.float32)).shape == (0,)


def test_labels_are_better_balanced_than_by_chance() -> None:
    stratified, random = [], []
    for seed in range(5):
        targets = make_targets(seed, 1000, np.linspace(0.02, 0.4, 20))
        parts = split(targets, seed=seed)
        stratified.append(imbalance(parts, targets))
        random.append(imbalance(np.random.default_rng(seed).permutation(parts), targets))
    assert np.mean(stratified) < 0.5 * np.mean(random)


@pytest.mark.slow
def test_hundred_thousand_images_are_divided_in_half_a_minute() -> None:
    targets = make_targets(0, 100_000, np.linspace(0.01, 0.4, 50))
    digests = digests_of(list(range(100_000)))
    began = time.process_time()
    parts = stratified_split(targets, digests, FRACTIONS)
    assert time.process_time() - began < cpu_limit(30)
    assert np.abs(shares(parts, targets) - np.array(FRACTIONS)[:, None]).max() <= 0.02


# --- the table of parts ----------------------------------------------------------------------------------------------


def test_table_of_parts_gives_what_was_written(tmp_path: Path) -> None:
    names = ["a.jpg", "sub/b,\n.jpg", os.fsdecode(b"caf\xe9.jpg")]
    fingerprints = [0x0123456789ABCDEF, None, 2**64 - 1]
    scans = tuple(
        Scan(digest, fingerprint=value) for digest, value in zip(("0a", "0b", "0c"), fingerprints, strict=True)
    )
    targets = np.ones((3, 1), np.float32)
    write_splits(tmp_path, Dataset(
        tmp_path, "", tmp_path, tuple(names), ("dog",), targets, scans=scans, splits=np.array([0, 1, 2])
    ))  # fmt: skip
    expected = list(zip(names, ["train", "val", "test"], ["0a", "0b", "0c"], fingerprints, strict=True))
    assert read_splits(tmp_path / SPLITS_FILE) == expected


def test_table_of_parts_made_by_hand_needs_no_digests(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("\ufeffsplit,image\r\nValidation,a.jpg\r\n")
    assert read_splits(tmp_path / "mine.csv") == [("a.jpg", "val", "", None)]


def test_table_of_parts_from_before_fingerprints_is_read(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("image,split,digest\ncaf\udce9.jpg,train,0a\n", "utf-8", "surrogateescape")
    assert read_splits(tmp_path / "splits.csv") == [("caf\udce9.jpg", "train", "0a", None)]


@pytest.mark.parametrize(
    "text",
    [
        "filename,set\na.jpg,Training\nb.jpg,dev\nc.jpg,eval\n",
        "file_name;fold\na.jpg;TRAIN\nb.jpg;Validation\nc.jpg;testing\n",
        "id,dataset,phase\na.jpg,mine,train\nb.jpg,mine,valid\nc.jpg,mine,test\n",
        "photo\tmine\na.jpg\ttrain\nb.jpg\teval\nc.jpg\ttest\n",
        "a.jpg,train\nb.jpg,val\nc.jpg,test\n",
        "train a.jpg\nval b.jpg\ntest c.jpg\n",
    ],
)
def test_columns_and_words_of_a_table_of_splits_may_have_other_names(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(text)
    rows = [(row.image, row.split) for row in read_splits(tmp_path / "mine.csv")]
    assert rows == [("a.jpg", "train"), ("b.jpg", "val"), ("c.jpg", "test")]


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "val.txt", "test.txt"),
        ("Training.lst", "dev.txt", "testing.txt"),
        ("my_train.txt", "my_val.txt", "my_test.txt"),
    ],
)
def test_lists_of_images_in_a_folder_are_splits(names: tuple[str, str, str], tmp_path: Path) -> None:
    for name, text in zip(names, ("a 1.jpg\r\nsub/b.jpg", "./c.jpg\n\n", "d\n"), strict=True):
        (tmp_path / name).write_text(text)
    (tmp_path / "trainval.txt").write_text("e.jpg")
    (tmp_path / "README").write_text("hello")
    rows = {row.image: row.split for row in read_splits(tmp_path)}
    assert rows == {"a 1.jpg": "train", "sub/b.jpg": "train", "c.jpg": "val", "d": "test"}


def test_list_of_a_split_may_be_a_table_and_two_lists_of_one_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("file,dog\na.jpg,1\n")
    assert read_splits(tmp_path) == [SplitRow("a.jpg", "train", "")]
    (tmp_path / "train.txt").write_text("b.jpg")
    with pytest.raises(LabelrError, match=r"two lists of train: train\.csv and train\.txt"):
        read_splits(tmp_path)


def test_folder_without_lists_and_image_in_two_of_them_are_errors(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match=r"no lists of images such as train\.txt, val\.txt and test\.txt"):
        read_splits(tmp_path)
    (tmp_path / "train.txt").write_text("a.jpg\nb.jpg\n")
    (tmp_path / "test.txt").write_text("b.jpg\n")
    with pytest.raises(LabelrError, match=r"1 image in two splits: b\.jpg \(test and train\)"):
        read_splits(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.jpg,holdout", 'row 4, column "split": expected train, val or test, got "holdout"'),
        (",train", "row 4: no file name"),
        ("b.jpg,", 'row 4, column "split": expected train, val or test, got ""'),
        ("b.jpg", "row 4: expected 2 cells as in the header, got 1"),
    ],
)
def test_row_without_an_image_or_part_is_named(row: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(f"image,split\na.jpg,train\nc.jpg,val\n{row}\n")
    with pytest.raises(LabelrError) as caught:
        read_splits(tmp_path / "mine.csv")
    assert message in caught.value.message
    assert caught.value.hint == "correct the row, or delete it"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("01234", 'column "fold": expected train, val or test, got numbers of folds: 0, 1, 2, 3, 4', "`--folds 5`"),
        (["train", "trian", "val"], 'row 3, column "fold": expected train, val or test, got "trian"', "`train`"),
        (["train", "val", "tset"], 'row 4, column "fold": expected train, val or test, got "tset"', "`test`"),
    ],
)
def test_numbers_of_folds_and_misspelt_splits_are_explained(
    words: Sequence[str], message: str, hint: str, tmp_path: Path
) -> None:
    rows = "".join(f"{number}.jpg,{word}\n" for number, word in enumerate(words))
    (tmp_path / "mine.csv").write_text(f"image,fold\n{rows}")
    with pytest.raises(LabelrError) as caught:
        read_splits(tmp_path / "mine.csv")
    assert caught.value.message == f"{tmp_path / 'mine.csv'}, {message}"
    assert hint in caught.value.hint


def test_json_of_lists_of_images_by_split_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"train": ["a.jpg", "b.jpg"], "valid": ["c.jpg"], "test": []}')
    rows = {row.image: row.split for row in read_splits(tmp_path / "mine.json")}
    assert rows == {"a.jpg": "train", "b.jpg": "train", "c.jpg": "val"}


def test_image_in_two_splits_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("image,split\na.jpg,train\nb.jpg,val\na.jpg,test\nb.jpg,val\n")
    with pytest.raises(LabelrError, match=r"1 image in two splits: a\.jpg \(train and test\)"):
        read_splits(tmp_path / "mine.csv")


def test_table_of_parts_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match=r"cannot read .*mine\.csv"):
        read_splits(tmp_path / "mine.csv")
