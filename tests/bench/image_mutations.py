"""Decodes damaged image files, and prints each distinct failure and the slowest and largest cases.

nice python tests/bench/image_mutations.py 20000
"""

import argparse
import faulthandler
import io
import os
import random
import re
import struct
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, features

from labelr.data.images import UnreadableError, read_pixels

EXTREMES = (0, 1, 2, 7, 255, 256, 2**14, 2**15, 2**16 - 1, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
MAX_SECONDS, MAX_MEGABYTES = 10.0, 1100.0
"""What a case may take; the memory is that beyond the process itself."""
HANG_SECONDS = 120
Dice = random.Random


def pillow_seeds() -> dict[str, bytes]:
    """Sound files of each format that Pillow writes."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 4), dtype=np.uint8)
    colours = Image.fromarray(noise[..., :3]).resize((256, 192))
    clear, grey, exif = Image.fromarray(noise), colours.convert("L"), Image.Exif()
    exif[274] = 6
    palette, deep = colours.convert("P"), Image.fromarray(noise[..., 0].astype(np.uint16) * 200)
    frames = {"save_all": True, "append_images": [colours.rotate(9), colours.rotate(30)]}
    kinds: dict[str, tuple[Image.Image, str, dict[str, object]]] = {
        "jpeg": (colours, "JPEG", {"exif": exif, "icc_profile": bytes(200)}),
        "progressive jpeg": (colours, "JPEG", {"progressive": True}),
        "cmyk jpeg": (colours.convert("CMYK"), "JPEG", {}),
        "png": (colours, "PNG", {"exif": exif, "icc_profile": bytes(200)}),
        "transparent png": (clear, "PNG", {}),
        "palette png": (palette, "PNG", {"transparency": bytes(range(200))}),
        "deep png": (deep, "PNG", {}),
        "animated png": (colours, "PNG", frames),
        "webp": (colours, "WEBP", {"exif": exif}),
        "lossless webp": (clear, "WEBP", {"lossless": True}),
        "animated webp": (colours, "WEBP", frames),
        "avif": (colours, "AVIF", {"exif": exif}),
        "gif": (palette, "GIF", {"transparency": 3}),
        "animated gif": (colours, "GIF", frames),
        "bmp": (colours, "BMP", {}),
        "palette bmp": (palette, "BMP", {}),
        "tiff": (colours, "TIFF", {}),
        "fax tiff": (grey.convert("1"), "TIFF", {"compression": "group4"}),
        "jpeg tiff": (colours, "TIFF", {"compression": "jpeg"}),
        "lzw tiff": (clear, "TIFF", {"compression": "tiff_lzw"}),
        "deflate tiff": (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "pages tiff": (colours, "TIFF", frames),
        "jpeg 2000": (colours, "JPEG2000", {}),
        "tiled jpeg 2000": (colours, "JPEG2000", {"tile_size": (64, 64), "irreversible": True}),
        "jpeg 2000 stream": (grey, "JPEG2000", {"no_jp2": True}),
    }
    seeds = {}
    for name, (image, file_format, options) in kinds.items():
        buffer = io.BytesIO()
        image.save(buffer, file_format, **options)
        seeds[name] = buffer.getvalue()
    return seeds


def tiff_seeds() -> dict[str, bytes]:
    """Sound TIFF files of kinds that Pillow does not write."""
    values = np.random.default_rng(1).integers(0, 256, (48, 64, 5), dtype=np.uint8)
    kinds: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
        "deep tiff": (values[..., :3].astype(np.uint16), {"photometric": "rgb", "compression": "zlib"}),
        "float tiff": (values[..., 0].astype(np.float32), {"compression": "zlib", "rowsperstrip": 4}),
        "tiled tiff": (values[..., :3], {"photometric": "rgb", "tile": (16, 16)}),
        "bands tiff": (values, {"photometric": "minisblack", "planarconfig": "contig"}),
        "bands big tiff": (values.astype(np.float64), {"photometric": "minisblack", "bigtiff": True, "tile": (16, 16)}),
        "planes tiff": (np.moveaxis(values, 2, 0), {"photometric": "minisblack", "planarconfig": "separate"}),
        "alpha tiff": (values[..., :4], {"photometric": "rgb", "extrasamples": ["assocalpha"], "compression": "zlib"}),
    }
    seeds = {}
    for name, (image, options) in kinds.items():
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, image, **options)
        seeds[name] = buffer.getvalue()
    return seeds


def damage_bytes(data: bytearray, dice: Dice) -> bytearray:
    """Some bytes changed, most of them in the header."""
    for _ in range(dice.randint(1, 8)):
        end = len(data) if dice.random() < 0.5 else min(len(data), 200)
        data[dice.randrange(end)] = dice.randrange(256)
    return data


def damage_numbers(data: bytearray, dice: Dice) -> bytearray:
    """Some numbers of 2 or 4 bytes set to extreme values, most of them in the header or the last directory."""
    for _ in range(dice.randint(1, 4)):
        span = dice.choice([range(min(len(data), 300)), range(max(0, len(data) - 600), len(data)), range(len(data))])
        code, size = dice.choice([(">H", 2), ("<H", 2), (">I", 4), ("<I", 4)])
        if len(span) > size:
            at = span[dice.randrange(len(span) - size)]
            struct.pack_into(code, data, at, min(dice.choice(EXTREMES), 2 ** (8 * size) - 1))
    return data


def move_blocks(data: bytearray, dice: Dice) -> bytearray:
    """A block left out, repeated many times, or put elsewhere; or the end cut off."""
    start = dice.randrange(len(data))
    block = data[start : start + dice.choice([1, 4, 30, 300, 3000])]
    how = dice.randrange(4)
    if how == 0:
        return data[:start] + data[start + len(block) :]
    if how == 1:
        return data[:start] + block * dice.choice([2, 20, 2000]) + data[start + len(block) :]
    if how == 2:
        at = dice.randrange(len(data))
        return data[:at] + block + data[at:]
    return data[:start]


def damage_chunks(data: bytearray, dice: Dice) -> bytearray:
    """A PNG whose chunks are changed and keep valid checksums, with a bomb among them; or other files as they are."""
    if not data.startswith(b"\x89PNG"):
        return damage_numbers(data, dice)
    chunks, start = [], 8
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        chunks.append((bytes(data[start + 4 : start + 8]), bytearray(data[start + 8 : start + 8 + length])))
        start += 12 + length
    bomb = b"name\0\0" + zlib.compress(bytes(dice.choice([100, 2**21, 2**26])))
    extra = [
        (b"zTXt", bomb),
        (b"iCCP", bomb),
        (b"eXIf", b"Exif"),
        (b"acTL", struct.pack(">II", dice.choice(EXTREMES), 0)),
    ]
    for _ in range(dice.randint(1, 3)):
        name, content = dice.choice(chunks)
        content = bytearray(content)
        if content:
            damage_numbers(content, dice) if dice.random() < 0.7 else damage_bytes(content, dice)
        chunks.insert(
            dice.randrange(1, len(chunks) + 1), dice.choice([*((n, bytearray(c)) for n, c in extra), (name, content)])
        )
    body = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return bytearray(b"\x89PNG\r\n\x1a\n" + b"".join(body))


def damage_directory(data: bytearray, dice: Dice) -> bytearray:
    """A TIFF of which an entry of the first directory is changed, or whose directories form a loop."""
    if bytes(data[:4]) not in (b"II*\0", b"MM\0*") or len(data) < 30:
        return damage_numbers(data, dice)
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return damage_bytes(data, dice)
    (count,) = struct.unpack_from(order + "H", data, start)
    for _ in range(dice.randint(1, 3)):
        entry = min(start + 2 + 12 * dice.randrange(max(1, count)), len(data) - 12)
        field, code = dice.choice([(2, "H"), (4, "I"), (8, "I"), (8, "I")])
        value = dice.choice([*EXTREMES, start, len(data) - 4])
        struct.pack_into(order + code, data, entry + field, min(value, 2**16 - 1 if code == "H" else 2**32 - 1))
    if dice.random() < 0.2 and start + 6 + 12 * count <= len(data):
        struct.pack_into(order + "I", data, start + 2 + 12 * count, start)
    return data


DAMAGES: tuple[Callable[[bytearray, Dice], bytearray], ...] = (
    damage_bytes, damage_numbers, move_blocks, damage_chunks, damage_directory
)  # fmt: skip


def memory(field: str) -> float:
    """The memory of this process now (``VmRSS``) or at its peak (``VmHWM``), in MB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def where(error: BaseException) -> str:
    """The line of labelr in which an error arose, and its kind."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "labelr" in frame.filename]
    frame = frames[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {type(error).__name__}: {re.split(r'[0-9(]', str(error))[0]}"


@dataclass
class Tally:
    """What became of the cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    printed: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[float, str] = (0.0, "")

    def run(self, case: str, path: Path, errors: IO[bytes]) -> str:
        """Decodes a file, and says in a word why it should be kept; empty if there is no reason."""
        Path("/proc/self/clear_refs").write_text("5")
        before, started = memory("VmRSS"), time.process_time()
        try:
            read_pixels(path, 64)
            outcome = "read"
        except UnreadableError as error:
            outcome = "too large" if "too large" in str(error) else "unreadable"
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            outcome = "failed"
            self.failures[where(error)] += 1
        seconds, megabytes = time.process_time() - started, memory("VmHWM") - before
        self.outcomes[outcome] += 1
        self.slowest = max(self.slowest, (seconds, f"{case}, {outcome}"))
        self.largest = max(self.largest, (megabytes, f"{case}, {outcome}"))
        if outcome == "failed" or seconds > MAX_SECONDS or megabytes > MAX_MEGABYTES:
            print(f"{case}, {outcome}: {seconds:.1f} s, {megabytes:.0f} MB", flush=True)
            return "excess"
        errors.seek(0)
        text = errors.read().decode(errors="replace")
        errors.seek(0)
        errors.truncate()
        if text:
            self.printed[re.sub(r"[0-9]+", "N", text.splitlines()[0])[:100]] += 1
        return "printed" if text else ""

    def report(self) -> str:
        """All of it as text."""
        lines = [f"{sum(self.outcomes.values()):,} files: {dict(self.outcomes)}"]
        lines.append(f"slowest {self.slowest[0]:.2f} s of processor time: {self.slowest[1]}")
        lines.append(f"largest {self.largest[0]:.0f} MB: {self.largest[1]}")
        for title, counts in (("failures", self.failures), ("printed by decoders", self.printed)):
            lines += [f"{title}: {sum(counts.values())}", *(f"{n:7,}  {text}" for text, n in counts.most_common())]
        return "\n".join(lines)


def main() -> None:
    """Prints outcomes, failures, what the decoders wrote, and the extremes of time and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("examples", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that fail or take too much")
    arguments = parser.parse_args()
    dice, seeds, tally, stderr = Dice(arguments.seed), pillow_seeds() | tiff_seeds(), Tally(), os.dup(2)
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile() as errors,
        os.fdopen(stderr, "w") as watchdog,
    ):
        os.dup2(errors.fileno(), 2)
        try:
            for number in range(arguments.examples):
                name = dice.choice(list(seeds))
                data = bytearray(seeds[name])
                for damage in dice.choices(DAMAGES, k=dice.choice([1, 1, 2])):
                    data = damage(data, dice) if data else data
                path = Path(folder) / "a.image"
                path.write_bytes(data)
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=watchdog)
                kept = tally.run(f"{number} ({name})", path, errors)
                faulthandler.cancel_dump_traceback_later()
                if kept and arguments.keep:
                    (arguments.keep / f"{kept}-{number}.image").write_bytes(data)
                if number % 1000 == 999:
                    print(f"{number + 1:,}: {dict(tally.outcomes)}", flush=True)
        finally:
            os.dup2(watchdog.fileno(), 2)
    print(f"Pillow {features.version('pil')}; {tally.report()}")


if __name__ == "__main__":
    main()
