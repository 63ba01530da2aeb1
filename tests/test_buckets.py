"""Images, label files and results in buckets, on an S3 server of this machine."""

import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from bucket_server import KEY_ID, SECRET, BucketServer
from conftest import Cli, tiny_options
from tag_results import read_csv, tree

from labelr.buckets import addresses, objects
from labelr.buckets.addresses import parse
from labelr.data.check import check
from labelr.data.load import read
from labelr.model import archive
from labelr.scoring.evaluate import evaluate
from labelr.tagging.tag import tag

MODEL = Path(__file__).parent / "models" / "format-1" / "model.zip"
TIMELESS = ("seconds", "images_per_second", "output")


@pytest.fixture(scope="module")
def _server() -> Iterator[BucketServer]:
    server = BucketServer()
    yield server
    server.close()


@pytest.fixture
def server(_server: BucketServer, monkeypatch: pytest.MonkeyPatch) -> BucketServer:
    """The server with an empty bucket ``photos``, which this process and its children find."""
    _server.empty()
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # one of another test has the address of its server
    for name, value in _server.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(addresses, "FIRST_DELAY", 0.05)
    return _server


@pytest.fixture
def model(home: Path) -> Path:
    """A model in the models folder."""
    return archive.import_archive(MODEL, "m")


def summary_of(folder: Path) -> dict[str, object]:
    summary: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return {name: value for name, value in summary.items() if name not in TIMELESS}


def stored(home: Path) -> list[Path]:
    """The contents that are kept on this machine."""
    return [path for path in (home / "buckets" / "objects").rglob("*") if path.is_file()]


def assert_same_results(first: Path, second: Path) -> None:
    assert tree(first) == tree(second)
    assert summary_of(first) == summary_of(second)


def assert_no_secrets(*places: Path) -> None:
    found = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert found
    for path in found:
        content = path.read_bytes()
        assert SECRET.encode() not in content, path
        assert KEY_ID.encode() not in content, path


# --- reading ---------------------------------------------------------------------------------------------------------


def test_results_are_those_of_a_local_folder_and_a_second_run_reads_no_image(
    server: BucketServer, photos: Path, model: Path, home: Path, tmp_path: Path
) -> None:
    server.put_folder(photos, "a/photos")
    tag(photos, "m", output=tmp_path / "local")
    server.requests.clear()
    first = tag("s3://photos/a/photos", "m", output=tmp_path / "out")
    assert_same_results(tmp_path / "out", tmp_path / "local")
    assert Counter(server.read) == Counter(f"a/photos/{path}" for path in tree(photos))
    assert stored(home) == []  # a folder may be larger than the disk
    server.requests.clear()
    again = tag("s3://photos/a/photos/", "m", output=tmp_path / "out")
    assert (again.unchanged, again.new_failures) == (first.ok, 0)
    assert server.read == ["a/photos/deep/broken.jpg"]  # a failed image is tried again
    assert again.run is not None
    assert again.run.settings["photos"] == "s3://photos/a/photos"


def test_only_new_and_changed_objects_are_read_and_results_of_others_are_deleted(
    server: BucketServer, photos: Path, model: Path, tmp_path: Path
) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    server.put_folder(photos, "x")
    tag("s3://photos/x", "m", output=tmp_path / "out")
    server.put("x/z.png", (photos / "a.png").read_bytes())
    server.put("x/new.png", (photos / "a.png").read_bytes())
    server.client.delete_object(Bucket="photos", Key="x/deep/b.png")
    server.requests.clear()
    summary = tag("s3://photos/x", "m", output=tmp_path / "out")
    assert sorted(server.read) == ["x/new.png", "x/z.png"]
    assert (summary.ok, summary.unchanged, summary.vanished) == (4, 2, 1)
    assert not (tmp_path / "out" / "deep" / "b.png.csv").exists()


def test_errors_that_pass_are_retried(server: BucketServer, photos: Path, model: Path, tmp_path: Path) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    server.put_folder(photos, "x")
    left = {"x/a.png": ["500", "500"], "x/z.png": ["cut", "500"], "x/deep/er/d.PNG": ["cut"]}
    server.requests.clear()
    server.fault = lambda key: left[key].pop(0) if left.get(key) else None
    summary = tag("s3://photos/x", "m", output=tmp_path / "out")
    assert (summary.ok, summary.failed) == (4, 0)
    assert Counter(server.read) == {"x/a.png": 3, "x/z.png": 3, "x/deep/b.png": 1, "x/deep/er/d.PNG": 2}
    server.fault = None
    tag(photos, "m", output=tmp_path / "local")
    assert_same_results(tmp_path / "out", tmp_path / "local")


def test_server_that_does_not_answer_is_asked_again(
    server: BucketServer, photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "READ_SECONDS", 3)
    server.put_folder(photos / "deep" / "er", "x")
    stalls = {"x/d.PNG": ["stall"]}
    server.stall_seconds = 9
    server.requests.clear()
    server.fault = lambda key: stalls[key].pop() if stalls[key] else None
    assert tag("s3://photos/x", "m", output=tmp_path / "out").ok == 1
    assert server.read.count("x/d.PNG") >= 2


def test_object_that_cannot_be_read_is_a_failed_image_with_its_reason(
    server: BucketServer, photos: Path, model: Path, tmp_path: Path
) -> None:
    server.put_folder(photos, "x")
    faults = {"x/a.png": "403", "x/z.png": "500", "x/deep/b.png": "cut"}
    server.requests.clear()
    server.fault = faults.get
    summary = tag("s3://photos/x", "m", output=tmp_path / "out")
    reasons = dict(read_csv(tmp_path / "out" / "errors.csv")[1:])
    assert (summary.ok, summary.failed) == (1, 4)
    assert reasons["a.png"].startswith("the bucket denies access")
    assert reasons["z.png"].startswith(f"no answer from the bucket after {addresses.ATTEMPTS} attempts")
    assert reasons["deep/b.png"].startswith(f"no answer from the bucket after {addresses.ATTEMPTS} attempts")
    requests = Counter(server.read)
    assert (requests["x/a.png"], requests["x/z.png"]) == (1, addresses.ATTEMPTS)  # 403 is final
    server.fault = None
    assert tag("s3://photos/x", "m", output=tmp_path / "out").ok == 4


def test_addresses_in_a_list_are_tagged_and_a_missing_one_is_a_failed_image(
    server: BucketServer, photos: Path, model: Path, tmp_path: Path
) -> None:
    server.put_folder(photos, "x")
    server.put("lists/today.txt", b"s3://photos/x/a.png\ns3://photos/x/deep/er\ns3://photos/x/gone.png\n")
    summary = tag((), "m", files_from="s3://photos/lists/today.txt", output=tmp_path / "out")
    assert (summary.ok, summary.failed) == (2, 1)
    assert [row[0] for row in read_csv(tmp_path / "out" / "labels.csv")[1:]] == ["a.png", "deep/er/d.PNG"]
    assert dict(read_csv(tmp_path / "out" / "errors.csv")[1:]) == {"gone.png": "no such file or directory"}


def test_object_whose_name_no_file_can_have_is_named(
    server: BucketServer, photos: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = (photos / "a.png").read_bytes()
    for key in ("x/a.png", "x//b.png", f"x/{'n' * 300}.png", "x/both", "x/both/c.png"):
        server.put(key, content)
    assert tag("s3://photos/x", "m", output=tmp_path / "out").ok == 2
    assert "left out: 3 objects in s3://photos/x whose names no file can have: '/b.png', 'both', " in caplog.text


def test_labels_and_images_may_be_in_different_places(server: BucketServer, shapes: Path) -> None:
    server.put_folder(shapes / "images", "x/images")
    server.put("tables/labels.csv", (shapes / "labels.csv").read_bytes())
    expected = read(shapes)
    for data, options in (
        (shapes, {"labels": "s3://photos/tables/labels.csv"}),
        ("s3://photos/x", {"labels": shapes / "labels.csv"}),
        ("s3://photos/x", {"labels": "s3://photos/tables/labels.csv"}),
        ("s3://photos/tables", {"images": "s3://photos/x/images"}),
        ("s3://photos/tables", {"images": shapes / "images"}),
        ("s3://photos/tables/labels.csv", {"images": "s3://photos/x/images"}),
        (["s3://photos/x", "s3://photos/tables/labels.csv"], {}),
    ):
        assert read(data, **options).equals(expected), (data, options)


@pytest.mark.slow
def test_check_and_evaluate_read_each_object_once(
    server: BucketServer, shapes: Path, model: Path, home: Path, tmp_path: Path
) -> None:
    server.put_folder(shapes, "shapes")
    server.requests.clear()
    found = check("s3://photos/shapes").to_json()
    assert (found["images"], found["source"], found["problems"]) == (60, "s3://photos/shapes/labels.csv", [])
    scores = evaluate("s3://photos/shapes", "m", split="all", output=tmp_path / "scores").to_json()
    assert set(Counter(server.read).values()) == {1}
    assert scores["data"] == "s3://photos/shapes/labels.csv"
    assert scores["metrics"] == evaluate(shapes, "m", split="all").to_json()["metrics"]
    assert_no_secrets(home, tmp_path / "scores")
    shutil.rmtree(home / "buckets")  # pixels of the same etag and size are still known
    server.requests.clear()
    evaluate("s3://photos/shapes", "m", split="all")
    assert server.read == ["shapes/labels.csv"]


@pytest.mark.slow
def test_contents_are_kept_within_a_limit(
    server: BucketServer, shapes: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "STORE", objects.Store())
    server.put_folder(shapes, "shapes")
    objects.STORE.limit = 20_000
    check("s3://photos/shapes")
    assert 0 < sum(path.stat().st_size for path in stored(home)) <= 20_000


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["tag URL", "fit URL", "check URL --labels x.csv", "tag photos -o URL", "fit data --images URL"]
)
@pytest.mark.parametrize("url", [f"s3://{KEY_ID}:{SECRET}@photos/x", f"s3://photos/x?X-Amz-Signature={SECRET}"])
def test_credentials_in_an_address_are_refused_and_not_shown(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    result = cli(*line.replace("URL", url).split(), "--log-file", "log.txt")
    assert result.code == 1
    assert "credentials are read from the environment" in result.err
    for text in (result.out, result.err, Path("log.txt").read_text()):
        assert SECRET not in text
        assert KEY_ID not in text


def test_query_and_credentials_of_other_addresses_are_not_shown(cli: Cli) -> None:
    result = cli("tag", f"https://{KEY_ID}:{SECRET}@example.org/x?sig={SECRET}")
    assert "***@example.org/x?sig=*** is an address, where labelr takes local files only" in result.err
    assert SECRET not in result.err


@pytest.mark.parametrize("name", ["b", "b/x y/ü.jpg", "b/100%?.jpg", "b/a::c.jpg", "b/a@b.jpg"])
def test_names_in_addresses_are_literal(name: str) -> None:
    address = parse(Path(f"S3://{name}"))
    assert address is not None
    assert str(address) == f"s3://{name}"


@pytest.mark.slow
def test_folder_that_is_missing_and_bucket_that_denies_access_are_errors(
    server: BucketServer, process: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line, error in (
        ("check s3://photos/nothing", "there is nothing at s3://photos/nothing: the bucket has no object of this name"),
        ("tag s3://missing/x -o out", "there is no bucket missing, in which s3://missing/x would be"),
        ("tag photos -o s3://missing/x", "there is no bucket missing, in which s3://missing/x would be"),
        ("check s3://", "the name of the bucket is missing after s3://"),
        ("check s3://a_!/x", "cannot list s3://a_!/x: Parameter validation failed: Invalid bucket name"),
    ):
        assert process(*line.split()).err.startswith(f"Error: {error}"), line
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    result = process("check", "s3://photos/x")
    assert result.code == 1
    assert result.err.startswith("Error: cannot list s3://photos/x: ")
    assert "Hint: check AWS_PROFILE" in result.err


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_missing_extra_is_named(cli: Cli) -> None:
    result = cli("check", "gs://bucket/x")
    assert (result.code, "`pip install 'labelr[gcs]'`" in result.err) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--in-place"], ["--sort-into", "sorted"]])
def test_what_needs_images_on_this_machine_is_refused(
    server: BucketServer, cli: Cli, photos: Path, model: Path, tmp_path: Path, options: list[str]
) -> None:
    server.put_folder(photos, "x")
    result = cli("tag", "s3://photos/x", "-o", tmp_path / "out", *options)
    assert (result.code, "in a bucket" in result.err) == (1, True)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_results_in_a_bucket_are_those_of_a_local_folder(
    server: BucketServer, cli: Cli, photos: Path, model: Path, home: Path, tmp_path: Path
) -> None:
    tag(photos, "m", output=tmp_path / "local")
    log = tmp_path / "log.txt"
    result = cli("tag", photos, "-o", "s3://photos/out", "--log-file", log)
    assert (result.code, result.out) == (3, "s3://photos/out\n")
    assert str(home) not in result.err + log.read_text()
    keys = [key.removeprefix("out/") for key in server.keys("out/") if ".labelr" not in key]
    assert sorted(keys) == sorted([*tree(tmp_path / "local"), "summary.json"])
    for name, content in tree(tmp_path / "local").items():
        assert server.get(f"out/{name}") == content
    assert json.loads(server.get("out/summary.json"))["output"] == "s3://photos/out"
    assert_no_secrets(home)


def test_another_machine_updates_the_results_in_a_bucket(
    server: BucketServer, photos: Path, model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    server.put_folder(photos, "x")
    tag("s3://photos/x", "m", output="s3://photos/out")
    monkeypatch.setenv("LABELR_HOME", str(tmp_path / "other"))
    archive.import_archive(MODEL, "m")
    server.client.delete_object(Bucket="photos", Key="x/z.png")
    server.requests.clear()
    summary = tag("s3://photos/x", "m", output="s3://photos/out")
    assert (summary.unchanged, summary.vanished) == (3, 1)
    assert not [key for key in server.read if key.startswith("x/")]
    assert len(summary.table) == 3
    server.requests.clear()
    assert tag("s3://photos/x", "m", output="s3://photos/out").unchanged == 3
    assert server.read == []


def test_files_that_were_written_when_the_process_was_killed_do_not_replace_the_results(
    server: BucketServer, photos: Path, model: Path, home: Path
) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    tag(photos, "m", output="s3://photos/out")
    (photos / "z.png").unlink()
    record = next((home / "buckets" / "records").rglob("record.json"))
    notes = json.loads(record.read_text())
    record.write_text(json.dumps({**notes, "writing": ["labels.csv"]}))
    server.put("out/labels.csv", b"half of what there will be")
    summary = tag(photos, "m", output="s3://photos/out")
    assert (summary.unchanged, summary.vanished) == (3, 1)
    assert server.get("out/labels.csv").count(b"\n") == 4


def test_local_copy_that_is_gone_is_downloaded_again_and_nothing_in_the_bucket_is_deleted(
    server: BucketServer, cli: Cli, photos: Path, model: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    tag(photos, "m", output="s3://photos/out")
    contents = {key: server.get(key) for key in server.keys("out/")}
    copy = home / "buckets" / "results"
    for line in (["tag", photos, "--dry-run"], ["fit", photos], ["tag", photos, "--threshold", "0.9"], ["tag", photos]):
        shutil.rmtree(copy)
        cli(*line, "-o", "s3://photos/out")
        assert server.keys("out/") == sorted(contents), line
    (copy / "s3" / "photos" / "out" / "labels.csv").unlink()
    assert tag(photos, "m", output="s3://photos/out").unchanged == 4
    assert {key: server.get(key) for key in contents if "labels.csv" in key} == {
        key: content for key, content in contents.items() if "labels.csv" in key
    }
    assert "changed elsewhere" not in caplog.text


@pytest.mark.slow
def test_model_whose_local_copy_is_gone_is_downloaded_again(
    server: BucketServer, photos: Path, model: Path, home: Path, tmp_path: Path
) -> None:
    server.put_folder(model, "models/m")
    assert tag(photos, "s3://photos/models/m", output=tmp_path / "first").ok == 4
    shutil.rmtree(home / "buckets" / "results")
    assert tag(photos, "s3://photos/models/m", output=tmp_path / "second").ok == 4


def test_upload_that_was_killed_is_completed_on_this_machine_and_on_another(
    server: BucketServer, cli: Cli, photos: Path, model: Path, home: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (photos / "deep" / "broken.jpg").unlink()
    tag(photos, "m", output=tmp_path / "local")
    server.write_fault = lambda key: "403" if key.endswith((".csv", "summary.json")) else None
    for _ in range(2):
        result = cli("tag", photos, "-o", "s3://photos/out")
        assert "the results are kept on this machine, and the same command completes them" in result.err
        assert server.keys() == ["out/.labelr/journal.sqlite"]
    server.write_fault = None
    monkeypatch.setenv("LABELR_HOME", str(tmp_path / "other"))
    archive.import_archive(MODEL, "m")
    assert cli("tag", photos, "-o", "s3://photos/out").code == 0
    monkeypatch.setenv("LABELR_HOME", str(home))
    assert cli("tag", photos, "-o", "s3://photos/out").code == 0
    for name, content in tree(tmp_path / "local").items():
        assert server.get(f"out/{name}") == content


def test_objects_of_a_killed_upload_without_the_one_that_identifies_it_are_replaced_by_this_machine(
    server: BucketServer, cli: Cli, photos: Path, model: Path, home: Path
) -> None:
    tag(photos, "m", output="s3://photos/out")
    record = next((home / "buckets" / "records").rglob("record.json"))
    record.write_text(json.dumps({"synced": {}, "writing": ["labels.csv"]}))
    for key in server.keys("out/"):
        if key != "out/labels.csv":
            server.client.delete_object(Bucket="photos", Key=key)
    assert cli("tag", photos, "-o", "s3://photos/out").code == 0
    assert "out/.labelr/journal.sqlite" in set(server.keys())


def test_dry_run_and_run_that_fails_at_once_write_nothing(
    server: BucketServer, cli: Cli, photos: Path, model: Path
) -> None:
    server.write_fault = lambda key: "403" if key.endswith("labels.csv") else None
    cli("tag", photos, "-o", "s3://photos/out")
    server.write_fault = None
    server.requests.clear()
    assert cli("tag", photos, "-o", "s3://photos/out", "--dry-run").code == 0
    assert {method for method, _ in server.requests} <= {"GET", "HEAD"}
    assert cli("tag", photos, "-o", "s3://photos/out", "--threshold", "0.9").code == 1
    assert "out/labels.csv" not in set(server.keys())


def test_bucket_that_may_not_be_written_is_an_error_before_any_image_is_read(
    server: BucketServer, cli: Cli, photos: Path, model: Path
) -> None:
    server.put_folder(photos, "x")
    server.write_fault = lambda _: "403"
    server.requests.clear()
    result = cli("tag", "s3://photos/x", "-o", "s3://photos/out")
    assert result.err.startswith("Error: cannot write s3://photos/out")
    assert server.read == []


@pytest.mark.slow
def test_update_that_was_killed_during_its_upload_is_completed_without_edited_files(
    server: BucketServer, cli: Cli, photos: Path, model: Path
) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    tag(photos, "m", output="s3://photos/out")
    (photos / "z.png").unlink()
    server.stall_seconds = 3
    server.write_fault = lambda key: "stall" if key.endswith("labels.csv") else None
    server.requests.clear()
    command = [sys.executable, "-m", "labelr", "tag", str(photos), "--model", "m", "-o", "s3://photos/out"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        while ("PUT", "/photos/out/labels.csv") not in server.requests and run.poll() is None:
            time.sleep(0.02)
        run.kill()
    assert run.returncode == -signal.SIGKILL
    server.write_fault = None
    result = cli("tag", photos, "-o", "s3://photos/out")
    assert result.code == 0
    assert "elsewhere" not in result.err
    assert server.get("out/labels.csv").count(b"\n") == 4
    assert not [key for key in server.keys("out/") if "z.png" in key]


@pytest.mark.slow
def test_signal_during_the_upload_says_how_to_complete_it(server: BucketServer, photos: Path, model: Path) -> None:
    server.put("start", b"")
    server.stall_seconds = 3
    server.write_fault = lambda key: "stall" if key.endswith("labels.csv") else None
    command = [sys.executable, "-m", "labelr", "tag", str(photos), "--model", "m", "-o", "s3://photos/out"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        while ("PUT", "/photos/out/labels.csv") not in server.requests and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        err = run.communicate()[1]
    assert "the results in s3://photos/out are incomplete: the same command completes them" in err
    assert "Stopped by SIGINT. Resume with: labelr tag" in err
    assert "out/summary.json" not in set(server.keys())


def test_results_below_the_images_are_no_images(server: BucketServer, photos: Path, model: Path) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    server.put_folder(photos, "x")
    first = tag("s3://photos/x", "m", output="s3://photos/x/labels")
    again = tag("s3://photos/x", "m", output="s3://photos/x/labels")
    assert (first.found, again.found, again.unchanged) == (4, 4, 4)
    assert again.other_files == {}


@pytest.mark.slow
def test_cache_shows_and_clears_what_is_in_buckets_but_not_what_they_lack(
    server: BucketServer, process: Cli, photos: Path, model: Path, home: Path
) -> None:
    server.put_folder(photos, "x")
    process("tag", "s3://photos/x", "-o", "s3://photos/done")
    server.write_fault = lambda key: "403" if key.endswith("labels.csv") else None
    process("tag", "s3://photos/x", "-o", "s3://photos/waiting")
    server.write_fault = None
    rows = {row["kind"]: row["images"] for row in json.loads(process("cache", "ls", "--json").out)}
    waiting = list((home / "buckets" / "results" / "s3" / "photos" / "waiting").rglob("*.*"))
    assert rows["listed"] == 5
    assert rows["results"] > len(waiting)
    keys = server.keys()
    cleared = json.loads(process("cache", "clear", "--json").out)
    assert (cleared["listed"], cleared["results"]) == (5, rows["results"] - len([p for p in waiting if p.is_file()]))
    assert not list((home / "buckets" / "results" / "s3" / "photos" / "done").rglob("*.csv"))
    assert all(path.exists() for path in waiting)
    assert server.keys() == keys
    for name in ("done", "waiting"):
        assert process("tag", "s3://photos/x", "-o", f"s3://photos/{name}").code == 0
        assert f"{name}/labels.csv" in set(server.keys())


@pytest.mark.slow
def test_cache_is_not_cleared_of_what_a_run_uses(
    server: BucketServer, process: Cli, photos: Path, model: Path, home: Path, tmp_path: Path
) -> None:
    server.put_folder(photos, "x")
    tag("s3://photos/x", "m", output=tmp_path / "out")  # this process goes on
    process("cache", "clear")
    assert (home / "buckets" / "mirror" / "s3" / "photos" / "x" / "a.png").exists()


@pytest.mark.slow
def test_evaluation_whose_upload_was_killed_is_completed_with_force(
    server: BucketServer, cli: Cli, shapes: Path, model: Path, home: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    server.write_fault = lambda key: "403" if key.endswith("metrics.json") else None
    line = ("evaluate", shapes, "--model", "m", "--split", "all", "-o", "s3://photos/scores")
    result = cli(*line)
    assert "the same command with `--force` completes them" in result.err
    server.write_fault = None
    monkeypatch.setenv("LABELR_HOME", str(tmp_path / "other"))
    archive.import_archive(MODEL, "m")
    assert "replace it with `--force`" in cli(*line).err
    assert cli(*line, "--force").code == 0
    assert "scores/metrics.json" in set(server.keys())
    monkeypatch.setenv("LABELR_HOME", str(home))
    assert cli(*line, "--force").code == 0


@pytest.mark.slow
def test_training_whose_upload_was_killed_is_completed_here_and_replaced_on_another_machine(
    server: BucketServer, cli: Cli, shapes: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("fit", shapes, "-o", "s3://photos/birds", *tiny_options())
    server.write_fault = lambda key: "403" if key.endswith("model.json") else None
    assert "the same command with `--resume` completes them" in cli(*line).err
    keys = server.keys()
    server.write_fault = None
    assert cli(*line, "--resume").code == 0
    assert "birds/model.json" in set(server.keys())
    for key in set(server.keys()) - set(keys):
        server.client.delete_object(Bucket="photos", Key=key)
    monkeypatch.setenv("LABELR_HOME", str(tmp_path / "other"))
    assert "has neither a model nor a checkpoint" in cli(*line).err
    assert cli(*line, "--force").code == 0
    assert "birds/model.json" in set(server.keys())


def test_folder_whose_images_are_all_deleted_keeps_its_results(
    server: BucketServer, cli: Cli, photos: Path, model: Path, tmp_path: Path
) -> None:
    server.put("empty/", b"")
    assert cli("tag", "s3://photos/empty", "-o", tmp_path / "no").err.startswith(
        "Error: no images in s3://photos/empty"
    )
    server.put_folder(photos / "deep" / "er", "x")
    tag("s3://photos/x", "m", output=tmp_path / "out")
    server.client.delete_object(Bucket="photos", Key="x/d.PNG")
    for _ in range(2):
        result = cli("tag", "s3://photos/x", "-o", tmp_path / "out")
        assert (result.code, "no images are left in s3://photos/x: keeping the results" in result.err) == (0, True)


def test_home_that_cannot_be_written_is_named(
    server: BucketServer, cli: Cli, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put_folder(photos, "x")
    monkeypatch.setenv("LABELR_HOME", "/dev/null/x")
    assert cli("check", "s3://photos/x").err.startswith("Error: cannot write /dev/null/x")


@pytest.mark.slow
def test_object_whose_name_s3fs_takes_for_a_version_is_left_out(
    server: BucketServer, photos: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = (photos / "a.png").read_bytes()
    server.put("x/a.png", content)
    server.put("x/b.png?versionId=1.png", content)
    assert tag("s3://photos/x", "m", output=tmp_path / "out").found == 1
    assert "left out: 1 object in s3://photos/x whose names s3fs cannot read because of '?versionId='" in caplog.text


def test_folder_of_other_objects_takes_no_results(server: BucketServer, cli: Cli, photos: Path, model: Path) -> None:
    server.put("x/notes.txt", b"mine")
    result = cli("tag", photos, "-o", "s3://photos/x")
    assert result.err.startswith("Error: s3://photos/x holds objects that are not results of labelr")
    assert server.keys() == ["x/notes.txt"]


@pytest.mark.slow
def test_model_in_a_bucket_is_trained_resumed_and_applied(
    server: BucketServer, cli: Cli, shapes: Path, home: Path, tmp_path: Path
) -> None:
    server.put_folder(shapes, "shapes")
    options = tiny_options()
    log = tmp_path / "log.txt"
    result = cli("fit", "s3://photos/shapes", "-o", "s3://photos/models/birds", "--log-file", log, *options)
    assert (result.code, result.out) == (0, "s3://photos/models/birds\n")
    assert set(Counter(server.read).values()) == {1}
    keys = server.keys("models/birds/")
    assert "models/birds/model.json" in keys
    record = b"".join(server.get(key) for key in keys)
    assert b"s3://photos/shapes" in record
    assert str(home).encode() not in record
    assert SECRET.encode() not in record
    assert_no_secrets(home)
    local = cli("fit", shapes, "-o", tmp_path / "birds", *options)
    assert local.code == 0
    weights = next(path for path in (tmp_path / "birds").glob("weights-*"))
    assert server.get(f"models/birds/{weights.name}") == weights.read_bytes()
    shutil.rmtree(home)
    tagged = cli("tag", shapes / "images", "--model", "s3://photos/models/birds", "-o", tmp_path / "out")
    assert tagged.code == 0


# --- many ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_objects_survive_faults_and_a_kill_and_are_read_once(
    server: BucketServer, shapes: Path, model: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSSPEC_S3", '{"config_kwargs": {"read_timeout": 10}}')
    server.stall_seconds = 15
    count, images = 600, sorted((shapes / "images").iterdir())
    local = tmp_path / "photos"
    for number in range(count):
        folder = local / f"{number // 500}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04d}.png").write_bytes(images[number % 60].read_bytes() + b" " * number)
    server.put_folder(local, "many")
    server.requests.clear()
    kinds = ("500", "cut", "stall")
    left = {f"many/{number // 500}/{number:04d}.png": [kinds[number // 20 % 3]] for number in range(0, count, 20)}
    server.fault = lambda key: left[key].pop() if left.get(key) else None
    out = tmp_path / "out"
    command = [sys.executable, "-m", "labelr", "tag", "s3://photos/many", "--model", "m", "-o", str(out)]
    command += ["--threads", "1", "--format", "table"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        while len(server.read) < 250 and run.poll() is None:
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    reads = Counter(server.read)
    assert set(reads) == {f"many/{number // 500}/{number:04d}.png" for number in range(count)}
    again = sum(reads.values()) - count - len(left)  # those in progress when it was killed
    assert again <= 2 * objects.MAX_AHEAD + 200
    tag(local, "m", output=tmp_path / "local", format=["table"], threads=1)
    assert tree(out) == tree(tmp_path / "local")
    server.requests.clear()
    assert tag("s3://photos/many", "m", output=out, format=["table"], threads=1).unchanged == count
    assert server.read == []
    assert len(server.requests) <= 5  # pages of the listing
    assert_no_secrets(home, out)
    assert stored(home) == [] or len(stored(home)) <= 2 * objects.MAX_AHEAD  # what the killed process has left
