"""Damaged label files are read, or give an error message, and nothing else happens."""

import itertools
import json
import random
import re
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import pytest

from labelr.config import LAYOUTS, Layout, ReadOptions
from labelr.data.dataset import Dataset
from labelr.data.load import read_labels
from labelr.data.walk import SUFFIXES
from labelr.errors import LabelrError

T = TypeVar("T")
Files = dict[str, bytes | None]  # content by name; None for a folder
NUM_EXAMPLES = 12  # of each valid data folder
LIMIT = 8.0 if sys.gettrace() else 2.0  # seconds of processor time, more where coverage is measured
MEMORY = Path("/dev/shm")  # if it exists, the folders cost no disk

# --- valid data folders, one or more of every layout -----------------------------------------------------------------

IMAGES, BOX = ("a.jpg", "b.jpg", "c.png"), "0 0.5 0.5 0.2 0.2\n"
TASKS = [
    {"data": {"image": "/data/upload/ab12cd34-a.jpg"}, "annotations": [{"result": [{"value": {"choices": ["cat"]}}]}]},
    {"data": {"photo": "s3://x/b.jpg"}, "annotations": [{"result": [{"value": {"rectanglelabels": ["dog"]}}]}]},
]  # fmt: skip
FIELDS = {"annotator": 1, "annotation_id": 1, "created_at": "x", "updated_at": "x", "lead_time": 6.25}
FLAT = [
    {"image": "/data/local-files/?d=a.jpg", "id": 1, "choice": {"choices": ["cat", "dog"]}, **FIELDS},
    {"image": "b.jpg", "id": 2, "choice": "cat", "box": [{"rectanglelabels": ["dog"]}], **FIELDS},
]
COCO = {
    "images": [{"id": number, "file_name": name} for number, name in enumerate(IMAGES)],
    "categories": [{"id": 1, "name": "cat", "supercategory": "x"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "x"}],
    "annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}, {"image_id": 1, "category_id": 2}],
}  # fmt: skip
VERTEX = [
    {"imageGcsUri": "gs://b/a.jpg", "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"}},
    {"imageGcsUri": "gs://b/b.jpg", "classificationAnnotation": {"displayName": "x"}, "boundingBoxAnnotations": []},
]
VOC = "<annotation><filename>{}</filename><object><name>cat</name></object></annotation>"


def lines_of(objects: Iterable[object]) -> str:
    return "\n".join(map(json.dumps, objects)) + "\n"


SEEDS = {
    "wide": {"labels.csv": "filename,split,cat,dog,patient\na.jpg,train,1,0,p1\nb.jpg,val,0,yes,p1\nc.png,test,,-1,\n"},
    "wide with a count": {"truth.tsv": "\tdog\tphoto\tnote\n0\t1\ta.jpg\t\n1\tx\tb.jpg\t\n2\t\tc.png\t\n"},
    "wide in splits": {"train.csv": "file,cat,dog\na,1,0\nb,0,1\n", "annotations/val.csv": "file,cat,cow\nc,1,\n"},
    "tags": {"labels.csv": "image,split,tags,id\na.jpg,train,cat|dog,1\nb.jpg,val,cat,2\nc.png,test,,3\n"},
    "tags as lists": {"labels.csv": "path,keywords\na.jpg,\"['cat', 'dog']\"\nb.jpg,\"['cat' 'dog']\"\nc.png,[]\n"},
    "tags and spaces": {"train.csv": "image_name;x\na;cat dog\nb;dog\nc;cat dog\n"},
    "long": {"labels.csv": "filename,label,score,split\na.jpg,cat,1,train\na.jpg,dog,0.3,train\nb.jpg,dog,0.7,val\n"},
    "open images": {
        "val.csv": "ImageID,Source,LabelName,Confidence\na,human,/m/1,1\na,human,/m/2,0\nb,human,/m/2,1\n",
        "class-descriptions.csv": "/m/1,Cat\n/m/2,Dog\n",
    },
    "vertex": {"labels.csv": "training,gs://b/a.jpg,cat,dog\nTEST,gs://b/b.jpg,dog\nunassigned,gs://b/c.png\n"},
    "vertex lines": {"labels.jsonl": lines_of(VERTEX)},
    "label studio": {"project.json": lines_of([TASKS])},
    "label studio min": {"result.json": lines_of([FLAT])},
    "label studio csv": {
        "result.csv": "annotation_id,annotator,choice,created_at,id,image,lead_time,updated_at\n"
        '1,1,"{""choices"":[""cat"",""dog""]}",x,1,a.jpg,1,x\n2,1,cat,x,2,b.jpg,1,x\n,,,,3,c.png,,\n',
    },
    "cvat": {
        "a.xml": "<annotations><meta><task><labels><label><name>cat</name></label></labels></task></meta>\n"
        '<image id="0" name="a.jpg" subset="train"><tag label="cat" source="x"><attribute name="x">1</attribute></tag>'
        '<box label="dog" xtl="1.0"/></image>\n<image id="1" name="b.jpg" subset="val"/></annotations>',
    },
    "coco": {"annotations/instances_train2017.json": lines_of([COCO])},
    "voc": {
        "Annotations/a.xml": VOC.format("a.jpg"), "Annotations/b.xml": VOC.format("C:\\x\\b.jpg"),
        "ImageSets/Main/train.txt": "a\n", "ImageSets/Main/val.txt": "b\n", "ImageSets/Main/cow_val.txt": "b 1\n",
    },
    "yolo": {
        "data.yaml": "path: .\ntrain: ../train/images\nval: [valid/images]\ntest: test.txt\nnc: 2\nnames: [cat, dog]\n",
        "train/images/a.jpg": "", "valid/images/b.jpg": "", "c.png": "", "test.txt": "./c.png\n\nsome/d.png\n",
        "train/labels/a.txt": BOX + "1 0.1 0.1 0.1 0.1\n", "valid/labels/b.txt": BOX,
    },
    "yolo names by number": {"data.yml": "names:\n  0: cat\n  1: dog\n", "labels/a.txt": BOX, "b.txt": ""},
    "yolo without yaml": {"classes.txt": "cat\ndog\n", "a.txt": BOX, "b.txt": "1" + BOX[1:]},
    "tagged": {
        "a.jpg.csv": "label,probability\ncat,0.9\n", "b.jpg.csv": "label,probability\n",
        "labels.csv": "filename,cat,dog\na.jpg,1,0\nb.jpg,0,0\n",
    },
    "sidecar": {"a.txt": "cat, dog \\(big\\)", "b.jpg.txt": "(cat:0.9), dog", "c.caption": ""},
    "folders": {"cat/a.jpg": "1", "dog/a.jpg": "1", "dog/b.jpg": "2", "train/dog/c.jpg": ""},
    "lines": {"metadata.jsonl": lines_of({"file_name": name, "tags": ["cat", "dog"]} for name in IMAGES)},
    "lines of objects": {"metadata.jsonl": lines_of({"file_name": name, "o": {"label": 1}} for name in IMAGES)},
    "yaml": {"labels.yaml": "- {filename: a.jpg, cat: 1, dog: no}\n- filename: b.jpg\n  cat: 0\n"},
}  # fmt: skip

# --- damage ---------------------------------------------------------------------------------------------------------

HUGE, HEX, DEEP = "9" * 5000, f"[0x{'f' * 5000}]", "[" * 900 + "]" * 900
WORDS = (
    "", " ", "0", "1", "-1", "nan", "1e999", "null", "é", "\0", "\r", "\u2028", "\ud800", '"', "'", "\\", "=1", "#",
    "cat", "a.jpg", "A.JPG", "./a.jpg", ".", "..", "x/../b", "train", "val.", "id", "label", "tags", "split", "<",
    "x" * 300, "y" * 140_000, HUGE, "http://[", "gs://b/a.jpg", "a://?d=%00", "/data/local-files/?d=", "&amp;", "①",
    "{[1]}", "['cat' \"dog\"]", "[' ' 'dog']", "('cat', 1)", "{'a': 1}", HEX, "[" * 900, DEEP, "[" + "-" * 5000 + "1]",
    "{'a'", "cat dog", "cat;dog", "cat_x dog_y", '{"choices": "cat"}', f'{{"choices": {DEEP}}}', "1_0", "x/" * 200,
)  # fmt: skip
JSON_TEXTS = (
    "null", "true", "-1", "1.5", "1e999", "NaN", HUGE, "9" * 400, '""', '" "', '"cat"', '"a.jpg"', '"\\ud800"',
    '"\\u0000"', '"\\udc80.jpg"', '"http://["', '"."', f'"{"x" * 5000}"', "[[]]", "{}", '{"a": {"b": [null]}}',
    '["cat", "dog"]', '[{"choices": [1]}]', '{"choices": {"choices": ["cat"]}}', '{"labels": 1}', DEEP, "[" * 99_999,
    '{"a":' * 900 + "1" + "}" * 900, f'{{"choices": {"[" * 300 + "]" * 300}}}', f'{{"taxonomy": {DEEP}}}',
)  # fmt: skip
LAUGHS = "[&l0 [ha], " + ", ".join(f"&l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9)) + "]"
YAML_TEXTS = (
    "", "~", ".inf", ".nan", "no", "2024-01-01", "2024-99-01", "2024-01-01T01:02:03Z", "a: b: c", "&a [*a]", "*b", "<<",
    "!!int ''", "!!int x", "!!float ''", "!!bool x", "!!timestamp x", "!!set {a, b}", "!!binary aGk=", "!x y",
    "{.inf: cat}", "{.nan: cat}", "{1: cat, x: dog}", "{[1]: 2}", "{2024-01-01: 1}", "{~: ~}", "[[cat], {a: b}]", "' '",
    "[cat, cat, '', ~, 1]", HEX[1:-1], HEX, HUGE, DEEP, LAUGHS, "[" * 400, "..", "test.txt", '"\\0"', '"\\ud800"',
    "x" * 300, "|\n  a\n  b", "- 1", "{<<: 1}", "!!python/object:os.system x",
)  # fmt: skip
ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(9))
XML_TEXTS = (
    f"<!DOCTYPE a [{ENTITIES}]>", '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///dev/null">]>', '<!DOCTYPE a SYSTEM "http://[">',
    *(f'<?xml version="1.0" encoding="{name}"?>' for name in ("ascii", "utf-7", "none", "utf-16", "shift_jis")),
    "<!-- <annotations -->", "&e8;", "<a>" * 5000, "<annotations>", "<track/>", "<![CDATA[", *WORDS,
)  # fmt: skip
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-7", "shift_jis")
BYTES = (b"\0", b"\xff", b"\x81", b"\xe9", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b'"', b"\0\0\xfe\xff", b"sep=;\n")
NAMES = (
    "labels.csv", "val.csv", "x.json", "x.jsonl", "x.xml", "x.yaml", "a.txt", "test.txt", "data.names", "A.jpg",
    "b.jpg.csv", "sub/a.jpg", "labels/x.csv", "images/b.jpg", "ImageSets/Main/test.txt", ".x.csv", "x" * 250 + ".jpg",
)  # fmt: skip
WORD, LINE = r"\w[\w.]*|.", r"[^\n]*\n|[^\n]+"
XML = ((WORD, LINE, r'<[^>"]*|[^<>"]+|[">]'), XML_TEXTS)  # patterns of pieces, and their replacements
YAML = ((WORD, LINE, r"\[[^][]*\]|\{[^}{]*\}|\w+|."), YAML_TEXTS)


class Dice:
    """Choices determined by a string of bytes; the first choice after its end."""

    def __init__(self, data: bytes) -> None:
        self._numbers = itertools.chain(memoryview(data).cast("H"), itertools.repeat(0))

    def roll(self, sides: int) -> int:
        return next(self._numbers) % max(sides, 1)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.roll(len(choices))]


def damage_text(text: str, suffix: str, dice: Dice) -> str:
    """A text with a piece replaced, removed, repeated or exchanged with another, or with a prefix."""
    patterns, words = {".xml": XML, ".yaml": YAML, ".yml": YAML}.get(suffix, ((WORD, LINE), WORDS))
    pieces: list[str] = re.findall(dice.pick(patterns), text, re.DOTALL)
    word = dice.pick(words)
    if dice.roll(8) == 1 or not pieces:
        return word + text[dice.pick((0, 0, len(text))) :]
    at, by = dice.roll(len(pieces)), dice.roll(len(pieces))
    changed = dice.pick((word, word, word, "", pieces[at] * 2, (pieces[at] * 200)[:20_000], pieces[by]))
    return "".join([*pieces[:at], changed, *pieces[at + 1 :]][: dice.pick((None, None, None, None, at))])


def damage_table(text: str, dice: Dice) -> str:
    """A table with a cell or column changed, or with another separator."""
    separator = next((one for one in "\t;" if one in text), ",")
    rows = [line.split(separator) for line in text.split("\n")]
    column, word, way = dice.roll(len(rows[0])), dice.pick(WORDS), dice.roll(6)
    for row in rows if way < 3 else [dice.pick(rows)]:
        row[column : column + (way != 1)] = [] if way == 2 else row[:1] if way == 1 else [word]
    return "\n".join(map(dice.pick((separator, separator, separator, ",", ";", "\t")).join, rows))


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document, as its list or object and its key there."""
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        yield from places_in(inner) if isinstance(inner, (dict, list)) else ()


def damage_json(text: str, dice: Dice) -> str:
    """A JSON text, or a line of one, with a value replaced, removed or doubled, or a key renamed."""
    lines, number = text.split("\n"), dice.roll(text.count("\n") + 1)
    try:
        document = [json.loads(lines[number])]
    except (ValueError, RecursionError):
        return text
    (box, key), way = dice.pick(list(places_in(document))), dice.roll(8)
    taken = box.pop(key)
    if isinstance(box, list):
        box[key:key] = ["@"] if way < 5 else [taken] * (way - 5)
    elif way != 5:
        box[key if way < 5 else dice.pick(WORDS)] = "@" if way < 5 else taken
    lines[number] = ",".join(map(json.dumps, document)).replace('"@"', dice.pick(JSON_TEXTS))
    return "\n".join(lines)


def damage_bytes(data: bytes, dice: Dice) -> bytes:
    """Bytes changed, removed, inserted or doubled, or the text in another encoding."""
    if dice.roll(2):
        text = dice.pick(("", "é", "\x81")) + data.decode("utf-8", "replace")
        return text.encode(dice.pick(ENCODINGS), "replace")
    at, length = dice.roll(len(data) + 1), dice.pick((0, 1, 1, 8, 64))
    put = dice.pick((dice.pick(BYTES), bytes([dice.roll(256)]), b"", data[at : at + length] * 2))
    return data[: at * dice.pick((1, 1, 1, 0))] + put + data[at + length :]


def damage(files: Files, dice: Dice) -> None:
    """Damages, removes, renames or copies a file of a data folder, or replaces it by a folder."""
    name = dice.pick([name for name in files if Path(name).suffix not in SUFFIXES] or ["a.jpg"])
    content, suffix, way = files.pop(name, b""), Path(name).suffix, dice.roll(16)
    if content is None or way < 3:
        kept = {} if way == 0 else {name: None} if way == 1 else {name: content}
        files.update(dice.pick((kept, {**kept, dice.pick(NAMES): content})))
    elif way < 5:
        files[name] = damage_bytes(content, dice)
    else:
        change = {".json": damage_json, ".jsonl": damage_json, ".csv": damage_table, ".tsv": damage_table}.get(suffix)
        text = content.decode("utf-8", "surrogateescape")
        text = change(text, dice) if change and way > 7 else damage_text(text, suffix, dice)
        files[name] = text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")


def write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        with suppress(OSError):  # a folder and a file of one name
            path = folder / name
            (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
            path.write_bytes(content or b"")


def draw_options(folder: Path, files: Files, dice: Dice) -> ReadOptions:
    first = tuple(str(folder / name) for name in list(files)[:1])
    return ReadOptions(
        labels=dice.pick(((),) * 6 + ((str(folder),), first)), layout=dice.pick(get_args(Layout)[:1] * 14 + LAYOUTS),
        images=dice.pick((None,) * 8 + (str(folder), str(folder / "train"))), skip_invalid=bool(dice.roll(2)),
        group=dice.pick((None,) * 8 + ("patient", "id")), only=dice.pick(((),) * 9 + (("cat",), ("dog", "cat") * 2)),
        exclude=dice.pick(((),) * 9 + (("cat",),)), minus_one=dice.pick(("auto", "no", "unknown")),
        blank=dice.pick(("auto", "no", "unknown")), tag_separator=dice.pick((None,) * 5 + (" ", "|", "^", "], [")),
    )  # fmt: skip


def check(dataset: Dataset) -> None:
    """Asserts that a data set is consistent with itself and with the files on disk."""
    left_out = (*dataset.findings.unlisted, *dataset.findings.unlabelled)
    assert dataset.targets.shape == (len(dataset.files), len(dataset.labels))
    assert set(np.unique(np.nan_to_num(dataset.targets, nan=0)).tolist()) <= {0, 1}, "other targets"
    assert not np.isnan(dataset.targets).all(axis=1).any(), "images of which nothing is known"
    assert len(set(dataset.files)) == len(dataset.files), "an image occurs twice"
    assert len(set(dataset.labels)) == len(dataset.labels), "a label occurs twice"
    assert all(label.strip() for label in dataset.labels), "a label without a name"
    assert all(path.is_file() for path in dataset.paths), "an image that is not a file"
    assert all((dataset.root / name).exists() for name in set(left_out)), "an image that is left out and missing"
    assert not set(left_out) & set(dataset.files), "an image that is left out and listed"
    assert {len(column) for column in (dataset.groups, dataset.named_splits) if column is not None} <= {len(dataset)}


def read_damaged(seed: str, data: bytes) -> str:
    """Damages a data folder as determined by `data` and reads it; returns the error message, empty without an error."""
    dice = Dice(data)
    files: Files = {name: text.encode() for name, text in SEEDS[seed].items()}
    files |= {} if any(Path(name).suffix in SUFFIXES for name in files) else dict.fromkeys(IMAGES, b"")
    for _ in range(dice.roll(4)):
        damage(files, dice)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as parent:
        folder, other = Path(parent, "1", "2", "data"), Path(parent, "1", "2", "other")  # labels may contain `../..`
        write(folder, {**files, "x/y.z": b""})
        write(other, {"labels.csv": b"filename,cow,dog\nb.jpg,1,0\n", "b.jpg": b""})
        options, folders = draw_options(folder, files, dice), [folder, other] if dice.roll(10) == 1 else [folder]
        signal.signal(signal.SIGPROF, lambda *_: pytest.fail("too slow"))
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        try:
            check(read_labels(folders, options))
        except LabelrError as error:
            return error.message if error.message.strip() else pytest.fail("an error without a message")
        except pytest.fail.Exception:  # its traceback would be that of the signal
            raise AssertionError(f"takes more than {LIMIT} seconds") from None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return ""


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_label_file_is_read_or_gives_an_error_message(seed: str) -> None:
    rng = random.Random(seed)  # more inputs: tests/bench/mutations.py
    for _ in range(NUM_EXAMPLES):
        read_damaged(seed, rng.randbytes(96))
