"""Copies, near-duplicates, and groups of images."""

import time
import tracemalloc
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
from conftest import cpu_limit
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from labelr.data import duplicates
from labelr.data.duplicates import belongs_to, fingerprint, group_images, near_duplicates
from labelr.data.images import to_pixels

FLAT = 0x0123456789ABCDEF


def smooth_image(seed: int) -> Image.Image:
    """A smooth random image, similar to a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return coarse.resize((320, 240), Image.Resampling.BICUBIC)


def hashed(image: Image.Image) -> int:
    value = fingerprint(to_pixels(image, duplicates.PROBE_SIZE))
    assert value is not None
    return value


def pairs_of(found: NDArray[np.int64]) -> set[tuple[int, int]]:
    return {(int(min(pair)), int(max(pair))) for pair in found.T}


def components_of(links: NDArray[np.int64], count: int) -> set[frozenset[int]]:
    """The connected components of rows."""
    component = {row: frozenset({row}) for row in range(count)}
    for first, second in links.T.tolist():
        joined = component[first] | component[second]
        component.update(dict.fromkeys(joined, joined))
    return set(component.values())


def groups_in(groups: NDArray[np.int64]) -> list[list[int]]:
    return [np.flatnonzero(groups == group).tolist() for group in np.unique(groups) if (groups == group).sum() > 1]


@pytest.mark.parametrize("seed", range(5))
def test_copy_of_another_size_compression_and_brightness_is_a_near_duplicate(seed: int, tmp_path: Path) -> None:
    original = smooth_image(seed)
    original.resize((150, 120)).save(tmp_path / "a.jpg", quality=40)
    with Image.open(tmp_path / "a.jpg") as copy:
        brighter = ImageEnhance.Brightness(copy.convert("RGB")).enhance(1.1)
    assert (hashed(original) ^ hashed(brighter)).bit_count() <= duplicates.MAX_DISTANCE


def test_different_images_are_not_near_duplicates() -> None:
    values = [hashed(smooth_image(seed)) for seed in range(40)]
    distances = [(a ^ b).bit_count() for row, a in enumerate(values) for b in values[:row]]
    assert min(distances) > duplicates.MAX_DISTANCE


def test_copies_of_a_photograph_of_low_contrast_are_near_duplicates(tmp_path: Path) -> None:
    foggy = ImageEnhance.Contrast(smooth_image(1)).enhance(0.15)
    foggy.save(tmp_path / "copy.jpg", quality=60)
    with Image.open(tmp_path / "copy.jpg") as copy:
        assert (hashed(foggy) ^ hashed(copy)).bit_count() <= duplicates.MAX_DISTANCE


def test_image_of_one_colour_has_no_fingerprint() -> None:
    assert fingerprint(np.full((32, 32, 3), 200, dtype=np.uint8)) is None


@pytest.fixture(params=[1, 2, 3])
def bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bands of bits must agree, as for few, many and millions of images."""
    wanted = int(request.param)
    monkeypatch.setattr(duplicates, "FEW", 10**9 if wanted == 1 else 0)
    monkeypatch.setattr(duplicates, "MANY", 0 if wanted == 3 else 10**9)
    return wanted


@pytest.mark.parametrize("bits", range(9))
def test_pairs_up_to_the_maximum_distance_are_found_whichever_bits_differ(bits: int, bands: int) -> None:
    rng = np.random.default_rng(10 * bands + bits)
    for _ in range(10):
        changed = FLAT
        for bit in rng.choice(64, bits, replace=False):
            changed ^= 1 << int(bit)
        found = pairs_of(near_duplicates([FLAT, None, changed]))
        assert found == ({(0, 2)} if bits <= duplicates.MAX_DISTANCE else set())


@pytest.mark.usefixtures("bands")
def test_rows_are_connected_as_by_comparing_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values = [int(value) for value in rng.integers(0, 2**63, 60)]
    for _ in range(200):
        changed = values[int(rng.integers(60))]
        for bit in rng.choice(64, int(rng.integers(1, 10)), replace=False):
            changed ^= 1 << int(bit)
        values.append(changed)
    expected = [
        (b, a)
        for a, first in enumerate(values)
        for b, second in enumerate(values[:a])
        if (first ^ second).bit_count() <= duplicates.MAX_DISTANCE
    ]
    for max_pairs in (duplicates._MAX_PAIRS, 5):
        monkeypatch.setattr(duplicates, "_MAX_PAIRS", max_pairs)
        found = near_duplicates(values)
        assert components_of(found, 260) == components_of(np.array(expected).T, 260)
        assert found.shape[1] == 260 - len(components_of(found, 260))


def test_memory_does_not_grow_with_the_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_MAX_PAIRS", 2**15)
    flips = [sum(1 << bit for bit in bits) for bits in islice(combinations(range(64), 3), 600)]
    near_duplicates([1, 1])  # imports SciPy, which would take seconds while memory is traced
    tracemalloc.start()
    found = near_duplicates([FLAT ^ flip for flip in flips])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6e6  # 33 MB if all pairs were kept
    assert found.shape == (2, 599)


def test_groups_join_copies_near_duplicates_and_groups_of_the_user() -> None:
    groups = group_images(
        ["a", "b", "a", "c", "d", "e"], [1, FLAT, 1, FLAT ^ 1, None, None], given=["", "", "", "", "p", "p"]
    )
    assert groups_in(groups) == [[0, 2], [1, 3], [4, 5]]


def test_images_without_a_group_are_not_joined() -> None:
    assert groups_in(group_images(["a", "b"], [None, None], given=["", ""])) == []


def test_long_chain_is_reported_and_not_merged_but_its_copies_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chain: list[int | None] = [FLAT ^ (1 << number) for number in range(20)]
    digests = [str(number) for number in range(20)]
    digests[7] = digests[3]
    groups = group_images(digests, chain)
    assert groups_in(groups) == [[3, 7]]
    assert "20 images look alike" in caplog.text


def test_short_chain_is_merged_in_a_small_data_set() -> None:
    groups = group_images(["a", "b", "c"], [FLAT, FLAT ^ 1, FLAT ^ 3])
    assert groups_in(groups) == [[0, 1, 2]]


def test_images_belong_to_others_by_the_rule_of_groups() -> None:
    others = ["a", "b", "c"], [FLAT, 1, None]
    fingerprints = [None, FLAT ^ 0b111111, FLAT ^ 0b1111111, (FLAT ^ 0b111111) ^ (1 << 40), None]
    found = belongs_to(["c", "d", "e", "f", "g"], fingerprints, others)
    assert found.tolist() == [True, True, True, True, False]  # e and f by way of d
    assert belongs_to(["e"], [FLAT ^ 0b1111111], others).tolist() == [False]


def test_ten_thousand_images_are_compared_with_ten_thousand_others_in_a_second() -> None:
    values: list[int | None] = [int(value) for value in np.random.default_rng(0).integers(0, 2**63, 20_000)]
    values[15_000] = values[5]
    digests = [str(number) for number in range(20_000)]
    start = time.process_time()
    found = belongs_to(digests[10_000:], values[10_000:], (digests[:10_000], values[:10_000]))
    assert time.process_time() - start < cpu_limit(3)
    assert np.flatnonzero(found).tolist() == [5000]


@pytest.mark.slow
def test_hundred_thousand_images_are_grouped_in_seconds() -> None:
    values: list[int | None] = [int(value) for value in np.random.default_rng(0).integers(0, 2**63, 100_000)]
    start = time.process_time()
    groups = group_images([str(number) for number in range(100_000)], values)
    assert time.process_time() - start < cpu_limit(15)
    assert len(np.unique(groups)) > 99_900
