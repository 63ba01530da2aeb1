"""YAML: its lists, mappings and scalars, which stay text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labelr.data.limits import CELLS_OF_YAML, MAX_NESTING, Limits


def parse_yaml(path: Path, text: str, limits: Limits) -> Any:
    """The content of the only document of a YAML text, with scalars as text; None for an empty one.

    Raises:
        ValueError: If it cannot be parsed, has aliases, which can expand to gigabytes, or is nested too deeply.
        LabelrError: If it has too many values.
    """
    import yaml

    separators = sum(map(text.count, "\n,[]{}"))
    limits.check_cells(path, separators, "line breaks, commas and brackets", weight=CELLS_OF_YAML)
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return _value_of(yaml.parse(text, Loader=loader))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _value_of(events: Iterator[Any]) -> Any:
    """The value that a stream of events describes."""
    import yaml

    open_lists: list[list[Any]] = [[]]
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, which labelr does not read")
        if isinstance(event, yaml.ScalarEvent):
            open_lists[-1].append(event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_lists.append([])
            if len(open_lists) > MAX_NESTING:
                raise ValueError(f"it is nested more than {MAX_NESTING} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            items = open_lists.pop()
            is_list = isinstance(event, yaml.SequenceEndEvent)
            open_lists[-1].append(items if is_list else _mapping_of(items))
    if len(open_lists[0]) > 1:
        raise ValueError("it has several documents")
    return open_lists[0][0] if open_lists[0] else None


def _mapping_of(items: list[Any]) -> dict[str, Any]:
    keys = items[::2]
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("a list or mapping is the key of a mapping")
    return dict(zip(keys, items[1::2], strict=True))
