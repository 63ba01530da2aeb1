"""labelr: train a multi-label image tagger on a folder of images and a spreadsheet of labels."""

import importlib
from types import FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelr.config import (
        CompareOptions,
        EvaluateOptions,
        ExportOptions,
        ReadOptions,
        TagOptions,
        TrainConfig,
        TuneOptions,
    )
    from labelr.data.check import Check, check
    from labelr.data.dataset import Dataset
    from labelr.data.load import read
    from labelr.errors import LabelrError
    from labelr.exporting.export import Export, export
    from labelr.model.archive import export_archive, import_archive
    from labelr.model.predict import Model
    from labelr.model.store import load
    from labelr.scoring.compare import Comparison, compare
    from labelr.scoring.evaluate import evaluate
    from labelr.scoring.results import Evaluation
    from labelr.tagging.summary import TagSummary
    from labelr.tagging.tag import tag
    from labelr.training.fit import FitResult, fit
    from labelr.tuning.trials import TuneResult
    from labelr.tuning.tune import tune
    from labelr.version import __version__

__all__ = [
    "Check", "CompareOptions", "Comparison", "Dataset", "EvaluateOptions", "Evaluation", "Export",
    "ExportOptions", "FitResult", "LabelrError", "Model", "ReadOptions", "TagOptions", "TagSummary",
    "TrainConfig", "TuneOptions", "TuneResult", "__version__", "check", "compare", "evaluate", "export",
    "export_archive", "fit", "import_archive", "load", "read", "tag", "tune",
]  # fmt: skip

_MODULES = {
    "labelr.config": (
        "CompareOptions", "EvaluateOptions", "ExportOptions", "ReadOptions", "TagOptions", "TrainConfig", "TuneOptions"
    ),
    "labelr.data.check": ("Check", "check"),
    "labelr.data.dataset": ("Dataset",),
    "labelr.data.load": ("read",),
    "labelr.errors": ("LabelrError",),
    "labelr.exporting.export": ("Export", "export"),
    "labelr.model.archive": ("export_archive", "import_archive"),
    "labelr.model.predict": ("Model",),
    "labelr.model.store": ("load",),
    "labelr.scoring.compare": ("Comparison", "compare"),
    "labelr.scoring.evaluate": ("evaluate",),
    "labelr.scoring.results": ("Evaluation",),
    "labelr.tagging.summary": ("TagSummary",),
    "labelr.tagging.tag": ("tag",),
    "labelr.training.fit": ("FitResult", "fit"),
    "labelr.tuning.trials": ("TuneResult",),
    "labelr.tuning.tune": ("tune",),
    "labelr.version": ("__version__",),
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used, so that ``import labelr`` is fast."""
    for module, names in _MODULES.items():
        if name in names:
            value = getattr(importlib.import_module(module), name)
            if isinstance(value, FunctionType):
                api = importlib.import_module("labelr.python_api")
                value = api.for_python(api.with_progress(value) if "track" in value.__annotations__ else value)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'labelr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
