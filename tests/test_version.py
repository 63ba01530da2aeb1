"""How an installation is upgraded."""

import json
import sys
from pathlib import Path

import pytest

from labelr.version import upgrade_hint


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The metadata of an installation of labelr, the first that is found."""
    folder = tmp_path / "site" / "labelr-0.1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: labelr\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return folder


@pytest.mark.parametrize(
    ("file", "installer", "command"),
    [
        ("", "pip\n", "pip install --upgrade labelr"),
        ("", "", "pip install --upgrade labelr"),
        ("", "uv", "uv pip install --upgrade labelr"),
        ("", "conda", "conda update labelr"),
        ("pipx_metadata.json", "pip", "pipx upgrade labelr"),
        ("uv-receipt.toml", "uv", "uv tool upgrade labelr"),
    ],
)
def test_hint_fits_the_installer(installed: Path, tmp_path: Path, file: str, installer: str, command: str) -> None:
    (tmp_path / (file or "other")).touch()
    (installed / "INSTALLER").write_text(installer)
    assert upgrade_hint() == f"upgrade labelr: `{command}`"


@pytest.mark.parametrize(("info", "again"), [({"editable": True}, ""), ({}, ", and install it again")])
def test_source_tree_is_updated_in_place(installed: Path, info: dict[str, bool], again: str) -> None:
    (installed / "direct_url.json").write_text(json.dumps({"url": "file:///home/me/my%20code", "dir_info": info}))
    assert upgrade_hint() == f"upgrade labelr: update its source in /home/me/my code{again}"
