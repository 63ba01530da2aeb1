"""Training from pretrained weights, through the public functions and the command line."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Cli

import labelr
from labelr.config import TrainConfig
from labelr.data.value_range import ValueRange
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.device import pick_runtime
from labelr.model.network import BackboneNetwork
from labelr.model.predict import Model, build_network
from labelr.model.pretrained import describe_start, load_start, resolve_start
from labelr.training.fit import FitResult, fit
from labelr.training.optim import layer_depths

LITE: dict[str, Any] = {
    "backbone": "efficientnet-lite0", "image_size": 32, "batch_size": 8, "threads": 1, "workers": 1, "report": False,
    "epochs": 2,
}  # fmt: skip

LITE_LAYERS = 1 + 2 + 15 * 3 + 1 + 1
"""With weights: the stem, 16 blocks of which the first has no expansion, the last convolution and the head."""


@pytest.fixture(scope="session")
def tuned(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model with a backbone, of the epoch that trained all layers; nobody changes it."""
    return fit(shapes, LITE, train="all", val_fraction=0, output=tmp_path_factory.mktemp("models") / "tuned").model


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of weights of a small torchvision model."""
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=4).state_dict(), tmp_path / "w.pt")
    return tmp_path / "w.pt"


def layers(result: FitResult) -> list[float]:
    """The number of layers that each epoch trained."""
    return result.history["trained_layers"].tolist()


def body(model: Model) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.module.state_dict().items() if name.startswith("backbone.")}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_head_is_trained_on_frozen_layers_and_the_report_names_the_backbone(shapes: Path, tuned: Model) -> None:
    first = fit(shapes, LITE, train="head", epochs=5, report=True)
    again = fit(shapes, LITE, train="head", seed=1)
    assert layers(first) == [1]
    assert same(body(first.model), body(again.model))
    assert not same(body(first.model), body(tuned))
    assert first.history["train_loss"].iloc[0] < 0.5
    page = (first.model.path / "report" / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert "efficientnet-lite0" in page
    assert "Apache-2.0" in page


@pytest.mark.slow
def test_all_layers_are_trained_after_the_head(tuned: Model) -> None:
    rows = (tuned.path / store.HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    assert [row.rsplit(",", 1)[1] for row in rows] == ["trained_layers", "1", str(LITE_LAYERS)]


@pytest.mark.slow
def test_last_trains_the_last_layers_alone(shapes: Path) -> None:
    head, last = (fit(shapes, LITE, train=train, val_fraction=0) for train in ("head", "last"))
    assert layers(last)[0] == 1 < layers(last)[1] < LITE_LAYERS / 2
    before, depths = head.model.module.state_dict(), layer_depths(last.model.module)
    parameters = dict(last.model.module.named_parameters())
    changed = {name for name, parameter in parameters.items() if not torch.equal(before[name], parameter)}
    assert changed == {name for name, parameter in parameters.items() if depths[parameter] >= 0.75}


@pytest.mark.slow
def test_batchnorms_keep_their_statistics(tuned: Model) -> None:
    from labelr.model.backbones import LiteBackbone

    backbone = LiteBackbone.of(0)
    network, _ = backbone.build()
    backbone.load_file(network, backbone.default_weights())
    trained, before = body(tuned), network.state_dict()
    statistics = [name for name in before if "running" in name]
    assert statistics
    for name in statistics:
        assert torch.equal(trained[f"backbone.{name}"], before[name])
    assert not torch.equal(trained["backbone.stem.1.weight"], before["stem.1.weight"])


@pytest.mark.slow
def test_saved_model_needs_no_package_of_weights(tuned: Model, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labelr.model.backbones import LiteBackbone

    monkeypatch.setattr(LiteBackbone, "local_weights", lambda _: None)
    monkeypatch.setenv("LABELR_OFFLINE", "1")
    loaded = labelr.load(tuned.path, threads=1)
    assert isinstance(loaded.module, BackboneNetwork)
    image = photos / "a.png"
    assert np.allclose(loaded.predict(image).probs, tuned.predict(image).probs, atol=1e-6)


@pytest.mark.slow
def test_model_names_its_backbone_and_licence(tuned: Model, cli: Cli) -> None:
    shown = json.loads(cli("models", "show", tuned.path, "--json").out)
    assert shown["pretraining"]["backbone"] == "efficientnet-lite0"
    assert shown["pretraining"]["licence"] == "Apache-2.0"
    table = cli("models", "show", tuned.path).out
    assert "efficientnet-lite0" in table
    assert "Apache-2.0" in table


@pytest.mark.slow
@pytest.mark.parametrize("train", ["all", "last"])
def test_killed_run_resumes_to_the_same_weights(shapes: Path, tmp_path: Path, cli: Cli, train: str) -> None:
    from test_resume import at

    settings = {**LITE, "train": train, "epochs": 3}
    whole = fit(shapes, settings, output=tmp_path / "whole").model

    def stop() -> None:
        signal.raise_signal(signal.SIGTERM)

    from labelr import signals

    previous = signal.getsignal(signal.SIGTERM)
    signals.install_handlers(signal.SIGTERM, first=lambda: None)
    try:
        with pytest.raises(signals.Stopped):
            fit(shapes, settings, output=tmp_path / "stopped", track=at(1, 3, stop))
    finally:
        signal.signal(signal.SIGTERM, previous)
    resumed = fit(shapes, settings, output=tmp_path / "stopped", resume=True)
    assert resumed.model.info.weights == whole.info.weights
    assert resumed.model.info.pretraining == whole.info.pretraining


@pytest.mark.slow
def test_file_of_weights_is_not_needed_after_training(shapes: Path, weights: Path, photos: Path) -> None:
    result = fit(shapes, LITE, backbone="shufflenet_v2_x0_5", weights=weights, train="all")
    weights.unlink()
    loaded = labelr.load(result.model.path, threads=1)
    assert np.allclose(loaded.predict(photos / "a.png").probs, result.model.predict(photos / "a.png").probs, atol=1e-6)
    assert labelr.tag(photos, loaded, output=photos.parent / "tags").ok == 4
    assert loaded.info.pretraining is not None
    assert loaded.info.pretraining.weights == str(weights)


@pytest.mark.slow
def test_random_weights_are_trained_without_a_head_first(shapes: Path) -> None:
    result = fit(shapes, LITE, backbone="shufflenet_v2_x0_5", weights="none")
    assert layers(result)[0] == layers(result)[1] > 1
    assert result.model.info.pretraining is None
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in result.model.module.modules())
    assert labelr.load(result.model.path).labels == result.model.labels


# --- starting from another model -------------------------------------------------------------------------------------


def with_new_label(shapes: Path, folder: Path) -> Path:
    """The data set with its labels in another order, and one more."""
    shutil.copytree(shapes / "images", folder / "images")
    header, *rows = [line.split(",") for line in (shapes / "labels.csv").read_text(encoding="utf-8").splitlines()]
    lines = [[*header[:1], "new", *header[:0:-1]]]
    lines += [[row[0], str(number % 2), *row[:0:-1]] for number, row in enumerate(rows)]
    (folder / "labels.csv").write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["trained", "tuned"])
def test_model_is_a_start_for_more_labels(
    engine: str, shapes: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Model = request.getfixturevalue(engine)
    data = with_new_label(shapes, tmp_path / "data")
    result = fit(data, init=source.path, train="all", batch_size=8, threads=1, report=False, epochs=2)
    model = result.model
    assert set(model.labels) == {*source.labels, "new"}
    assert model.info.preprocessing == source.info.preprocessing
    assert model.info.pretraining is not None
    assert model.info.pretraining.weights == str(source.path)
    assert layers(result)[0] == 1 < layers(result)[1]
    assert labelr.load(model.path).labels == model.labels


def test_value_range_of_the_other_model_is_kept_until_the_data_has_one(trained: Model, tmp_path: Path) -> None:
    value_range = ValueRange(integers=(0.0, 3584.0))
    preprocessing = replace(trained.info.preprocessing, value_range=value_range)
    (tmp_path / "model.json").write_text(replace(trained.info, preprocessing=preprocessing).to_json())
    assert describe_start(TrainConfig(init=str(tmp_path), image_size=32))[1].value_range == value_range


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "rule"), [(None, "letterbox"), ("squish", "squish"), ("crop", "crop")])
def test_resize_rule_is_that_of_the_start_unless_given(
    trained: Model, tmp_path: Path, wanted: str | None, rule: str
) -> None:
    shutil.copytree(trained.path, tmp_path / "start")
    info = trained.info
    preprocessing = replace(info.preprocessing, resize="letterbox")
    store.save_info(tmp_path / "start", replace(info, preprocessing=preprocessing))
    config = TrainConfig.of(init=str(tmp_path / "start"), resize=wanted)
    assert describe_start(resolve_start(config, pick_runtime(config)))[1].resize == rule


def test_rows_of_common_labels_are_copied(tuned: Model) -> None:
    runtime = pick_runtime(TrainConfig(device="cpu", threads=1))
    config = resolve_start(TrainConfig(init=str(tuned.path)), runtime)
    architecture, preprocessing = describe_start(config)
    labels = ("new", *reversed(tuned.labels))
    info = store.load_info(tuned.path)
    network = build_network(
        replace(info, labels=labels, thresholds=(0.5,) * 4, preprocessing=preprocessing, architecture=architecture)
    )
    load_start(network, labels, config, runtime)
    assert not network.head.linear.weight[0].any()
    for label in tuned.labels:
        row = network.head.linear.weight[labels.index(label)]
        assert torch.equal(row, tuned.module.head.linear.weight[tuned.labels.index(label)])


# --- wrong settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet18", "init": "model"}, "init and backbone exclude each other"),
        ({"backbone": "resnet18", "width": 2}, "`--width` is of the residual CNN"),
        ({"init": "model", "stem": "classic"}, "`--stem` is of the residual CNN"),
        ({"weights": "none"}, "weights are of a backbone"),
        ({"train": "head"}, "without pretrained weights all layers are trained"),
        ({"backbone": "resnet18", "weights": "none", "train": "last"}, "without pretrained weights all layers"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "efficientnet-lite9"], "there is no backbone 'efficientnet-lite9'"),
        (["--backbone", "vit_b_16", "--image-size", "160"], "vit_b_16 takes only images of 224 pixels"),
        (["--backbone", "inception_v3", "--image-size", "64"], "inception_v3 takes only images of 75 pixels or more"),
        (["--backbone", "resnet18", "--weights", "nowhere.pt"], "there is no file of weights nowhere.pt"),
        (["--init", "nowhere"], "no model called 'nowhere'"),
    ],
)
def test_wrong_start_is_told_before_images_are_read(shapes: Path, cli: Cli, arguments: list[str], message: str) -> None:
    done = cli("fit", shapes, *arguments)
    assert message in done.err
    assert "one column a label" not in done.err
    assert done.code in (1, 2)


def test_auto_takes_the_most_accurate_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from labelr.model import backbones
    from labelr.model.backbones import LiteBackbone, TorchvisionBackbone, best_local_backbone

    here = {"efficientnet-lite0", "efficientnet-lite1", "convnext_large"}
    for kind in (LiteBackbone, TorchvisionBackbone):
        monkeypatch.setattr(kind, "local_weights", lambda self: Path("here") if self.name in here else None)
    assert best_local_backbone("cpu").name == "efficientnet-lite1"  # the other is too slow there
    here.clear()
    with pytest.raises(LabelrError, match="no weights of a backbone are on this machine") as caught:
        best_local_backbone("cpu")
    assert "pip install 'labelr[backbone]'" in caught.value.hint
    assert backbones.MAX_GIGAFLOPS["cpu"] < TorchvisionBackbone.of("convnext_large").gigaflops


def test_network_of_one_size_is_trained_at_that_size() -> None:
    from labelr.model.info import Architecture
    from labelr.model.pretrained import smallest_size

    assert smallest_size(Architecture(backbone="vit_b_16", dropout=0)) == 224
    assert smallest_size(Architecture(backbone="inception_v3", dropout=0)) == 75
    assert smallest_size(Architecture(stem="deep", width=1, dropout=0)) == 1


# --- with other features ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_few_images_train_the_head_alone_unless_all_layers_are_wanted(shapes: Path, caplog: Any) -> None:
    caplog.set_level("INFO", logger="labelr")
    assert layers(fit(shapes, LITE)) == [1]
    assert "only the head is trained: the number of images does not suffice for all layers" in caplog.text
    assert "--backbone auto" not in caplog.text


@pytest.mark.slow
def test_head_is_trained_within_any_time_limit(shapes: Path) -> None:
    settings = {name: value for name, value in LITE.items() if name != "epochs"}
    result = fit(shapes, settings, time=0.06)
    assert layers(result)[0] == 1
    assert result.model.info.complete


@pytest.mark.slow
def test_folds_train_each_model_from_the_backbone(shapes: Path) -> None:
    result = fit(shapes, LITE, train="head", folds=2)
    assert result.model.info.scored_on == "folds"
    assert result.metrics["map_macro"] > 0.3


@pytest.mark.slow
def test_search_over_backbones(shapes: Path) -> None:
    space = {"backbone": ["efficientnet-lite0", "none"], "epochs": [1]}
    settings = {name: LITE[name] for name in ("image_size", "batch_size", "threads", "report")}
    result = labelr.tune(shapes, space, **settings, refit=False)
    assert {trial.settings["backbone"] for trial in result.ranking} == {"efficientnet-lite0", "none"}


@pytest.mark.slow
def test_advice_is_given_once_a_model(shapes: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="labelr")
    fit(shapes, TINY, name="advised")
    assert caplog.text.count("--backbone auto") == 1
    fit(shapes, TINY, name="advised", resume=True)
    assert caplog.text.count("--backbone auto") == 1
