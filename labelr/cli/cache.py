"""``labelr cache``: looks after the pixels that are kept so that images are decoded only once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from labelr import console
from labelr.cli import options as opt

cache = typer.Typer(name="cache", help="Look after the cache of decoded images.", no_args_is_help=True)


@cache.command()
def ls(json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """List what the cache holds, the longest unused first."""
    from labelr.data import pixel_cache

    with console.session(quiet=quiet, verbose=verbose):
        rows = pixel_cache.describe()
    if json:
        console.show_json(rows)
    else:
        _show(rows, pixel_cache.cache_folder())


@cache.command()
def clear(json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """Delete all decoded images; the next run decodes what it needs again. Models and your files stay."""
    from labelr.data import pixel_cache

    with console.session(quiet=quiet, verbose=verbose):
        cleared = pixel_cache.clear()
    if json:
        console.show_json(cleared)
    elif not quiet:
        console.show_note(f"Deleted the pixels of {cleared['images']:,} images, {cleared['bytes'] / 1e6:,.0f} MB.")


def _show(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """What the pixel cache holds."""
    if not rows:
        console.show_note(f"The cache in {folder} is empty.")
        return
    shown = [
        {
            "pixels": row["name"],
            "images": row["images"],
            "MB": round(row["bytes"] / 1e6),
            "last used": row["used"][:16].replace("T", " "),
        }
        for row in rows
    ]
    console.show_table(shown)
    console.show_note(f"{sum(row['bytes'] for row in rows) / 1e6:,.0f} MB in {folder}")
