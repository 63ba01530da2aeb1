"""labelr: a folder of images and a spreadsheet of labels become a multi-label image tagger."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelr.config import TrainConfig as TrainConfig
    from labelr.data.check import check as check
    from labelr.model.store import load as load
    from labelr.scoring.evaluate import evaluate as evaluate
    from labelr.tagging.tag import tag as tag
    from labelr.training.fit import fit as fit
    from labelr.tuning.tune import tune as tune
    from labelr.version import __version__ as __version__

_HOMES = {
    "TrainConfig": "labelr.config",
    "__version__": "labelr.version",
    "check": "labelr.data.check",
    "evaluate": "labelr.scoring.evaluate",
    "fit": "labelr.training.fit",
    "load": "labelr.model.store",
    "tag": "labelr.tagging.tag",
    "tune": "labelr.tuning.tune",
}
__all__ = ["TrainConfig", "__version__", "check", "evaluate", "fit", "load", "tag", "tune"]


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used, so that ``import labelr`` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'labelr' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
