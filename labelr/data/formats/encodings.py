"""The encoding of a text file: by its byte order mark, UTF-8, or the one in which its words are most likely."""

import codecs
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

# --- the letters of languages beyond ASCII, the most common first ----------------------------------------------------

_SIGNS = "’–°®“”…€é×½µ±²™—‘·©£³¼«»¾•§¡¿ªº´¢"
"""What English has beyond ASCII, which may also stand between the words of other languages."""
_WESTERN = (
    _SIGNS, "éèàêçœâôîûùïë", "üäöß", "óíáéñúü", "ãçéáíóêôõúâà", "àèòùéì", "äåöé", "øåæé", "ëéïèöüó", "àóéèíçòúïü·",
    "áðíéóþúöæý",
)  # fmt: skip
"""Of English, French, German, Spanish, Portuguese, Italian, Swedish, Danish, Dutch, Catalan and Icelandic."""
_CENTRAL = ("łąężóśćńź", "íáěéřščžýůúťďňó", "áíčéýžšúľťôňďäóĺŕ", "áéőöóíüúű", "čšžćđ", "ăâîşţ", "äüöß")
"""Of Polish, Czech, Slovak, Hungarian, Croatian, Romanian, German."""
_RUSSIAN = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфёъ"
_CYRILLIC = (
    _RUSSIAN, "оаниітевркслпдумязбгчьйхцїжєюшщфґ", "аиоенрстјвкудмплзбгчцжхшћљњђфџ", "аиоетнрсвлкдпмзъугцбчяжщхшьюйф",
)  # fmt: skip
"""Of Russian, Ukrainian, Serbian and Bulgarian."""
_GREEK = "αοιετνσρκπυμλςηωόάίγήδέθύώχφβζξψϊϋΐΰ"
_TURKISH = "ışğüçöİâîû"
_BALTIC = ("āīēšņļūžģčķ", "ėšįųžąčęū", "äõüöšž")
_HEBREW = "יוהלאתרבמשנדקעחםפכטגצסזןךץף"
_ARABIC = "الينمرتوبدعسفهكحقجةشصخطىضذزغأثءئظإآؤچپکگژ"
_THAI = "านรอกเงยลมวทตสดหปพคบิี้่ัะแโไใขจชผถซฟฝศษธณญฉภูุึืำ็์ฐฎฏฆฬฮฒฌๆฤ๊๋"
_HALF_KANA = "ﾝｽﾙｲﾄﾗﾘｸｱｰｼﾀﾚｶｺｯﾛﾌﾏﾄﾞｻｳｷﾃﾆｵﾁﾐﾊﾒﾅｴｿﾉﾓｹﾈﾂﾑﾎｾﾋﾜｭｮｬﾔﾕﾖﾇｧｨｫﾍｩｦﾟ"
_CHINESE = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种"
    "事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心前开但因只从想实日者意无力它与长把机十民第公此已工"
    "正常异狗猫鸟鱼马牛羊猪鸡树花草叶车船飞桌椅杯书灯床门窗苹果香蕉橙葡萄男女老房路桥山水海河空云雨雪晴阴雾早晚白黑夜红"
    "绿蓝黄橙室内外合格良品裂痕坏"
)
_TAIWANESE = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作里用道行所然家種"
    "正常異狗貓鳥魚馬牛羊豬雞樹花草葉車船飛桌椅杯書燈床門窗蘋果香蕉橙葡萄男女老房路橋山水海河空雲雨雪晴陰霧早晚白黑夜紅"
    "綠藍黃室內外合格良品裂痕壞無否"
)
_KANA = "".join(map(chr, (*range(0x3041, 0x3094), *range(0x30A1, 0x30F7), 0x30FC)))
_JAPANESE = (
    _KANA + "日一国人年大十二本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千"
    "水半男西電校語土木聞食車何南万毎白天母火右読友左休父雨犬猫鳥魚馬牛花草空海建物道路赤青黄緑黒正常異良品不晴曇雪自動屋室内夜"
)
_KOREAN = (
    "이다는의가을에고지사하기나도로인은자대한시리그어서스아부수라정를해주일전여마구보장과동우모상비게성원조제만소유신니거들관"
    "면미경무세진화국안위방실차연적등바오물생공발영선트드러호행반식음산강분문현양터간단금없내용입통계까포속불개냥강새꽃꿀사람"
    "하늘나무집낮밤눈빨파노랑맑흐림예아니있양참거짓량품"
)
_ALPHABETS = {
    "cp1252": (0, _WESTERN), "cp1250": (1, _CENTRAL), "cp1251": (2, _CYRILLIC), "cp1253": (3, (_GREEK,)),
    "cp1254": (2, (_TURKISH,)), "cp1257": (4, _BALTIC), "cp1255": (4, (_HEBREW,)), "cp1256": (4, (_ARABIC,)),
    "cp874": (4, (_THAI,)), "iso8859_2": (4, _CENTRAL), "iso8859_7": (5, (_GREEK,)), "cp852": (5, _CENTRAL),
    "cp850": (5, _WESTERN), "mac_roman": (5, _WESTERN), "koi8_r": (5, (_RUSSIAN,)), "cp866": (5, (_RUSSIAN,)),
    "iso8859_5": (6, (_RUSSIAN,)), "mac_cyrillic": (6, _CYRILLIC), "mac_latin2": (7, _CENTRAL),
}  # fmt: skip
"""How rare an encoding is, and the alphabets of its languages beyond ASCII, each with the most common letters first."""
_CHARACTERS = {
    "gb18030": (2, _CHINESE, "gb2312", 0xB0, 0xD7), "cp950": (3, _TAIWANESE, "big5", 0xA4, 0xC6),
    "cp949": (3, _KOREAN, "euc_kr", 0xB0, 0xC8), "cp932": (3, _JAPANESE, "shift_jis", 0x88, 0x97),
    "euc_jp": (6, _JAPANESE, "euc_jp", 0xB0, 0xCF),
}  # fmt: skip
"""How rare an encoding of East Asia is, characters of common words, and where a standard has its common ones."""
_LATIN = frozenset({
    "cp1252", "cp1250", "cp1254", "cp1257", "iso8859_2", "cp852", "cp850", "mac_roman", "mac_latin2",
})  # fmt: skip
"""The encodings of languages that also use the letters a to z."""

# --- the encoding of a text ------------------------------------------------------------------------------------------

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
    scores = {name: score for name in (*_ALPHABETS, *_CHARACTERS) if (score := _score(sample, name)) is not None}
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
    score = _score(sample, codec) if sample and codec in (*_ALPHABETS, *_CHARACTERS) else None
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
    if codec in _CHARACTERS:
        rarity = _CHARACTERS[codec][0]
        own = sum(count * _log_of_character(character, codec) for character, count in high.items())
        return own - 3 * mixed - 5 * strange - rarity
    rarity, alphabets = _ALPHABETS[codec]
    own = max(
        _log_of_letters(high, alphabet, "".join(alphabets)) - 0.3 * place for place, alphabet in enumerate(alphabets)
    )
    if codec in _LATIN:  # a letter with an accent stands alone among those without
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
        unusual = -6.0 if lower in others or letter in _SIGNS else -10.0
        total += count * logs.get(lower, unusual)
    return total


@cache
def _log_frequencies(alphabet: Sequence[str]) -> dict[str, float]:
    """The logarithm of the frequency of each letter by its rank (Gusein-Zade 1988)."""
    weights = [math.log((len(alphabet) + 1) / rank) for rank in range(1, len(alphabet) + 1)]
    return {letter: math.log(weight / sum(weights)) for letter, weight in zip(alphabet, weights, strict=True)}


def _log_of_character(character: str, codec: str) -> float:
    """The log-likelihood of a character of East Asia: of a common word, another common one, a sign, or a rare one."""
    _, common, standard, first, last = _CHARACTERS[codec]
    if character in common:
        return -4.0 if character in _KANA else -6.0
    if codec == "cp932" and character in _HALF_KANA:
        return -4.0
    try:
        encoded = character.encode(standard)
    except UnicodeEncodeError:
        return -16.0
    return -8.5 if first <= encoded[0] <= last else -9.0 if character in "，、。（）・～" else -12.0
