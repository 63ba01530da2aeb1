"""The version of labelr: a literal, so that the build can read it without importing anything."""

__version__ = "0.1.0"


def upgrade_hint() -> str:
    """How this installation of labelr is upgraded."""
    import json
    import sys
    from importlib.metadata import PackageNotFoundError, distribution
    from pathlib import Path
    from urllib.parse import unquote

    prefix = Path(sys.prefix)
    try:
        read = distribution("labelr").read_text
    except PackageNotFoundError:  # a source tree that is not installed
        return f"upgrade labelr: update its source in {Path(__file__).parents[1]}"
    origin = json.loads(read("direct_url.json") or "{}")
    if "dir_info" in origin:
        again = "" if origin["dir_info"].get("editable") else ", and install it again"
        return f"upgrade labelr: update its source in {unquote(origin['url'].removeprefix('file://'))}{again}"
    installer = (read("INSTALLER") or "").strip()
    if (prefix / "pipx_metadata.json").exists():
        command = "pipx upgrade labelr"
    elif (prefix / "uv-receipt.toml").exists():
        command = "uv tool upgrade labelr"
    elif installer == "conda":
        command = "conda update labelr"
    else:
        command = f"{'uv ' if installer == 'uv' else ''}pip install --upgrade labelr"
    return f"upgrade labelr: `{command}`"
