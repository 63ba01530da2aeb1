"""The words of tables: names of columns by what they hold, labels that name nothing, and marks for yes and no."""

import re
from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from itertools import chain

# --- names of columns, as `column_key` normalizes them, and labels ---------------------------------------------------

FILE_COLUMNS = (
    "filename", "file", "filepath", "imagename", "imagepath", "imagefile", "imagefilename", "imageindex", "image",
    "img", "imgname", "imgpath", "path", "sourcefile", "imageid", "photo", "dateiname", "datei", "dateipfad",
    "bilddatei", "bildname", "bildnr.", "bildnr", "fotoname", "fotonr.", "fotonr", "nomdufichier", "nomfichier",
    "fichier", "nombredelarchivo", "nombredearchivo", "nombrearchivo", "archivo", "fichero", "nomefile", "nomearquivo",
    "arquivo", "bestandsnaam", "name", "id", "key", "bild", "foto", "imagen", "immagine", "imagem", "afbeelding",
    "bestand",
)  # fmt: skip
"""Names of the column of file names, the most certain first."""
CERTAIN_FILE_COLUMNS = FILE_COLUMNS[:8]
FOLDER_COLUMNS = frozenset({
    "dir", "directory", "dirname", "folder", "foldername", "folderpath", "imagefolder", "relativepath", "subdir",
    "subfolder",
})  # fmt: skip
"""Names of the column of folders, which stand before file names without one."""
SPLIT_COLUMNS = frozenset({
    "split", "subset", "set", "partition", "mluse", "datasplit", "dataset", "phase", "usage", "fold",
})  # fmt: skip
SPLIT_MARKS = SPLIT_COLUMNS | {
    "foldid", "isdev", "istest", "istesting", "istestimage", "istestset", "istrain", "istraining", "istrainimage",
    "istrainingimage", "istrainset", "isval", "isvalidation", "kfold",
}  # fmt: skip
"""Columns that may say by marks or numbers in which split an image is."""
COUNTS = frozenset({
    "anzahl", "count", "individualcount", "individuals", "number", "numberofanimals", "numberofindividuals",
    "numberofobjects", "sightingquantity",
})  # fmt: skip
"""Columns that say how many there are of what the label of a row names."""
NUMBERS = COUNTS | {
    "age", "animalrecognizable", "annotationid", "confidence", "deleteflag", "depth", "favorite", "filepublic",
    "filesize", "fold", "followup#", "groupsize", "height", "highlighted", "id", "index", "isblank", "isvalid",
    "maxconfidence", "partition", "patientid", "predictionscore", "quantity", "regioncount", "regionid", "score",
    "size", "subset", "uncertainty", "width", "xmax", "xmin", "ymax", "ymin", "year",
}  # fmt: skip
"""Columns of numbers or flags that may be 0 and 1: not labels unless the user names them."""
LETTERS = frozenset({"country", "gender", "patientgender", "patientsex", "sex"})
"""Columns of letters that may look like marks, such as F or NO: no labels of yes and no, but their words may be."""
NO_MARKS = NUMBERS | LETTERS | SPLIT_MARKS
"""Columns whose cells may look like marks: no labels unless the user names them, or takes their words for labels."""
NUMBERED = re.compile(r"(comment|count|counter|flag|note)\d+|(n|num)_.+")
"""Columns of Timelapse that have no name of their own, and counts such as ``n_animals``, in lower case."""
NUMBERED_LABEL = re.compile(r"label\d+")
COORDINATES = frozenset({
    "bbox", "bboxes", "box", "boxes", "keypoints", "objects", "points", "polygon", "rotation", "segmentation", "xywh",
    "xyxy",
})  # fmt: skip
"""Columns of numbers that are no vectors of labels."""
ANNOTATOR_COLUMNS = frozenset({
    "analyst", "annotator", "annotatorid", "coder", "grader", "identifiedby", "judge", "labeledby", "labelledby",
    "labeler", "labeller", "observer", "rater", "reader", "recordedby", "reviewer", "user", "userid", "worker",
    "workerid",
})  # fmt: skip
"""Columns that say who judged an image."""
TEXTS = frozenset({
    "alt", "alttext", "anmerkung", "anmerkungen", "annotator", "author", "bemerkung", "bemerkungen", "beschreibung",
    "caption", "changes", "comentario", "comentarios", "comment", "commentaire", "commentaires", "commenti", "commento",
    "comments", "completedat", "createdat", "date", "datetime", "description", "group", "hinweis", "hinweise",
    "identifiedby", "kommentar", "kommentare", "leadtime", "license", "note", "notes", "notiz", "notizen",
    "observaciones", "occurrencestatus", "opmerking", "opmerkingen", "osservazioni", "patientgender", "patientsex",
    "prompt", "remark", "remarks", "remarque", "remarques", "sex", "source", "text", "time", "timestamp", "title",
    "updatedat", "url", "user",
})  # fmt: skip
"""Columns of text that are not tags, and not labels if they are empty."""
COMMON_NAMES = ("commonname", "vernacularname", "speciescommonname")
SPECIES_COLUMNS = (
    *COMMON_NAMES, "species", "speciesname", "scientificname", "speciesscientificname", "taxon", "taxonname"
)  # fmt: skip
"""Names of columns of species, whose names may have several words."""
PRESENCE = frozenset({"occurrencestatus", "presence", "present"})
"""Columns that say whether the label of a row applies."""
STATUS = "status"
"""A column that does so where its cells are words for that."""
STATUS_WORDS = {"present": 1.0, "absent": 0.0}
"""The words of Darwin Core for whether there is something."""
LABEL_COLUMNS = (
    *COMMON_NAMES, "label", "labels", "tag", "tags", "labelname", "tagname", "keywords", "category", "categories",
    "categoryname", "classname", *SPECIES_COLUMNS[len(COMMON_NAMES):], "class", "classes", "attributeids",
    "attributes", "choice", "choices", "findinglabels", "genre", "genres", "prediction", "predictions", "subject",
    "target", "targets",
)  # fmt: skip
"""Names of the columns of labels, the most certain first."""
LABEL_IDS = ("classid", "labelid")
"""Names of columns of numbers that are labels where no column holds words or marks."""
EMPTY = frozenset({"blank", "empty", "leer"})
"""Labels in lower case of images without an animal, which projects with camera traps use on purpose."""
NOTHING = EMPTY | {
    "-", "–", "—", "aucun", "aucune", "geen", "kein", "keine", "keins", "nessuna", "nessuno", "nichts", "ninguna",
    "ninguno", "no label", "no labels", "none", "nothing", "rien", "unlabeled", "unlabelled",
}  # fmt: skip
"""Labels in lower case that mean that there is nothing in an image, or that it has no label."""
NOT_KNOWN = frozenset({
    "desconocido", "inconnu", "onbekend", "sconosciuto", "unbekannt", "unidentified", "unknown",
})  # fmt: skip
"""Labels in lower case that mean that it is not known what is in an image."""


def column_key(name: str) -> str:
    """A column name in lower case without spaces, `_` and `-`."""
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")


# --- marks -----------------------------------------------------------------------------------------------------------


class Mark(IntEnum):
    """What a cell of a label column means."""

    NO, YES, BLANK, UNKNOWN, MINUS, OTHER = range(6)


_SPELLINGS = {
    Mark.YES: (
        "1", "1.0", "1,0", "true", "t", "yes", "y", "x", "✓", "✔", "wahr", "ja", "j", "vrai", "oui", "verdadero",
    ),
    Mark.NO: ("0", "0.0", "0,0", "false", "f", "no", "n", "falsch", "nein", "faux", "non", "falso"),
    Mark.BLANK: ("",),
    Mark.UNKNOWN: ("na", "nan", "null", "n/a", "#n/a", "<na>", "?"),
    Mark.MINUS: ("-1", "-1.0"),
}  # fmt: skip
MARKS = {spelling: mark for mark, spellings in _SPELLINGS.items() for spelling in spellings}
"""What a cell of a label column may hold, in lower case; spreadsheets localise true and false."""
_PAIRS = tuple(
    pair.split("/") for pair in (
        "vero/falso", "verdadeiro/falso", "waar/onwaar", "prawda/fałsz", "истина/ложь", "sant/falskt", "sand/falsk",
        "sann/usann", "tosi/epätosi", "igaz/hamis", "doğru/yanlış", "doğru/yanliş", "pravda/nepravda", "cert/fals",
        "veritable/fals", "egia/gezurra", "egia/faltsua", "adevărat/fals", "adevarat/fals", "istina/laž",
        "istina/neistina", "resnica/neresnica", "tačno/netačno", "тачно/нетачно", "истина/неистина",
        "істина/хибність", "правда/неправда", "αληθές/ψευδές", "αληθες/ψευδες", "αληθησ/ψευδησ", "αληθης/ψευδης",
        "tõene/väär", "patiess/aplams", "tiesa/netiesa", "teisinga/klaidinga", "satt/ósatt", "benar/salah",
        "benar/palsu", "đúng/sai", "真/假", "sí/no", "si/no", "sì/no", "sim/não", "sim/nao", "ja/nee", "ja/nej",
        "ja/nei", "tak/nie", "ano/ne", "áno/nie", "igen/nem", "да/нет", "так/ні", "evet/hayır", "evet/hayir",
        "kyllä/ei", "jah/ei", "taip/ne", "jā/nē", "da/ne", "da/nu", "ναι/οχι", "ναι/όχι", "是/否", "有/无", "有/無",
        "はい/いいえ", "예/아니오", "예/아니요", "네/아니오", "네/아니요", "참/거짓", "있음/없음", "истина/лъжа",
        "да/не", "teisinga/neteisinga", "gwir/anwir", "ya/tidak", "có/không", "有り/無し", "有り/無", "あり/なし",
        "真/偽", "对/错", "對/錯", "是/不是", "有/没有", "有/沒有", "จริง/เท็จ", "ใช่/ไม่ใช่", "มี/ไม่มี", "نعم/لا", "صواب/خطأ",
        "صحيح/خطأ", "כן/לא", "אמת/שקר", "נכון/לא נכון", "بله/خیر", "درست/نادرست", "हाँ/नहीं",
        "हां/नहीं", "सत्य/असत्य", "सही/गलत", "si'/no", "checked/unchecked",
    )
)  # fmt: skip
"""Words for yes and no that count only where both are in a table: a column may name a beach ``sand``."""
_STATES = tuple(
    pair.split("/") for pair in (
        "present/absent", "présent/absent", "presente/ausente", "presente/assente", "vorhanden/nicht vorhanden",
        "aanwezig/afwezig", "positive/negative", "positiv/negativ", "pos/neg", "on/off",
    )
)  # fmt: skip
"""Words for yes and no that count only where a column holds both and nothing else, and another one does so too or holds
marks: a single column of ``positive`` and ``negative`` may hold labels."""
AMBIGUOUS = frozenset({"f", "j", "n", "no", "non", "t", "y", *chain.from_iterable((*_PAIRS, *_STATES))}) - {"ja"}
"""Marks that may also be words: M and F, the points of the compass, the codes of countries."""
_SIGNS = tuple(
    pair.split("/") for pair in (
        "s/n", "o/n", "v/f", "x/-", "+/-", "✓/-", "✔/-", "✓/✗", "✔/✗", "✔/✘", "✓/×", "√/×", "○/×", "◯/×", "〇/×", "☑/☐",
    )
)  # fmt: skip
"""Signs and letters for yes and no that count only where a column holds both and nothing else; letters, where two do,
since one may hold the points of the compass."""
_LONE = frozenset(chain.from_iterable(_PAIRS)) - {"sand"}


NUMBER_MARK = re.compile(r"\+?[01](\.0*|,0+)?(e[+-]?0+)?|-1(\.0*|,0+)?(e[+-]?0+)?")
_NUMBERS = {1.0: Mark.YES, 0.0: Mark.NO, -1.0: Mark.MINUS}


def marks_among(columns: Iterable[Iterable[str]]) -> Mapping[str, Mark]:
    """What the cells of a table mean by their text in lower case: `MARKS`, and pairs of words for yes and no.

    A word without its pair counts where it is all that a column holds beside empty cells, as if ticked, and another
    column holds marks too.
    """
    words_of = [{cell.lower() for cell in cells} for cells in columns]
    words = set().union(*words_of)
    complete = [pair for pair in _PAIRS if words.issuperset(pair)]
    has_marks = any(map(_are_marks, words_of))
    for pair in (*_SIGNS, *_STATES):
        count = sum({*pair} <= own <= {*pair, *MARKS} for own in words_of)
        is_complete = count + has_marks > 1 if pair in _STATES else count > pair[1].isalpha()
        complete += [pair] * (count > 0 and is_complete)
    ticked = [own for own in words_of if len(own) == 2 and "" in own and own & _LONE]
    if len(ticked) > 1 or has_marks:
        complete += [pair for pair in _PAIRS if any(own.intersection(pair) for own in ticked)]
    numbers = {word: _NUMBERS[float(word.replace(",", "."))] for word in words if NUMBER_MARK.fullmatch(word)}
    return {**{yes: Mark.YES for yes, _ in complete}, **{no: Mark.NO for _, no in complete}, **numbers, **MARKS}


def _are_marks(words: Collection[str]) -> bool:
    """Whether some words in lower case are marks whatever else is in the table, and not only empty or unknown."""
    return all(word in MARKS for word in words) and any(MARKS[word] in (Mark.YES, Mark.NO) for word in words)
