"""The value range of deep images: measured, chosen for a data set, and applied."""

from dataclasses import asdict

import numpy as np
import pytest

from labelr.data.value_range import Levels, ValueRange, measure, scale

XRAYS = [Levels(244.0, 3000.0 + 10 * number, "integers") for number in range(43)]


def test_range_encloses_the_images_with_round_numbers() -> None:
    assert ValueRange.of(XRAYS) == ValueRange(integers=(0.0, 3584.0))


def test_range_far_above_zero_begins_there() -> None:
    thermal = [Levels(27_100.0, 30_900.0, "integers")]
    assert ValueRange.of(thermal) == ValueRange(integers=(26_624.0, 31_232.0))


def test_range_of_values_that_fill_16_bits_is_all_of_them() -> None:
    assert ValueRange.of([Levels(3.0, 65_100.0, "integers")]) == ValueRange(integers=(0.0, 65_535.0))


def test_one_odd_image_of_many_does_not_change_the_range() -> None:
    assert ValueRange.of([*XRAYS, Levels(0.0, 65_535.0, "integers")]) == ValueRange.of(XRAYS)


def test_bright_image_of_few_counts() -> None:
    assert ValueRange.of([*XRAYS[:3], Levels(244.0, 60_000.0, "integers")]) == ValueRange(integers=(0.0, 65_535.0))


def test_integers_and_floats_have_ranges_of_their_own() -> None:
    vegetation = Levels(-0.87, 0.85, "floats")
    assert ValueRange.of([*XRAYS, vegetation]) == ValueRange(integers=(0.0, 3584.0), floats=(-1.0, 1.0))


def test_images_of_one_value_have_no_range() -> None:
    assert not ValueRange.of([Levels(7.0, 7.0, "integers")])


def test_no_deep_image_has_no_range() -> None:
    assert ValueRange.of([]) == ValueRange()
    assert not ValueRange().key


def test_ranges_have_different_keys() -> None:
    ranges = [
        ValueRange(integers=(0.0, 1.0)), ValueRange(floats=(0.0, 1.0)), ValueRange(floats=(0.0, 1.5)), ValueRange()
    ]  # fmt: skip
    assert len({value_range.key for value_range in ranges}) == len(ranges)


@pytest.mark.parametrize("interval", [(1.0, 1.0), (2.0, 1.0), (0.0, float("nan")), (0.0, float("inf"))])
def test_empty_or_infinite_range_is_invalid(interval: tuple[float, float]) -> None:
    assert not ValueRange(floats=interval).is_valid


def test_range_survives_a_mapping() -> None:
    value_range = ValueRange(integers=(0.0, 3584.0))
    assert ValueRange(**asdict(value_range)) == value_range


def test_few_hot_and_dead_pixels_are_not_measured() -> None:
    values = np.tile(np.arange(1000, 2000, dtype=np.uint16), (10, 1))
    values[0, :3], values[1, :3] = 65_535, 0
    levels = measure(values)
    assert levels is not None
    assert levels.kind == "integers"
    assert (levels.low, levels.high) == pytest.approx((1000, 1999), abs=3)


def test_large_image_is_measured_on_a_grid() -> None:
    values = np.broadcast_to(np.linspace(0, 1, 3000, dtype=np.float32)[:, None], (3000, 3000))
    assert measure(values) == pytest.approx((0.001, 0.999, "floats"), abs=1e-3)


def test_values_that_are_not_finite_or_not_measured_do_not_count() -> None:
    values = np.full((10, 10), 0.5, np.float32)
    values[:, 0], values[:, 1], values[:, 2] = np.nan, -np.inf, -9999.0
    assert measure(values, nodata=-9999.0) == (0.5, 0.5, "floats")


def test_image_without_a_valid_value_has_no_levels() -> None:
    assert measure(np.full((4, 4), np.nan, np.float32)) is None


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", "uint32", "float32", "float64"])
def test_range_becomes_black_to_white(dtype: str) -> None:
    values = np.array([[100, 200, 240, 300, 400]], dtype=dtype)
    assert scale(values, (200.0, 300.0)).tolist() == [[0, 0, 102, 255, 255]]


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_value_that_was_not_measured_becomes_black(dtype: str) -> None:
    values = np.array([[400, 300]], dtype=dtype)
    assert scale(values, (0.0, 400.0), nodata=400.0).tolist() == [[0, 191]]


@pytest.mark.parametrize("fill", [-9999.0, -32_768.0, -3.4028235e38, 9.96921e36, 1e20, 65_535.0])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_fill_value_that_is_not_declared_is_not_measured(fill: float, share: float) -> None:
    values = np.linspace(280, 300, 10_000).astype(np.float32)
    values[np.random.default_rng(0).permutation(10_000)[: int(share * 10_000)]] = fill
    assert measure(values.reshape(100, 100)) == pytest.approx((280, 300, "floats"), abs=0.5)


def test_fill_value_below_becomes_black() -> None:
    values = np.array([[-3.4028235e38, 280, 300]], np.float32)
    assert scale(values, (280.0, 300.0)).tolist() == [[0, 0, 255]]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_dark_background_near_the_other_values_is_measured(dtype: str) -> None:
    values = np.tile(np.arange(500, 1500), (10, 1)).astype(dtype)
    values[:5] = 0
    levels = measure(values)
    assert levels is not None
    assert levels.low == 0


@pytest.mark.parametrize("values", [[0, 65_535], [0, 1], [7, 7]])
def test_image_of_two_values_is_measured_from_one_to_the_other(values: list[int]) -> None:
    levels = measure(np.tile(np.array(values, np.uint16), (10, 10)))
    assert levels is not None
    assert (levels.low, levels.high) == tuple(values)


def test_range_wider_than_float32_is_applied() -> None:
    values = np.array([[-3e38, 1e38, 3e38]], np.float32)
    assert scale(values, (-3e38, 3e38)).tolist() == [[0, 170, 255]]


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_negative_is_reversed_but_for_what_was_not_measured(dtype: str) -> None:
    values = np.array([[0, 100, 255, 400]], dtype=dtype)
    assert scale(values, (0.0, 255.0), nodata=400, is_negative=True).tolist() == [[255, 155, 0, 0]]


def test_pixel_is_not_measured_only_where_all_its_bands_say_so() -> None:
    values = np.array([[[100, 0, 0], [0, 0, 0]]], np.uint16)
    assert scale(values, (-155.0, 100.0), nodata=0).tolist() == [[[255, 155, 155], [0, 0, 0]]]
