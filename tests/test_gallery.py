"""The gallery of tagged images: its pages, thumbnails and updates."""

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from conftest import Cli
from pages import HOSTILE, Elements
from PIL import Image
from tag_results import tree

from labelr import signals
from labelr.data.walk import find_images
from labelr.model.predict import Model
from labelr.tagging import gallery
from labelr.tagging.tag import tag


def make(photos: Path, model: Model, output: Path, **options: Any) -> Path:
    """Tags images with a gallery, which it gives."""
    tag(photos, model, output=output, gallery=True, **{"threshold": 0.38, "format": "table", **options})
    return output / "gallery"


def page(path: Path) -> Elements:
    return Elements(path.read_text())


def names_on(path: Path) -> list[str]:
    """The images of a page by the links to them, in order."""
    links = [attributes["href"] or "" for tag, attributes in page(path).elements if tag == "a"]
    return [unquote(link).rpartition("/photos/")[2] for link in links if link.startswith("file://")]


def percents_on(path: Path) -> list[int]:
    return [int(text) for text in re.findall(r'class="percent">(?:[<>] )?(\d+) %', path.read_text())]


def test_page_of_a_label_has_its_images_by_probability_and_then_a_line_and_the_others(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    folder = make(photos, trained, tmp_path / "out")
    summary = tag(photos, trained, output=tmp_path / "out", threshold=0.38, format="table")
    assert summary.table.to_numpy().any()
    for label in trained.labels:
        probs = summary.probabilities[label].sort_values(ascending=False, kind="stable")
        assert names_on(folder / "labels" / f"{label}.html") == list(probs.index)
        above = (folder / "labels" / f"{label}.html").read_text().partition('class="cut"')[0]
        assert above.count("file://") == summary.per_label[label]
        assert "Below the threshold of 0.38" in page(folder / "labels" / f"{label}.html").text


def test_every_link_leads_to_a_file_and_every_thumbnail_is_small_and_upright(
    photos: Path, tmp_path: Path, trained: Model
) -> None:
    turned = Image.fromarray(np.zeros((300, 900, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned.save(photos / "turned.jpg", exif=exif)
    folder = make(photos, trained, tmp_path / "out")
    sizes = set()
    for path in [folder / "index.html", *(folder / "labels").iterdir()]:
        for kind, attributes in page(path).elements:
            address = attributes.get("src") if kind == "img" else attributes.get("href") if kind == "a" else None
            if address:
                target = Path(unquote(address).removeprefix("file://"))
                assert (path.parent / target).is_file(), address
                if kind == "img":
                    with Image.open(path.parent / target) as image:
                        sizes.add(image.size)
    assert sizes == {(224, 224), (75, 224)}


def test_images_without_labels_have_a_page(photos: Path, tmp_path: Path, trained: Model) -> None:
    folder = make(photos, trained, tmp_path / "out", threshold=1)
    text = page(folder / "index.html").text
    assert "no label 4 images" in text
    assert len(names_on(folder / "labels" / "_no label.html")) == 4
    assert "Below the threshold" not in page(folder / "labels" / "_no label.html").text


def test_many_images_are_on_several_pages(
    shapes: Path, tmp_path: Path, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PAGE_SIZE", 25)
    monkeypatch.setattr(gallery, "MAX_VALUES", 60)  # of one label
    shutil.copytree(shapes / "images", tmp_path / "photos")
    folder = make(tmp_path / "photos", trained, tmp_path / "out", threshold=0)
    label = trained.labels[0]
    pages = [folder / "labels" / f"{label}{suffix}.html" for suffix in ("", "~2", "~3")]
    assert [len(names_on(path)) for path in pages] == [25, 25, 10]
    percents = [percent for path in pages for percent in percents_on(path)]
    assert percents == sorted(percents, reverse=True)
    assert {name for path in pages for name in names_on(path)} == {path.name for path in find_images(shapes)}
    links = [unquote(link["href"] or "") for kind, link in page(pages[1]).elements if kind == "a"][:4]
    assert links == ["../index.html", pages[0].name, pages[0].name, pages[2].name]
    make(tmp_path / "photos", trained, tmp_path / "out", threshold=0.9, force=True)
    assert not pages[1].exists()


def test_hostile_names_and_labels_are_text(shapes: Path, tmp_path: Path, trained: Model) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    names = [f"{text.replace('/', '!')}.png" for text in HOSTILE]
    for number, name in enumerate(names):
        shutil.copy(shapes / "images" / f"{number:05d}.png", photos / name)
    rows = "".join('{},"{}"\n'.format(label, HOSTILE[0].replace('"', '""')) for label in trained.labels[:1])
    (tmp_path / "names.csv").write_text(f"label,written\n{rows}")
    folder = make(photos, trained, tmp_path / "out", threshold=0, rename=tmp_path / "names.csv")
    pages = [folder / "index.html", *(folder / "labels").glob("*script*")]
    assert len(pages) == 2
    for path, shown in zip(pages, ([HOSTILE[0]], names), strict=True):
        elements = page(path).elements
        assert [kind for kind, _ in elements].count("script") == 1  # that of all reports
        assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
        links = [str(attributes.get("src") or attributes.get("href") or "") for _, attributes in elements]
        assert not [link for link in links if "evil" in link and not link.startswith("file:///")]
        assert all(name in page(path).text for name in shown)


def test_next_run_changes_nothing_and_makes_no_thumbnail_again(photos: Path, tmp_path: Path, trained: Model) -> None:
    folder = make(photos, trained, tmp_path / "out")
    before = tree(tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert len(times) == 4
    make(photos, trained, tmp_path / "out")
    assert tree(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")} == times


def test_images_that_are_gone_leave_no_trace(photos: Path, tmp_path: Path, trained: Model) -> None:
    make(photos, trained, tmp_path / "out")
    (photos / "a.png").unlink()
    shutil.copy(photos / "z.png", photos / "deep" / "b.png")
    make(photos, trained, tmp_path / "out")
    make(photos, trained, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_edited_page_is_kept_under_another_name(photos: Path, tmp_path: Path, trained: Model) -> None:
    path = make(photos, trained, tmp_path / "out") / "labels" / f"{trained.labels[0]}.html"
    path.write_text("mine")
    make(photos, trained, tmp_path / "out")
    assert path.with_name(f"{path.stem}.1.html").read_text() == "mine"
    assert names_on(path)


def test_gallery_among_the_images_is_not_tagged(photos: Path, trained: Model) -> None:
    make(photos, trained, photos / "out")
    summary = tag(photos, trained, output=photos / "other", threshold=0)
    assert summary.found == 5


def test_run_that_is_stopped_while_thumbnails_are_made_resumes(
    photos: Path, tmp_path: Path, trained: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def track(items: Any, description: Any, total: Any = None) -> Any:
        if description() == "making thumbnails":
            raise signals.Stopped(2)
        return items

    with pytest.raises(signals.Stopped):
        make(photos, trained, tmp_path / "out", track=track)
    make(photos, trained, tmp_path / "out")
    make(photos, trained, tmp_path / "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_summary_counts_pages_links_and_further_tags(photos: Path, tmp_path: Path, trained: Model, cli: Cli) -> None:
    options: dict[str, Any] = {"format": ("txt",), "always": "x", "gallery": True, "sort_into": tmp_path / "sorted"}
    for _ in range(2):
        summary = tag(photos, trained, output=tmp_path / "out", threshold=0, **options)
        assert (summary.always, summary.links, summary.pages) == ({"x": 4}, 12, 5)


def test_folder_behind_a_link_is_not_written(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out", threshold=0)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "gallery").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="behind a link"):
        tag(photos, trained, output=tmp_path / "out", threshold=0, gallery=True)
    assert not list((tmp_path / "elsewhere").rglob("*.html"))
