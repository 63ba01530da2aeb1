"""Pascal VOC, a folder with an XML for each image, and CVAT, one XML for all."""

from pathlib import Path

import pytest
from conftest import assert_table, error_of, put, read_table

OBJECT = "<annotation><filename>{0}.jpg</filename><object><name>dog</name></object>{1}</annotation>"


@pytest.mark.parametrize("unnamed", ["<object><name/></object>", "<object><name> </name></object>", "<object/>"])
def test_object_without_a_name_is_invalid(unnamed: str, tmp_path: Path) -> None:
    for stem, more in (("a", unnamed), ("b", "")):
        put(tmp_path, f"{stem}.jpg")
        put(tmp_path, f"{stem}.xml", OBJECT.format(stem, more))
    error = error_of(tmp_path)
    assert "a.xml: object 2 has no name" in error.message
    assert "`--skip-invalid`" in error.hint
    assert_table(read_table(tmp_path, skip_invalid=True), ["b.jpg"], ["dog"], [[1]])


def test_attributes_of_cvat_are_named_in_a_note(tmp_path: Path) -> None:
    tag = '<tag label="scene"><attribute name="weather">sunny</attribute></tag>'
    box = '<box label="car"><attribute name="make">VW</attribute><attribute name="weather">x</attribute></box>'
    put(tmp_path, "annotations.xml", f'<annotations><image name="a.jpg">{tag}{box}</image></annotations>')
    put(tmp_path, "a.jpg")
    table = read_table(tmp_path)
    assert_table(table, ["a.jpg"], ["car", "scene"], [[1, 1]])
    assert table.findings.notes == ("attributes of annotations, not read: weather, make",)
