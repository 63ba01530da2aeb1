"""Pascal VOC: a folder with an XML for each image."""

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
