"""``labelr cache``: manages the cache of decoded images."""

import typer

from labelr import console
from labelr.cli import options as opt

cache = typer.Typer(name="cache", help="Manage the cache of decoded images.", no_args_is_help=True)


@cache.command()
def ls(json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """List the cache's contents, the least recently used first."""
    from labelr.data import pixel_cache

    with console.session(quiet=quiet, verbose=verbose):
        rows = pixel_cache.describe()
    if json:
        console.show_json(rows)
    elif not rows:
        console.show_note(f"The cache in {pixel_cache.cache_folder()} is empty.")
    else:
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
        console.show_note(f"{sum(row['bytes'] for row in rows) / 1e6:,.0f} MB in {pixel_cache.cache_folder()}")


@cache.command()
def clear(json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """Delete all decoded images; later runs decode what they need. Models and your files are not touched."""
    from labelr.data import pixel_cache

    with console.session(quiet=quiet, verbose=verbose):
        cleared = pixel_cache.clear()
    if json:
        console.show_json(cleared)
    elif not quiet:
        console.show_note(f"Deleted the pixels of {cleared['images']:,} images, {cleared['bytes'] / 1e6:,.0f} MB.")
