"""What libtiff says about a damaged file is a part of the result, and not printed."""

import io

import numpy as np
import pytest
from PIL import Image

from labelr.data.images import UnreadableError, decode

NOISE = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)


def damaged(mode: str, compression: str) -> io.BytesIO:
    content = io.BytesIO()
    Image.fromarray(NOISE).convert(mode).save(content, "TIFF", compression=compression)
    data = bytearray(content.getvalue())
    data[200:240] = bytes(byte ^ 0x55 for byte in data[200:240])
    return io.BytesIO(data)


def test_damage_is_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnreadableError, match=r"^damaged or truncated: ZIPDecode: Decoding error at scanline \d+"):
        decode(damaged("L", "tiff_adobe_deflate"), 16)
    assert capfd.readouterr().err == ""


def test_damage_of_a_file_that_opens_is_its_note(capfd: pytest.CaptureFixture[str]) -> None:
    note = decode(damaged("1", "group4"), 16).note
    assert note.startswith("damaged in part: Fax4Decode: ")
    assert capfd.readouterr().err == ""


def test_sound_file_after_a_damaged_one_has_no_note() -> None:
    content = io.BytesIO()
    Image.fromarray(NOISE).save(content, "TIFF", compression="tiff_lzw")
    assert decode(damaged("1", "group4"), 16).note
    content.seek(0)
    assert decode(content, 16).note == ""


def test_other_users_of_pillow_see_the_messages(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="decoder error"), Image.open(damaged("L", "tiff_adobe_deflate")) as image:
        image.load()
    assert "ZIPDecode" in capfd.readouterr().err
