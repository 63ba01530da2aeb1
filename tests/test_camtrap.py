"""Camtrap DP."""

from pathlib import Path

import numpy as np
import pytest
from conftest import assert_table, error_of, put, read_table

NAN = float("nan")
MEDIA = """mediaID,deploymentID,captureMethod,timestamp,filePath,filePublic,fileName,fileMediatype,favorite
m1,d1,activityDetection,2020-05-30T02:57:37Z,d1/1.jpg,true,1.jpg,image/jpeg,false
m2,d1,activityDetection,2020-05-30T02:57:38Z,d1/2.jpg,true,2.jpg,image/jpeg,false
m3,d1,activityDetection,2020-05-30T02:57:39Z,d1/3.jpg,true,3.jpg,image/jpeg,true
m4,d1,activityDetection,2020-05-30T02:57:40Z,d1/4.jpg,true,4.jpg,image/jpeg,false
"""
OBSERVATIONS = """observationID,deploymentID,mediaID,eventID,observationLevel,observationType,scientificName,count
o1,d1,m1,e1,media,animal,Vulpes vulpes,1
o2,d1,m1,e1,media,animal,Sus scrofa,2
o3,d1,m2,e1,media,blank,,
o4,d1,m3,e1,media,animal,Sus scrofa,1
o5,d1,,e1,event,animal,Sus scrofa,1
"""


def make_package(folder: Path, media: str = MEDIA, observations: str = OBSERVATIONS) -> Path:
    put(folder, "media.csv", media)
    put(folder, "observations.csv", observations)
    put(folder, "deployments.csv", "deploymentID,locationID,latitude,longitude\nd1,l1,1.0,2.0\n")
    for number in (1, 2, 3, 4):
        put(folder, f"d1/{number}.jpg")
    return folder


@pytest.mark.parametrize("named", [None, "media.csv", "observations.csv"])
def test_species_of_an_image_are_in_the_table_of_observations(named: str | None, tmp_path: Path) -> None:
    data = make_package(tmp_path)
    table = read_table(data, labels=[str(data / named)] if named else [])
    files = ["d1/1.jpg", "d1/2.jpg", "d1/3.jpg"]
    assert_table(table, files, ["Sus scrofa", "Vulpes vulpes"], [[1, 1], [0, 0], [1, 0]])
    assert table.findings.unlabelled == ("d1/4.jpg",)
    assert "observations of no single image, left out: 1" in table.findings.notes


def test_images_are_found_by_their_names_if_paths_are_addresses(tmp_path: Path) -> None:
    table = read_table(make_package(tmp_path, MEDIA.replace(",d1/", ",https://example.org/assets/0")))
    assert table.files == ("d1/1.jpg", "d1/2.jpg", "d1/3.jpg")


def test_common_names_are_preferred_and_another_column_can_be_named(tmp_path: Path) -> None:
    observations = OBSERVATIONS.replace("count\n", "vernacularName\n").replace(",1\n", ",Fox\n")
    data = make_package(tmp_path, observations=observations.replace(",2\n", ",Boar\n"))
    assert read_table(data).labels == ("Boar", "Fox")
    assert read_table(data, label_column=["scientificName"]).labels == ("Sus scrofa", "Vulpes vulpes")


def test_observations_without_species_are_an_error(tmp_path: Path) -> None:
    error = error_of(make_package(tmp_path, observations=OBSERVATIONS.replace("scientificName", "taxonID")))
    assert "observations.csv has no column of species that is filled" in error.message
    assert "`--label-column`" in error.hint


def test_one_table_alone_is_not_camtrap_dp(tmp_path: Path) -> None:
    data = make_package(tmp_path)
    (data / "observations.csv").unlink()
    error = error_of(data, layout="camtrap-dp", labels=[str(data / "media.csv")])
    assert "put both into one folder" in error.hint


def observe(kind: str, name: str = "") -> str:
    """The observations of `OBSERVATIONS` with another one of the image 4."""
    return f"{OBSERVATIONS}o6,d1,m4,e1,media,{kind},{name},\n"


@pytest.mark.parametrize("kind", ["unclassified", "unknown", "Unknown", "animal", ""])
def test_image_of_something_without_a_name_is_unknown(kind: str, tmp_path: Path) -> None:
    table = read_table(make_package(tmp_path, observations=observe(kind)))
    files = ["d1/1.jpg", "d1/2.jpg", "d1/3.jpg"]
    assert_table(table, files, ["Sus scrofa", "Vulpes vulpes"], [[1, 1], [0, 0], [1, 0]])
    assert table.findings.unlabelled == ("d1/4.jpg",)
    note = "images with an observation that names no species, whose other labels are unknown: 1"
    assert note in table.findings.notes


def test_image_of_a_species_and_of_something_without_a_name_has_no_negatives(tmp_path: Path) -> None:
    observations = observe("unclassified") + "o7,d1,m4,e1,media,animal,Vulpes vulpes,1\n"
    table = read_table(make_package(tmp_path, observations=observations))
    assert table.files[3] == "d1/4.jpg"
    np.testing.assert_array_equal(table.targets[3], [NAN, 1])


@pytest.mark.parametrize("kind", ["human", "vehicle"])
def test_people_and_vehicles_without_a_species_are_labels(kind: str, tmp_path: Path) -> None:
    table = read_table(make_package(tmp_path, observations=observe(kind)))
    files = ["d1/1.jpg", "d1/2.jpg", "d1/3.jpg", "d1/4.jpg"]
    targets: list[list[float]] = [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert_table(table, files, ["Sus scrofa", "Vulpes vulpes", kind], targets)


def test_species_of_a_person_is_the_only_label(tmp_path: Path) -> None:
    table = read_table(make_package(tmp_path, observations=observe("human", "Homo sapiens")))
    assert table.labels == ("Homo sapiens", "Sus scrofa", "Vulpes vulpes")
