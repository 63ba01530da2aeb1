"""The encoding of a text file: by its byte order mark, UTF-8, or the one in which its words are most likely."""

import codecs
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

from labelr.data.formats.alphabets import ALPHABETS, CHARACTERS, HALF_KANA, KANA, LATIN, SIGNS

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_UNLIKELY = re.compile(
    r"^[ьъыะ-ฺ็-๎]|[ะ-ฺ][ะ-ฺ]|[เ-ไ](?:[ะ-๎]|$)|[םןךץףςةى](?=\w)|[כמנפצσþ]$|^ð|[½¼¾§¢¤¨‡†„‚](?=\w)|\w[½¼¾§¢¤¨‡†„‚©¶±¡¥]",
    re.MULTILINE,
)
"""Letters that do not begin a word, or that have another form at its end, and signs that do not touch letters."""
_LETTER = rb"[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]"
_WORD = re.compile(rb"(?<!%b)%b*[\x80-\xff][^\x00-\x2f\x3a-\x3f|]*" % (_LETTER, _LETTER))
"""A word with a byte beyond ASCII; the second byte of a character may be in ASCII, but for digits and separators."""
MAX_WORDS = 1000
MAX_LENGTH = 1000
"""Bytes of a word; what is longer is none."""
MIN_SCORE = -8.0
"""Where a byte beyond ASCII is less likely, in nats, the guess is left to the library."""


def find_encodings(texts: Sequence[bytes]) -> list[str]:
    """The codec of each of several texts, those that are not UTF-8 or UTF-16 in the one that fits all of them best.

    A text that is UTF-8 but for some bytes, such as those of file names, counts as UTF-8. A text of a few bytes that
    happens to be UTF-8 too is in the codec of the others if its words are likelier there.
    """
    found = [_unicode_encoding(data) for data in texts]
    others = [data for data, codec in zip(texts, found, strict=True) if codec is None]
    if not others:
        return [codec or "" for codec in found]
    guess = _guess(b"\n".join(others))
    return [
        guess if codec is None or (codec == "utf-8" and _is_likelier(data, guess)) else codec
        for data, codec in zip(texts, found, strict=True)
    ]


def _unicode_encoding(data: bytes) -> str | None:
    """The codec of a text in UTF-8, UTF-16 or UTF-32; None for any other."""
    marked = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    if marked:
        return marked
    head = data[:1000]
    zeros = head.count(0)
    if zeros > len(head) / 4:  # every second byte of Western text in UTF-16
        return "utf-16-le" if head[1::2].count(0) > zeros / 2 else "utf-16-be"
    return "utf-8" if _decodes(data, "utf-8") else None


def _guess(data: bytes) -> str:
    """The codec of bytes that are not UTF-8 throughout."""
    valid, stray = _count_utf8(data)
    if valid > 3 * stray:
        return "utf-8"
    sample = _sample(data)
    scores = {name: score for name in (*ALPHABETS, *CHARACTERS) if (score := _score(sample, name)) is not None}
    scores["utf-8"] = _score_utf8(sample)
    for best in sorted(scores, key=lambda name: -scores[name]):
        if scores[best] < MIN_SCORE * _count_high(sample):
            break
        if best == "utf-8" or _decodes(data, best):
            return best
    from charset_normalizer import from_bytes

    # Without a zero byte or a mark it is neither UTF-16 nor UTF-32.
    found = from_bytes(
        sample, cp_exclusion=["utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le"]
    ).best()
    return found.encoding if found and _decodes(data, found.encoding) else "latin-1"


def _sample(data: bytes) -> bytes:
    """The words with bytes beyond ASCII, each once: how often a label occurs must not change how a text is read."""
    words: dict[bytes, None] = {}
    for word in _WORD.finditer(data):
        if word.end() - word.start() <= MAX_LENGTH:
            words[word[0]] = None
            if len(words) == MAX_WORDS:
                break
    return b"\n".join(words)


def _is_likelier(data: bytes, codec: str) -> bool:
    """Whether the words of a text are likelier in a codec than in UTF-8."""
    sample = _sample(data)
    score = _score(sample, codec) if sample and codec in (*ALPHABETS, *CHARACTERS) else None
    return score is not None and score > _score_utf8(sample)


def _count_high(data: bytes) -> int:
    return sum(byte >= 0x80 for byte in data)


def _score_utf8(sample: bytes) -> float:
    """The log-likelihood of words in UTF-8 among words in another encoding, such as where two files were joined."""
    _, stray = _count_utf8(sample)
    return -3.5 * (_count_high(sample) - stray) - 9 * stray - 6


def _count_utf8(data: bytes) -> tuple[int, int]:
    """The number of characters beyond ASCII in UTF-8, and of bytes that are in none."""
    text = data.decode("utf-8", "surrogateescape")
    stray = len(data) - len(text.encode("utf-8", "ignore"))
    return len(text) - len(text.encode("ascii", "ignore")) - stray, stray


def _decodes(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _score(sample: bytes, codec: str) -> float | None:
    """The log-likelihood of some words in the language of an encoding that fits best; None if they are not in it.

    It is in nats, and the costs below of what words rarely have were chosen on 83 lists of one to five labels.
    """
    try:
        text = sample.decode(codec)
    except UnicodeDecodeError:
        return None
    high = Counter(character for character in text if character > "\x7f")
    cases = "".join("l" if letter.islower() else "u" if letter.isupper() else " " for letter in text)
    strange = len(_UNLIKELY.findall(text)) + len(re.findall("lu|uul", cases)) + len(re.findall(r"\bu{2,}\b", cases)) / 4
    mixed = len(re.findall(r"[a-zA-Z](?=[^\W\x00-\x7f])|[^\W\x00-\x7f](?=[a-zA-Z])", text))
    if codec in CHARACTERS:
        rarity = CHARACTERS[codec][0]
        own = sum(count * _log_of_character(character, codec) for character, count in high.items())
        return own - 3 * mixed - 5 * strange - rarity
    rarity, alphabets = ALPHABETS[codec]
    own = max(
        _log_of_letters(high, alphabet, "".join(alphabets)) - 0.3 * place for place, alphabet in enumerate(alphabets)
    )
    if codec in LATIN:  # a letter with an accent stands alone among those without
        letters = sum(count for character, count in high.items() if character.isalpha())
        own -= 1.6 * letters + 2.5 * len(re.findall(r"[^\W\x00-\x7f](?=[^\W\x00-\x7f])", text))
    else:
        own -= 4 * mixed
    return own - 5 * strange - rarity


def _log_of_letters(counts: Counter[str], alphabet: str, others: str) -> float:
    """The log-likelihood of letters, each with its count, in a language whose encoding has letters of others too."""
    logs = _log_frequencies(alphabet)
    total = 0.0
    for letter, count in counts.items():
        lower = letter if letter in logs else letter.lower()
        unusual = -6.0 if lower in others or letter in SIGNS else -10.0
        total += count * logs.get(lower, unusual)
    return total


@cache
def _log_frequencies(alphabet: Sequence[str]) -> dict[str, float]:
    """The logarithm of the frequency of each letter by its rank (Gusein-Zade 1988)."""
    weights = [math.log((len(alphabet) + 1) / rank) for rank in range(1, len(alphabet) + 1)]
    return {letter: math.log(weight / sum(weights)) for letter, weight in zip(alphabet, weights, strict=True)}


def _log_of_character(character: str, codec: str) -> float:
    """The log-likelihood of a character of East Asia: of a common word, another common one, a sign, or a rare one."""
    _, common, standard, first, last = CHARACTERS[codec]
    if character in common:
        return -4.0 if character in KANA else -6.0
    if codec == "cp932" and character in HALF_KANA:
        return -4.0
    try:
        encoded = character.encode(standard)
    except UnicodeEncodeError:
        return -16.0
    return -8.5 if first <= encoded[0] <= last else -9.0 if character in "，、。（）・～" else -12.0
