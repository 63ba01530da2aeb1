"""What decoders may take: memory in all threads together, and parts of a file."""

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from labelr.data import budget
from labelr.data.budget import MAX_BYTES_PER_PIXEL, MAX_SCANS, Reservation
from labelr.data.images import UnreadableError, decode, read_pixels

SIDE = 3000


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, file_format, **options)
    return content.getvalue()


def reason_of(content: bytes, max_pixels: int = 10**6) -> str:
    with pytest.raises(UnreadableError) as caught:
        decode(io.BytesIO(content), 16, max_pixels=max_pixels)
    return str(caught.value)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_all_threads_together_hold_no_more_than_one_image_may() -> None:
    limit, held, peaks, lock = 10 * MAX_BYTES_PER_PIXEL, [0], [0], threading.Lock()

    def work(num_bytes: int) -> None:
        with Reservation(10) as memory:
            memory.take((1, 1), num_bytes)
            with lock:
                held[0] += num_bytes
                peaks.append(held[0])
            time.sleep(0.001)
            with lock:
                held[0] -= num_bytes

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, [limit, 3, 20, 7, limit // 2, limit, 1] * 20))
    assert limit // 2 < max(peaks) <= limit


def test_small_image_does_not_wait_behind_a_large_one_that_waits() -> None:
    started, done = threading.Event(), threading.Event()

    def wait_for_all() -> None:
        with Reservation(10) as memory:
            started.set()
            memory.take((1, 1), 50)
            done.set()

    with Reservation(10) as first:
        first.take((1, 1), 20)
        thread = threading.Thread(target=wait_for_all)
        thread.start()
        started.wait()
        with Reservation(10) as small:
            small.take((1, 1), 30)
        assert not done.is_set()
    thread.join(5)
    assert done.is_set()


def test_memory_is_free_again_after_an_image_that_fails() -> None:
    for _ in range(3):
        reason_of(encoded(Image.new("RGB", (600, 600)), "PNG")[:-100])
    assert Reservation._used == 0


def test_image_that_takes_too_much_names_the_option_that_reads_it(tmp_path: Path) -> None:
    Image.new("RGB", (60, 50)).save(tmp_path / "a.webp")
    reason = reason_of((tmp_path / "a.webp").read_bytes(), max_pixels=3000)
    assert reason.startswith("too large: 60 x 50 pixels take 0 MB of memory to decode, the limit is 0 MB; `--max-pix")
    needed = int(reason.split("`")[1].split()[1])
    assert read_pixels(tmp_path / "a.webp", 16, max_pixels=needed).shape == (16, 16, 3)
    with pytest.raises(UnreadableError):
        read_pixels(tmp_path / "a.webp", 16, max_pixels=needed - 1)


def rgba_png() -> bytes:
    rows = zlib.compress((b"\0" + bytes(range(256)) * (SIDE * 8 // 256 + 1))[: 1 + SIDE * 8] * SIDE, 1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 16, 6, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    body = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def float_tiff() -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, np.full((SIDE, SIDE), 0.5, np.float32), compression="zlib", photometric="minisblack")
    return content.getvalue()


PEAK = """
import re, sys
from pathlib import Path
from labelr.data.images import read_pixels
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
read_pixels(Path(sys.argv[1]), 64)
before = peak()
read_pixels(Path(sys.argv[2]), 64)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("content", "bytes_per_pixel"),
    [(rgba_png(), 10), (float_tiff(), 6), (encoded(Image.new("RGBA", (SIDE, SIDE)), "PNG"), 6)],
    ids=["deep transparent PNG", "float TIFF", "transparent PNG"],
)
def test_conversion_makes_no_copy_at_full_size(content: bytes, bytes_per_pixel: float, tmp_path: Path) -> None:
    (tmp_path / "a.image").write_bytes(content)
    Image.new("RGBA", (300, 300)).save(tmp_path / "small.png")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small.png"), str(tmp_path / "a.image")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < (bytes_per_pixel + 2) * SIDE**2


def test_large_jpeg_2000_is_read_at_a_reduced_scale() -> None:
    image = Image.radial_gradient("L").resize((1024, 1024)).convert("RGB")
    content = encoded(image, "JPEG2000")
    full, reduced = (decode(io.BytesIO(content), 32, max_pixels=pixels).pixels for pixels in (10**7, 1024**2))
    with pytest.raises(UnreadableError, match="of memory to decode"):
        decode(io.BytesIO(content), 512, max_pixels=1024**2)
    assert 0 < np.abs(full.astype(int) - reduced).max() <= 4


# --- parts of a file -------------------------------------------------------------------------------------------------


def test_jpeg_of_endless_scans_is_refused() -> None:
    content = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    bomb = content[:last] + content[last:-2] * MAX_SCANS + content[-2:]
    assert f"the limit is {MAX_SCANS}" in reason_of(bomb)


def test_tiff_of_endless_strips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_TILES", 10)
    content = io.BytesIO()
    tifffile.imwrite(content, np.zeros((11, 8), np.uint8), rowsperstrip=1, photometric="minisblack")
    assert reason_of(content.getvalue()) == "damaged: it has 11 strips or tiles, the limit is 10"


def test_file_of_endless_pieces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_READS", 1000)
    content = encoded(Image.new("RGB", (8, 8)), "JPEG")
    assert reason_of(content[:2] + b"\xff" * 1000 + content[2:]) == "damaged: it consists of too many pieces"
