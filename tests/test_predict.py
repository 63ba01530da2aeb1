"""The inference loop and the `Model` that users work with."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy.special import expit, logit
from torch import Tensor, nn

from labelr.config import MachineOptions
from labelr.data.images import read_pixels
from labelr.data.value_range import ValueRange
from labelr.errors import LabelrError
from labelr.model.calibration import Calibration
from labelr.model.device import Runtime, pick_runtime
from labelr.model.info import Preprocessing
from labelr.model.predict import Model, normalise, optimize_for_inference, predict_probs
from labelr.model.predictor import ImageLike, micro_batch_size


class Brightness(nn.Module):
    """Two logits: the mean of the left half of the image, and of the right half."""

    def forward(self, images: Tensor) -> Tensor:
        halves = torch.split(images.mean(dim=1), images.shape[3] // 2, dim=2)
        return torch.stack([half.mean(dim=(1, 2)) for half in halves], dim=1)


def test_normalised_images_have_the_mean_and_spread_of_the_preprocessing() -> None:
    prep = Preprocessing(image_size=2, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    assert normalise(images, prep)[0, :, 0, 0].tolist() == pytest.approx([1.0, 1.0, 0.0])


def test_probabilities_are_averaged_over_the_mirror_image_where_the_model_says_so() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 2:] = 255
    machine = pick_runtime(MachineOptions(device="cpu", amp=False, threads=1))
    plain, averaged = (
        next(predict_probs(Brightness(), [pixels[None]], Preprocessing(image_size=4, flip_averaging=flip), machine))[0]
        for flip in (False, True)
    )
    assert plain[0] < plain[1]
    assert averaged == pytest.approx([plain.mean()] * 2)


def test_prediction_of_a_file_an_image_and_an_array_is_the_same(trained: Model, shapes: Path) -> None:
    path = shapes / "images" / "00003.png"
    image = Image.open(path)
    for other in (
        str(path),
        image,
        np.asarray(image),
        np.asarray(image) / 255,
        np.asarray(image).astype(np.uint16) * 257,
    ):
        assert trained.predict(other).probs == pytest.approx(trained.predict(path).probs)


def test_several_images_give_a_row_each_in_order(trained: Model, shapes: Path) -> None:
    paths = sorted((shapes / "images").iterdir())[:3]
    labels, probs = trained.predict(paths)
    assert probs.shape == (3, 3)
    assert probs[1] == pytest.approx(trained.predict(paths[1]).probs[0], abs=0.02)
    assert [set(one) for one in labels] == [
        {label for label, *pair in zip(trained.labels, row, trained.thresholds(), strict=True) if pair[0] >= pair[1]}
        for row in probs
    ]


def test_threshold_overrides_the_models_own(trained: Model, shapes: Path) -> None:
    path = shapes / "images" / "00003.png"
    assert trained.predict(path, threshold=0).labels == [list(trained.labels)]
    assert trained.predict(path, threshold=1).labels == [[]]


def test_probabilities_are_calibrated(trained: Model, shapes: Path) -> None:
    paths = sorted((shapes / "images").iterdir())[:3]
    plain, shifted = (
        replace(trained, info=replace(trained.info, calibration=Calibration(temperature, bias)))
        for temperature, bias in ((1.0, 0.0), (2.0, 0.5))
    )
    expected = expit(logit(plain.predict(paths).probs.astype(float)) / 2 + 0.5)
    assert shifted.predict(paths).probs == pytest.approx(expected, abs=1e-6)
    assert trained.info.calibration != Calibration()  # it was fitted


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("has_range", [True, False])
def test_deep_image_is_scaled_alike_as_a_path_an_opened_image_and_an_array(
    has_range: bool, dtype: str, trained: Model, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(1000, 3000, (32, 32)).astype(dtype) / (1 if dtype == "uint16" else 3000)
    values[0, 0] = values.dtype.type(65_535 if dtype == "uint16" else 1)  # a float's white, where no range says it
    values = values.astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    value_range = ValueRange(integers=(1000.0, 3000.0), floats=(0.25, 1.0)) if has_range else ValueRange()
    preprocessing = replace(trained.info.preprocessing, value_range=value_range)
    model = replace(trained, info=replace(trained.info, preprocessing=preprocessing))
    probs = model.predict([tmp_path / "a.tif", Image.fromarray(values), values]).probs
    assert probs[1].tolist() == probs[2].tolist() == probs[0].tolist()


def with_range(model: Model, value_range: ValueRange) -> Model:
    return replace(
        model, info=replace(model.info, preprocessing=replace(model.info.preprocessing, value_range=value_range))
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_near_infrared_is_ignored_alike_in_a_path_an_image_and_an_array(
    dtype: str, trained: Model, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(1, 200, (32, 32, 4)).astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unassalpha"])
    model = with_range(trained, ValueRange(integers=(0.0, 200.0)))
    with Image.open(path) as image, Image.open(path) as loaded:
        loaded.load()
        images: list[ImageLike] = [path, image, values, values[..., :3], *([loaded] if dtype == "uint8" else [])]
        probs = model.predict(images).probs
    assert (probs == probs[0]).all()


def test_deep_image_that_is_not_loaded_is_read_as_its_path_is(trained: Model, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (40, 20)).astype(np.uint16)
    turned, clear = tmp_path / "a.tif", tmp_path / "b.png"
    tifffile.imwrite(turned, values, photometric="minisblack", extratags=[(274, 3, 1, 6, True)])
    Image.fromarray(values).save(clear, transparency=int(values[0, 0]))
    for path in (turned, clear):
        with Image.open(path) as image:
            probs = trained.predict([path, image, image]).probs
            assert (probs == probs[0]).all()
            np.testing.assert_array_equal(np.sort(np.asarray(image), axis=None), np.sort(values, axis=None))


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32", "int64"])
def test_array_of_other_integers_is_scaled_like_a_file(dtype: str, trained: Model) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(dtype)
    model = with_range(trained, ValueRange(integers=(0.0, 4095.0)))
    assert (model.predict(values).probs == model.predict(values.astype(np.uint16)).probs).all()


def test_array_with_an_axis_of_one_channel_is_grey(trained: Model) -> None:
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 1)).astype(np.uint8)
    assert (trained.predict(values).probs == trained.predict(values[..., 0]).probs).all()


@pytest.mark.parametrize("shape", [(5,), (0, 32, 3), (32, 32, 2), (32, 32, 5), ()])
def test_array_of_another_shape_is_an_error_that_names_it(shape: tuple[int, ...], trained: Model) -> None:
    with pytest.raises(LabelrError, match=re.escape(f"got {shape}")):
        trained.predict(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("image", [torch.zeros(4, 4, 3), b"abc", 3])
def test_other_object_is_an_error_that_names_its_type(image: object, trained: Model) -> None:
    with pytest.raises(LabelrError, match=f"cannot use a {type(image).__name__} as an image"):
        trained.predict([image])  # type: ignore[list-item]


def test_channels_before_the_rows_are_an_error_that_says_how_to_move_them(trained: Model) -> None:
    with pytest.raises(LabelrError) as caught:
        trained.predict(np.zeros((3, 32, 32), np.uint8))
    assert "transpose(1, 2, 0)" in caught.value.hint


def test_unloaded_image_that_is_damaged_is_an_error_that_names_it(trained: Model, tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-500])
    with Image.open(tmp_path / "a.jpg") as image, pytest.raises(LabelrError, match=r"a\.jpg: damaged or truncated"):
        trained.predict(image)


def test_no_images_give_no_rows(trained: Model) -> None:
    labels, probs = trained.predict([])
    assert labels == []
    assert probs.shape == (0, 3)


def test_image_that_cannot_be_opened_is_an_error_that_names_it(trained: Model, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(LabelrError, match=r"a\.jpg: empty file"):
        trained.predict(tmp_path / "a.jpg")


def test_array_of_an_unknown_kind_is_an_error(trained: Model) -> None:
    with pytest.raises(LabelrError, match="complex64"):
        trained.predict(np.zeros((4, 4, 3), np.complex64))


def test_optimized_network_predicts_the_same_as_the_trained_one(trained: Model, shapes: Path) -> None:
    paths = sorted((shapes / "images").iterdir())[:8]
    wanted = trained.info.preprocessing
    pixels = np.stack(
        [image for path in paths if isinstance(image := read_pixels(path, wanted.image_size), np.ndarray)]
    )
    images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), wanted)
    with torch.inference_mode():
        plain = (trained.module(images).sigmoid() + trained.module(images.flip(3)).sigmoid()) / 2
    exact = Runtime(torch.device("cpu"), "fp32", 1, 1)
    probs = next(predict_probs(optimize_for_inference(trained.module, exact), [pixels], wanted, exact))
    np.testing.assert_allclose(probs, plain.numpy(), atol=1e-5)
    half = Runtime(torch.device("cpu"), "bf16", 1, 1)
    probs = next(predict_probs(optimize_for_inference(trained.module, half), [pixels], wanted, half))
    np.testing.assert_allclose(probs, plain.numpy(), atol=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_probabilities_do_not_depend_on_the_other_images_of_a_batch(
    trained: Model, shapes: Path, precision: str
) -> None:
    model = replace(trained, runtime=Runtime(torch.device("cpu"), precision, 1, 1))
    paths = sorted((shapes / "images").iterdir())[:16]
    pixels = np.stack([image for path in paths if isinstance(image := read_pixels(path, 32), np.ndarray)])
    whole = model.predict_pixels([pixels])
    order = np.random.default_rng(0).permutation(16)
    np.testing.assert_array_equal(model.predict_pixels([pixels[order]]), whole[order])
    filled = np.concatenate([pixels[5:7], np.zeros_like(pixels[:14])])
    np.testing.assert_array_equal(model.predict_pixels([filled])[:2], whole[5:7])


def test_module_is_the_network_in_evaluation_mode(trained: Model) -> None:
    assert isinstance(trained.module, nn.Module)
    assert not trained.module.training


def test_model_shows_its_network_labels_and_score(trained: Model) -> None:
    score = trained.info.scores["map_macro"] if trained.info.scores else None
    assert repr(trained) == f"<Model trained: residual CNN, 3 labels, mAP {score:.3f} (test); {trained.path}>"
    page = trained._repr_html_()
    assert all(label in page for label in trained.labels)
    assert "32 px" in page


@pytest.mark.parametrize(("image_size", "images"), [(32, 8), (512, 8), (1024, 2), (2048, 1)])
def test_fewer_large_images_are_predicted_together(trained: Model, image_size: int, images: int) -> None:
    assert micro_batch_size(trained.runtime, image_size) == images
