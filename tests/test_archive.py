"""Archives of models: what is in them, how they are verified and imported, and that earlier formats are still read."""

import csv
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, put

from labelr import locks
from labelr.data.splits import read_splits
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.archive import export_archive, import_archive, verify
from labelr.model.calibration import UNCALIBRATED
from labelr.model.info import Architecture, ModelInfo, Preprocessing, Pretraining
from labelr.model.predict import Model, build_network

sys.path.insert(0, str(Path(__file__).parent / "bench"))
import archive_mutations

FORMATS = Path(__file__).parent / "models"
PRESENT = FORMATS / "format-1" / "model.zip"
Change = Callable[[dict[str, bytes]], None]
NUM_EXAMPLES = 60


@pytest.fixture
def birds(trained: Model, home: Path) -> Path:
    """A model whose files name images and folders of its owner."""
    folder = Path(shutil.copytree(trained.path, home / "models" / "birds"))
    info = json.loads((folder / "model.json").read_text())
    info["data"] = ["/home/anna/secret photos"]
    info["config"] |= {
        "labels": ["/home/anna/secret/labels.csv"],
        "init": "C:\\Users\\anna\\first",
        "weights": "default",
    }
    put(folder, "model.json", json.dumps(info))
    put(folder, "errors.csv", "filename,reason\nsecret.jpg,empty\n")
    put(folder, "report/report.html", "secret")
    return folder


@pytest.fixture
def exported(birds: Path, tmp_path: Path) -> Path:
    return export_archive("birds", tmp_path / "birds.zip")


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def write(path: Path, contents: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return path


def state_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", sorted(FORMATS.glob("format-*")), ids=lambda folder: folder.name)
def test_model_of_every_format_is_imported_and_predicts_the_same(folder: Path) -> None:
    model = store.load(import_archive(folder / "model.zip"), device="cpu", amp=False, threads=1)
    with (folder / "probabilities.csv").open(newline="") as file:
        expected = {row["label"]: float(row["probability"]) for row in csv.DictReader(file)}
    _, probs = model.predict([folder / "image.png"])
    assert model.labels == tuple(expected)
    np.testing.assert_allclose(probs[0], [*expected.values()], atol=1e-4)


def test_fixture_is_of_the_present_format() -> None:
    from labelr.model.info import FORMAT

    assert json.loads(members(FORMATS / f"format-{FORMAT}" / "model.zip")["shapes/model.json"])["format"] == FORMAT


def test_archive_of_a_newer_format_is_refused_with_a_hint_before_its_unknown_members(tmp_path: Path) -> None:
    contents = members(PRESENT)
    info = json.loads(contents["shapes/model.json"]) | {"format": 99, "novelty": 1}
    contents |= {"shapes/model.json": json.dumps(info).encode(), "shapes/novelty.bin": b"new"}
    with pytest.raises(
        LabelrError, match=r"new\.zip/model\.json has format 99, and this labelr reads up to 1"
    ) as caught:
        import_archive(write(tmp_path / "new.zip", contents))
    assert "upgrade" in caught.value.hint


# --- export ----------------------------------------------------------------------------------------------------------


def test_same_model_gives_the_same_bytes_at_any_time_and_after_an_import(birds: Path, tmp_path: Path) -> None:
    first = export_archive("birds", tmp_path / "first.zip")
    for path in birds.iterdir():
        os.utime(path, (0, 0))
    second = export_archive(birds, tmp_path / "second.zip")
    store.remove(birds)
    assert import_archive(first).name == "birds"
    third = export_archive("birds", tmp_path / "third.zip")
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_archive_holds_nothing_but_the_model_and_names_no_image_and_no_folder(exported: Path, trained: Model) -> None:
    contents = members(exported)
    weights = trained.info.weights["file"]
    files = ["config.json", "history.csv", "metrics.json", "model.json", "splits.csv", weights]
    assert [*contents] == [f"birds/{name}" for name in files]
    texts = b"".join(content for name, content in contents.items() if not name.endswith(weights))
    for private in (b"secret", b"anna", b"00000.png", str(trained.path.parent).encode(), b"shapes/"):
        assert private not in texts
    assert json.loads(contents["birds/model.json"])["config"]["init"] == "first"


def test_images_are_still_recognised_by_their_digests(exported: Path, trained: Model) -> None:
    before = read_splits(trained.path / "splits.csv")
    after = read_splits(import_archive(exported) / "splits.csv")
    assert {row[1:] for row in after} == {row[1:] for row in before}
    assert len(after) == len(before)


@pytest.mark.slow
def test_imported_model_is_evaluated_without_the_images_that_it_was_trained_on(
    cli: Cli, exported: Path, shapes: Path, home: Path
) -> None:
    folder = import_archive(exported, "other")
    mine, theirs = (
        json.loads(cli("evaluate", shapes, "--model", name, "--threads", 1, "--json").out)
        for name in ("birds", "other")
    )
    assert mine["left_out"]["trained_on"] > 0
    assert {**theirs, "model": mine["model"]} == mine
    assert theirs["model"] == str(folder)


def test_export_replaces_a_file_only_by_force_and_never_anything_else(birds: Path, tmp_path: Path) -> None:
    target = put(tmp_path, "mine.txt", "mine")
    with pytest.raises(LabelrError, match="exists already") as caught:
        export_archive("birds", target)
    assert "`--force`" in caught.value.hint
    assert target.read_text() == "mine"
    assert members(export_archive("birds", target, force=True))
    for other in (tmp_path, Path(os.devnull)):
        with pytest.raises(LabelrError, match="is no regular file"):
            export_archive("birds", other, force=True)


def test_damaged_and_unfinished_models_are_not_exported(birds: Path, tmp_path: Path) -> None:
    weights = next(birds.glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(LabelrError, match="its digest is not"):
        export_archive("birds", tmp_path / "a.zip")
    info = json.loads((birds / "model.json").read_text())
    put(birds, "model.json", json.dumps(info | {"complete": False}))
    with pytest.raises(LabelrError, match="is not finished"):
        export_archive("birds", tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_model_with_a_backbone_has_all_its_weights_in_the_archive(home: Path, tmp_path: Path) -> None:
    info = ModelInfo(
        labels=("dog", "cat"), thresholds=(0.5, 0.5), preprocessing=Preprocessing(image_size=64), complete=True,
        architecture=Architecture(dropout=0.0, backbone="shufflenet_v2_x0_5"), calibration=UNCALIBRATED,
        pretraining=Pretraining(
            backbone="shufflenet_v2_x0_5", source="torchvision", licence="BSD-3-Clause", weights="/home/anna/w.pth",
            sha256="0" * 64,
        ),
    )  # fmt: skip
    network, folder = build_network(info), home / "models" / "dogs"
    put(folder, "metrics.json", '{"metrics": {"map_macro": null}}')
    put(folder, "config.json", "{}")
    put(folder, "history.csv", "epoch,val_loss\n1,nan\n")
    store.save(folder, network, info)
    imported = import_archive(export_archive("dogs", tmp_path / "dogs.zip"))
    loaded = store.load(imported, device="cpu")
    assert loaded.info.pretraining is not None
    assert loaded.info.pretraining.weights == "w.pth"
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded.module.state_dict()[name]), name


# --- import ----------------------------------------------------------------------------------------------------------


def test_import_of_a_missing_file_says_which_file_is_wanted(home: Path) -> None:
    with pytest.raises(LabelrError, match=r"birds\.zip does not exist") as raised:
        import_archive("birds.zip")
    assert raised.value.hint == "name a file that `labelr models export` wrote"
    assert not any(home.rglob("*"))


def test_import_takes_the_name_in_the_archive_then_numbers(home: Path) -> None:
    assert [import_archive(PRESENT).name for _ in range(3)] == ["shapes", "shapes-2", "shapes-3"]
    assert import_archive(PRESENT, "other").name == "other"
    with pytest.raises(LabelrError, match="exists already"):
        import_archive(PRESENT, "other")
    with pytest.raises(LabelrError, match="cannot be called"):
        import_archive(PRESENT, "../other")
    assert sorted(path.name for path in (home / "models").iterdir()) == ["other", "shapes", "shapes-2", "shapes-3"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archive_that_another_program_packed_again_is_imported(tmp_path: Path, compression: int) -> None:
    contents = {"shapes/": b"", **members(PRESENT), "__MACOSX/": b"", "__MACOSX/shapes/._model.json": b"\0"}
    assert import_archive(write(tmp_path / "again.zip", contents, compression=compression)).name == "shapes"


def weights_in(contents: dict[str, bytes]) -> str:
    return next(name for name in contents if "weights" in name)


def renamed(contents: dict[str, bytes], name: str) -> None:
    contents[name] = contents.pop("shapes/history.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda contents: renamed(contents, "/etc/passwd"), "a member that no archive of a model has: '/etc/passwd'"),
        (lambda contents: renamed(contents, "shapes/../../x"), "a member that no archive of a model has"),
        (lambda contents: renamed(contents, "../shapes/history.csv"), "a member that no archive of a model has"),
        (lambda contents: renamed(contents, "C:\\x"), "a member that no archive of a model has"),
        (lambda contents: renamed(contents, "shapes/report.html"), "a member that no archive of a model has"),
        (lambda contents: renamed(contents, f"shapes/weights-{'0' * 12}.safetensors"), "a member that no archive"),
        (lambda contents: renamed(contents, "shapes/.lock"), "a member that no archive of a model has"),
        (lambda contents: renamed(contents, "shapes/history.csv/"), "is a link or a folder"),
        (lambda contents: contents.pop("shapes/model.json"), "holds no model.json"),
        (lambda contents: contents.clear(), "holds no model.json"),
        (lambda contents: contents.pop(weights_in(contents)), "which holds its weights"),
        (lambda contents: contents.update({"shapes/metrics.json": b"[]"}), "metrics.json is damaged"),
        (lambda contents: contents.pop("shapes/metrics.json"), "bad.zip has no metrics.json"),
        (lambda contents: contents.update({"shapes/history.csv": b"a,b\n1,x\n"}), "history.csv is damaged"),
        (lambda contents: contents.update({"shapes/config.json": b'{"lr": {}}'}), "config.json is damaged"),
        (lambda contents: changed_info(contents, complete=False), "the training of its model is not finished"),
        (lambda contents: contents.update({"shapes/splits.csv": b"a,b\n1,2\n"}), "splits.csv"),
        (lambda contents: contents.update({"shapes/history.csv": b"0" * 2**21}), "expands too far"),
        (lambda contents: contents.update({f"shapes/{n}": b"" for n in range(2000)}), "too many members"),
    ],
)  # fmt: skip
def test_archive_with_other_members_is_refused_and_nothing_is_written(
    change: Change, message: str, tmp_path: Path, home: Path
) -> None:
    contents = members(PRESENT)
    change(contents)
    path = write(tmp_path / "bad.zip", contents, compression=zipfile.ZIP_DEFLATED)
    before = state_of(tmp_path)
    with pytest.raises(LabelrError, match=message) as caught:
        import_archive(path)
    assert "labelr-" not in str(caught.value)  # no temporary name
    assert [item for item in state_of(tmp_path) if item not in before] == [home, home / "models"]


def changed_info(contents: dict[str, bytes], **values: Any) -> None:
    contents["shapes/model.json"] = json.dumps(json.loads(contents["shapes/model.json"]) | values).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda contents: changed_info(contents, labels=["a", "b"], thresholds=[0.5, 0.5]), "this model's weights"),
        (lambda contents: changed_info(contents, thresholds=[0.5]), "number of thresholds"),
        (lambda contents: changed_info(contents, architecture={"stem": "deep", "width": 1, "dropout": 0}), "weights"),
        (lambda contents: changed_info(contents, architecture={"dropout": 0, "backbone": "resnet18"}), "weights"),
        (lambda contents: changed_info(contents, architecture={"dropout": 0, "backbone": "nonsense"}), "no backbone"),
        (lambda contents: changed_info(contents, weights={"file": "../x", "sha256": "0" * 64}), "weights file"),
        (lambda contents: changed_info(contents, surprise=1), "unknown key 'surprise'"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_each_other_are_refused(change: Change, message: str, tmp_path: Path, home: Path) -> None:
    contents = members(PRESENT)
    change(contents)
    path = write(tmp_path / "bad.zip", contents)
    for read in (import_archive, verify):
        with pytest.raises(LabelrError, match=message) as caught:
            read(path)
        assert str(path) in caught.value.message or "backbone" in caught.value.message
    assert [*(home / "models").iterdir()] == []


def test_weights_that_do_not_match_the_digest_are_refused(tmp_path: Path) -> None:
    contents = members(PRESENT)
    weights = weights_in(contents)
    contents[weights] = contents[weights][:-1] + bytes([contents[weights][-1] ^ 1])
    with pytest.raises(LabelrError, match=r"its digest is not the one in model\.json") as caught:
        import_archive(write(tmp_path / "bad.zip", contents))
    assert "`labelr models export`" in caught.value.hint


def patched(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(PRESENT.read_bytes()))
    return path


def with_entry(path: Path, **values: Any) -> Path:
    """The archive with other values in the entry of a member."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members(PRESENT).items():
            entry = zipfile.ZipInfo(name)
            if name == "shapes/history.csv":
                for key, value in values.items():
                    setattr(entry, key, value)
            file.writestr(entry, content)
    return path


def test_links_encrypted_and_oddly_compressed_members_are_refused(tmp_path: Path) -> None:
    for mode in (stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o666, stat.S_IFDIR | 0o777):
        with pytest.raises(LabelrError, match="is a link or a folder"):
            import_archive(with_entry(tmp_path / "link.zip", external_attr=mode << 16))
    with pytest.raises(LabelrError, match="is compressed in an unusual way"):
        import_archive(with_entry(tmp_path / "bz2.zip", compress_type=zipfile.ZIP_BZIP2))
    start = PRESENT.read_bytes().index(b"PK\1\2")
    encrypted = patched(tmp_path / "a.zip", lambda data: data[: start + 8] + b"\1" + data[start + 9 :])
    with pytest.raises(LabelrError, match="is encrypted"):
        import_archive(encrypted)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = shutil.copy(PRESENT, tmp_path / "twice.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("shapes/model.json", members(PRESENT)["shapes/model.json"])
    with pytest.raises(LabelrError, match="two members of the same name"):
        import_archive(path)


def test_bomb_that_declares_a_small_size_is_refused(tmp_path: Path) -> None:
    contents = members(PRESENT)
    contents["shapes/history.csv"] = b"0" * 30_000_000
    path = write(tmp_path / "bomb.zip", contents, compression=zipfile.ZIP_DEFLATED)
    size = (30_000_000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(LabelrError, match="is damaged: Bad CRC-32"):
        import_archive(path)


def test_large_texts_are_read_in_parts(tmp_path: Path) -> None:
    contents = members(PRESENT)
    contents["shapes/history.csv"] = b"0" * 2**26
    path = write(tmp_path / "large.zip", contents)
    del contents
    tracemalloc.start()
    try:
        with pytest.raises(LabelrError, match=r"history\.csv is damaged: it has 67,108,864 bytes"):
            verify(path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\5\6" + b"\0" * 18, b"\0" * 10_000])
def test_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(LabelrError, match=r"a\.zip is damaged: it (is no zip file|holds no model)"):
        import_archive(put(tmp_path, "a.zip", content))


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    for name in ("pipe.zip", "."):
        with pytest.raises(LabelrError, match="cannot read"):
            import_archive(tmp_path / name)


def test_leftover_of_a_killed_import_is_deleted_by_the_next_unless_it_is_in_use(home: Path) -> None:
    dead, used = (home / "models" / f".labelr-{name}.tmp" for name in ("dead", "used"))
    for folder in (dead, used):
        put(folder, "model/model.json", "{}")
    assert list(store.list_models()) == []
    with locks.locked(used):
        import_archive(PRESENT)
    assert (dead.exists(), used.exists()) == (False, True)


@pytest.mark.slow
def test_imports_at_the_same_time_get_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["shapes", *(f"shapes-{number}" for number in range(2, 7))]
    for number in range(8):  # an import that takes the draft of another for a leftover is rare
        home = tmp_path / f"home-{number}"
        monkeypatch.setenv("LABELR_HOME", str(home))
        with ThreadPoolExecutor(6) as pool:
            found = [pool.submit(import_archive, PRESENT) for _ in names]
        assert sorted(one.result().name for one in found) == names
        assert sorted(path.name for path in (home / "models").iterdir()) == names
        for name in names:
            verify(home / "models" / name)


@pytest.mark.slow
def test_killed_import_leaves_no_model_or_a_complete_one(home: Path) -> None:
    (home / "models").mkdir(parents=True)
    code = f"from labelr.model.archive import import_archive\nprint(flush=True)\nimport_model({str(PRESENT)!r})"
    dice = random.Random(0)
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            running.stdout.readline()
            time.sleep(dice.uniform(0, 0.3))
            running.kill()
        for folder, _ in store.list_models():
            verify(folder)
    import_archive(PRESENT)
    assert not [path for path in (home / "models").iterdir() if path.name.startswith(".labelr-")]


@pytest.mark.slow
def test_damaged_archives_are_errors_and_write_nothing_outside(tmp_path: Path) -> None:
    outcomes = archive_mutations.run(NUM_EXAMPLES, seed=1, place=tmp_path / "fuzz")
    assert outcomes["error"] > NUM_EXAMPLES / 2
    assert outcomes.keys() <= {"error", "imported"}


# --- commands --------------------------------------------------------------------------------------------------------


def test_commands_export_verify_and_import(cli: Cli, birds: Path, tmp_path: Path, home: Path) -> None:
    file = tmp_path / "my birds.zip"
    assert cli("models", "export", "birds", file) == (0, f"{file}\n", "")
    assert "ok: SHA-256" in cli("models", "verify", file, "birds").out
    store.pin(birds)
    assert cli("models", "import", file) == (0, f"{home / 'models' / 'birds-2'}\n", "")
    store.pin(None)
    store.remove(birds)
    store.remove(birds.with_name("birds-2"))
    done = cli("models", "import", file, "--name", "tits", "--json")
    assert json.loads(done.out) == {"name": "tits", "path": str(home / "models" / "tits")}
    assert done.err == "tits is the newest model now, which is used without `--model`.\n"
    file.write_bytes(file.read_bytes()[:-1])
    found = cli("models", "verify", file, "--json")
    assert found.code == 3
    assert json.loads(found.out)[0]["damaged"] == f"{file} is damaged: it is no zip file, or has been cut off"
    assert cli("models", "import", file).code == 1


def test_rename_keeps_the_default_and_refuses_what_is_taken_or_invalid(cli: Cli, birds: Path, home: Path) -> None:
    put(home, "models/taken/notes.txt", "mine")
    for name in ("taken", "a/b", ".hidden", "birds"):
        assert cli("models", "rename", "birds", name).code in (1, 2), name
    store.pin(birds)
    target = home / "models" / "tits"
    assert cli("models", "rename", "birds", "tits") == (0, f"{target}\n", "")
    assert store.find() == target
    assert not (target / ".lock").exists()
    verify(target)
    assert cli("models", "rename", "birds", "robins").code == 1


def test_model_in_use_is_not_renamed(cli: Cli, birds: Path) -> None:
    code = f"from pathlib import Path\nfrom labelr import locks\nwith locks.locked(Path({str(birds)!r})):\n    input(1)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.read(1)
        assert cli("models", "rename", "birds", "tits").code == 75
        running.communicate(b"\n")
    assert cli("models", "rename", "birds", "tits").code == 0


def test_model_outside_the_models_folder_is_not_renamed(trained: Model) -> None:
    with pytest.raises(LabelrError, match="is not in"):
        store.rename(trained.path, "tits")
