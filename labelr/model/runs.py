"""What ``run.json`` says of an unfinished run: what it was begun with, so that nothing else goes on with it."""

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

from labelr.errors import LabelrError

FORMAT = 1


class RunImage(NamedTuple):
    """One image of a run.

    Attributes:
        part: The one that it is in.
        digest: SHA-256 of its file.
        targets: A character for each label: 1, 0, or ? where it is not known.
        group: What the label file says that it belongs to; empty where it says nothing.
    """

    part: str
    digest: str
    targets: str
    group: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as it was begun.

    Attributes:
        data: The absolute data folders; none where images were drawn.
        given: The settings that it was asked for, by name.
        settings: The same with every "auto" replaced by what was chosen.
        labels: L label names, in the order of the network's outputs.
        images: Each image by its name in the label file.
        versions: Of labelr and torch.
        created: When it was begun, ISO 8601.
    """

    data: tuple[str, ...]
    given: dict[str, Any]
    settings: dict[str, Any]
    labels: tuple[str, ...]
    images: dict[str, RunImage]
    versions: dict[str, str]
    created: str

    def to_json(self) -> str:
        """The content of ``run.json``; file names that were not valid UTF-8 keep their bytes."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """What a ``run.json`` says.

        Args:
            text: Its content.
            where: How messages name it.

        Raises:
            LabelrError: If it is damaged, or of another format.
        """
        hint = "start the run anew with `--force`"
        try:
            said = json.loads(text)
            if said.pop("format") != FORMAT:
                raise LabelrError(f"{where} is of another version of labelr", hint)
            images = {name: RunImage(*image) for name, image in said.pop("images").items()}
            return cls(**{**said, "data": tuple(said["data"]), "labels": tuple(said["labels"]), "images": images})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LabelrError(f"{where} is damaged: {error}", hint) from error
