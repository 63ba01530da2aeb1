"""The letters of languages beyond ASCII, the most common first, by the encodings of their texts."""

SIGNS = "’–°®“”…€é×½µ±²™—‘·©£³¼«»¾•§¡¿ªº´¢"
"""What English has beyond ASCII, which may also stand between the words of other languages."""
_WESTERN = (
    SIGNS, "éèàêçœâôîûùïë", "üäöß", "óíáéñúü", "ãçéáíóêôõúâà", "àèòùéì", "äåöé", "øåæé", "ëéïèöüó", "àóéèíçòúïü·",
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
HALF_KANA = "ﾝｽﾙｲﾄﾗﾘｸｱｰｼﾀﾚｶｺｯﾛﾌﾏﾄﾞｻｳｷﾃﾆｵﾁﾐﾊﾒﾅｴｿﾉﾓｹﾈﾂﾑﾎｾﾋﾜｭｮｬﾔﾕﾖﾇｧｨｫﾍｩｦﾟ"
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
KANA = "".join(map(chr, (*range(0x3041, 0x3094), *range(0x30A1, 0x30F7), 0x30FC)))
_JAPANESE = (
    KANA + "日一国人年大十二本中長出三時行見月後前生五間上東四今金九入学高円子外八六下来気小七山話女北午百書先名川千"
    "水半男西電校語土木聞食車何南万毎白天母火右読友左休父雨犬猫鳥魚馬牛花草空海建物道路赤青黄緑黒正常異良品不晴曇雪自動屋室内夜"
)
_KOREAN = (
    "이다는의가을에고지사하기나도로인은자대한시리그어서스아부수라정를해주일전여마구보장과동우모상비게성원조제만소유신니거들관"
    "면미경무세진화국안위방실차연적등바오물생공발영선트드러호행반식음산강분문현양터간단금없내용입통계까포속불개냥강새꽃꿀사람"
    "하늘나무집낮밤눈빨파노랑맑흐림예아니있양참거짓량품"
)
ALPHABETS = {
    "cp1252": (0, _WESTERN), "cp1250": (1, _CENTRAL), "cp1251": (2, _CYRILLIC), "cp1253": (3, (_GREEK,)),
    "cp1254": (2, (_TURKISH,)), "cp1257": (4, _BALTIC), "cp1255": (4, (_HEBREW,)), "cp1256": (4, (_ARABIC,)),
    "cp874": (4, (_THAI,)), "iso8859_2": (4, _CENTRAL), "iso8859_7": (5, (_GREEK,)), "cp852": (5, _CENTRAL),
    "cp850": (5, _WESTERN), "mac_roman": (5, _WESTERN), "koi8_r": (5, (_RUSSIAN,)), "cp866": (5, (_RUSSIAN,)),
    "iso8859_5": (6, (_RUSSIAN,)), "mac_cyrillic": (6, _CYRILLIC), "mac_latin2": (7, _CENTRAL),
}  # fmt: skip
"""How rare an encoding is, and the alphabets of its languages beyond ASCII, each with the most common letters first."""
CHARACTERS = {
    "gb18030": (2, _CHINESE, "gb2312", 0xB0, 0xD7), "cp950": (3, _TAIWANESE, "big5", 0xA4, 0xC6),
    "cp949": (3, _KOREAN, "euc_kr", 0xB0, 0xC8), "cp932": (3, _JAPANESE, "shift_jis", 0x88, 0x97),
    "euc_jp": (6, _JAPANESE, "euc_jp", 0xB0, 0xCF),
}  # fmt: skip
"""How rare an encoding of East Asia is, characters of common words, and where a standard has its common ones."""
LATIN = frozenset({
    "cp1252", "cp1250", "cp1254", "cp1257", "iso8859_2", "cp852", "cp850", "mac_roman", "mac_latin2",
})  # fmt: skip
"""The encodings of languages that also use the letters a to z."""
