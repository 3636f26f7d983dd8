"""Facts: which origin wins, what is told, what is refused, what becomes stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from focusnb.errors import ParameterError
from focusnb.project import facts
from focusnb.project.facts import columns, resolve
from focusnb.project.project import Project
from focusnb.quantities import Acquisition
from tests.projects import chain, process

ORIGINS = ("default", "header", "name", "metadata", "profile", "set", "hand")


def sentences(candidates: facts.Candidates) -> list[str]:
    return [told.sentence for told in facts.disagreements(candidates)]


def test_the_stronger_origin_wins() -> None:
    assert set(facts.ORIGINS) == set(ORIGINS)
    candidates: facts.Candidates = {}
    for number, origin in enumerate(ORIGINS):
        candidates = facts.add_origin(candidates, origin, {"voltage": 100.0 + number})
        assert facts.resolve(candidates) == {"voltage": (100.0 + number, origin)}
    weaker = facts.add_origin({"voltage": {"hand": 200.0}}, "set", {"voltage": 300.0})
    assert facts.resolve(weaker)["voltage"] == (200.0, "hand")


def test_taking_a_value_back_uncovers_the_next() -> None:
    candidates = {"voltage": {"hand": 200.0, "header": 300.0}, "tilt_angle": {"hand": 3.0}}
    taken = facts.add_origin(candidates, "hand", {"voltage": None, "tilt_angle": None})
    assert taken == {"voltage": {"header": 300.0}}
    assert candidates["voltage"] == {"hand": 200.0, "header": 300.0}


def test_a_disagreement_above_one_percent_is_told() -> None:
    def told(first: Any, second: Any) -> list[str]:
        return sentences({"pixel_size": {"set": first, "header": second}})

    assert told(1.00, 1.0099) == []
    assert told(1.00, 1.02) == ["pixel size is 1 Å/px by --set and 1.02 Å/px by the file's header; 1 Å/px is used"]
    assert facts.disagreements({"voltage": {"metadata": 300.0, "default": 200.0}}) == []
    assert facts.disagreements({"camera": {"metadata": "K3", "header": "K2"}}) == []
    assert sentences({"pixel_size": {"profile": 1.06, "metadata": 0.53, "header": 1.0}}) == [
        "pixel size is 1.06 Å/px by the microscope's profile and 0.53 Å/px by the metadata; 1.06 Å/px is used (a "
        "factor of 2: one is of the camera's pixels, the other of super-resolution or binned ones); if that is wrong, "
        "give --set pixel_size=...",
        "pixel size is 1.06 Å/px by the microscope's profile and 1 Å/px by the file's header; 1.06 Å/px is used; if "
        "that is wrong, give --set pixel_size=...",
    ]


def test_places_named_otherwise_are_told_and_angles_nearly_reached_are_not() -> None:
    assert sentences({"hole": {"metadata": "12", "name": "h1"}}) == [
        "hole is 12 by the metadata and h1 by the file's name; 12 is used; if that is wrong, give --set hole=..."
    ]
    assert sentences({"hole": {"metadata": "12", "name": "12"}}) == []
    assert sentences({"tilt_angle": {"metadata": 0.007, "name": 0.0}}) == []
    assert sentences({"tilt_angle": {"metadata": -53.9, "name": -54.0}}) == []
    (told,) = sentences({"tilt_angle": {"metadata": -54.01, "name": 54.0}})
    assert told.startswith("tilt angle is -54.01 ° by the metadata and 54 ° by the file's name; -54.01 ° is used")
    assert sentences({"recorded_at": {"metadata": "2024-01-01T00:00:00", "name": "2024-01-01T00:00:02"}}) == []
    assert sentences({"gain_flip": {"set": True, "profile": False}}) == []


def test_frames_missing_from_a_file_are_told_with_both_numbers() -> None:
    assert sentences({"frame_count": {"header": 37, "metadata": 50}}) == [
        "the file holds 37 frames and the metadata say 50; those 37 are used: was it copied while being written, or "
        "were frames left out?"
    ]


def test_disagreements_alike_have_one_topic() -> None:
    def topics(*pairs: tuple[float, float]) -> set[str]:
        return {
            told.topic for a, b in pairs for told in facts.disagreements({"exposure_dose": {"set": a, "metadata": b}})
        }

    assert len(topics((30.1, 60.2), (30.3, 60.6))) == 1
    assert len(topics((30.1, 60.2), (30.1, 50.2))) == 2


DOSES = {"frame_count": {"header": 40}, "dose_per_frame": {"metadata": 0.7}, "exposure_dose": {"metadata": 40.0}}


def test_doses_that_exclude_each_other_are_told() -> None:
    assert sentences(DOSES) == [
        "dose per frame is 0.7 e⁻/Å² by the metadata, 28 in 40 frames, and exposure dose is 40 e⁻/Å² by the metadata; "
        "the dose per frame is used; if that is wrong, give --set dose_per_frame=..."
    ]
    assert sentences({**DOSES, "exposure_dose": {"metadata": 28.2}}) == []
    assert sentences({**DOSES, "hardware_frames": {"header": 1000}}) == []
    assert sentences({name: DOSES[name] for name in ("dose_per_frame", "exposure_dose")}) == []
    given = {**DOSES, "exposure_dose": {"set": 50.0, "metadata": 28.0}}
    assert sentences(given) == [
        "exposure dose is 50 e⁻/Å² by --set and 28 e⁻/Å² by the metadata; 50 e⁻/Å² is used",
        "dose per frame is 0.7 e⁻/Å² by the metadata, 28 in 40 frames, and exposure dose is 50 e⁻/Å² by --set; the "
        "exposure dose is used",
    ]
    # metadata mean the frames they count: of a cut file one thing is told, not two
    cut = {"frame_count": {"header": 30, "metadata": 40}, "dose_per_frame": {"metadata": 1.0}}
    assert len(sentences({**cut, "exposure_dose": {"metadata": 40.0}})) == 1


@pytest.mark.parametrize(
    ("gain", "candidates", "words"),
    [
        ((10, 12), {}, None),
        (
            (12, 10),
            {},
            "the gain reference is 10×12 px: turned by 90° it fits; import again with --set gain_rotation=1 or "
            "gain_rotation=3",
        ),
        ((12, 10), {"gain_rotation": {"set": 1}}, None),
        ((12, 10), {"gain_rotation": {"profile": 3}}, None),
        (
            (12, 10),
            {"gain_rotation": {"profile": 3, "set": 2}},
            "turned 2 × 90°, is 10×12 px: turned by 90° it fits; import again with --set gain_rotation=3 or "
            "gain_rotation=1",
        ),
        ((20, 24), {}, "24×20 px: the gain reference is of super-resolution and the movie is not"),
        (
            (5, 6),
            {},
            "6×5 px: the movie is of super-resolution and the gain reference is not; give the gain reference of",
        ),
        ((24, 20), {"gain_rotation": {"set": 1}}, "24×20 px: the gain reference is of super-resolution"),
        ((11, 12), {}, "the frames are 12×10 px and the gain reference is 12×11 px; give the gain reference of this"),
    ],
)
def test_a_gain_of_another_size_is_told_with_both(
    gain: tuple[int, int], candidates: facts.Candidates, words: str | None
) -> None:
    told = facts.gain_contradiction((10, 12), gain, candidates)
    assert (told is None) == (words is None)
    assert told is None or str(words) in told.sentence


def test_a_gain_of_another_grid_is_brought_to_that_of_an_eer_movie_and_of_no_other() -> None:
    for gain in ((10, 12), (20, 24), (5, 6)):
        assert facts.gain_contradiction((10, 12), gain, {}, scaled=True) is None
    told = facts.gain_contradiction((10, 12), (40, 48), {}, name="a.gain", scaled=True)
    assert told is not None
    assert "the frames are 12×10 px and the gain reference a.gain is 48×40 px" in told.sentence


def test_a_disagreement_is_told_once_at_import_and_again_with_facts_given_later(
    project: Project, tmp_path: Path
) -> None:
    import numpy as np

    from focusnb.io.tiff import write_tiff

    folder = tmp_path / "real"
    folder.mkdir()
    for number, name in enumerate(("one", "three", "two")):
        write_tiff(folder / f"{name}.tif", np.full((2, 8, 6), number, np.uint8), pixel_size=1.5)
    report = project.add(folder, facts={"pixel_size": "1.25"})
    assert report.messages == [
        "one (and 2 more): pixel size is 1.25 Å/px by --set and 1.5 Å/px by the file's header; 1.25 Å/px is used"
    ]
    again = project.add(folder / "two.tif", facts={"pixel_size": "3"})
    assert again.updated == [report.added[2]]
    assert any("two: pixel size is 3 Å/px" in message for message in again.messages)


def test_all_faults_of_facts_are_told_at_once_and_none_written(project: Project) -> None:
    before = project.revision
    with pytest.raises(ParameterError) as caught:
        project.set_facts([1], voltage=5, pixel_size="wide", amplitude_contrast=1.5)
    text = str(caught.value)
    for name in ("voltage = 5: Voltage", "pixel_size = 'wide'", "amplitude_contrast = 1.5"):
        assert name in text
    assert "20 kV" in text
    with pytest.raises(ParameterError, match="voltag is not a value of Acquisition; did you mean voltage"):
        project.set_facts([1], voltag=300)
    with pytest.raises(ParameterError, match="no exposure 77"):
        project.set_facts([1, 77], voltage=200)
    assert project.revision == before
    assert list(project.table()["voltage"]) == [300.0] * 3


def test_facts_by_hand_win_and_are_taken_back(project: Project) -> None:
    project.set_facts([2], voltage=200)
    table = project.facts(2)
    assert (table.value["voltage"], table.origin["voltage"], table.unit["voltage"]) == (200.0, "hand", "kV")
    assert '"set": 300.0' in table.others["voltage"]
    project.set_facts([2], voltage=None, tilt_angle=12.5)
    assert project.facts(2).origin["voltage"] == "set"
    assert project.table()["voltage"][2] == 300
    project.set_facts([2], tilt_angle=None)
    assert "tilt_angle" not in project.facts(2).index
    assert project.table()["tilt_angle"].isna().all()


def test_a_changed_fact_makes_what_reads_it_stale_and_nothing_else(project: Project) -> None:
    process(project)
    workflow = chain(project)
    assert project.stale(workflow) == {}
    project.set_facts([2], tilt_angle=10)
    assert project.stale(workflow) == {}
    project.set_facts([2], voltage=200)
    assert project.stale(workflow) == {2: ["load", "scale", "judge"]}  # load: its lines live in memory only
    process(project)
    assert project.table()["scaled"][2] == 2 * 2 * 200
    project.set_facts([2], voltage=None)
    assert project.stale(workflow) == {2: ["load", "scale", "judge"]}


SAMPLE = {
    "int": "2",
    "float": "1.5",
    "bool": "true",
    "str": "words = more words",
    "datetime": "2026-03-04T05:06:07",
}
ODD = {"amplitude_contrast": "0.07", "voltage": "200", "gain_rotation": "1", "kind": "movie"}


@pytest.mark.parametrize("spec", [s for s in Acquisition.specs() if s.kind != "file"], ids=lambda spec: spec.name)
def test_every_fact_can_be_set_on_the_command_line(spec: Any) -> None:
    text = ODD.get(spec.name, SAMPLE[spec.type])
    values = facts.check_facts(facts.parse_assignments([f"{spec.name}={text}"]))
    assert list(values) == [spec.name]
    assert facts.check_facts(values) == values


def test_a_number_beyond_counting_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"exposure_number = 1000.*: Exposure number is beyond all"):
        facts.check_facts({"exposure_number": 10**30})


def test_an_assignment_without_equals_is_refused() -> None:
    with pytest.raises(ParameterError, match="'voltage' is not NAME=VALUE"):
        facts.parse_assignments(["voltage"])


def test_the_raw_file_is_no_fact_to_set(project: Project) -> None:
    with pytest.raises(ParameterError, match="movie is the file that is imported"):
        project.set_facts([1], movie="/elsewhere/x.tif")


def test_a_reference_given_as_a_fact_is_copied_and_counts_by_its_content(project: Project, tmp_path: Path) -> None:
    process(project)
    gain = tmp_path / "gain.mrc"
    gain.write_bytes(b"one")
    project.set_facts([1], gain_reference=str(gain))
    kept = project.table()["gain_reference"][1]
    assert (project.folder / kept).read_bytes() == b"one"
    assert set(project.stale(chain(project))) == {1}
    process(project)
    project.set_facts([1], gain_reference=str(gain))
    assert project.stale(chain(project)) == {}
    gain.write_bytes(b"two")
    project.set_facts([1], gain_reference=str(gain))
    assert project.table()["gain_reference"][1] != kept
    assert set(project.stale(chain(project))) == {1}
    with pytest.raises(ParameterError, match=r"none\.mrc: the gain reference does not exist"):
        project.set_facts([1], gain_reference=str(tmp_path / "none.mrc"))


def test_the_kind_can_be_changed_afterwards(project: Project) -> None:
    project.set_facts([1], kind="image")
    row = project.table().loc[1]
    assert (row["kind"], row["image"]) == ("image", "raw/a.tif")
    assert row.isna()["movie"]
    project.set_facts([1], kind=None)
    row = project.table().loc[1]
    assert (row["kind"], row["movie"]) == ("movie", "raw/a.tif")
    assert row.isna()["image"]


def test_a_dose_somebody_gives_puts_the_weaker_one_out_of_force() -> None:
    said = {"dose_per_frame": {"metadata": 1.5}, "exposure_dose": {"metadata": 30.0, "set": 100.0}}
    assert resolve(said) == {"exposure_dose": (100.0, "set")}
    assert columns(said) == {"dose_per_frame": None, "exposure_dose": 100.0}
    said = {"dose_per_frame": {"set": 2.0}, "exposure_dose": {"metadata": 30.0}}
    assert resolve(said) == {"dose_per_frame": (2.0, "set")}
    same = {"dose_per_frame": {"metadata": 1.5}, "exposure_dose": {"metadata": 30.0}}
    assert set(resolve(same)) == {"dose_per_frame", "exposure_dose"}


def test_the_file_knows_its_size_better_than_its_metadata_but_not_better_than_the_user() -> None:
    assert resolve({"frame_count": {"metadata": 50, "header": 37}}) == {"frame_count": (37, "header")}
    assert resolve({"frame_count": {"metadata": 50, "header": 37, "set": 36}}) == {"frame_count": (36, "set")}
