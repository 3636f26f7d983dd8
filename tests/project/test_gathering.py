"""What files, names, metadata and patterns tell of exposures, on trees of each microscope program with known truth."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from focusnb.io.mrc import write_mrc
from focusnb.io.names import Pattern
from focusnb.project import facts as fact_rules
from focusnb.project.gathering import ImportReport, gather_facts, metadata_file
from focusnb.project.project import Project
from tests.project.trees import (
    SHAPE,
    Tree,
    differing,
    write_epu,
    write_leginon,
    write_movie,
    write_serialem,
    write_serialem_tilts,
    write_tomo5,
)
from tests.projects import make_project

GAIN_IN_FOLDER = "a file named like gain, dark or defects was not imported as exposure"
TOMO5_AXIS = "the tilt axis in metadata of Tomo5 is not that of the images and is not used; give --set tilt_axis=..."

TREES: dict[str, tuple[Callable[[Path], Tree], list[str]]] = {
    "EPU": (write_epu, []),
    "EPU, super-resolution": (lambda folder: write_epu(folder, super_resolution=True, suffix="_fractions.tiff"), []),
    "SerialEM": (write_serialem, [GAIN_IN_FOLDER]),
    "SerialEM, super-resolution": (lambda folder: write_serialem(folder, super_resolution=True), [GAIN_IN_FOLDER]),
    "SerialEM, names only": (lambda folder: write_serialem(folder, mdoc=False), [GAIN_IN_FOLDER]),
    "SerialEM, tilt series": (lambda folder: write_serialem_tilts(folder, series=2), []),
    "Tomo5": (write_tomo5, [TOMO5_AXIS]),
    "Tomo5, brackets": (lambda folder: write_tomo5(folder, old=True), [TOMO5_AXIS]),
    "Leginon": (write_leginon, []),
}


def rows(project: Project) -> dict[str, dict[str, Any]]:
    """What the library says of each exposure, by the file it came from."""
    found = {}
    for _, row in project.table().iterrows():
        plain = {str(name): None if pd.isna(value) else value for name, value in row.items()}
        plain["recorded_at"] = plain["recorded_at"] and plain["recorded_at"].tz_localize(None).isoformat()
        found[str(row["source"])] = plain
    return found


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_imported_with_its_facts_and_nothing_else_is_told(tmp_path: Path, name: str) -> None:
    write, told = TREES[name]
    tree = write(tmp_path / "session 1")
    with make_project(tmp_path / "project", steps=False) as project:
        report = project.add(tree.folder)
        assert len(report.added) == len(tree.movies)
        assert [message.partition(f"{tree.folder}: ")[2] or message for message in report.messages] == told
        found = rows(project)
        wrong = {movie.name: differing(tree.truth[movie], found[str(movie)]) for movie in tree.movies}
    assert wrong == {movie.name: {} for movie in tree.movies}


def gather(path: Path, **options: Any) -> tuple[dict[str, tuple[Any, str]], ImportReport]:
    report = ImportReport()
    given = fact_rules.check_facts(options.pop("given", {}))
    keep = options.pop("keep", lambda named, label: f"references/x/{named.name}")
    candidates, _ = gather_facts(path, given, report, keep=keep, **options)
    for told in fact_rules.disagreements(candidates):
        report.tell(told.sentence, about=path.name, topic=told.topic)
    return fact_rules.resolve(candidates), report


def test_super_resolution_is_a_fact_where_the_metadata_tell_it(tmp_path: Path) -> None:
    for write in (write_epu, write_serialem):
        for super_resolution in (False, True):
            tree = write(tmp_path / f"{write.__name__}_{super_resolution}", super_resolution=super_resolution)
            facts, _ = gather(tree.movies[0])
            assert facts["super_resolution"] == (2 if super_resolution else 1, "metadata")


def test_metadata_are_stronger_than_the_name_and_a_pattern_stronger_than_what_names_tell(tmp_path: Path) -> None:
    tree = write_serialem_tilts(tmp_path)
    movie = tree.movies[1]
    facts, report = gather(movie, pattern=Pattern("TS_{specimen}_{number}_{tilt_angle}"))
    assert facts["tilt_angle"] == (3.0069, "metadata")
    assert facts["specimen"] == ("01", "name")
    assert facts["series"] == ("TS_01", "name")
    assert report.messages == []
    tree.metadata[movie].unlink()
    facts, _ = gather(movie, pattern=Pattern("TS_{series}_{_}_{tilt_angle}"))
    assert facts["tilt_angle"] == (3.0, "name")
    assert facts["series"] == ("01", "name")
    facts, _ = gather(movie, given={"tilt_angle": 4})
    assert facts["tilt_angle"] == (4.0, "set")


def test_a_name_that_contradicts_its_metadata_is_told_once(tmp_path: Path) -> None:
    tree = write_serialem(tmp_path / "camera", movies=3)
    renamed = [movie.rename(movie.with_name(f"h9-{movie.name}")) for movie in tree.movies]
    for movie, metadata in zip(renamed, list(tree.metadata.values()), strict=True):
        metadata.rename(movie.with_name(f"{movie.name}.mdoc"))
    with make_project(tmp_path / "project", steps=False) as project:
        report = project.add(*renamed, pattern="h{hole}-{series}_{number}_{_}_{_}")
        table = project.table()
    assert list(table["hole"]) == ["1", "1", "1"]
    (told,) = report.messages
    assert told.startswith(
        f"{renamed[0].stem} (and 2 more): hole is 1 by the metadata and 9 by the file's name; 1 is used"
    )


def test_names_that_do_not_fit_a_pattern_are_told_once_and_imported(tmp_path: Path) -> None:
    for number in range(4):
        write_movie(tmp_path / "camera" / f"{'shot' if number else 'a_1.5'}_{number}.tif", seed=number)
    with make_project(tmp_path / "project", steps=False) as project:
        report = project.add(tmp_path / "camera", pattern="{specimen}_{tilt_angle}_{number}")
        table = project.table().set_index("exposure")
    (told,) = report.messages
    assert told in {
        f"shot_{number}.tif (and 2 more): does not fit the pattern {{specimen}}_{{tilt_angle}}_{{number}}: after "
        f"'shot_{number}' it asks for '_'; nothing was read with it"
        for number in (1, 2, 3)
    }
    assert table["tilt_angle"].to_dict()["a_1.5_0"] == 1.5
    assert table["tilt_angle"].notna().sum() == 1


def test_an_ambiguous_pattern_is_told_once(tmp_path: Path) -> None:
    for number in range(3):
        write_movie(tmp_path / "camera" / f"a_b_c_{number}.tif", seed=number)
    with make_project(tmp_path / "project", steps=False) as project:
        report = project.add(tmp_path / "camera", pattern="{specimen}_{hole}_{number}")
        assert list(project.table()["hole"]) == ["c"] * 3
    assert report.messages == [
        "a_b_c_0.tif (and 2 more): fits the pattern {specimen}_{hole}_{number} in several ways; specimen=a_b, hole=c, "
        "exposure_number=0 was read, not specimen=a, hole=b_c, exposure_number=0; write more of what stands between "
        "the fields"
    ]


def test_a_pattern_given_later_tells_of_what_is_there(tmp_path: Path) -> None:
    for number in range(2):
        write_movie(tmp_path / "camera" / f"apo_{number}.tif", seed=number)
    with make_project(tmp_path / "project", steps=False) as project:
        project.add(tmp_path / "camera")
        assert "specimen" not in project.facts(1).index
        report = project.add(tmp_path / "camera", pattern="{specimen}_{number}")
        assert report.updated == [1, 2]
        assert project.facts(2).loc["specimen", ["value", "origin"]].tolist() == ["apo", "name"]
        assert project.add(tmp_path / "camera", pattern="{specimen}_{number}").known == 2
        project.add(tmp_path / "camera", pattern="{hole}_{number}")
        assert "specimen" not in project.facts(2).index
        assert project.facts(2).loc["hole", "value"] == "apo"


def test_the_xml_of_fractions_is_not_that_of_the_exposure(tmp_path: Path) -> None:
    tree = write_epu(tmp_path / "session", squares=1, holes=1, areas=1)
    movie = tree.movies[0]
    assert metadata_file(movie) == tree.metadata[movie]
    tree.metadata[movie].unlink()
    assert metadata_file(movie) is None
    facts, report = gather(movie)
    assert facts["hole"][1] == "name"
    assert report.messages == []


def test_overviews_of_epu_are_no_exposures(tmp_path: Path) -> None:
    tree = write_epu(tmp_path / "session", squares=1, overviews=True)
    with make_project(tmp_path / "project", steps=False) as project:
        report = project.add(tree.folder)
        assert set(project.table()["source"]) == {str(movie) for movie in tree.movies}
    (told,) = report.messages
    assert "3 files named like overviews" in told


def test_epu_may_write_movies_to_another_disk_than_their_xml(tmp_path: Path) -> None:
    tree = write_epu(tmp_path / "metadata" / "apo")
    movies = []
    for movie in tree.movies:
        target = tmp_path / "movies" / movie.relative_to(tmp_path / "metadata")
        target.parent.mkdir(parents=True, exist_ok=True)
        movies.append(movie.rename(target))
    for roots in ([tmp_path / "metadata"], [tmp_path / "none", tmp_path / "metadata" / "apo"]):
        assert [metadata_file(movie, roots) for movie in movies] == list(tree.metadata.values())
    assert metadata_file(movies[0]) is None
    with make_project(tmp_path / "project", steps=False) as project:
        project.add(tmp_path / "movies", tree.folder)
        found = rows(project)
        truths = list(tree.truth.values())
        assert [differing(truth, found[str(movie)]) for truth, movie in zip(truths, movies, strict=True)] == [{}] * 8
        assert project.table()["metadata"].notna().all()


def test_the_mdoc_of_a_series_is_found_beside_it_and_above_but_not_its_override(tmp_path: Path) -> None:
    tree = write_tomo5(tmp_path / "above" / "frames", positions=1)
    movie = tree.movies[0]
    assert metadata_file(movie) == tree.folder / "Position_1.mdoc"
    shutil.move(tree.folder / "Position_1.mdoc", tmp_path / "above" / "Position_1.mdoc")
    assert metadata_file(movie) == tmp_path / "above" / "Position_1.mdoc"
    facts, _ = gather(movie)
    assert facts["exposure_dose"] == (2.5, "metadata")
    (tmp_path / "above" / "Position_1.mdoc").unlink()
    assert metadata_file(movie) is None


def test_a_series_that_does_not_list_the_movie_yet_is_told_and_its_name_read(tmp_path: Path) -> None:
    tree = write_serialem_tilts(tmp_path)
    movie = tree.movies[-1]
    mdoc = tree.metadata[movie]
    mdoc.write_text(mdoc.read_text().rpartition("[ZValue")[0])
    facts, report = gather(movie)
    assert facts["tilt_angle"] == (6.0, "name")
    assert [f"says nothing of {movie.name}" in message for message in report.messages] == [True]


def mdoc_beside(movie: Path, *lines: str) -> None:
    text = f"[FrameSet = 0]\nSubFramePath = D:\\x\\{movie.name}\n" + "\n".join(lines) + "\n"
    movie.with_name(f"{movie.name}.mdoc").write_text(text)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["NumSubFrames = 4"], "the file holds 3 frames and the metadata say 4; those 3 are used"),
        (["NumSubFrames = 3"], None),
        (["ExposureDose = 40", "FrameDosesAndNumber = 10 3"],
         "dose per frame is 10 e⁻/Å² by the metadata, 30 in 3 frames"),
        (["ExposureDose = 30", "FrameDosesAndNumber = 10 3"], None),
        (["ExposureDose = 40", "FrameDosesAndNumber = 10 4", "NumSubFrames = 4"],
         "holds 3 frames and the metadata say 4"),
        (
            ["ExposureDose = 10", "DoseRate = 15", "ExposureTime = 4", "PixelSpacing = 1.5", "Binning = 1"],
            "exposure dose is 10 e⁻/Å² by the metadata, and their dose rate makes 26.67 e⁻/Å² at the camera",
        ),
        (["ExposureDose = 40", "DoseRate = 15", "ExposureTime = 4", "PixelSpacing = 1.5", "Binning = 1"], None),
        (["DoseRate = 15", "ExposureTime = 4", "PixelSpacing = 1.5", "Binning = 1"], "doses are taken from DoseRate"),
        (["Voltage = 5000"], "voltage = 5000.0: Voltage should be less than or equal to 1500 kV; not used"),
        (["NumSubFrames = 1e12"], "the file holds 3 frames and the metadata say 1000000000000"),
    ],
)  # fmt: skip
def test_contradictions_of_a_movie_are_told(tmp_path: Path, lines: list[str], words: str | None) -> None:
    movie = write_movie(tmp_path / "shot_1.tif", seed=1)
    mdoc_beside(movie, *lines)
    _, report = gather(movie)
    assert len(report.messages) == (words is not None), report.messages
    assert words is None or words in report.messages[0]


def test_contradictions_are_told_once_a_session(tmp_path: Path) -> None:
    tree = write_serialem(tmp_path / "camera", movies=5, super_resolution=True)
    write_mrc(tree.folder / "reference.mrc", np.ones(SHAPE, np.float32), pixel_size=1.0)
    for number, metadata in enumerate(tree.metadata.values()):
        text = metadata.read_text().replace("NumSubFrames = 3", "NumSubFrames = 40")
        metadata.write_text(text.replace("FrameDosesAndNumber = 16.0", f"FrameDosesAndNumber = {16 + number / 1000}"))
    with make_project(tmp_path / "project", steps=False) as project:
        facts = {"pixel_size": 1.06, "exposure_dose": 20}
        report = project.add(*tree.movies, gain_reference=tree.folder / "reference.mrc", facts=facts)
    told = sorted(message.partition("(and 4 more): ")[2][:60] for message in report.messages)
    assert told == [
        "dose per frame is 16 e⁻/Å² by the metadata, 640 in 40 frames",
        "exposure dose is 20 e⁻/Å² by --set and 48 e⁻/Å² by the metad",
        "pixel size is 1.06 Å/px by --set and 0.53 Å/px by the metada",
        "the file holds 3 frames and the metadata say 40; those 3 are",
        "the frames are 96×64 px and the gain reference reference.mrc",
    ]


def test_references_that_metadata_name_are_found_beside_the_movie(tmp_path: Path) -> None:
    tree = write_serialem(tmp_path / "camera", movies=2)
    with make_project(tmp_path / "project", steps=False) as project:
        project.add(tree.folder)
        kept = project.facts(1).loc["gain_reference", ["value", "origin"]].tolist()
        assert kept[1] == "metadata"
        assert (project.folder / kept[0]).read_bytes() == Path(str(tree.gain)).read_bytes()


def test_several_files_of_metadata_are_told(tmp_path: Path) -> None:
    path = write_movie(tmp_path / "a.tif", seed=1)
    for name, voltage in (("a.tif.mdoc", 300), ("a.mdoc", 200)):
        (tmp_path / name).write_text(f"PixelSpacing = 1.5\nVoltage = {voltage}\n\n[FrameSet = 0]\nNumSubFrames = 3\n")
    facts, report = gather(path)
    assert facts["voltage"] == (300, "metadata")
    assert report.messages == [
        "a.tif: has several files of metadata; a.tif.mdoc is used, a.mdoc is not; where that is wrong give its facts "
        "with --set"
    ]


def test_a_comma_in_numbers_of_epu_is_read(tmp_path: Path) -> None:
    tree = write_epu(tmp_path, squares=1, holes=1, areas=1)
    ((movie, xml),) = tree.metadata.items()
    text = xml.read_text()
    for number in ("8.3E-11", "4.0E+21", "-1.25E-06"):
        assert number in text
        text = text.replace(number, number.replace(".", ","))
    xml.write_text(text)
    facts, report = gather(movie)
    assert (facts["pixel_size"][0], facts["exposure_dose"][0], facts["defocus_target"][0]) == (0.83, 40.0, 12500.0)
    assert report.messages == []


def test_a_name_of_several_lines_is_told_in_one() -> None:
    report = ImportReport()
    report.tell("is empty\x1b[31m", about="a\nb é.tif")
    assert report.messages == ["a\\nb é.tif: is empty\\x1b[31m"]
