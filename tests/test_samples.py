"""What Pillow alone would lose, misread or refuse: colours of 16 bits, many bands, and the tags of TIFF files."""

import io
import struct
import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import SHARED
from numpy.typing import NDArray
from PIL import Image

from labelr.config import ReadOptions
from labelr.data import jpeg2000
from labelr.data.budget import Reservation
from labelr.data.images import Decoded, UnreadableError, decode, read_pixels
from labelr.data.load import load_dataset
from labelr.data.samples import BandsError
from labelr.data.value_range import ValueRange

SIZE = 16
RANGE = ValueRange(integers=(1000.0, 1255.0), floats=(1000.0, 1255.0))
"""A difference of 1 in deep images is one of 1 in the pixels, which the low byte of 16 bits decides."""
PNG_COLOURS = {2: 4, 3: 2, 4: 6}
"""The colour type of a PNG file by the number of channels."""


def noise(channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(channels).integers(0, 256, (SIZE, SIZE, channels), dtype=np.uint8)


def save_png(path: Path, values: NDArray[np.uint16], *extra: bytes) -> Path:
    """A PNG of 16 bits, with further chunks before the pixels."""
    height, width, channels = values.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), values.astype(">u2").reshape(height, -1).view(np.uint8)], 1)
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLOURS[channels], 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows.tobytes())), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def decoded(path: Path, size: int = SIZE, value_range: ValueRange = RANGE, max_pixels: int = 10**6) -> Decoded:
    with path.open("rb") as file:
        return decode(file, size, value_range=value_range, max_pixels=max_pixels)


def pixels_of(path: Path) -> NDArray[np.uint8]:
    return decoded(path).pixels


def reason_of(path: Path, max_pixels: int = 10**6) -> str:
    with pytest.raises(UnreadableError) as caught:
        decoded(path, max_pixels=max_pixels)
    return str(caught.value)


# --- 16 bits a sample ------------------------------------------------------------------------------------------------


def test_colours_of_a_16_bit_png_keep_their_low_byte(tmp_path: Path) -> None:
    path = save_png(tmp_path / "a.png", noise(3).astype(np.uint16) + 1000)
    np.testing.assert_array_equal(pixels_of(path), noise(3))
    assert decoded(path).mode == "RGB;16"


@pytest.mark.parametrize("channels", [2, 4], ids=["grey", "colour"])
def test_transparent_16_bit_png_keeps_its_low_byte_and_is_white_where_transparent(
    channels: int, tmp_path: Path
) -> None:
    values = noise(channels).astype(np.uint16) + 1000
    values[..., -1] = 65_535
    values[:8, :, -1] = 0
    pixels = pixels_of(save_png(tmp_path / "a.png", values))
    np.testing.assert_array_equal(pixels[8:], np.broadcast_to(noise(channels)[8:, :, : channels - 1], (8, SIZE, 3)))
    assert (pixels[:8] == 255).all()


def test_transparent_colour_of_a_16_bit_png_is_white(tmp_path: Path) -> None:
    values = np.full((SIZE, SIZE, 3), 1001, np.uint16)
    values[:, 3] = 1002
    path = save_png(tmp_path / "a.png", values, chunk(b"tRNS", struct.pack(">3H", 1001, 1001, 1001)))
    pixels = pixels_of(path)
    assert (pixels[:, 3] == 2).all()
    assert (np.delete(pixels, 3, axis=1) == 255).all()


TIFFS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deflate": {"compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": True},
    "tiles": {"tile": (16, 16)},
    "big-endian": {"byteorder": ">"},
    "big-endian deflate": {"byteorder": ">", "compression": "zlib"},
    "planes": {"planarconfig": "separate"},
    "planes deflate": {"planarconfig": "separate", "compression": "zlib"},
    "black is zero": {"photometric": "minisblack"},
    "big tiff": {"bigtiff": True},
}


def save_tiff(path: Path, values: NDArray[Any], **options: Any) -> Path:
    options = {"photometric": "rgb", "planarconfig": "contig"} | options
    if options["planarconfig"] == "separate":
        values = np.moveaxis(values, -1, 0)
    tifffile.imwrite(path, values, **options)
    return path


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("kind", TIFFS)
def test_colours_of_a_deep_tiff_keep_their_detail(kind: str, dtype: str, tmp_path: Path) -> None:
    if kind == "predictor" and dtype.startswith("float"):
        pytest.skip("the predictor for floats needs a decoder that is optional")
    path = save_tiff(tmp_path / "a.tif", noise(3).astype(dtype) + 1000, **TIFFS[kind])
    np.testing.assert_array_equal(pixels_of(path), noise(3))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("bands", [3, 5])
def test_orientation_of_a_deep_tiff_is_applied(bands: int, dtype: str, tmp_path: Path) -> None:
    values = np.full((20, 40, bands), 1000, dtype)
    values[:10, :10] = 1255  # at the top left, which orientation 6 turns to the top right
    path = save_tiff(tmp_path / "a.tif", values, extratags=[(274, 3, 1, 6, True)], extrasamples=[0] * (bands - 3))
    image = decoded(path, size=4)
    assert (image.width, image.height) == (20, 40)
    assert image.pixels[0, -1].min() > 200
    assert image.pixels[0, 0].max() < 50
    assert image.pixels[-1, -1].max() < 50


def test_orientation_of_a_16_bit_png_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    values = np.full((20, 40, 3), 1000, np.uint16)
    values[:10, :10] = 1255
    image = decoded(save_png(tmp_path / "a.png", values, chunk(b"eXIf", exif.tobytes()[6:])), size=4)
    assert (image.width, image.height) == (20, 40)
    assert image.pixels[0, -1].min() > 200


# --- many bands ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("options", [{}, {"photometric": "minisblack"}, {"planarconfig": "separate"}], ids=str)
@pytest.mark.parametrize("bands", [4, 5, 8, 13])
def test_first_three_of_many_bands_are_read(bands: int, options: Mapping[str, str], dtype: str, tmp_path: Path) -> None:
    values = noise(bands) if dtype == "uint8" else noise(bands).astype(dtype) + 1000
    extra = bands - (1 if options.get("photometric") == "minisblack" else 3)
    image = decoded(save_tiff(tmp_path / "a.tif", values, extrasamples=[0] * extra, **options))
    np.testing.assert_array_equal(image.pixels, noise(bands)[..., :3])
    assert image.note.startswith(f"the first three of {bands} bands are read as red, green and blue;")
    assert "gdal_translate" in image.note


def test_file_that_pillow_does_not_open_is_read_by_its_path(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", noise(5).astype(np.float32) + 1000)
    np.testing.assert_array_equal(read_pixels(path, SIZE, value_range=RANGE), noise(5)[..., :3])


def test_first_of_two_bands_is_read(tmp_path: Path) -> None:
    values = noise(2).astype(np.float32) + 1000
    image = decoded(save_tiff(tmp_path / "a.tif", values, photometric="minisblack", extrasamples=[0]))
    np.testing.assert_array_equal(image.pixels, np.broadcast_to(noise(2)[..., :1], (SIZE, SIZE, 3)))
    assert image.note.startswith("the first of 2 bands is read as grey;")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_near_infrared_declared_as_transparency_is_not_taken_for_it(dtype: str, tmp_path: Path) -> None:
    values = noise(4) if dtype == "uint8" else noise(4).astype(dtype) + 1000
    image = decoded(save_tiff(tmp_path / "a.tif", values, extrasamples=["unassalpha"]))
    np.testing.assert_array_equal(image.pixels, noise(4)[..., :3])
    assert "declared as transparency" in image.note


@pytest.mark.parametrize(("dtype", "opaque"), [("uint8", 255), ("uint16", 65_535), ("float32", 1)])
def test_transparency_that_is_mostly_opaque_is_applied(dtype: str, opaque: float, tmp_path: Path) -> None:
    values = noise(4).astype(dtype) + (0 if dtype == "uint8" else 1000)
    values[..., 3], values[:4, :, 3] = opaque, 0
    image = decoded(save_tiff(tmp_path / "a.tif", values, extrasamples=["unassalpha"]))
    np.testing.assert_array_equal(image.pixels[4:], noise(4)[4:, :, :3])
    assert (image.pixels[:4] == 255).all()
    assert not image.note


@pytest.mark.parametrize("bands", [1, 3])
def test_pixels_without_data_are_black(bands: int, tmp_path: Path) -> None:
    values = noise(bands).astype(np.float32) + 1000
    values[:4] = -9999
    options = {} if bands == 3 else {"photometric": "minisblack", "planarconfig": None}
    path = save_tiff(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, "-9999", True)], **options)
    wanted = np.broadcast_to(noise(bands), (SIZE, SIZE, 3)).copy()
    wanted[:4] = 0
    np.testing.assert_array_equal(pixels_of(path), wanted)
    with path.open("rb") as file:
        levels = decode(file, SIZE, value_range="own").levels
    assert levels is not None
    assert levels.low >= 1000


def test_bands_that_are_no_image_are_named(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", np.zeros((8, 8, 5), np.complex64), photometric="minisblack")
    assert reason_of(path).startswith("5 bands of complex64 cannot be read as an image: export three of them")


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="the decoder is installed")
def test_missing_decoder_is_named_with_what_installs_it(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", noise(5).astype(np.float32))
    none, lzw = (struct.pack("<HHIHH", 259, 3, 1, method, 0) for method in (1, 5))
    path.write_bytes(path.read_bytes().replace(none, lzw))
    assert reason_of(path) == (
        "5 bands of float32, compressed with LZW: the decoder is missing: `pip install 'labelr[tiff]'`"
    )


def test_many_bands_above_the_limit_of_pixels_are_refused(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", noise(5).astype(np.float32))
    assert "the limit is 255 pixels" in reason_of(path, max_pixels=255)


def test_truncated_file_of_many_bands_is_damaged(tmp_path: Path) -> None:
    path = save_tiff(tmp_path / "a.tif", noise(5).astype(np.float32))
    path.write_bytes(path.read_bytes()[:1000])
    assert "damaged or truncated" in reason_of(path)


# --- what the tags declare -------------------------------------------------------------------------------------------

RAMP = np.linspace(0, 255, SIZE).round().astype(np.uint8)[None].repeat(SIZE, 0)


def save_grey(path: Path, values: NDArray[Any], **options: Any) -> Path:
    tifffile.imwrite(path, values, **{"photometric": "minisblack"} | options)
    return path


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_big_endian_grey_is_read_as_it_is(compression: str | None, dtype: str, tmp_path: Path) -> None:
    path = save_grey(tmp_path / "a.tif", RAMP.astype(dtype) + 1000, byteorder=">", compression=compression)
    np.testing.assert_array_equal(pixels_of(path)[..., 0], RAMP)


def test_signed_bytes_are_read_as_signed(tmp_path: Path) -> None:
    path = save_grey(tmp_path / "a.tif", (RAMP.astype(np.int16) - 128).astype(np.int8))
    image = decoded(path, value_range=ValueRange(integers=(-128.0, 127.0)))
    np.testing.assert_array_equal(image.pixels[..., 0], RAMP)


def test_unsigned_integers_of_32_bits_do_not_become_negative(tmp_path: Path) -> None:
    path = save_grey(tmp_path / "a.tif", RAMP.astype(np.uint32) * (2**32 // 256))
    image = decoded(path, value_range=ValueRange(integers=(0.0, 255.0 * (2**32 // 256))))
    np.testing.assert_array_equal(image.pixels[..., 0], RAMP)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_grey_whose_zero_is_white_is_read_as_a_positive(compression: str | None, dtype: str, tmp_path: Path) -> None:
    values = RAMP if dtype == "uint8" else RAMP.astype(dtype) + 1000
    path = save_grey(tmp_path / "a.tif", values, photometric="miniswhite", compression=compression)
    np.testing.assert_array_equal(pixels_of(path)[..., 0], 255 - RAMP)


def test_grey_with_transparency_whose_zero_is_white_is_read_as_a_positive(tmp_path: Path) -> None:
    values = np.dstack([RAMP, np.full_like(RAMP, 255)])
    path = save_tiff(tmp_path / "a.tif", values, photometric="miniswhite", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(pixels_of(path)[..., 0], 255 - RAMP)


def test_pixels_without_data_are_black_where_zero_is_white(tmp_path: Path) -> None:
    values = RAMP.astype(np.uint16) + 1000
    values[:4] = 0
    tag = (42113, "s", 0, "0", True)
    path = save_grey(tmp_path / "a.tif", values, photometric="miniswhite", extratags=[tag])
    assert (pixels_of(path)[:4] == 0).all()


def test_one_band_in_a_plane_of_its_own_is_read_by_pillow(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(RAMP.astype(np.uint16) + 1000).save(path, compression="tiff_lzw", tiffinfo={284: 2})
    np.testing.assert_array_equal(pixels_of(path)[..., 0], RAMP)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_8_bits_without_data_are_black(channels: int, tmp_path: Path) -> None:
    values = np.full((SIZE, SIZE, channels), 100, np.uint8)
    values[:4] = 255
    values[4, :, 0] = 255
    values[4, :, 1:] = 7
    options: dict[str, Any] = {} if channels == 3 else {"photometric": "minisblack", "planarconfig": None}
    path = save_tiff(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, "255", True)], **options)
    pixels = pixels_of(path)
    assert (pixels[:4] == 0).all()
    assert pixels[4, 0].tolist() == ([255, 7, 7] if channels == 3 else [0, 0, 0])


# --- transparency ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "opaque"), [("uint8", 255), ("uint16", 65_535)])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colours_are_divided_by_associated_alpha(
    compression: str | None, dtype: str, opaque: int, tmp_path: Path
) -> None:
    values = np.full((SIZE, SIZE, 4), opaque, dtype)
    values[..., 1] = opaque // 5
    values[:4] = values[:4] // 2  # half transparent over white
    values[4:6] = 0
    path = save_tiff(tmp_path / "a.tif", values, extrasamples=["assocalpha"], compression=compression)
    pixels = decoded(path, value_range=ValueRange()).pixels
    np.testing.assert_allclose(pixels[8, 0], [255, 51, 255], atol=1)
    np.testing.assert_allclose(pixels[0, 0], [255, 153, 255], atol=2)
    assert (pixels[4:6] == 255).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [4, 5])
def test_near_infrared_declared_as_associated_alpha_is_not_taken_for_it(bands: int, dtype: str, tmp_path: Path) -> None:
    values = noise(bands) if dtype == "uint8" else noise(bands).astype(dtype) + 1000
    extra = ["assocalpha", "unspecified"][: bands - 3]
    image = decoded(save_tiff(tmp_path / "a.tif", values, extrasamples=extra))
    np.testing.assert_array_equal(image.pixels, noise(bands)[..., :3])
    assert f"of {bands} bands are read as red, green and blue, since band 4, declared as transparency" in image.note


@pytest.mark.parametrize(
    ("alpha_at", "extra"), [(3, ["unassalpha", "unspecified"]), (4, ["unspecified", "unassalpha"])]
)
def test_note_counts_all_bands_and_names_that_of_transparency(alpha_at: int, extra: list[str], tmp_path: Path) -> None:
    values = noise(5).astype(np.uint16) + 1000
    values[..., alpha_at] = 65_535
    values[:4, :, alpha_at] = 0
    image = decoded(save_tiff(tmp_path / "a.tif", values, extrasamples=extra))
    assert image.note.startswith(
        f"the first three of 5 bands are read as red, green and blue, and band {alpha_at + 1} as transparency;"
    )
    assert (image.pixels[:4] == 255).all()


@pytest.mark.parametrize("options", [{}, {"planarconfig": "separate"}], ids=["contiguous", "planes"])
def test_grey_with_transparency_is_white_where_transparent(options: Mapping[str, str], tmp_path: Path) -> None:
    values = np.dstack([RAMP, np.full_like(RAMP, 255)])
    values[:4, :, 1] = 0
    path = save_tiff(tmp_path / "a.tif", values, photometric="minisblack", extrasamples=["unassalpha"], **options)
    np.testing.assert_array_equal(pixels_of(path)[4:, :, 0], RAMP[4:])
    assert (pixels_of(path)[:4] == 255).all()
    assert not decoded(path).note


def test_grey_with_transparency_and_another_band_is_grey(tmp_path: Path) -> None:
    values = np.dstack([RAMP, np.full_like(RAMP, 255), RAMP.T])
    extra = ["unassalpha", "unspecified"]
    image = decoded(save_tiff(tmp_path / "a.tif", values, photometric="minisblack", extrasamples=extra))
    np.testing.assert_array_equal(image.pixels[..., 0], RAMP)
    assert image.note.startswith("the first of 3 bands is read as grey, and band 2 as transparency;")


@pytest.mark.parametrize("options", [{}, {"planarconfig": "separate", "compression": "zlib"}], ids=str)
def test_second_band_of_8_bits_that_is_not_used_is_noted(options: Mapping[str, str], tmp_path: Path) -> None:
    image = decoded(save_tiff(tmp_path / "a.tif", noise(2), photometric="minisblack", extrasamples=[0], **options))
    np.testing.assert_array_equal(image.pixels[..., 0], noise(2)[..., 0])
    assert image.note == (
        "the first of 2 bands is read as grey; to use others, export one, such as with "
        "`gdal_translate -b 2 IN.tif OUT.tif`"
    )


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(5, SIZE, SIZE), (SIZE, SIZE, 5)])
def test_pages_that_are_not_read_are_counted(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones(shape, dtype), photometric="minisblack")
    assert (decoded(tmp_path / "a.tif").pages, decoded(tmp_path / "a.tif").note) == (shape[0] - 1, "")


@pytest.mark.parametrize("subfiletype", [0, 1], ids=["undeclared", "declared"])
def test_smaller_copies_are_no_pages(subfiletype: int, tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for _ in range(2):
            tiff.write(RAMP, photometric="minisblack")
            tiff.write(RAMP[::2, ::2], photometric="minisblack", subfiletype=subfiletype)
    assert decoded(tmp_path / "a.tif").pages == 1


# --- JPEG 2000 -------------------------------------------------------------------------------------------------------

JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"


def jpeg2000_header(precision: int, channels: int) -> bytes:
    """The start of a codestream, which says how many bits its colours have."""
    size = struct.pack(">HHHIIIIIIIIH", 0xFF51, 38 + 3 * channels, 0, 8, 8, 0, 0, 8, 8, 0, 0, channels)
    return b"\xff\x4f" + size + bytes([precision - 1, 1, 1]) * channels


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="the decoder is installed")
@pytest.mark.parametrize("precision", [12, 16])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_deep_colours_of_jpeg_2000_need_a_decoder(channels: int, precision: int) -> None:
    with pytest.raises(BandsError, match=f"colours of {precision} bits in JPEG 2000: the decoder is missing"):
        jpeg2000.read(io.BytesIO(JP2 + jpeg2000_header(precision, channels)), (8, 8), Reservation(64))


@pytest.mark.parametrize(("precision", "channels"), [(8, 3), (8, 4), (16, 1)])
def test_other_jpeg_2000_is_read_by_pillow(precision: int, channels: int) -> None:
    file = io.BytesIO(JP2 + jpeg2000_header(precision, channels))
    assert jpeg2000.read(file, (8, 8), Reservation(64)) is None


@pytest.mark.parametrize("precision", [12, 16])
def test_white_of_deep_jpeg_2000_stays_white(precision: int, tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    values = np.full((SIZE, SIZE, 3), 2**precision - 1, np.uint16)
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(values, level=0, bitspersample=precision))
    assert decoded(tmp_path / "a.jp2", value_range=ValueRange()).pixels.min() >= 254


# --- data sets of people ---------------------------------------------------------------------------------------------

CASES = {
    "png-big-metadata/photos": ValueRange(),
    "many-bands/byte5": ValueRange(),
    "many-bands/nir4_alpha": ValueRange(),
    "many-bands/nir4_unspecified": ValueRange(),
    "many-bands/float3": ValueRange(floats=(0.0, 1.0)),
    "many-bands/float5": ValueRange(floats=(0.0, 1.0)),
    "many-bands/ndvi": ValueRange(floats=(-0.75, 0.75)),
    "twelve-bits-in-sixteen/eight_bit": ValueRange(),
    "twelve-bits-in-sixteen/xray": ValueRange(integers=(0.0, 3584.0)),
    "twelve-bits-in-sixteen/sat": ValueRange(integers=(0.0, 3072.0)),
    "twelve-bits-in-sixteen/low_contrast_12_in_16": ValueRange(integers=(1664.0, 2432.0)),
}
"""The value range of each data set."""


def load_case(name: str) -> Any:
    folder = SHARED / "cases" / name
    if not folder.is_dir():
        pytest.skip("needs the data sets of ../shared/cases")
    return load_dataset([folder], ReadOptions())


@pytest.mark.parametrize("name", CASES)
def test_every_image_opens_and_uses_most_levels(name: str) -> None:
    dataset = load_case(name)
    assert not dataset.unreadable
    assert dataset.value_range == CASES[name]
    pixels = np.stack([read_pixels(path, 32, value_range=CASES[name]) for path in dataset.paths])
    assert np.ptp(pixels) > 150


@pytest.mark.parametrize("name", ["byte5", "float5"])
def test_bands_that_are_not_used_are_noted_once(name: str) -> None:
    notes = load_case(f"many-bands/{name}").findings.notes
    assert [note for note in notes if "of 5 bands" in note and note.endswith("(40 images)")] == [*notes]


def test_images_of_12_bits_have_the_pixels_of_their_copies_of_8_bits_but_for_a_scale() -> None:
    folder = load_case("twelve-bits-in-sixteen/xray").root
    value_range = CASES["twelve-bits-in-sixteen/xray"]
    deep = read_pixels(folder / "xr_000.png", 32, value_range=value_range).astype(float)
    plain = read_pixels(folder.parent / "eight_bit" / "xr_000.png", 32).astype(float)
    slope, offset = np.polyfit(plain.ravel(), deep.ravel(), 1)
    np.testing.assert_allclose(deep, slope * plain + offset, atol=4)
