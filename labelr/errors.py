"""Errors that a user can correct, and helpers to word them."""

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType


class LabelrError(Exception):
    """An error in the input or the environment that the user can correct.

    Attributes:
        message: What is wrong, with file, row, column and the value found.
        hint: One imperative that says what to do; may be empty.
        exit_code: Of the command that it ends.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = show_places(message)
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nHint: {self.hint}" if self.hint else self.message


class BusyError(LabelrError):
    """What a command needs is in use by another run."""

    exit_code = 75  # EX_TEMPFAIL: try again later


class UnconfirmedError(LabelrError):
    """Labels are predictions that nobody corrected or confirmed, and it is not said whether to use them."""


UNPRINTABLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
    "|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
)
"""Characters that a terminal obeys instead of showing them, that change the order of others, or that are invisible, but
for line breaks. Joiners stay between letters that they may join."""
_PASSWORD = re.compile(r"(://[^\s:/@]*:)(?:\S+|[^'\n]+)(?=@)|(\b\w*(?:password|passwd|pwd)=)[^\s&]+", re.IGNORECASE)
"""The password in the address of a database."""
_SIGNED = re.compile(
    r"((?:s3|gcs?|gs|az|abfss?)://)[^\s/@]*:(?:\S+|[^'\n]+)(?=@)"
    r"|([?&](?:sig|signature|token|awsaccesskeyid|x-(?:amz|goog|ms)-[\w-]+)=)[^\s&'\"]+",
    re.IGNORECASE,
)
"""The name and the password in the address of a bucket, and what signs an address of the web."""
shown_as: dict[str, str] = {}
"""Beginnings of paths, and what messages show in their place: where the files really are."""


def printable(text: str, *, line: bool = True) -> str:
    """Text from anywhere as it may be shown or logged: no passwords, and unprintable characters as in Python.

    In a `line`, a line break only stays where the next line is indented, as labelr indents the lines of a file. So no
    text from a file can look like a message of its own.
    """
    text = show_places(text)
    if text.isascii() and text.isprintable() and "@" not in text and "=" not in text:
        return text  # as nearly all are
    text = UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), mask_passwords(text))
    return re.sub(r"\n(?!  )", r"\\n", text) if line else text


def show_places(text: str) -> str:
    """Text with the places in `shown_as` instead of the paths of stand-ins."""
    for beginning, shown in shown_as.items():
        text = text.replace(beginning, shown)
    return text


def mask_passwords(text: str) -> str:
    """Text with ``***`` for the passwords in the addresses of databases, and what gives access in those of buckets."""
    return _PASSWORD.sub(r"\1\2***", _SIGNED.sub(r"\1\2***", text))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, else the name of its class."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def pluralize(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: ``1 image``, ``1,204 images``; `plural` where more than an "s" differs."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def pluralize_part(number: int, total: int, noun: str) -> str:
    """The start of a sentence on some of all: ``1 of 1,204 images is``, ``37 of 1,204 images are``."""
    return f"{number:,} of {pluralize(total, noun)} {'is' if number == 1 else 'are'}"


def preview(names: Sequence[object], limit: int = 3) -> str:
    """The first names: ``a, b, c, and 34 more``."""
    shown = ", ".join(str(name) for name in names[:limit])
    rest = len(names) - limit
    return f"{shown}, and {rest:,} more" if rest > 0 else shown


def preview_reasons(reasons: Mapping[str, str], limit: int = 3) -> str:
    """Names with their reasons, those of the same reason together: ``a, b, and 7 more (empty); c (no image)``."""
    names_of = defaultdict(list)
    for name, reason in reasons.items():
        names_of[reason].append(name)
    groups = sorted(names_of.items(), key=lambda group: -len(group[1]))
    shown = [f"{preview(names)} ({reason})" for reason, names in groups[:limit]]
    rest = sum(len(names) for _, names in groups[limit:])
    return "; ".join(shown) + (f"; and {rest:,} more" if rest else "")


def suggest(
    name: str, known: Iterable[str], aliases: Mapping[str, str] = MappingProxyType({}), *, cutoff: float = 0.5
) -> str:
    """The hint ``did you mean ...?`` with the known names that are most similar to `name`; empty without any.

    Names of a similarity below the limit, which is 1 at most, are not suggested. `aliases` has the known name that each
    of some other names stands for.
    """
    names = {name: name for name in known}
    names |= {alias: meaning for alias, meaning in aliases.items() if meaning in names}
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.8)
    close = close or difflib.get_close_matches(name, names, n=3, cutoff=cutoff)
    meant = dict.fromkeys(f"`{names[match]}`" for match in close)
    return f"did you mean {' or '.join(meant)}?" if meant else ""
