"""``labelr guide``: the guide, in the terminal."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from labelr import console
from labelr.cli import options as opt
from labelr.errors import LabelrError, suggest

FOLDER = Path(__file__).parents[1] / "guide"
TOPICS = (
    "labels", "training", "backbones", "scores", "tagging", "photos", "review", "tuning", "models", "scripts", "scale",
    "python", "promises", "figures",
)  # fmt: skip


class Section(NamedTuple):
    """A part of the guide that has a heading."""

    topic: str  # the page that it is on
    heading: str  # of the first section, the title of the page
    text: str  # what follows the heading, as Markdown


def guide(
    printing: opt.Printing,
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="A page of the guide; without one, lists them.")
    ] = None,
    search: Annotated[
        str, opt.option("--search -s", "Show the passages that contain these words, in any case.", metavar="TEXT")
    ] = "",
) -> None:
    """Read the guide: what labelr does, and how its options are meant.

    Examples:
        labelr guide labels
        labelr guide --search "exit code"
    """
    if topic is not None and topic not in TOPICS:
        raise LabelrError(
            f"the guide has no page {topic!r}",
            suggest(topic, TOPICS, cutoff=0.8)
            or f"choose one of {', '.join(TOPICS)}, or search with `labelr guide --search TEXT`",
        )
    found = [section for name in TOPICS if topic in (None, name) for section in sections(name)]
    if search:
        words = search.casefold().split()
        found = [item for item in found if all(word in f"{item.heading}\n{item.text}".casefold() for word in words)]
    elif topic is None:
        found = [section for section in found if section.heading == sections(section.topic)[0].heading]
    if printing.json:
        console.show_json([section._asdict() for section in found])
    elif search or topic:
        if not found:
            place, hint = "the guide", "try one word of it, or another word"
            if topic is not None:
                place, hint = (
                    f"the page {topic}",
                    f"search all pages: `labelr guide --search {shlex.quote(search or '')}`",
                )
            raise LabelrError(f"{place} does not mention {search!r}", hint)
        console.show_markdown("\n\n".join(_passages(found, search)))
    else:
        console.show_table([{"topic": section.topic, "about": section.heading} for section in found])
        with printing.session():
            console.show_note("Read a page with `labelr guide TOPIC`, or search with `labelr guide --search TEXT`.")


def sections(topic: str) -> list[Section]:
    """The sections of a page, in order; the first is what stands before the second heading."""
    text = (FOLDER / f"{topic}.md").read_text(encoding="utf-8")
    parts = re.split(r"^#{1,2} (.+)\n", text, flags=re.MULTILINE)
    return [Section(topic, heading, body.strip()) for heading, body in zip(parts[1::2], parts[2::2], strict=True)]


def _passages(found: list[Section], search: str) -> Iterator[str]:
    """The sections as Markdown; those that a search has found name their page."""
    for section in found:
        is_title = section == sections(section.topic)[0]
        heading = f"{section.topic}: {section.heading}" if search else section.heading
        yield f"{'#' if is_title and not search else '##'} {heading}\n\n{section.text}".rstrip()
