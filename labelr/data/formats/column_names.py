"""Names of the columns of tables by what they hold, as `column_key` normalizes them, and labels that name nothing."""

import re

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
    "annotator", "author", "caption", "changes", "comment", "comments", "completedat", "createdat", "date",
    "datetime", "description", "group", "identifiedby", "leadtime", "license", "note", "notes", "occurrencestatus",
    "patientgender", "patientsex", "remark", "remarks", "sex", "source", "time", "timestamp", "title", "updatedat",
    "url", "user",
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
LABEL_COLUMNS = (
    *COMMON_NAMES, "label", "labels", "tag", "tags", "labelname", "tagname", "keywords", "category", "categories",
    "categoryname", "classname", *SPECIES_COLUMNS[len(COMMON_NAMES):], "class", "classes", "attributeids",
    "attributes", "choice", "choices", "findinglabels", "genre", "genres", "prediction", "predictions", "subject",
    "target", "targets",
)  # fmt: skip
"""Names of the columns of labels, the most certain first."""
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
