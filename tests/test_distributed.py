"""Several processes train one model as one process does, to the last bit, and end together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Cli, tiny_options
from torch._C._distributed_c10d import HashStore

from labelr.config import TrainConfig
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model.device import Runtime
from labelr.model.predictor import available_cpus
from labelr.ranks import Place
from labelr.training.distributed import ALONE, Group
from labelr.training.fit import fit
from labelr.training.follower import Follower, check_devices, torchrun_devices
from labelr.tuning.space import Plan

OPTIONS = [*tiny_options(batch_size=16, threads=4), "--micro-batch", "4"]
"""Four micro-batches a step, for up to four processes."""
SECONDS = 600
"""A test whose processes take longer fails: they hang."""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "labelr", "fit", *map(str, arguments)]


def long_options(epochs: int = 1000) -> list[str]:
    """The options of a run that is not over before it is disturbed."""
    return [*tiny_options(batch_size=16, threads=4, epochs=epochs), "--micro-batch", "4"]


def torchrun(processes: int, *arguments: object) -> list[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launch, "-m", "labelr", "fit", *map(str, arguments)]


def run(line: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)


def digest(folder: Path) -> str:
    text: str = json.loads((folder / "model.json").read_text())["weights"]["sha256"]
    return text


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def children(process: int) -> list[int]:
    return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def wait_until(condition: Any) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.02)


@contextmanager
def training(
    data: Path, folder: Path, processes: int, epochs: int = 1000
) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """A long run after its first epoch, and the processes that it has started."""
    line = command(data, "--output", folder, "--devices", processes, *long_options(epochs))
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as running:
        wait_until(lambda: (folder / "checkpoint.pt").exists() or running.poll() is not None)
        others = children(running.pid)
        try:
            yield running, others
            wait_until(lambda: all(map(has_ended, others)))
        finally:
            running.kill()
            for other in others:
                if not has_ended(other):
                    os.kill(other, signal.SIGKILL)


# --- the same result --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that one process trains."""
    folder = tmp_path_factory.mktemp("models") / "alone"
    fit(shapes, {**TINY, "batch_size": 16, "threads": 4, "micro_batch": 4}, output=folder)
    return folder


@pytest.mark.slow
def test_processes_train_the_model_of_one_to_the_last_bit_and_write_its_files_once(
    shapes: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    done = run(command(shapes, "--output", folder, "--devices", 4, *OPTIONS))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder}\n"
    assert digest(folder) == digest(alone)
    assert names(folder) == [name.replace(digest(alone)[:12], digest(folder)[:12]) for name in names(alone)]
    assert len((folder / "history.csv").read_text().splitlines()) == 3


@pytest.mark.slow
def test_torchrun_starts_processes_of_which_one_speaks(shapes: Path, alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    done = run(torchrun(2, shapes, "--output", folder, *OPTIONS))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder}\n"
    assert done.stderr.count("epoch 1/2") == 1
    assert digest(folder) == digest(alone)
    assert json.loads((folder / "config.json").read_text())["devices"] == 2


@pytest.mark.slow
def test_more_processes_than_micro_batches_train_the_same_model_with_a_warning(
    shapes: Path, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    options = [*tiny_options(batch_size=16, threads=3), "--micro-batch", "8"]
    done = run(command(shapes, "--output", folder, "--devices", 3, *options))
    assert done.returncode == 0, done.stderr
    assert "a batch of 16 images has 2 parts of at most 8 images, which leaves 1 of 3 processes idle" in done.stderr
    assert fit(shapes, {**TINY, "batch_size": 16, "micro_batch": 8}, output=tmp_path / "one").model.info.weights[
        "sha256"
    ] == digest(folder)


@pytest.mark.slow
def test_folds_and_the_python_api_train_on_several_devices(shapes: Path, tmp_path: Path) -> None:
    settings = {**TINY, "batch_size": 16, "micro_batch": 4, "epochs": 1, "folds": 2, "threads": 2}
    arguments = f"{str(shapes)!r}, {settings!r}, devices=2, output={str(tmp_path / 'two')!r}"
    script = f"import labelr; labelr.fit({arguments})"
    done = run([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr
    fit(shapes, settings, output=tmp_path / "one")
    assert digest(tmp_path / "two") == digest(tmp_path / "one")
    predictions = [(tmp_path / name / "predictions.csv").read_text() for name in ("one", "two")]
    assert predictions[0] == predictions[1]


AS_GPUS = """
import os, sys
from pathlib import Path
import torch, torch.distributed as dist
from labelr.ranks import Place
from labelr.training.distributed import Group
from test_trainer import make_trainer

rank, size, place, shapes = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
gradients = make_trainer(shapes, 32, dropout=0.0, mixup=0.4).gradients
gradients.network.keeps_statistics = True
gradients.network.train()
gradients.group = Group(Place(rank, size), dist.HashStore() if size > 1 else None, is_gpu=True)
if size > 1:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{place}/store", rank=rank, world_size=size)
losses = []
gradients.batcher.size = 4
for batch in gradients.start_epoch(1, 0):
    losses.append(gradients.compute(batch, 32, 4))
    with torch.no_grad():
        for parameter in gradients.parameters if rank == 0 else ():
            parameter -= 0.1 * parameter.grad
if rank == 0:
    torch.save(torch.stack(losses), place / f"{size}.pt")
"""
"""Steps of processes that sum gradients as GPUs do, with BatchNorm frozen."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names the network interface of Linux")
def test_losses_do_not_depend_on_the_number_of_gpus_where_batchnorm_is_frozen(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    lines = [[sys.executable, "-c", AS_GPUS, str(rank), "2", str(tmp_path), str(shapes)] for rank in range(2)]
    running = [subprocess.Popen(line, env=environment) for line in lines]
    assert [process.wait(SECONDS) for process in running] == [0, 0]
    monkeypatch.setattr(sys, "argv", ["-c", "0", "1", str(tmp_path), str(shapes)])
    exec(AS_GPUS, {})  # one process is this one
    losses = [torch.load(tmp_path / f"{size}.pt", weights_only=True) for size in (1, 2)]
    assert len(losses[0]) == 7
    assert losses[0][0] != losses[0][-1]
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=1e-4)


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_process_ends_the_run_with_its_reason_and_another_number_resumes_it(
    shapes: Path, tmp_path: Path, cli: Cli
) -> None:
    folder = tmp_path / "model"
    with training(shapes, folder, 2, epochs=40) as (running, others):
        os.kill(others[0], signal.SIGKILL)
        _, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 1
    assert "Error: process 1 of the 2 that train together was ended by SIGKILL" in errors
    assert "Traceback" not in errors
    assert "resume with the same command and `--resume`" in errors
    done = cli("fit", shapes, "--output", folder, "--resume", "--devices", 1, *long_options(40))
    assert done.code == 0, done.err
    fit(shapes, {**TINY, "batch_size": 16, "micro_batch": 4, "epochs": 40}, output=tmp_path / "one")
    assert digest(folder) == digest(tmp_path / "one")


@pytest.mark.slow
def test_signal_to_process_0_saves_a_checkpoint_and_ends_all(shapes: Path, tmp_path: Path) -> None:
    with training(shapes, tmp_path / "model", 3) as (running, others):
        running.send_signal(signal.SIGINT)  # SIGTERM is that of the next test
        _, errors = running.communicate(timeout=SECONDS)
        assert len(others) == 2
    assert running.returncode == 128 + signal.SIGINT
    assert "Stopped by SIGINT. Resume with: labelr fit" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_signal_to_another_process_stops_the_run_as_if_process_0_had_got_it(shapes: Path, tmp_path: Path) -> None:
    with training(shapes, tmp_path / "model", 2) as (running, others):
        os.kill(others[0], signal.SIGTERM)
        _, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM. Resume with: labelr fit" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_no_process_outlives_a_killed_process_0(shapes: Path, tmp_path: Path) -> None:
    with training(shapes, tmp_path / "model", 3) as (running, others):
        running.kill()
        wait_until(lambda: all(map(has_ended, others)))
        assert running.communicate(timeout=SECONDS)[1].count("Error") == 0


@pytest.mark.slow
def test_bad_data_ends_the_processes_of_torchrun_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = run(torchrun(2, tmp_path / "data", *OPTIONS))
    assert done.returncode == 1
    ours = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]  # torchrun has its own report
    assert len(ours) == 1
    assert "no images and no label file" in ours[0]
    assert done.stdout == ""


@pytest.mark.slow
def test_process_that_fails_tells_process_0_why(shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (tmp_path / "data").mkdir()
    for path in shapes.rglob("*"):  # decoded in each epoch, since nothing is cached
        target = tmp_path / "data" / path.relative_to(shapes)
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    line = command(tmp_path / "data", "--output", folder, "--devices", 2, "--cache-limit", 0, *long_options())
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as running:
        wait_until(lambda: (folder / "checkpoint.pt").exists() or running.poll() is not None)
        for path in (tmp_path / "data" / "images").iterdir():
            path.write_bytes(b"another content")
        _, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 1
    assert errors.count("Error: ") == 1
    assert "has changed since it was first read" in errors


# --- what is refused --------------------------------------------------------------------------------------------------


def test_more_processes_than_threads_are_refused(cli: Cli, shapes: Path, tmp_path: Path) -> None:
    done = cli("fit", shapes, "--output", tmp_path / "model", "--devices", 3, *tiny_options(threads=2))
    assert done.code == 2
    assert "3 processes on this machine, and 2 CPU threads: each process needs one" in done.err
    assert "`--devices 2`" in done.err
    assert not (tmp_path / "model").exists()


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingError, match="2 processes on this machine, and 1 GPU"):
        check_devices(2, Runtime(torch.device("cuda"), "bf16", 8, 8))
    check_devices(1, Runtime(torch.device("cuda"), "bf16", 8, 8))


def test_head_alone_and_trials_of_a_search_are_trained_on_one_device() -> None:
    with pytest.raises(SettingError, match="the head alone is trained in one process"):
        TrainConfig(backbone="resnet18", train="head", devices=2)
    with pytest.raises(SettingError, match="each trial is trained on one device"):
        Plan.of([], {"lr": [1e-3, 1e-2]}, TrainConfig(devices=2), {})


def test_torchrun_decides_the_number_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torchrun_devices(TrainConfig(devices=3)).devices == 3
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(name, value)
    assert torchrun_devices(TrainConfig()).devices == 2
    assert torchrun_devices(TrainConfig(devices=2)).devices == 2
    with pytest.raises(SettingError, match="`--devices 3` starts processes, and 2 are started already"):
        torchrun_devices(TrainConfig(devices=3))


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, Place()),
        ({"RANK": "3"}, Place()),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, Place(3, 4, 1, 2)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, Place(3, 4, 1, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Place(1, 2, 0, 1)),
    ],
)
def test_variables_name_the_place_of_a_process(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: Place
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (variables | ({"MASTER_ADDR": "here"} if len(variables) > 1 else {})).items():
        monkeypatch.setenv(name, value)
    assert Place.of_environment() == place


@pytest.mark.parametrize(("name", "value"), [("RANK", "2"), ("RANK", "one"), ("LOCAL_RANK", "5")])
def test_variables_that_contradict_each_other_are_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    values = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "here"}
    for variable, text in {**values, name: value}.items():
        monkeypatch.setenv(variable, text)
    with pytest.raises(LabelrError, match=r"cannot be|expected a whole number"):
        Place.of_environment()


def test_processes_of_torchrun_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1000")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    everything = available_cpus()
    variables = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "here", "OMP_NUM_THREADS": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert available_cpus() == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert available_cpus() == everything  # torchrun has set it
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available_cpus() == min(6, everything)


# --- parts and orders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 9])
@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_each_micro_batch_has_one_process_and_process_0_has_the_last(size: int, count: int) -> None:
    groups = [Group(Place(rank, size)) for rank in range(size)]
    order = [*range(1, min(size, count)), 0]
    assert [part for rank in order for part in groups[rank].own_micro_batches(count)] == list(range(count))
    assert sum(len(group.own_micro_batches(count)) for group in groups) == count
    lengths = [len(groups[rank].own_micro_batches(count)) for rank in order]
    assert max(lengths) - min(lengths) <= 1


def test_gpus_get_the_same_number_of_micro_batches() -> None:
    group = Group(Place(0, 4), is_gpu=True)
    assert [group.round_up(count) for count in (1, 4, 5, 8)] == [4, 4, 8, 8]
    assert ALONE.round_up(5) == 5
    assert group.share_of(30) == 8


def test_orders_arrive_in_their_order_without_signs_of_life() -> None:
    store = HashStore()
    sender, receiver = (Group(Place(rank, 2), store) for rank in (0, 1))
    for number in range(300):
        sender.send("wait" if number % 3 == 0 else "step", number=number)
        if number % 3:
            assert receiver.receive() == {"do": "step", "number": number}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (LabelrError("the disk is full", "make room"), "process 1 of 2: the disk is full"),
        (KeyError("x"), "process 1 of 2: KeyError: 'x'"),
    ],
)
def test_reason_of_a_failed_process_is_that_of_the_run(error: Exception, sentence: str) -> None:
    store = HashStore()
    Group(Place(1, 2), store).report(error)
    with pytest.raises(LabelrError) as caught, Group(Place(0, 2), store).watched():
        raise RuntimeError("gloo: connection closed by peer")
    assert caught.value.message == sentence
    assert isinstance(caught.value.__cause__, OSError)  # the run may be resumed


def test_error_of_process_0_itself_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelr.training.distributed.REASON_SECONDS", 0.2)
    group = Group(Place(0, 2), HashStore())
    with pytest.raises(RuntimeError, match="shapes"), group.watched():
        raise RuntimeError("shapes do not match")
    with pytest.raises(LabelrError, match="the connection to another training process was lost"), group.watched():
        raise RuntimeError("gloo: timed out")
    with pytest.raises(RuntimeError, match="out of memory"), group.watched():
        raise RuntimeError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="gloo"), ALONE.watched():
        raise RuntimeError("gloo")


def test_lost_process_0_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(Place(1, 2), HashStore())
    monkeypatch.setattr("labelr.training.distributed.MAX_SILENCE", timedelta(seconds=0.2))
    with pytest.raises(RuntimeError, match="timeout"):
        Follower(group).run()
