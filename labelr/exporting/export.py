"""The main path of `labelr export`: writes a model for other programs, after a comparison with the saved one."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelr import files, signals
from labelr.config import EvaluateOptions, ExportOptions, MachineOptions, ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.images import Pixels, UnreadableError, read_pixels
from labelr.data.load import load_dataset
from labelr.data.locate import image_paths
from labelr.data.splits import SPLITS_FILE, read_splits
from labelr.data.synthetic import PATTERNS, draw_image
from labelr.data.walk import find_images
from labelr.errors import LabelrError, pluralize, preview
from labelr.exporting.program import build_program, quantize
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.engine import MAX_BYTES, OnnxInfo, OnnxModel, Precision, with_metadata
from labelr.model.network import count_parameters
from labelr.model.predict import Model
from labelr.model.predictor import Predictor
from labelr.progress import Track, untracked
from labelr.scoring.compare import recorded_data
from labelr.scoring.evaluate import evaluate_probs, match_labels, predict_dataset, select_split

BATCH_SIZES = (1, 7, 32)
"""Numbers of images that a program is compared on: exporters have made constants of the size of a batch."""
MAX_DIFFERENCE = 0.002
"""Between the probabilities of a program in fp32 and of the saved model; what is usual is below 1e-5."""
MAX_LOSS = 0.005
"""The most by which int8 may lower mAP on the validation split."""
CALIBRATION_IMAGES, CALIBRATION_BATCH = 256, 8
PACKAGES = ("onnx", "onnxruntime", "onnxscript")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        path: The file.
        model: The name of the model.
        model_digest: SHA-256 of everything that the model's probabilities depend on.
        format: ``"onnx"``.
        precision: ``"fp32"`` or ``"int8"``.
        bytes: The size of the file.
        max_difference: The largest difference of a probability in fp32 from that of the saved model.
        map_macro: The mAP on the validation split by precision; empty without int8.
    """

    path: str
    model: str
    model_digest: str
    format: str
    precision: Precision
    bytes: int
    max_difference: float
    map_macro: dict[Precision, float]

    def to_json(self) -> dict[str, Any]:
        """The values by name."""
        return asdict(self)


def export(
    model: str | Path | Model | None = None,
    output: str | Path | None = None,
    options: ExportOptions | Mapping[str, Any] | None = None,
    *,
    data: str | Path | Sequence[str | Path] = (),
    force: bool = False,
    track: Track = untracked,
    **settings: Any,
) -> Export:
    """Writes a saved model as a file for other programs and for ``labelr.tag`` without torch.

    Its probabilities are compared with the saved model's before the file is kept.

    Args:
        model: A name, a directory or a loaded model; None takes the default one, as `load`.
        output: The file; None for ``NAME.onnx`` in the working directory.
        options: The options, as an object or by name.
        data: For int8, the folders of the images that the model was trained on; none for where they were then.
        force: Whether an existing file may be replaced.
        track: Replaces the progress bars of a terminal or a notebook; ``progress=False`` shows none.
        settings: Fields of `ExportOptions`, which take precedence over `options`.

    Raises:
        LabelrError: If the model or a package is missing, the file exists or cannot be written, probabilities differ,
            int8 lowers the validation score or there are no validation images, or data is given without int8.
    """
    chosen = ExportOptions.of(options, **settings)
    folder = model.path if isinstance(model, Model) else store.find(model)
    path = files.local_path(f"{folder.name}.onnx" if output is None else output)
    _check(path, chosen, data, force=force)
    machine = MachineOptions(device="cpu", amp=False)
    loaded = store.resolve_model(None if model is None else folder, machine)
    _check_model(loaded, chosen)

    def start(program: bytes, precision: Precision) -> tuple[OnnxModel, bytes]:
        content = with_metadata(program, loaded.info, precision)
        return OnnxModel.of(OnnxInfo.parse(content, path), content, path, machine), content

    program = build_program(loaded)
    fp32, content = start(program, "fp32")
    difference, scores, precision = _compare(fp32, loaded), {}, fp32.precision
    if chosen.int8:
        train, val = _load_data(loaded, data, track)
        int8, content = start(quantize(program, _calibration_batches(loaded, train, track)), "int8")
        scores = {each.precision: _score(each, val, track) for each in (fp32, int8)}
        _check_loss(scores)
        precision = int8.precision
    signals.raise_if_stopped()
    files.write_atomically(path, content)
    return Export(
        str(path), loaded.name, loaded.info.digest, chosen.format, precision, len(content), difference, scores
    )


def _check(path: Path, options: ExportOptions, data: object, *, force: bool) -> None:
    """Raises LabelrError if data has no use, a package is missing, or a file cannot be written or replaced."""
    if data and not options.int8:
        raise SettingError("data is only for int8", "add `--int8`, or leave `--data` out")
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise LabelrError(
            f"to export models needs {preview(missing)}, not installed",
            "install it with `pip install 'labelr[export]'`",
        )
    files.check_new(path, force=force)


def _check_model(model: Model, options: ExportOptions) -> None:
    """Raises LabelrError if a model is too large, or for int8 was trained without a validation split."""
    if 4 * count_parameters(model.module) > MAX_BYTES:
        raise LabelrError("the network is larger than 2 GB, the most that an ONNX file holds", "train a smaller one")
    if not options.int8:
        return
    path = model.path / SPLITS_FILE
    if not path.is_file():
        lists = "which lists the images that int8 is fitted to and scored on"
        raise LabelrError(f"{model.path} has no {SPLITS_FILE}, {lists}", "restore the file, or leave out `--int8`")
    if not any(row.split == "val" for row in read_splits(path)):
        of_folds = ": a model of `--folds` is trained on all images" if model.info.config.get("folds") else ""
        raise LabelrError(
            f"int8 needs validation images, which {model.name} has none of", f"leave out `--int8`{of_folds}"
        )


# --- the comparison with the saved model ------------------------------------------------------------------------------


def _compare(program: OnnxModel, model: Model) -> float:
    """The largest difference of a probability; raises LabelrError if it is too large."""
    images = np.stack(list(islice(chain(_real_images(model), _synthetic_images(model)), max(BATCH_SIZES))))
    wanted = model.predict_pixels([images])
    differences = [np.abs(program.run(images[:size]) - wanted[:size]) for size in BATCH_SIZES]
    found = float(max(difference.max() for difference in differences))
    if not found <= MAX_DIFFERENCE:
        raise LabelrError(
            f"the export of {model.name} is wrong: probabilities differ by {found:.3f} from the saved model's",
            "nothing was written; use the saved model, or another version of torch and onnxscript",
        )
    log.debug("probabilities differ by at most %.1e on %s", found, pluralize(len(images), "image"))
    return found


def _real_images(model: Model) -> Iterator[Pixels]:
    """Pixels of images in the data that the model was trained on, as far as that is still there."""
    wanted = model.info.preprocessing
    for folder in map(Path, model.info.data):
        with suppress(LabelrError):
            for path in islice(find_images(folder), 2 * max(BATCH_SIZES)):
                with suppress(UnreadableError):
                    yield read_pixels(path, wanted.image_size, rule=wanted.resize, value_range=wanted.value_range)


def _synthetic_images(model: Model) -> Iterator[Pixels]:
    rng = np.random.default_rng(0)
    while True:
        shown = rng.choice(list(PATTERNS), int(rng.integers(1, 4)), replace=False)
        yield draw_image(shown, rng, model.info.preprocessing.image_size)


# --- int8 ----------------------------------------------------------------------------------------------------------


def _load_data(model: Model, data: str | Path | Sequence[str | Path], track: Track) -> tuple[Dataset, Dataset]:
    """The images that a model was trained on, and those that it was validated on, read as then."""
    given = image_paths([data] if isinstance(data, (str, Path)) else data) if data else []
    try:
        folders, recorded = recorded_data(model)
        dataset = load_dataset(given or folders, ReadOptions.of(recorded), threads=model.runtime.workers, track=track)
        dataset = match_labels(dataset, model, EvaluateOptions())
        return select_split(dataset, model, "train"), select_split(dataset, model, "val")
    except LabelrError as error:
        raise LabelrError(
            f"cannot read the data that {model.name} was trained on: {error.message}", "name its folder with `--data`"
        ) from error


def _calibration_batches(model: Model, train: Dataset, track: Track) -> Iterator[NDArray[np.uint8]]:
    """Pixels of training images, chosen at random."""
    rows = np.random.default_rng(0).permutation(len(train))[:CALIBRATION_IMAGES]
    preprocessing = model.info.preprocessing
    pixels = train.take(np.sort(rows)).pixels(
        preprocessing.image_size, rule=preprocessing.resize, value_range=preprocessing.value_range,
        options=ReadOptions(), threads=model.runtime.workers, track=track,
    )  # fmt: skip
    return pixels.batches(CALIBRATION_BATCH)


def _score(model: Predictor, val: Dataset, track: Track) -> float:
    """The mAP on the validation split."""
    return evaluate_probs(model, val, predict_dataset(model, val, track=track)).metrics["map_macro"]


def _check_loss(scores: Mapping[Precision, float]) -> None:
    """Raises LabelrError if int8 scores less."""
    before, after = scores["fp32"], scores["int8"]
    if not before - after < MAX_LOSS:  # also where it is not evaluable
        raise LabelrError(
            f"int8 lowers mAP on the validation split from {before:.3f} to {after:.3f}", "leave out `--int8`"
        )
    log.info("mAP on the validation split: %.3f in fp32, %.3f in int8", before, after)
