"""A gallery of tagged images: HTML pages with thumbnails for each label, which open without a network."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from labelr import files, signals
from labelr.buckets.addresses import address_of
from labelr.data.images import QUALITIES_OF_SMALL, UnreadableError, encode_jpeg, read_thumbnail
from labelr.errors import pluralize
from labelr.processors import map_ahead
from labelr.progress import Track
from labelr.tagging.journal import Journal
from labelr.tagging.output import GALLERY, check_inside, is_changed, pages_in
from labelr.tagging.pipeline import Tagger
from labelr.tagging.sorting import safe_names
from labelr.tagging.tables import Images, Replacing

TEMPLATE = Path(__file__).with_name("gallery.html.j2")
THUMBNAILS = ".thumbs"
"""Their folder in the gallery; hidden, so that no run takes them for photographs."""
THUMBNAIL_SIZE = 224
PAGE_SIZE, MAX_BELOW = 240, 60
"""The images of a page, and those below the threshold of a label, at most."""
MAX_VALUES = 8_000_000
"""Probabilities that are held in memory at a time."""
UNLABELLED = "no label"


@dataclass
class Gallery:
    """The gallery in an output directory.

    Attributes:
        folder: The output directory.
        base: The folder that the names of the images are relative to.
        replacing: Gives a temporary file that replaces a page at the end.
        images: The N tagged images, each with the digest of its content.
        pages: The pages written so far, by their paths in the output directory.
        shown: The images on them, by the digests of their content, each of which has a thumbnail.
    """

    folder: Path
    tagger: Tagger
    base: Path
    journal: Journal
    replacing: Replacing
    images: list[tuple[str, str]] = field(default_factory=list)
    pages: set[str] = field(default_factory=set)
    shown: dict[str, str] = field(default_factory=dict)

    def write(self, images: Images, track: Track) -> int:
        """Writes ``gallery/index.html``, pages for each label with the most probable images first, and thumbnails.

        Below the images that got the label are the most probable of the others; the last pages show the images without
        labels. A thumbnail is made once for each content of a file. Pages and thumbnails of an earlier run that are no
        longer used are deleted.

        `images` gives the tagged images, in order, as often as it is called.

        Returns:
            The number of pages.

        Raises:
            LabelrError: If a file cannot be written.
            Stopped: If a signal has arrived.
        """
        for place in (*GALLERY, f"{GALLERY[0]}/{THUMBNAILS}"):
            files.make_folder(self.folder / place)
            check_inside(self.folder / place / "file", self.folder)
        self.images = [(image.name, image.result.digest) for image in images()]
        self._write_pages(images)
        self._make_thumbnails(track)
        self._delete_others()
        return len(self.pages)

    def _write_pages(self, images: Images) -> None:
        labels = self.tagger.selection.labels
        titles = [*labels, UNLABELLED]
        file_names = safe_names([*labels, f" {UNLABELLED}"])
        cards = []
        for columns in np.array_split(np.arange(len(titles)), -(-len(self.images) * len(titles) // MAX_VALUES) or 1):
            probs, applies = self._read(images, columns)
            for position, column in enumerate(columns.tolist()):
                signals.raise_if_stopped()
                order = np.argsort(-probs[:, position], kind="stable")
                written = order[applies[order, position]]
                below = order[~applies[order, position]][:MAX_BELOW] if column < len(labels) else order[:0]
                self._write_label(column, titles[column], file_names[column], probs[:, position], written, below)
                cover = self._thumbnail(int(written[0])) if len(written) else ""
                link, count = f"labels/{quote(file_names[column])}.html", pluralize(len(written), "image")
                cards.append({"name": titles[column], "link": link, "count": count, "thumbnail": cover})
        found = f"{pluralize(len(self.images), 'image')}, {pluralize(len(labels), 'label')}"
        self._write(f"{GALLERY[0]}/index.html", "Tagged images", lead=found, links=[], labels=cards)

    def _read(self, images: Images, columns: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The probabilities of K labels, and which apply, both of shape ``(N, K)``.

        The column after those of the labels is of images without labels, with their highest probability.
        """
        probs = np.empty((len(self.images), len(columns)), np.float32)
        applies = np.empty(probs.shape, np.bool_)
        for row, image in enumerate(images()):
            probs[row] = np.append(image.probs, image.probs.max())[columns]
            applies[row] = np.append(image.applies, not image.applies.any())[columns]
        return probs, applies

    def _write_label(
        self, column: int, title: str, name: str, probs: NDArray[np.float32],
        written: NDArray[np.int64], below: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """Writes the pages of a label; the images below the threshold are on the last."""
        thresholds = self.tagger.selection.thresholds
        threshold = float(thresholds[column]) if column < len(thresholds) else None
        at = "" if threshold is None else f" with a threshold of {threshold:.3g}"
        lead = f"{len(written):,} of {pluralize(len(self.images), 'image')}{at}"
        parts = [written[start : start + PAGE_SIZE] for start in range(0, len(written), PAGE_SIZE)] or [written]
        page_files = [f"{name}{f'~{number}' if number > 1 else ''}.html" for number in range(1, len(parts) + 1)]
        for number, part in enumerate(parts):
            is_last = number == len(parts) - 1
            self._write(
                f"{GALLERY[1]}/{page_files[number]}", title, lead=lead, links=_links(page_files, number),
                threshold=None if threshold is None else round(100 * threshold, 2),
                written=[self._entry(int(index), float(probs[index])) for index in part],
                written_title=f"Page {number + 1:,} of {len(parts):,}" if len(parts) > 1 else "Images with the label"
                if threshold is not None else "Images without labels",
                below=[self._entry(int(index), float(probs[index])) for index in below] if is_last else [],
                below_title="Below the threshold" + ("" if threshold is None else f" of {threshold:.3g}"),
            )  # fmt: skip

    def _entry(self, index: int, prob: float) -> dict[str, Any]:
        """An image as the template shows it."""
        from labelr.scoring.report.text import percent

        name = self.images[index][0]
        link = f"{address_of(self.base) or self.base.as_uri()}/{quote(os.fsencode(name))}"
        thumbnail = f"../{self._thumbnail(index)}"
        return {
            "name": name, "link": link, "thumbnail": thumbnail, "percent": percent(prob), "width": round(100 * prob, 2)
        }  # fmt: skip

    def _thumbnail(self, index: int) -> str:
        """The address in the gallery of a thumbnail, which will be made."""
        name, digest = self.images[index]
        self.shown[digest] = name
        return f"{THUMBNAILS}/{digest}.jpg"

    def _write(self, page: str, title: str, **context: Any) -> None:
        from labelr.scoring.report.page import render_page

        context |= {"title": title, "sections": [], "image_source": "'self' file: data:", "eyebrow": self.base.name}
        with self.replacing(self.folder / page) as file:
            file.write(render_page(TEMPLATE, context).encode("utf-8", "replace"))
        self.pages.add(page)

    def _make_thumbnails(self, track: Track) -> None:
        """Makes the thumbnails that are not there yet, on threads."""
        runtime = self.tagger.model.runtime
        threads, max_pixels = max(runtime.threads, runtime.workers), self.tagger.options.max_pixels

        def make(name: str, path: Path) -> None:
            with suppress(UnreadableError):  # it has changed meanwhile, and its place stays empty
                pixels = read_thumbnail(self.base / name, THUMBNAIL_SIZE, max_pixels=max_pixels, value_range="own")
                files.write_atomically(path, encode_jpeg(pixels, QUALITIES_OF_SMALL), durable=False)

        paths = ((name, self._thumbnails / f"{digest}.jpg") for digest, name in self.shown.items())
        missing = (task for task in paths if not task[1].exists())
        made = map_ahead(lambda task: make(*task), missing, threads=threads, ahead=2 * threads)
        for _ in track(made, lambda: "making thumbnails"):
            signals.raise_if_stopped()

    def _delete_others(self) -> None:
        """Deletes pages of earlier runs unless they were edited, and thumbnails that no page shows."""
        for page in pages_in(self.folder):
            digests = self.journal.table_digests(page)
            if page not in self.pages and digests and not is_changed(self.folder / page, digests):
                (self.folder / page).unlink()
        for path in self._thumbnails.glob("*.jpg"):
            if path.stem not in self.shown:
                path.unlink()

    @property
    def _thumbnails(self) -> Path:
        return self.folder / GALLERY[0] / THUMBNAILS


def _links(pages: list[str], number: int) -> list[tuple[str, str]]:
    """The links to other pages from that of a number, each with its text."""
    near = {"First": 0, "Previous": number - 1, "Next": number + 1, "Last": len(pages) - 1}
    links = [(text, pages[other]) for text, other in near.items() if 0 <= other < len(pages) and other != number]
    return [("All labels", "../index.html"), *((text, quote(page)) for text, page in links)]
