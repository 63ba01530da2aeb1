"""Merges labels into mutated XMP files and JPEG images, and looks for anything of other programs that was lost.

    nice python tests/bench/xmp.py 2000

Half of the cases are XMP. Each is one of the samples of `tests/xmp_samples.py` in which well-formed parts were added,
left out or written otherwise; half of these have bytes changed at random as well, and may be refused. ElementTree then
compares all that is no keyword. The other half are JPEG images with segments of all kinds, some with bytes changed
before the pixels: without its XMP the image must be the same to the last byte, and its pixels the same.
"""

import argparse
import io
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from xmp_samples import DC, DIGIKAM_NS, LR, RDF, SAMPLES, bag

from labelr.data.embedded import APP1, XMP_HEAD, packet_in, with_packet
from labelr.xmp.merging import merge
from labelr.xmp.packet import FIELDS, OWN, DamagedError, Packet, Record, key

LABELS = ("dog", "animal/cat", "Beach", "Norway", "<&>", "犬")
FIRST = Record("1" * 64, probabilities={"dog": 0.9, "<&>": 0.5})
SECOND = Record("2" * 64, "auto", probabilities={"bird": 0.8})
KNOWN = {f"{{{namespace}}}{name}" for namespace, name in (each.name for each in FIELDS)}
ABOUT = f"{{{RDF[11:-1]}}}about"
FOREIGN = (
    '<x:a xmlns:x="urn:x">1</x:a>', '<x:a xmlns:x="urn:x" rdf:parseType="Resource"><x:b>&lt;2&gt;</x:b></x:a>',
    "<!-- a > comment -->", '<q:z xmlns:q="urn:q" q:y="&quot;&gt;"/>', "<?note here?>",
    f'<y:list xmlns:y="urn:y">{bag("dog", "Beach")}</y:list>',
)  # fmt: skip


def mutated_packet(dice: random.Random) -> bytes:
    """A sample with some of its parts added, left out or written otherwise."""
    text = SAMPLES[dice.choice(sorted(SAMPLES))]
    for name in ("dc:subject", "lr:hierarchicalSubject", "digiKam:TagsList"):
        roll = dice.random()
        if roll < 0.15:
            text = re.sub(rf"\s*<{name}>.*?</{name}>", "", text, flags=re.DOTALL)
        elif roll < 0.25:
            text = re.sub(rf"<{name}>.*?</{name}>", f"<{name}/>", text, flags=re.DOTALL)
        elif roll < 0.35:
            text = re.sub(rf"<{name}>.*?</{name}>", f"<{name}>Beach</{name}>", text, flags=re.DOTALL)
    for _ in range(dice.randrange(4)):
        text = text.replace("</rdf:Description>", f"{dice.choice(FOREIGN)}</rdf:Description>", 1)
    for _ in range(dice.randrange(3)):
        fields = (
            ("dc:subject", DC),
            ("lr:hierarchicalSubject", LR),
            ("digiKam:TagsList", DIGIKAM_NS),
            ("z:z", 'xmlns:z="z"'),
        )
        name, space = dice.choice(fields)
        items = dice.sample(["dog", "Trip", "Norway", "A|B", "A/B", "&amp;"], dice.randrange(4))
        inside = bag(*items, kind=dice.choice(["Bag", "Seq", "Alt"]))
        text = text.replace(
            "</rdf:RDF>", f"<rdf:Description {space}><{name}>{inside}</{name}></rdf:Description></rdf:RDF>", 1
        )
    return rewritten(text, dice)


def rewritten(text: str, dice: random.Random) -> bytes:
    """A packet with other prefixes, white space, line breaks or encoding."""
    if dice.random() < 0.2:
        text = text.replace("rdf:", "r:").replace(":rdf=", ":r=")
    if dice.random() < 0.2:
        text = re.sub(r">\s+<", "><", text)
    if dice.random() < 0.2:
        text = text.replace("\n", "\r\n")
    codec = dice.choice(["utf-8"] * 5 + ["utf-8-sig", "utf-16"]) if "encoding=" not in text else "utf-8"
    return text.encode(codec)


def damaged(content: bytes, dice: random.Random, end: int) -> bytes:
    """The content with some bytes before a position changed, left out or repeated."""
    parts = bytearray(content)
    for _ in range(dice.randrange(1, 4)):
        place = dice.randrange(max(1, min(end, len(parts))))
        kind = dice.randrange(3)
        if kind == 0:
            parts[place] = dice.randrange(256)
        elif kind == 1:
            del parts[place : place + dice.randrange(1, 20)]
        else:
            parts[place:place] = parts[place : place + dice.randrange(1, 200)]
    return bytes(parts)


def foreign(content: bytes) -> Counter[str]:
    """All in a packet that is neither a keyword nor labelr's, with comments, as ElementTree finds it."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))
    found: Counter[str] = Counter()
    root = ET.fromstring(content, parser)
    rdf = root if root.tag.endswith("RDF") else next(node for node in root.iter() if str(node.tag).endswith("}RDF"))
    for description in rdf:
        for name, value in description.attrib.items() if isinstance(description.tag, str) else ():
            found[f"{name}={value}"] += name not in KNOWN and name != ABOUT and OWN not in name
        for node in description:
            is_other = not isinstance(node.tag, str) or (node.tag not in KNOWN and OWN not in node.tag)
            node.tail = ""
            found[ET.tostring(node, encoding="unicode")] += is_other
    return +found


def check_packet(content: bytes, dice: random.Random) -> str:
    """What is wrong after labels were merged into a packet; empty if nothing is, ``refused`` if it is damaged."""
    try:
        before = Packet(content)
    except DamagedError:
        return "refused"
    labels = dice.sample(LABELS, dice.randrange(1, len(LABELS)))
    once = merge(content, labels, FIRST) or b""
    again = merge(once, [*labels], FIRST)
    other = merge(once, ["bird"], SECOND) or b""
    for step, after in (("first", once), ("other model", other)):
        if foreign(after) != foreign(content):
            return f"{step}: lost {foreign(content) - foreign(after)}, new {foreign(after) - foreign(content)}"
        for each in FIELDS:
            lost = {*before.values(each.name)} - {*Packet(after).values(each.name)}
            if lost and before.record is None:
                return f"{step}: keywords lost from {each.name[1]}: {lost}"
    if again != once:
        return "not the same when it is merged again"
    had = {key(level) for paths in before.paths.values() for path in paths for level in path}
    expected = {label for label in labels if key(label.rpartition("/")[2]) not in had}
    written = Packet(once).record
    if before.record is None and {*(written.labels if written else ())} != expected:
        return f"labels are {written and written.labels}, not {expected}"
    left = merge(other, [], SECOND) or b""
    kept = [value for each in FIELDS for value in Packet(left).values(each.name) if value in ("bird", "auto|bird")]
    return f"not withdrawn: {kept}" if kept and before.record is None else ""


def mutated_jpeg(dice: random.Random, images: list[bytes]) -> bytes:
    """An image with segments of many kinds, perhaps XMP among them."""
    jpeg = dice.choice(images)
    for _ in range(dice.randrange(6)):
        content = dice.choice([
            b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0", b"JFXX\0\x10", b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0",
            XMP_HEAD + mutated_packet(dice)[:60_000], b"ICC_PROFILE\0\1\1" + dice.randbytes(60), dice.randbytes(200),
        ])  # fmt: skip
        marker = APP1 if content.startswith((b"Exif", b"http")) else dice.choice([0xE0, 0xE2, 0xED, 0xEE, 0xFE])
        segment = bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content
        jpeg = jpeg[:2] + segment + jpeg[2:]
    return jpeg


def without_xmp(jpeg: bytes) -> bytes:
    """An image without its XMP, by another way than labelr's: its segments start with a fixed text."""
    place = jpeg.find(XMP_HEAD)
    if place < 0:
        return jpeg
    size = int.from_bytes(jpeg[place - 2 : place], "big")
    return jpeg[: place - 4] + jpeg[place - 2 + size :]


def check_jpeg(jpeg: bytes) -> str:
    """What is wrong after labels were merged into an image; empty if nothing is, ``refused`` if they were not."""
    try:
        packet = merge(packet_in(jpeg), ["dog"], FIRST)
        after = jpeg if packet is None else with_packet(jpeg, packet)
    except DamagedError:
        return "refused"
    if without_xmp(after) != without_xmp(jpeg):
        return "another byte has changed"
    if pixels(after) != pixels(jpeg):
        return "a pixel has changed"
    if packet_in(after) != packet:
        return "the packet is another one"
    return "not the same when it is merged again" if merge(packet, ["dog"], FIRST) != packet else ""


def pixels(jpeg: bytes) -> bytes:
    try:
        return Image.open(io.BytesIO(jpeg)).tobytes()
    except Exception as error:  # noqa: BLE001 - a damaged image, which must fail in the same way
        return type(error).__name__.encode()


def run(cases: int, seed: int) -> tuple[Counter[str], list[str], float]:
    """The number of each outcome, what was wrong, and the seconds of the slowest case."""
    dice, wrong, slowest = random.Random(seed), [], 0.0
    noise = np.random.default_rng(seed).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    images = []
    for options in ({}, {"progressive": True}, {"quality": 95, "icc_profile": bytes(90)}, {"comment": b"x"}):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "JPEG", **options)
        images.append(buffer.getvalue())
    outcomes: Counter[str] = Counter()
    for case in range(cases):
        kind = "XMP" if case % 2 else "JPEG"
        content = mutated_packet(dice) if kind == "XMP" else mutated_jpeg(dice, images)
        if dice.random() < 0.5:
            content = damaged(content, dice, len(content) if kind == "XMP" else len(content) - 900)
            kind = f"damaged {kind}"
        start = time.perf_counter()
        try:
            problem = check_packet(content, dice) if "XMP" in kind else check_jpeg(content)
        except Exception as error:  # noqa: BLE001 - to be reported with the case
            problem = f"{type(error).__name__}: {error}"
        slowest = max(slowest, time.perf_counter() - start)
        outcomes[f"{kind}, {'refused' if problem == 'refused' else 'wrong' if problem else 'merged'}"] += 1
        if problem and (problem != "refused" or kind == "XMP"):
            wrong.append(f"case {case}, {kind}: {problem}")
    return outcomes, wrong, slowest


def main() -> None:
    """Runs the cases, and prints their outcomes and what was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes, wrong, slowest = run(arguments.cases, arguments.seed)
    for outcome, number in sorted(outcomes.items()):
        print(f"{number:6,} {outcome}")
    print(f"slowest: {slowest:.3f} s; wrong: {len(wrong)}", *wrong[:20], sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
