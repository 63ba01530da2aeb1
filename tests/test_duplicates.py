"""Copies, near-duplicates, and images that belong together."""

import time
import tracemalloc
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from labelr.data import duplicates
from labelr.data.duplicates import fingerprint, group_images, near_duplicates
from labelr.data.images import to_pixels

FLAT = 0x0123456789ABCDEF


def picture(seed: int) -> Image.Image:
    """A smooth random picture, as photographs are."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return coarse.resize((320, 240), Image.Resampling.BICUBIC)


def hashed(image: Image.Image) -> int:
    value = fingerprint(to_pixels(image, duplicates.PROBE_SIZE))
    assert value is not None
    return value


def pairs_of(found: NDArray[np.int64]) -> set[tuple[int, int]]:
    return {(int(min(pair)), int(max(pair))) for pair in found.T}


def parts_of(links: NDArray[np.int64], count: int) -> set[frozenset[int]]:
    """The rows that links connect, and those that none does."""
    part = {row: frozenset({row}) for row in range(count)}
    for one, other in links.T.tolist():
        joined = part[one] | part[other]
        part.update(dict.fromkeys(joined, joined))
    return set(part.values())


def together(groups: NDArray[np.int64]) -> list[list[int]]:
    return [np.flatnonzero(groups == group).tolist() for group in np.unique(groups) if (groups == group).sum() > 1]


@pytest.mark.parametrize("seed", range(5))
def test_copy_of_other_size_compression_and_brightness_is_alike(seed: int, tmp_path: Path) -> None:
    original = picture(seed)
    original.resize((150, 120)).save(tmp_path / "a.jpg", quality=40)
    with Image.open(tmp_path / "a.jpg") as copy:
        brighter = ImageEnhance.Brightness(copy.convert("RGB")).enhance(1.1)
    assert (hashed(original) ^ hashed(brighter)).bit_count() <= duplicates.MAX_DISTANCE


def test_different_pictures_are_not_alike() -> None:
    values = [hashed(picture(seed)) for seed in range(40)]
    distances = [(a ^ b).bit_count() for row, a in enumerate(values) for b in values[:row]]
    assert min(distances) > duplicates.MAX_DISTANCE


def test_picture_of_one_colour_has_no_fingerprint() -> None:
    assert fingerprint(np.full((32, 32, 3), 200, dtype=np.uint8)) is None


@pytest.mark.parametrize("bits", range(9))
def test_pairs_up_to_the_greatest_distance_are_found_wherever_their_bits_differ(bits: int) -> None:
    rng = np.random.default_rng(bits)
    for _ in range(20):
        changed = FLAT
        for bit in rng.choice(64, bits, replace=False):
            changed ^= 1 << int(bit)
        found = pairs_of(near_duplicates([FLAT, None, changed]))
        assert found == ({(0, 2)} if bits <= duplicates.MAX_DISTANCE else set())


def test_rows_are_connected_as_by_comparing_each_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = [int(value) for value in rng.integers(0, 2**63, 60)]
    for _ in range(200):
        changed = values[int(rng.integers(60))]
        for bit in rng.choice(64, int(rng.integers(1, 10)), replace=False):
            changed ^= 1 << int(bit)
        values.append(changed)
    expected = [
        (b, a)
        for a, one in enumerate(values)
        for b, other in enumerate(values[:a])
        if (one ^ other).bit_count() <= duplicates.MAX_DISTANCE
    ]
    for most in (duplicates._MAX_PAIRS, 5):
        monkeypatch.setattr(duplicates, "_MAX_PAIRS", most)
        found = near_duplicates(values)
        assert parts_of(found, 260) == parts_of(np.array(expected).T, 260)
        assert found.shape[1] == 260 - len(parts_of(found, 260))


def test_memory_does_not_grow_with_the_pairs_of_images_that_are_all_alike() -> None:
    flips = [sum(1 << bit for bit in bits) for bits in islice(combinations(range(64), 3), 4000)]
    tracemalloc.start()
    found = near_duplicates([FLAT ^ flip for flip in flips])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6
    assert found.shape == (2, 3999)


def test_groups_join_copies_near_duplicates_and_what_the_user_says() -> None:
    groups = group_images(
        ["a", "b", "a", "c", "d", "e"], [1, FLAT, 1, FLAT ^ 1, None, None], given=["", "", "", "", "p", "p"]
    )
    assert together(groups) == [[0, 2], [1, 3], [4, 5]]


def test_images_without_an_entry_are_on_their_own() -> None:
    assert together(group_images(["a", "b"], [None, None], given=["", ""])) == []


def test_chain_that_is_too_long_is_reported_and_divided_but_copies_stay_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chain: list[int | None] = [FLAT ^ (1 << number) for number in range(20)]
    digests = [str(number) for number in range(20)]
    digests[7] = digests[3]
    groups = group_images(digests, chain)
    assert together(groups) == [[3, 7]]
    assert "20 images look alike" in caplog.text


def test_chain_of_a_few_is_kept_together_in_a_small_data_set() -> None:
    groups = group_images(["a", "b", "c"], [FLAT, FLAT ^ 1, FLAT ^ 3])
    assert together(groups) == [[0, 1, 2]]


@pytest.mark.slow
def test_hundred_thousand_images_are_grouped_in_seconds() -> None:
    values: list[int | None] = [int(value) for value in np.random.default_rng(0).integers(0, 2**63, 100_000)]
    start = time.process_time()
    groups = group_images([str(number) for number in range(100_000)], values)
    assert time.process_time() - start < 15
    assert len(np.unique(groups)) > 99_900
