"""What training starts from: a pretrained backbone, or another model of labelr."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from labelr import files
from labelr.config import TrainConfig
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.backbones import Backbone, best_local_backbone, find_backbone
from labelr.model.device import Runtime
from labelr.model.info import Architecture, ModelInfo, Preprocessing, Pretraining
from labelr.model.network import BackboneNetwork, Network, fold_batchnorm

CPU_IMAGE_SIZE = 160
"""The edge of images on a CPU, where a backbone's own size takes twice as long."""

log = logging.getLogger(__name__)


def resolve_start(config: TrainConfig, runtime: Runtime) -> TrainConfig:
    """The settings with the name of the backbone, the image size and the resize rule, if training starts from weights.

    Raises:
        LabelrError: If there is no such backbone or model, or it does not take images of the size in the settings.
    """
    if config.init is not None:
        folder = store.find(config.init)
        source = store.load_info(folder).preprocessing
        resize = config.resize if config.resize != TrainConfig.resize else source.resize
        return replace(config, init=str(folder), image_size=config.image_size or source.image_size, resize=resize)
    if config.backbone == "none":
        return config
    device = runtime.device.type
    backbone = best_local_backbone(device) if config.backbone == "auto" else find_backbone(config.backbone)
    if config.backbone == "auto":
        log.info("the best backbone on this machine: %s", backbone.name)
    if config.weights not in ("default", "none") and not Path(config.weights).is_file():
        raise SettingError(f"there is no file of weights {config.weights}", "name a file, `default` or `none`")
    return replace(config, backbone=backbone.name, image_size=_image_size(backbone, config.image_size, device))


def _image_size(backbone: Backbone, wanted: int | None, device: str) -> int:
    own, smallest = backbone.image_size, backbone.min_size
    if wanted is None:
        return own if backbone.is_fixed or device != "cpu" else max(smallest, min(own, CPU_IMAGE_SIZE))
    if backbone.is_fixed and wanted != own:
        raise SettingError(f"{backbone.name} takes images of {own} pixels alone", "leave `--image-size` out")
    if wanted < smallest:
        raise SettingError(f"{backbone.name} takes images of at least {smallest} pixels", "use a larger `--image-size`")
    return wanted


def describe_start(config: TrainConfig) -> tuple[Architecture, Preprocessing]:
    """The architecture and preprocessing of a model with these settings, which `resolve_start` has resolved."""
    preprocessing = Preprocessing(
        image_size=cast("int", config.image_size), resize=config.resize, flip_averaging=config.flip
    )
    if config.init is not None:
        source = store.load_info(Path(config.init))
        architecture = replace(source.architecture, dropout=config.dropout, folded=True)
        return architecture, replace(preprocessing, mean=source.preprocessing.mean, std=source.preprocessing.std)
    if config.backbone == "none":
        return Architecture(stem=config.stem, width=config.width, dropout=config.dropout), preprocessing
    backbone = find_backbone(config.backbone)
    architecture = Architecture(backbone=backbone.name, dropout=config.dropout, folded=config.is_pretrained)
    return architecture, replace(preprocessing, mean=backbone.mean, std=backbone.std)


def smallest_size(architecture: Architecture) -> int:
    """The smallest edge of images that a network takes, in pixels."""
    if architecture.backbone is None:
        return 1
    backbone = find_backbone(architecture.backbone)
    return backbone.image_size if backbone.is_fixed else backbone.min_size


def load_start(network: Network, labels: tuple[str, ...], config: TrainConfig, runtime: Runtime) -> Pretraining | None:
    """Copies the weights that training starts from into a network of `store.build_network`; None if there are none.

    Of another model of labelr, the rows of the head are copied for the labels that both have.

    Raises:
        LabelrError: If the weights cannot be read or downloaded, or are of another network.
    """
    if config.init is not None:
        return _load_model(network, labels, Path(config.init), runtime)
    if not config.is_pretrained:
        return None
    backbone = find_backbone(config.backbone)
    body, in_features = backbone.build()
    if config.weights == "default":
        path = backbone.load_default(body)
    else:
        path = Path(config.weights)
        backbone.load_file(body, path)
    source = fold_batchnorm(BackboneNetwork(body, in_features, 1, image_size=backbone.image_size))
    _copy_body(source, network)
    return Pretraining(
        backbone=backbone.name, source=backbone.source if config.weights == "default" else "file",
        licence=backbone.licence if config.weights == "default" else "of the file",
        weights=config.weights, sha256=files.digest(path),
    )  # fmt: skip


def _load_model(network: Network, labels: tuple[str, ...], folder: Path, runtime: Runtime) -> Pretraining:
    source = store.load_from(folder, runtime)
    info: ModelInfo = source.info
    folded = fold_batchnorm(source.module)
    _copy_body(folded, network)
    head, old = network.head.linear, folded.head.linear
    common = [label for label in labels if label in info.labels]
    with torch.no_grad():
        for label in common:
            row, old_row = labels.index(label), info.labels.index(label)
            head.weight[row], head.bias[row] = old.weight[old_row], old.bias[old_row]
    log.info("starting from %s: %d of %d labels are known to it", folder.name, len(common), len(labels))
    before = info.pretraining
    return Pretraining(
        backbone=before.backbone if before else "", source=before.source if before else "labelr",
        licence=before.licence if before else "", weights=str(folder), sha256=info.weights["sha256"],
    )  # fmt: skip


def _copy_body(source: Network, network: Network) -> None:
    """Copies all weights but those of the last layer."""
    state = {name: value for name, value in source.state_dict().items() if not name.startswith("head.linear.")}
    network.load_state_dict({**network.state_dict(), **state})
