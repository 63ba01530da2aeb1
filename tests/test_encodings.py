"""Encodings of label files."""

from pathlib import Path

import pytest
from conftest import assert_table, error_of, put, read_table

from labelr.data.formats.encodings import find_encoding

WORDS = {
    ("utf-8", "all"): "狗 été ёж", ("utf-16", "ru"): "собака кошка",
    ("gb18030", "zh"): "小狗 猫咪 汽车 大树", ("big5", "zh"): "小狗 貓 汽車 樹木",
    ("shift_jis", "ja"): "犬 ネコ 自動車", ("euc_jp", "ja"): "犬 ネコ 自動車",
    ("euc_kr", "ko"): "강아지 고양이 자동차 나무",
    ("cp1250", "pl"): "pies żółty łódź świerk", ("cp1250", "cs"): "pes kočka moře město",
    ("cp1251", "ru"): "собака кошка", ("cp1251", "uk"): "кіт дерево ліс їжак",
    ("cp1252", "fr"): "vélo forêt garçon", ("cp1252", "de"): "Bäume Straße Möwe",
    ("cp1252", "es"): "señal niño árbol", ("cp1252", "sv"): "träd sjö å",
    ("cp1253", "el"): "σκύλος γάτα δέντρο", ("cp1254", "tr"): "ağaç güneş ışık",
    ("mac_roman", "fr"): "vélo forêt garçon", ("mac_roman", "de"): "Bäume Straße Möwe",
}  # fmt: skip


@pytest.mark.parametrize(("encoding", "language"), list(WORDS))
def test_labels_are_read_in_the_encoding_that_fits_their_words(encoding: str, language: str, tmp_path: Path) -> None:
    labels = WORDS[encoding, language].split()
    rows = "".join(f"{row}.jpg,{','.join('01'[(row + n) % 2] for n in range(len(labels)))}\r\n" for row in range(2))
    put(tmp_path, "labels.csv", f"filename,{','.join(labels)}\r\n{rows}".encode(encoding))
    put(tmp_path, "0.jpg")
    put(tmp_path, "1.jpg")
    table = read_table(tmp_path)
    assert table.labels == tuple(labels)
    assert (f"in {encoding}" in table.layout) == (encoding != "utf-8")


@pytest.mark.parametrize(("encoding", "language"), [key for key in WORDS if key[0] != "utf-16"])
def test_tags_beside_images_are_read_in_one_encoding(encoding: str, language: str, tmp_path: Path) -> None:
    labels = WORDS[encoding, language].split()
    for number, label in enumerate(labels):
        put(tmp_path, f"{number}.jpg")
        put(tmp_path, f"{number}.txt", f"{label}, tree".encode(encoding))
    assert read_table(tmp_path).labels == tuple(sorted([*labels, "tree"]))


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


def test_bytes_of_a_file_name_do_not_change_the_encoding_of_a_file_in_utf_8() -> None:
    assert find_encoding("filename,été,forêt\n".encode() + b"caf\xe9.jpg,1,0\n") == "utf-8"


def test_rare_encoding_is_left_to_the_library() -> None:
    words = "Đây là một con chó và một con mèo trong vườn ".encode("cp1258", "ignore")
    assert words.decode(find_encoding(words))
