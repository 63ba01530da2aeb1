"""The encoding of a text file: by its byte order mark, UTF-8, or the one whose words have the letters of a language."""

import codecs
import re

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_WESTERN = (
    "àâæçèéêëîïôùûüœ", "äöüß", "áéíñóúü", "àáâãçéêíóôõúü", "àèéìòù", "åäöé", "åæøé", "áæéíðóöúýþ", "äëéïóöü",
    "àçèéíïòóúü·",
)  # fmt: skip
"""Letters beyond ASCII of French, German, Spanish, Portuguese, Italian, Swedish, Danish, Icelandic, Dutch, Catalan."""
_CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşșţț")
"""Those of Polish, Czech, Slovak, Hungarian, Croatian and Romanian."""
_CYRILLIC = ("абвгдеёжзийклмнопрстуфхцчшщъыьэюя", "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя", "абвгдђежзијклљмнњопрстћуфхцчџш")
_GREEK = ("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ",)
_LETTERS = {
    "cp1252": _WESTERN, "cp1250": _CENTRAL, "cp1251": _CYRILLIC, "koi8_r": _CYRILLIC[:1], "cp1253": _GREEK,
    "cp1254": ("çğıöşüâîû",), "cp1257": ("āčēģīķļņšūž", "ąčęėįšųūž", "äõöüšž"), "mac_roman": _WESTERN,
    "mac_latin2": _CENTRAL, "mac_cyrillic": _CYRILLIC, "cp850": _WESTERN, "cp852": _CENTRAL, "cp866": _CYRILLIC[:1],
    "cp874": ("".join(map(chr, range(0xE01, 0xE4F))),),
}  # fmt: skip
"""The letters of the languages that are written in an encoding, the most common encoding first."""
_COMMON = {
    "gb18030": ("gb2312", 0xB0, 0xD7), "shift_jis": ("shift_jis", 0x88, 0x98), "euc_jp": ("shift_jis", 0x88, 0x98),
    "big5": ("big5", 0xA4, 0xC6), "euc_kr": ("euc_kr", 0xB0, 0xC8),
}  # fmt: skip
"""The first bytes of the common characters of an encoding of East Asia."""
_KANA = ("shift_jis", "euc_jp")
_LATIN = frozenset({"cp1252", "cp1250", "cp1254", "cp1257", "mac_roman", "mac_latin2", "cp850", "cp852"})
"""The encodings of languages that also use the letters a to z."""
WORD = re.compile(rb"[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]*[\x80-\xff][^\x00-\x2f\x3a-\x3f|]*")
"""A word with a byte beyond ASCII; the second byte of a character may be in ASCII, but for digits and separators."""
MIN_SCORE = 0.8
"""With a lower share of expected characters, the guess is left to the library."""
MIN_HANGUL = 8
"""Fewer syllables may be Chinese as well: of the common Chinese characters, 60 % have the bytes of a syllable."""


def find_encoding(data: bytes) -> str:
    """The codec of a text: by its byte order mark, UTF-8 if most of it is, else by the letters of its words.

    A text that is UTF-8 but for some bytes, such as those of file names, counts as UTF-8.
    """
    return unicode_encoding(data) or _guess(data)


def unicode_encoding(data: bytes) -> str | None:
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
    text = data.decode("utf-8", "surrogateescape")
    stray = len(re.findall("[\udc80-\udcff]", text))
    if len(re.findall("[\x80-\ud7ff\ue000-\U0010ffff]", text)) > stray:
        return "utf-8"
    # Words, each once: what is said of a text must not depend on how often a label occurs in it.
    words = dict.fromkeys(
        re.findall(rb"[^\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]*[\x80-\xff][^\x00-\x2f\x3a-\x3f|]*", data)
    )
    sample = b"\n".join(words)
    scores = {name: score for name in (*_LETTERS, *_COMMON) if (score := _score(sample, name))}
    best = max(scores, key=lambda name: scores[name], default="")
    if best and scores[best][0] >= MIN_SCORE:
        return best
    from charset_normalizer import from_bytes

    found = from_bytes(sample).best() or from_bytes(data).best()
    return found.encoding if found and _decodes(data, found.encoding) else "latin-1"


def _decodes(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _score(sample: bytes, codec: str) -> tuple[float, float] | None:
    """How well some words fit an encoding, higher is better; None if they are not in it.

    First the share of the characters beyond ASCII that one language has; then, between equals, the share of words with
    the usual capitals, of kana in Japanese, and of enough Hangul in Korean.
    """
    try:
        text = sample.decode(codec)
    except UnicodeDecodeError:
        return None
    letters = [character for character in text if character > "\x7f"]
    if codec in _COMMON:
        fit = sum(_commonness(character, codec) for character in letters) / len(letters)
        kana = sum(map(_is_kana, letters)) / len(letters)
        return fit, kana if codec != "euc_kr" else 1.0 if fit == 1 and len(letters) >= MIN_HANGUL else -1.0
    fitting = max(sum(letter.lower() in language for letter in letters) for language in _LETTERS[codec])
    mixed = 0 if codec in _LATIN else len(re.findall(r"[a-zA-Z](?=[^\x00-\x7f])|[^\x00-\x7f](?=[a-zA-Z])", text))
    words = text.split()
    usual = sum(word.islower() or word.isupper() or word.istitle() for word in words) / max(1, len(words))
    return (fitting - mixed) / len(letters), usual


def _commonness(character: str, codec: str) -> float:
    """1 for a common character of an encoding of East Asia, 0.5 for another one that it had at first, else 0."""
    if codec in _KANA and _is_kana(character):
        return 1.0
    name, first, last = _COMMON[codec]
    try:
        encoded = character.encode(name)
    except UnicodeEncodeError:
        return 0.0
    return 1.0 if first <= encoded[0] <= last else 0.5


def _is_kana(character: str) -> bool:
    return "\u3040" <= character <= "\u30ff"
