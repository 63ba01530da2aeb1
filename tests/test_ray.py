"""Tagging on a Ray cluster: the results of one process, also if workers, nodes or the whole run are killed."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pytest
from bucket_server import BucketServer
from conftest import Cli, put
from tag_results import tree

from labelr.config import TagOptions
from labelr.errors import LabelrError
from labelr.model.predict import Model
from labelr.tagging.actors import SharedHome, Worker

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `labelr[ray]` is not installed")

NUM_IMAGES = 2000
"""Some 15 batches, of which each of two workers has two."""
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
"""Of the clusters of these tests."""
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
TEMPORARY = r"/[^\0=,]*/labelr-ray-[^/\0]+"
REPLACED = "a worker of the Ray cluster has ended, and is replaced"


@pytest.fixture(scope="module")
def many(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of many images, one of them damaged."""
    folder = tmp_path_factory.mktemp("many") / "photos"
    (folder / "deep").mkdir(parents=True)
    for count in range(NUM_IMAGES - 1):
        place = folder / "deep" if count % 2 else folder
        (place / f"{count}.png").hardlink_to(shapes / "images" / f"{count % 60:05d}.png")
    (folder / "deep" / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def expected(many: Path, trained: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes in all formats of tests."""
    output = tmp_path_factory.mktemp("expected") / "out"
    done = subprocess.run(command(many, trained, output), capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    return tree(output)


def command(photos: Path, model: Model, output: Path | str, *more: object) -> list[str]:
    formats = ("csv", "table", "jsonl", "txt") if output != "-" else ("jsonl",)
    chosen = [text for name in formats for text in ("--format", name)]
    options = ["--model", model.path, "--output", output, *chosen, "--threads", 1, *more]
    return [sys.executable, "-m", "labelr", "tag", str(photos), *map(str, options)]


def start(arguments: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes on this machine, each with one processor and little shared memory."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        made: Any = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
        made.add_node(**NODE)
        made.add_node(**NODE)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


def descendants_of(pid: int) -> dict[int, str]:
    """The processes that a process has started, directly or not, by their names."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
    found: dict[int, str] = {}
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= {child: names.get(child, "") for child in new}
    return found


def workers_of(pid: int) -> list[int]:
    """The processes of labelr's workers among them."""
    return [child for child, name in descendants_of(pid).items() if name.startswith("ray::Worker")]


def temporary_folder_of(pid: int) -> Path:
    """Where the cluster that a process has started keeps its logs."""
    return Path(next(found[0] for name in descendants_of(pid).values() if (found := re.search(TEMPORARY, name))))


def raylet_of(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def wait_for_results(running: "subprocess.Popen[str]", output: Path) -> None:
    """Waits until a run has written the first results."""
    while not any(output.glob("*.csv")):
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.01)


def wait_for_end(started: dict[int, str]) -> None:
    """Waits until processes have ended."""
    deadline = time.monotonic() + 120
    while alive := [pid for pid in started if Path(f"/proc/{pid}/cmdline").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)


def end_of(running: "subprocess.Popen[str]") -> str:
    """What a run says that finds one damaged image."""
    _, err = running.communicate(timeout=900)
    assert running.returncode == 3, err
    assert "Traceback" not in err
    return err


@needs_ray
@pytest.mark.slow
def test_results_on_two_nodes_are_those_of_one_process(
    cluster: Any, many: Path, trained: Model, expected: dict[str, bytes], tmp_path: Path
) -> None:
    run = command(many, trained, tmp_path / "out", "--ray", cluster.address)
    err = end_of(start(run))
    assert f"{NUM_IMAGES:,} images found: {NUM_IMAGES - 1:,} tagged, 1 failed" in err
    assert [
        line for line in err.splitlines() if not re.match(r"Warning: 1 image could|\d\S+ tagging: |2,000 im", line)
    ] == []
    assert tree(tmp_path / "out") == expected
    streamed = start(command(many, trained, "-", "--ray", "auto"))
    out, err = streamed.communicate(timeout=900)
    assert (streamed.returncode, out.encode()) == (3, expected["labels.jsonl"]), err


@needs_ray
@pytest.mark.slow
def test_killed_worker_and_node_lose_nothing(
    cluster: Any, many: Path, trained: Model, expected: dict[str, bytes], tmp_path: Path
) -> None:
    nodes = list(cluster.worker_nodes)
    running = start(command(many, trained, tmp_path / "out", "--ray", cluster.address))
    wait_for_results(running, tmp_path / "out")
    os.kill(workers_of(raylet_of(nodes[0]))[0], signal.SIGKILL)
    cluster.remove_node(nodes[1], allow_graceful=False)
    assert end_of(running).count(REPLACED) >= 2
    assert tree(tmp_path / "out") == expected
    cluster.add_node(**NODE)


@pytest.fixture
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where no other run deletes what a killed one has left; its path is short, as Ray's sockets need."""
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_run_that_is_stopped_is_resumed_with_or_without_a_cluster(
    many: Path, trained: Model, expected: dict[str, bytes], tmp_path: Path, number: signal.Signals,
    own_temporary_folder: Path,
) -> None:  # fmt: skip
    run = command(many, trained, tmp_path / "out", "--ray", "local")
    running = start(run)
    wait_for_results(running, tmp_path / "out")
    started, temporary = descendants_of(running.pid), temporary_folder_of(running.pid)
    if number == signal.SIGINT:
        os.killpg(running.pid, number)  # as a terminal does
    else:
        running.send_signal(number)
    _, err = running.communicate(timeout=300)
    assert running.returncode == (-number if number == signal.SIGKILL else 128 + number), err
    if number != signal.SIGKILL:
        assert err.splitlines()[-1].startswith(f"Stopped by {number.name}. Resume with: labelr tag {many}")
        assert "Traceback" not in err
        assert "Error" not in err
    wait_for_end(started)
    assert temporary.parent == own_temporary_folder
    assert temporary.exists() == (number == signal.SIGKILL)
    resumed = command(many, trained, tmp_path / "out") if number == signal.SIGINT else run
    assert (
        0
        < int(re.findall(r"\(([\d,]+) of them in an earlier", end_of(start(resumed)))[0].replace(",", ""))
        < NUM_IMAGES
    )
    assert tree(tmp_path / "out") == expected
    assert not temporary.exists()


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, "starting the cluster"), (signal.SIGINT, "starting the cluster"),
        (signal.SIGTERM, "waiting for a worker"), (signal.SIGINT, "tagging"),
    ],
)  # fmt: skip
def test_signal_stops_a_run_without_a_traceback(
    many: Path, trained: Model, number: signal.Signals, moment: str
) -> None:
    running = start(command(many, trained, "-", "--ray", "local"))
    assert running.stdout is not None
    is_reached: dict[str, Callable[[], object]] = {
        "starting the cluster": lambda: descendants_of(running.pid),
        "waiting for a worker": lambda: workers_of(running.pid),
        "tagging": running.stdout.readline,
    }
    while not is_reached[moment]():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.01)
    started = descendants_of(running.pid)
    temporary = temporary_folder_of(running.pid) if workers_of(running.pid) else None
    os.killpg(running.pid, number) if number == signal.SIGINT else running.send_signal(number)
    _, err = running.communicate(timeout=300)
    assert (running.returncode, err.splitlines()[-1]) == (128 + number, f"Stopped by {number.name}."), err
    assert "Traceback" not in err
    assert "Error" not in err
    assert temporary is None or not temporary.exists()
    wait_for_end(started)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketServer]:
    """A server with an empty bucket ``photos``, which the processes of this test find."""
    server = BucketServer()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.close()


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--gallery"]])
def test_images_in_a_bucket_are_read_once_by_workers(
    bucket: BucketServer, shapes: Path, home: Path, trained: Model, tmp_path: Path, more: list[str], cli: Cli
) -> None:
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # one of another test has the address of its server
    bucket.put_folder(shapes / "images", "deep/photos")
    bucket.put("deep/photos/more/broken.jpg", b"no image")
    photos = Path("s3://photos/deep/photos")
    alone = cli(*command(photos, trained, tmp_path / "expected", *more)[3:])
    assert (alone.code, "1 failed" in alone.err) == (3, True)
    shutil.rmtree(home)
    bucket.requests.clear()
    end_of(start(command(photos, trained, tmp_path / "out", "--ray", "local", *more)))
    assert tree(tmp_path / "out") == tree(tmp_path / "expected")
    assert Counter(bucket.read) == Counter(bucket.keys())
    assert bool([path for path in (home / "buckets" / "objects").rglob("*") if path.is_file()]) == bool(more)


def test_worker_with_another_home_cannot_open_images_in_a_bucket(trained: Model, home: Path, tmp_path: Path) -> None:
    worker = Worker(str(trained.path), TagOptions(), tmp_path, SharedHome(home, home / "buckets" / "mark"))
    error = worker.start()
    assert isinstance(error, LabelrError)
    assert error.message == f"a worker on {socket.gethostname()} does not see the LABELR_HOME of this run, {home}"


def test_without_ray_the_extra_is_named(
    cli: Cli, trained: Model, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = cli(*command(photos, trained, tmp_path / "out", "--ray", "local")[3:])
    assert done.code == 1
    assert "pip install 'labelr[ray]'" in done.err
    assert not (tmp_path / "out").exists()


@needs_ray
def test_address_that_nobody_answers_is_an_error_at_once(
    cli: Cli, trained: Model, photos: Path, tmp_path: Path
) -> None:
    done = cli(*command(photos, trained, tmp_path / "out", "--ray", "127.0.0.1:1")[3:])
    assert (done.code, done.err.splitlines()[0]) == (
        1, "Error: no Ray cluster answers at 127.0.0.1:1: connection refused",
    )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-gpus", "1"], "`--num-gpus`: there is no Ray cluster whose GPUs to use"),
        (["--ray", "local", "--num-gpus", "1", "--device", "cpu"], "`--num-gpus`: workers on the CPU use no GPU"),
        (["--ray", "local", "--device", "cuda"], "`--device`: workers on a Ray cluster get no GPU"),
        (["--ray", "cluster"], "`--ray`: expected local, auto or HOST:PORT, got 'cluster'"),
        (["--ray", "ray://10.0.0.1:10001"], "`--ray`: expected local, auto or HOST:PORT, got 'ray://10.0.0.1:10001'"),
    ],
)
def test_option_without_a_meaning_is_refused(cli: Cli, photos: Path, options: list[str], message: str) -> None:
    done = cli("tag", photos, *options)
    assert (done.code, done.err.splitlines()[0]) == (2, f"Error: {message}")


def test_preview_and_empty_folder_need_no_cluster(cli: Cli, trained: Model, photos: Path, tmp_path: Path) -> None:
    run = command(photos, trained, tmp_path / "out", "--ray", "127.0.0.1:1", "--dry-run")[3:]
    assert cli(*run).err.startswith("5 images found: 5 to tag, 0 unchanged, 0 to skip; results to delete: 0\n")
    assert cli(*command(photos, trained, tmp_path / "out")[3:]).code == 3
    assert cli(*run).err.startswith("5 images found: 1 to tag, 4 unchanged, 0 to skip; results to delete: 0\n")


@needs_ray
@pytest.mark.slow
def test_service_that_is_no_ray_cluster_is_an_error(trained: Model, photos: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        address = f"127.0.0.1:{service.getsockname()[1]}"
        running = start(command(photos, trained, tmp_path / "out", "--ray", address))
        _, err = running.communicate(timeout=300)
    assert running.returncode == 1
    assert f"no Ray cluster can be used by `--ray {address}`: nothing there answers as Ray does" in " ".join(
        err.split()
    )


@needs_ray
@pytest.mark.slow
def test_model_that_a_worker_cannot_read_is_an_error(
    cluster: Any, trained: Model, photos: Path, tmp_path: Path
) -> None:
    script = put(
        tmp_path, "loaded.py",
        "import shutil, sys, labelr\n"
        "model = labelr.load(sys.argv[1])\nshutil.rmtree(sys.argv[1])\n"
        "labelr.tag(sys.argv[2], model, ray=sys.argv[3], output=sys.argv[4], threads=1)\n",
    )  # fmt: skip
    folder = shutil.copytree(trained.path, tmp_path / "model")
    running = start([sys.executable, *map(str, (script, folder, photos, cluster.address, tmp_path / "out"))])
    _, err = running.communicate(timeout=300)
    assert re.search(r"LabelrError: a worker on \S+: ", err)
    assert not (tmp_path / "out").exists()


@needs_ray
@pytest.mark.slow
def test_gpu_that_no_node_has_is_an_error(cluster: Any, trained: Model, photos: Path, tmp_path: Path) -> None:
    running = start(command(photos, trained, tmp_path / "out", "--ray", "auto", "--num-gpus", "0.5"))
    _, err = running.communicate(timeout=300)
    assert running.returncode == 1
    assert err.startswith("Error: no node of the Ray cluster has 1 CPU and 0.5 GPUs for a worker\n")
