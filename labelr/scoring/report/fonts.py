"""Finds fonts that can write the names of labels and files, in whatever script they are."""

import logging
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

log = logging.getLogger(__name__)

DEFAULT_THRESHOLD = "DejaVu Sans"
"""It comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew and more."""
LAST_RESORT = ("Last Resort", "LastResort", ".LastResort")
"""Fonts that have every character, but show only which script it is of."""
MISSING = "\N{WHITE VERTICAL RECTANGLE}"
LONGEST = 28
"""Characters of a name that a chart has room for."""


@dataclass(frozen=True)
class Lettering:
    """How names are written in charts.

    Attributes:
        families: Fonts by name, the first that has a character writes it.
        missing: Characters that none of this machine's fonts has.
    """

    families: tuple[str, ...] = (DEFAULT_THRESHOLD,)
    missing: frozenset[str] = frozenset()

    def write(self, name: str, number: int | None = None, most: int = LONGEST) -> str:
        """A name as a chart can show it: on one line, shortened in its middle, its missing characters as empty boxes.

        Args:
            name: The name.
            number: What else tells a name from others where characters are missing; it is put in front there.
            most: How many characters there is room for.
        """
        text = printable(name)
        if self.missing & set(text):
            text = "".join(MISSING if one in self.missing else one for one in text)
            text = text if number is None else f"{number}: {text}"
        if len(text) > most:
            text = f"{text[: most - most // 3 - 1]}…{text[-(most // 3) :]}"
        return text


def left_to_right(before: str, name: str, after: str) -> str:
    """A line with a name in it that runs from left to right also where the name is Arabic or Hebrew."""
    mark = "\N{LEFT-TO-RIGHT MARK}" if any(unicodedata.bidirectional(one) in ("R", "AL") for one in name) else ""
    return f"{mark}{before}{name}{mark}{after}"


def printable(name: str) -> str:
    """A name without line breaks, control characters and signs that have no shape of their own."""
    spaced = re.sub(r"\s+", " ", name)
    shaped = (one for one in spaced if unicodedata.category(one) not in ("Cc", "Cs", "Cf", "Co", "Cn"))
    return "".join(one for one in shaped if not "\ufe00" <= one <= "\ufe0f").strip()


def choose_lettering(names: Iterable[str]) -> Lettering:
    """Fonts of this machine that can write all of some names, or as much of them as any can."""
    from matplotlib import font_manager

    wanted = set("".join(map(printable, names)))
    entries = [
        (entry.name, entry.fname)
        for entry in font_manager.fontManager.ttflist
        if entry.style == "normal" and not entry.name.startswith(LAST_RESORT)
    ]
    usual = next((path for name, path in entries if name == DEFAULT_THRESHOLD), None)
    left = wanted - (_covered(usual, wanted) if usual else set())
    families, seen = [DEFAULT_THRESHOLD], {DEFAULT_THRESHOLD}
    for name, path in sorted(entries, key=lambda entry: (not entry[0].startswith("Noto Sans"), entry)):
        if not left:
            break
        if name in seen:
            continue
        seen.add(name)
        found = _covered(path, left)
        if found:
            families.append(name)
            left -= found
    return Lettering(tuple(families), frozenset(left))


def _covered(path: str, characters: set[str]) -> set[str]:
    """Which characters a font has; none where it cannot be used, as pictures in place of outlines cannot."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        font.set_size(10, 72)
        found = {one for one in characters if font.get_char_index(ord(one))}
        for one in sorted(found)[:1]:
            font.load_char(ord(one))
    except (RuntimeError, OSError, ValueError):  # a font file that is damaged, gone, or of bitmaps alone
        return set()
    return found


def tell_missing(lettering: Lettering, plot_format: str) -> None:
    """Says which names a picture cannot show, and what can; an SVG keeps them as text."""
    if lettering.missing and plot_format == "png":
        log.info(
            "no font on this machine has %d of the characters in the names of labels and files: they stand as empty "
            "boxes in the charts, and as they are in report.html; so they do with `--plot-format svg`",
            len(lettering.missing),
        )
