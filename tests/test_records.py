"""Damaged files of labelr's own are read, or give an error message, and nothing else happens."""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import TINY
from test_mutations import Dice, damage_bytes, damage_json, damage_text, places_in

from labelr.config import MachineOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.errors import LabelrError
from labelr.files import digest
from labelr.model import store
from labelr.model.device import pick_runtime
from labelr.model.predict import Model
from labelr.model.weight_files import read_weights
from labelr.training.epochs import EpochLoop, describe_model
from labelr.training.fit import FitResult, load_splits
from labelr.training.record import CHECKPOINT_FILE, RunRecord, list_models_and_runs, load_record, verify_models
from labelr.training.run import Run
from labelr.tuning.study import Study
from labelr.tuning.trials import PROGRESS, WORKER, ranked, read_trials, trials_csv

NUM_EXAMPLES = 12  # of each kind
CONFIG = TrainConfig.of({**TINY, "device": "cpu"})
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 1e308, float("nan"), float("inf"), "", "x", "\0", [], {}, [[]], {"": 0}, torch.zeros(0),
    torch.zeros(()), torch.full((3,), float("nan")), torch.zeros(1).expand(10**9), torch.zeros(2, dtype=torch.int64),
)  # fmt: skip
"""What a value of a checkpoint is replaced by."""


class Place(NamedTuple):
    """Intact files in a models folder, and what reads them."""

    dataset: Dataset
    loop: EpochLoop
    model: Path
    run: Path
    study: Path

    def read_model(self) -> None:
        list_models_and_runs()
        verify_models()
        store.load_from(self.model, pick_runtime(MachineOptions(device="cpu", threads=1)))

    def read_result(self) -> None:
        info = store.load_info(self.model)
        FitResult.load(Model(self.model, info, self.loop.trainer.runtime, self.loop.trainer.network)).to_json()

    def read_run(self) -> None:
        list_models_and_runs()
        record = load_record(self.run, CONFIG)
        if record:
            record.resumed_config(CONFIG)
            record.restore_splits(self.dataset, self.run)

    def read_config(self) -> None:
        TrainConfig.read(self.model / "config.json")

    def read_checkpoint(self) -> None:
        self.loop._checkpoint.load(self.loop._restore)

    def read_study(self) -> None:
        with closing(Study("some", self.study, None)) as study:
            study.reap_dead_workers()
            study.enqueue([{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}])
            study.remove_checkpoints()
            trials = ranked(read_trials(study.shared))
            trials_csv(trials, ["lr"])
            json.dumps([study.identity, *(trial.to_json() for trial in trials)])


@pytest.fixture
def place(trained: Model, shapes: Path, home: Path) -> Place:
    return make_place(home / "models", trained.path, shapes)


def make_place(folder: Path, model: Path, data: Path) -> Place:
    """A copy of a model, a run with a checkpoint, and a study."""
    run, study = folder / "run", folder.parent / "study"
    shutil.copytree(model, folder / "copy")
    run.mkdir()
    dataset, runtime = load_splits([data], CONFIG), pick_runtime(CONFIG)
    config = CONFIG.resolved(runtime.options, num_train=len(dataset.split_rows("train")), is_synthetic=False)
    info = describe_model(dataset, config)
    loop = EpochLoop(
        Run(folder=run, config=config, runtime=runtime),
        dataset,
        dataset.pixels(32, rule=info.preprocessing.resize, options=config, threads=1),
        info,
    )
    (run / "run.json").write_text(RunRecord.of([data], CONFIG.to_dict(), config, dataset).to_json())
    loop.run_epoch()
    with closing(Study("some", study, None)) as some:
        some.shared.set_user_attr("identity", {"settings": {"lr": "0.1"}, "labels": ["a"], "images": 1, "content": ""})
        some.enqueue([{"lr": 0.1}, {"lr": 0.2}])
        for value in (0.5, 0.6):
            attempt = some.shared.ask()
            attempt.set_user_attr(WORKER, "dead")
            attempt.suggest_float("lr", 0.1, 0.2)
            attempt.report(value, 1)
            attempt.set_user_attr(PROGRESS, {"scores": [value], "epochs": 1, "seconds": 1.0})
        some.shared.tell(attempt, value)
    return Place(dataset, loop, folder / "copy", run, study)


def damage_lines(content: bytes, dice: Dice) -> bytes:
    """JSON, or lines of it, with a value or some bytes changed."""
    if dice.roll(4) == 1:
        return damage_bytes(content, dice)
    text = content.decode()
    if text.startswith("{\n"):
        text = json.dumps(json.loads(text))
    return damage_json(text.rstrip("\n"), dice).encode("utf-8", "surrogatepass") + b"\n" * dice.pick((1, 1, 1, 0))


def damage_table(content: bytes, dice: Dice) -> bytes:
    return (
        damage_bytes(content, dice)
        if dice.roll(2)
        else damage_text(content.decode(), ".csv", dice).encode("utf-8", "replace")
    )


def damage_header(content: bytes, dice: Dice) -> bytes:
    """A safetensors file with a changed header."""
    length = int.from_bytes(content[:8], "little")
    header = damage_lines(content[8 : 8 + length].rstrip(), dice)
    return dice.pick((len(header), len(header), 2**63, 0)).to_bytes(8, "little") + header + content[8 + length :]


def damage_checkpoint(path: Path, dice: Dice) -> None:
    """A checkpoint with a value replaced or removed, or some bytes changed."""
    if dice.roll(2):
        path.write_bytes(damage_bytes(path.read_bytes(), dice))
        return
    state = torch.load(path, weights_only=True)
    box, key = dice.pick(list(places_in(state)))
    if dice.roll(6):
        box[key] = dice.pick(VALUES)
    else:
        box.pop(key)
    torch.save(state, path)


class Kind(NamedTuple):
    """A file, how it is damaged, and what reads it."""

    name: str
    damage: Callable[[bytes, Dice], bytes]
    read: Callable[[Place], None]


KINDS = {
    "model.json": Kind("models/copy/model.json", damage_lines, Place.read_model),
    "metrics.json": Kind("models/copy/metrics.json", damage_lines, Place.read_result),
    "record.json": Kind("models/copy/record.json", damage_lines, Place.read_result),
    "history.csv": Kind("models/copy/history.csv", damage_table, Place.read_result),
    "run.json": Kind("models/run/run.json", damage_lines, Place.read_run),
    "study.log": Kind("study/study.log", damage_lines, Place.read_study),
    "config.json": Kind("models/copy/config.json", damage_lines, Place.read_config),
    "weights": Kind("", damage_header, Place.read_model),
    "checkpoint": Kind("models/run/checkpoint.pt", damage_lines, Place.read_checkpoint),
}


def read_damaged_record(place: Place, kind: str, data: bytes) -> bool:
    """Whether a file gives an error after damage that some bytes determine; it is restored afterwards."""
    name, damage, read = KINDS[kind]
    weights = next(place.model.glob("weights-*"))
    path = weights if kind == "weights" else place.study.parent / name
    info = (place.model / "model.json").read_bytes()
    before, dice = path.read_bytes(), Dice(data)
    try:
        if kind == "checkpoint":
            damage_checkpoint(path, dice)
        else:
            path.write_bytes(damage(before, dice))
        if kind == "weights":  # with the digest of the damaged file
            sha256 = digest(path)
            path.rename(path.with_name(f"weights-{sha256[:12]}.safetensors"))
            changed = {**json.loads(info), "weights": {"file": f"weights-{sha256[:12]}.safetensors", "sha256": sha256}}
            (place.model / "model.json").write_text(json.dumps(changed))
        read(place)
    except LabelrError as error:
        assert error.message  # noqa: PT017
        return True
    else:
        return False
    finally:
        for other in place.model.glob("weights-*"):
            if kind == "weights":
                other.unlink()
        path.write_bytes(before)
        (place.model / "model.json").write_bytes(before if kind == "model.json" else info)


@pytest.mark.slow
def test_format_of_a_checkpoint_that_is_a_tensor_is_an_error(place: Place) -> None:
    path = place.run / CHECKPOINT_FILE
    torch.save({**torch.load(path, weights_only=True), "format": torch.ones(2)}, path)
    with pytest.raises(LabelrError, match=r"the checkpoint .* is damaged: expected int"):
        place.read_checkpoint()


@pytest.mark.slow
def test_score_of_a_study_that_is_nested_deeply_is_an_error(place: Place) -> None:
    path = place.study / "study.log"
    text, scores = path.read_text(), '"state":0,"values":'
    assert scores in text
    path.write_text(text.replace(f"{scores}null", f"{scores}{'[' * 500}{']' * 500}"))
    with pytest.raises(LabelrError, match=r"the study in .* is damaged: .*expected float, got array"):
        place.read_study()


@pytest.mark.slow
def test_damaged_file_is_an_error_or_is_read(place: Place) -> None:
    for kind in KINDS:
        dice = random.Random(kind)
        outcomes = {read_damaged_record(place, kind, dice.randbytes(96)) for _ in range(NUM_EXAMPLES)}
        assert True in outcomes, kind


def test_weights_of_a_type_that_no_network_has_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.ones(4, 4).to(torch.float8_e4m3fn)}, tmp_path / "w.pt")
    with pytest.raises(LabelrError, match="has values of type float8_e4m3fn, which labelr does not use"):
        read_weights(tmp_path / "w.pt")
