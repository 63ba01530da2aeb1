"""Encodings of label files."""

from pathlib import Path

import pytest
from conftest import assert_table, error_of, put, read_table

from labelr.data.formats.encodings import find_encodings

TEXTS = {
    "cp1252": (
        "vélo forêt garçon", "été", "café thé", "Bäume Straße Möwe", "Kühe Mädchen", "señal niño árbol",
        "cão coração avião", "träd sjö å", "træ sø hår", "hús maður þoka", "città perché più", "10° 45°",
        "dog’s cat’s", "Lego® toy", "µm nm", "3×4 2×2", "±5 ±10", "½ ¼", "€10 café", "cat–dog night–day",
        "don’t can’t “big” it’s", "FORÊT VÉLO", "m² km²", "naïve cliché", "Grün Weiß Löwe", "über",
        "corazón pájaro", "não sim", "hylätty hyväksytty", "blå grønn rød", "25°C rock’n’roll",
        "Coca-Cola™ Nestlé", "Müller", "crème brûlée gâteau", "½ litre £5", "avô avó bênção",
    ),
    "cp1250": (
        "pies żółty łódź świerk", "koń miś", "pes kočka moře město", "mačka kôň ľad", "kutyák erdő fű",
        "mačka drveće šuma", "pisică câine pădure", "człowiek zając łąka", "sníh déšť mlha", "szőlő körte",
        "cestička žaba čaj",
    ),
    "iso8859_2": (
        "łoś książka", "město liška ťava", "jabłko śliwka gruszka",
    ),
    "cp852": (
        "żółty łódź", "kočka žába ryba myš",
    ),
    "cp850": (
        "Bäume Möwe Küste", "Größe schön über", "café crème",
    ),
    "mac_roman": (
        "vélo forêt garçon", "Bäume Straße Möwe", "niño árbol", "Kühe Mädchen Größe", "été hiver février",
    ),
    "cp1251": (
        "собака кошка", "Собака Кошка", "ИСТИНА ЛОЖЬ", "да нет", "кіт дерево ліс їжак", "куче котка дърво",
        "пас мачка дрво", "яблоко груша слива", "НОРМА БРАК", "день ночь", "так ні", "жълт зелен",
    ),
    "koi8_r": (
        "собака кошка дерево машина человек", "лес река город", "Собака Кошка Дерево",
        "яблоко груша слива банан", "день ночь утро вечер",
    ),
    "cp866": (
        "собака кошка дерево", "яблоко груша", "день ночь",
    ),
    "iso8859_5": (
        "собака кошка дерево",
    ),
    "mac_cyrillic": (
        "Собака Кошка Дерево",
    ),
    "cp1253": (
        "σκύλος γάτα δέντρο", "Σκύλος Γάτα", "ήλιος θάλασσα", "ναι όχι",
    ),
    "cp1254": (
        "ağaç güneş ışık", "köpek kuş", "çiçek yağmur", "doğru yanlış",
    ),
    "cp1257": (
        "šuo katė žąsis", "ąžuolas eglė beržas",
    ),
    "cp1255": (
        "כלב חתול עץ", "בית ים שמש", "תפוח בננה ענבים",
    ),
    "cp1256": (
        "كلب قطة شجرة", "سيارة بيت", "تفاح موز عنب", "نعم لا",
    ),
    "cp874": (
        "หมา แมว ต้นไม้", "ไม่มี มี", "แอปเปิ้ล กล้วย ส้ม", "กลางวัน กลางคืน",
    ),
    "gb18030": (
        "小狗 猫咪 汽车 大树", "白天 夜晚 室内 室外", "狗 猫", "正常 异常", "行人 汽车 自行车", "苹果 香蕉 橙子 葡萄",
        "是 否", "晴天 雨天 雪天", "合格 不合格",
        "男 女", "红色 蓝色 绿色", "桌子 椅子 床 灯", "裂纹 划痕 污点", "老虎 狮子 大象 斑马", "有 无", "未知 已知",
    ),
    "cp950": (
        "小狗 貓 汽車 樹木", "正常 異常", "蘋果 香蕉 柳橙", "白天 夜晚 室內", "桌子 椅子", "紅色 藍色 綠色",
    ),
    "cp932": (
        "犬 ネコ 自動車", "正常 異常", "いぬ ねこ", "ｲﾇ ﾈｺ ｸﾙﾏ", "りんご バナナ", "晴れ 雨 曇り", "良品 不良品",
        "ﾘﾝｺﾞ ﾊﾞﾅﾅ",
    ),
    "euc_jp": (
        "犬 ネコ 自動車", "りんご バナナ ぶどう",
    ),
    "cp949": (
        "강아지 고양이 자동차 나무", "사과 바나나 포도", "정상 불량", "개 고양이", "예 아니오", "낮 밤",
        "맑음 흐림 비", "사람 자전거 버스", "빨강 파랑 노랑",
    ),
}  # fmt: skip
"""Words of 1 to 5 labels, in encodings that people's files have."""


@pytest.mark.parametrize(("encoding", "words"), [(encoding, words) for encoding in TEXTS for words in TEXTS[encoding]])
def test_words_are_read_as_written(encoding: str, words: str) -> None:
    labels = words.split()
    wide = f"filename,{','.join(labels)}\r\n" + f"a.jpg{',1' * len(labels)}\r\n"
    tags = "".join(f"{row}.jpg,{labels[row % len(labels)]}\n" for row in range(8))
    for text in (wide, tags):
        data = text.encode(encoding)
        assert data.decode(*find_encodings([data])) == text


def test_encoding_is_named(tmp_path: Path) -> None:
    put(tmp_path, "labels.csv", "filename,白天,夜晚\na.jpg,1,0\n".encode("gbk"))
    put(tmp_path, "a.jpg")
    table = read_table(tmp_path)
    assert table.labels == ("白天", "夜晚")
    assert "in gb18030" in table.layout


@pytest.mark.parametrize(
    ("encoding", "words"), [("gbk", "狗 猫 室外"), ("cp1252", "Kühe Mädchen"), ("cp949", "강아지 고양이")]
)
def test_tags_beside_images_are_read_in_one_encoding(encoding: str, words: str, tmp_path: Path) -> None:
    for number, label in enumerate(words.split()):
        put(tmp_path, f"{number}.jpg")
        put(tmp_path, f"{number}.txt", f"{label}, tree".encode(encoding))
    assert set(read_table(tmp_path).labels) == {*words.split(), "tree"}


def test_encoding_option_overrides_the_guess(tmp_path: Path) -> None:
    put(tmp_path, "labels.csv", "filename,été\na.jpg,1\n".encode("cp1252"))
    put(tmp_path, "a.jpg")
    assert read_table(tmp_path).labels == ("été",)
    table = read_table(tmp_path, encoding="cp1251")
    assert_table(table, ["a.jpg"], ["йtй"], [[1]])
    assert "no encoding 'cp-nothing'" in error_of(tmp_path, encoding="cp-nothing").message
    assert "`--encoding`" in error_of(tmp_path, encoding="ascii").hint


def test_label_with_bytes_that_are_not_utf_8_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "labels.csv", "filename,été,forêt,vélo,caf".encode() + b"\xe9\na.jpg,1,0,1,0\n")
    put(tmp_path, "a.jpg")
    error = error_of(tmp_path)
    assert "has bytes that are not UTF-8" in error.message
    assert "`--encoding`" in error.hint


def test_rows_in_utf_8_and_rows_in_another_encoding_are_an_error_that_names_the_option(tmp_path: Path) -> None:
    rows = ["a.jpg,Kühe\n".encode(), "b.jpg,Mädchen\n".encode("cp1252")]
    put(tmp_path, "labels.csv", b"filename,tags\n" + b"".join(rows))
    put(tmp_path, "a.jpg")
    put(tmp_path, "b.jpg")
    error = error_of(tmp_path)
    assert "has bytes that are not UTF-8" in error.message
    assert "`--encoding`" in error.hint


def test_bytes_of_a_file_name_do_not_change_the_encoding_of_a_file_in_utf_8() -> None:
    assert find_encodings(["filename,été,forêt\n".encode() + b"caf\xe9.jpg,1,0\n"]) == ["utf-8"]


def test_rare_encoding_is_left_to_the_library() -> None:
    words = "Đây là một con chó và một con mèo trong vườn ".encode("cp1258", "ignore")
    assert words.decode(*find_encodings([words]))
