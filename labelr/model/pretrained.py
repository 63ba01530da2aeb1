"""What training starts from: a pretrained backbone, or another model of labelr."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from labelr import files
from labelr.config import TrainConfig
from labelr.errors import pluralize_part
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.backbones import Backbone, best_local_backbone, find_backbone
from labelr.model.device import Runtime
from labelr.model.info import Architecture, Preprocessing, Pretraining
from labelr.model.network import BackboneNetwork, Network

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
        size, resize = config.image_size or source.image_size, config.resize or source.resize
        return replace(config, init=str(folder), image_size=size, resize=resize)
    if config.backbone == "none":
        return config
    device = runtime.device.type
    backbone = best_local_backbone(device) if config.backbone == "auto" else find_backbone(config.backbone)
    if config.backbone == "auto":
        log.info("the best backbone on this machine: %s", backbone.name)
    size, weights = _image_size(backbone, config.image_size, device), config.weights
    if weights == "default":
        backbone.default_weights()  # a download fails before images are read
    elif weights != "none":
        weights = str(Path(weights).absolute())
        if not Path(weights).is_file():
            raise SettingError(f"there is no file of weights {config.weights}", "name a file, `default` or `none`")
        backbone.load_file(backbone.build()[0], Path(weights))
    return replace(config, backbone=backbone.name, weights=weights, image_size=size)


def _image_size(backbone: Backbone, wanted: int | None, device: str) -> int:
    own, smallest = backbone.image_size, backbone.smallest_size
    if wanted is None:
        return max(smallest, min(own, CPU_IMAGE_SIZE)) if device == "cpu" else own
    if backbone.is_fixed and wanted != own:
        raise SettingError(f"{backbone.name} takes only images of {own} pixels", "leave `--image-size` out")
    if wanted < smallest:
        raise SettingError(
            f"{backbone.name} takes only images of {smallest} pixels or more", "use a larger `--image-size`"
        )
    return wanted


def describe_start(config: TrainConfig) -> tuple[Architecture, Preprocessing]:
    """The architecture and preprocessing of a model with these settings, which `resolve_start` has resolved."""
    preprocessing = Preprocessing(
        image_size=cast("int", config.image_size), resize=config.resize or "squish", flip_averaging=config.flip
    )
    if config.init is not None:
        source = store.load_info(Path(config.init))
        architecture = replace(source.architecture, dropout=config.dropout)
        start = source.preprocessing
        return architecture, replace(preprocessing, mean=start.mean, std=start.std, value_range=start.value_range)
    if config.backbone == "none":
        return Architecture(stem=config.stem, width=config.width, dropout=config.dropout), preprocessing
    backbone = find_backbone(config.backbone)
    architecture = Architecture(backbone=backbone.name, dropout=config.dropout)
    return architecture, replace(preprocessing, mean=backbone.mean, std=backbone.std)


def smallest_size(architecture: Architecture) -> int:
    """The smallest edge of images that a network takes, in pixels."""
    return 1 if architecture.backbone is None else find_backbone(architecture.backbone).smallest_size


def load_start(network: Network, labels: tuple[str, ...], config: TrainConfig, runtime: Runtime) -> Pretraining | None:
    """Copies the weights that training starts from into a network of `build_network`; None if there are none.

    The last layer gets the weights of another model of labelr for the labels that both have, and zeros for the others.

    Raises:
        LabelrError: If the weights cannot be read or downloaded, or are of another network.
    """
    if not config.is_pretrained:
        return None
    nn.init.zeros_(network.head.linear.weight)
    nn.init.zeros_(network.head.linear.bias)
    if config.init is not None:
        return _load_model(network, labels, Path(config.init), runtime)
    backbone, body = find_backbone(config.backbone), cast("BackboneNetwork", network).backbone
    is_default = config.weights == "default"
    path = backbone.default_weights() if is_default else Path(config.weights)
    backbone.load_file(body, path)
    return Pretraining(
        backbone=backbone.name, source=backbone.source if is_default else "file",
        licence=backbone.licence if is_default else "", weights=config.weights, sha256=files.digest(path),
    )  # fmt: skip


def _load_model(network: Network, labels: tuple[str, ...], folder: Path, runtime: Runtime) -> Pretraining:
    source = store.load_from(folder, runtime)
    known, head, old_head = source.labels, network.head.linear, source.module.head.linear
    state = {name: value for name, value in source.module.state_dict().items() if not name.startswith("head.linear.")}
    network.load_state_dict({**network.state_dict(), **state})
    common = [label for label in labels if label in known]
    with torch.no_grad():
        for label in common:
            row, old_row = labels.index(label), known.index(label)
            head.weight[row], head.bias[row] = old_head.weight[old_row], old_head.bias[old_row]
    log.info("starting from %s: %s known to it", folder.name, pluralize_part(len(common), len(labels), "label"))
    before = source.info.pretraining
    return Pretraining(
        backbone=before.backbone if before else "", source=before.source if before else "labelr",
        licence=before.licence if before else "", weights=str(folder), sha256=source.info.weights["sha256"],
    )  # fmt: skip
