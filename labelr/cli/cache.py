"""``labelr cache``: manages the cache of decoded images, features, thumbnails and objects of buckets."""

from labelr import console
from labelr.cli import options as opt
from labelr.errors import pluralize

cache = opt.Commands(
    name="cache",
    help="Manage the cache of decoded images, features, thumbnails and objects of buckets.",
    epilog=opt.epilog("labelr cache ls\nlabelr cache clear"),
)
OTHERS = (
    ("thumbnails", "thumbnail", ""),
    ("objects", "object", ""),
    ("listed", "listed object", ""),
    ("results", "file of results in a bucket", "files of results in buckets"),
)
"""What else is deleted, with its nouns."""


@cache.command()
def ls(printing: opt.Printing) -> None:
    """List the cache's contents, the least recently used first.

    Examples:
        labelr cache ls
    """
    from labelr.data import pixel_cache

    with printing.session():
        rows = pixel_cache.describe()
    if printing.json:
        console.show_json(rows)
    elif not rows:
        console.show_note(f"The cache in {pixel_cache.cache_folder()} is empty.")
    else:
        shown = [
            {
                "name": row["name"],
                "kind": row["kind"],
                "images": row["images"],
                "MB": round(row["bytes"] / 1e6),
                "last used": row["used"][:16].replace("T", " "),
            }
            for row in rows
        ]
        console.show_table(shown)
        console.show_note(f"{sum(row['bytes'] for row in rows) / 1e6:,.0f} MB in {pixel_cache.cache_folder()}")


@cache.command()
def clear(printing: opt.Printing) -> None:
    """Delete the cache; later runs make what they need. Models and your files are not touched.

    Examples:
        labelr cache clear
    """
    from labelr.data import pixel_cache

    with printing.session():
        cleared = pixel_cache.clear()
    if printing.json:
        console.show_json(cleared)
    elif not printing.quiet:
        images, features, size = cleared["images"], cleared["features"], cleared["bytes"] / 1e6
        deleted = f"the pixels of {pluralize(images, 'image')} and the features of {pluralize(features, 'image')}"
        for name, noun, plural in OTHERS:
            deleted += f", {pluralize(cleared[name], noun, plural)}" if cleared[name] else ""
        console.show_note(f"Deleted {deleted}, {size:,.0f} MB.")
