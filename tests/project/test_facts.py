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

ORIGINS = ("default", "header", "metadata", "set", "hand")


def test_the_stronger_origin_wins() -> None:
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
        return facts.disagreements({"pixel_size": {"set": first, "header": second}})

    assert told(1.00, 1.0099) == []
    assert told(1.00, 1.02) == ["pixel size is 1 Å/px by --set and 1.02 Å/px by the file's header; 1 Å/px is used"]
    assert facts.disagreements({"voltage": {"metadata": 300.0, "default": 200.0}}) == []
    assert facts.disagreements({"camera": {"metadata": "K3", "header": "K2"}}) == []


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
