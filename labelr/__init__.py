"""labelr: train a multi-label image tagger on a folder of images and a spreadsheet of labels."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelr.config import EvaluateOptions as EvaluateOptions
    from labelr.config import ReadOptions as ReadOptions
    from labelr.config import TagOptions as TagOptions
    from labelr.config import TrainConfig as TrainConfig
    from labelr.config import TuneOptions as TuneOptions
    from labelr.data.check import Check as Check
    from labelr.data.check import check as check
    from labelr.data.dataset import Dataset as Dataset
    from labelr.errors import LabelrError as LabelrError
    from labelr.model.predict import Model as Model
    from labelr.model.store import load as load
    from labelr.scoring.evaluate import evaluate as evaluate
    from labelr.scoring.results import Evaluation as Evaluation
    from labelr.tagging.tag import TagSummary as TagSummary
    from labelr.tagging.tag import tag as tag
    from labelr.training.fit import FitResult as FitResult
    from labelr.training.fit import fit as fit
    from labelr.tuning.trials import TuneResult as TuneResult
    from labelr.tuning.tune import tune as tune
    from labelr.version import __version__ as __version__

_MODULES = {
    "Check": "data.check",
    "Dataset": "data.dataset",
    "EvaluateOptions": "config",
    "Evaluation": "scoring.results",
    "FitResult": "training.fit",
    "LabelrError": "errors",
    "Model": "model.predict",
    "ReadOptions": "config",
    "TagOptions": "config",
    "TagSummary": "tagging.tag",
    "TrainConfig": "config",
    "TuneOptions": "config",
    "TuneResult": "tuning.trials",
    "__version__": "version",
    "check": "data.check",
    "evaluate": "scoring.evaluate",
    "fit": "training.fit",
    "load": "model.store",
    "tag": "tagging.tag",
    "tune": "tuning.tune",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used, so that ``import labelr`` is fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'labelr' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"labelr.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
