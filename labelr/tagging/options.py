"""The settings of tagging, each with its one default; without heavy imports, since the command line reads them."""

from dataclasses import dataclass

from labelr.config import MAX_PIXELS
from labelr.errors import suggest
from labelr.fields import SettingError, Settings, choice, number, switch, texts

FORMATS = ("csv", "table", "jsonl", "txt")


@dataclass(frozen=True, kw_only=True)
class TagOptions(Settings):
    """What is tagged, which labels are written, and how.

    Raises:
        SettingError: If a value is of the wrong kind or out of range.
    """

    recursive: bool = switch(True, help="Whether to descend into subfolders.")
    ignore: tuple[str, ...] = texts(
        help="A pattern such as `thumbs/*` or `*_small.jpg`, several times for several; images whose path or name fits "
        "are skipped."
    )
    on_error: str = choice(
        "skip", "skip", "fail", help="What to do with an image that cannot be opened: list it in errors.csv, or stop."
    )
    max_pixels: int = number(
        MAX_PIXELS, low=1, help="A picture with more pixels is not opened: a guard against decompression bombs."
    )
    top_k: int | None = number(
        None,
        low=1,
        auto=True,
        help="Write at most so many labels an image, the most probable ones; auto: all that apply.",
    )
    min_labels: int = number(
        0, low=0, help="Write at least so many labels an image: the most probable ones, where fewer apply."
    )
    only: tuple[str, ...] = texts(help="A label to write, several times for several; the others are left out.")
    exclude: tuple[str, ...] = texts(help="A label not to write, several times for several.")
    format: tuple[str, ...] = texts(
        help=f"What to write, several times for several: {', '.join(FORMATS)}; auto: csv and table."
    )
    in_place: bool = switch(False, help="Put the files of images (csv, txt) beside the images.")
    append: bool = switch(False, help="Add to the tags in a txt file that is there already, and keep them.")
    uncertain: int = number(
        0,
        low=0,
        help="List the N images nearest to their thresholds in uncertain.csv, to label and to learn from next.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.format:
            if name not in FORMATS:
                raise SettingError(
                    f"format: expected one of {', '.join(FORMATS)}, got {name!r}", suggest(name, FORMATS)
                )
        if self.in_place and not {"csv", "txt"} & set(self.formats):
            raise SettingError(
                "no files of images are written that could be beside them", "add `--format csv` or `txt`"
            )
        if self.append and "txt" not in self.formats:
            raise SettingError("only txt files can be added to", "add `--format txt`, or leave `--append` out")
        if self.top_k is not None and self.min_labels > self.top_k:
            raise SettingError(
                f"min_labels {self.min_labels} is more than top_k {self.top_k}",
                "make `--top-k` larger, or leave it out",
            )

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that are written, each once."""
        return tuple(dict.fromkeys(self.format or ("csv", "table")))
