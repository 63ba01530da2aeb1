"""``labelr cache``: looks after the pixels that are kept so that images are decoded only once."""

import typer

from labelr import console
from labelr.cli import options as opt

cache = typer.Typer(name="cache", help="Look after the cache of decoded images.", no_args_is_help=True)


@cache.command()
def ls(json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """List what the cache holds, the longest unused first."""
    from labelr.data import cache as pixels

    with console.session(quiet=quiet, verbose=verbose):
        rows = pixels.describe()
    if json:
        console.show_json(rows)
    else:
        console.show_cache(rows, pixels.cache_folder())


@cache.command()
def clear(json: opt.Json = False, quiet: opt.Quiet = False, verbose: opt.Verbose = False) -> None:
    """Delete all decoded images; the next run decodes what it needs again. Models and your files stay."""
    from labelr.data import cache as pixels

    with console.session(quiet=quiet, verbose=verbose):
        cleared = pixels.clear()
    if json:
        console.show_json(cleared)
    elif not quiet:
        console.show_note(f"Deleted the pixels of {cleared['images']:,} images, {cleared['bytes'] / 1e6:,.0f} MB.")
