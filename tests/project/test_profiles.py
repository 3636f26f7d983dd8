"""Profiles of microscopes: written, read, refused in words; their facts and pixel sizes in an import."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from focusnb.errors import ParameterError
from focusnb.io.mrc import write_mrc
from focusnb.project import facts as fact_rules
from focusnb.project import profiles
from focusnb.project.gathering import ImportReport, later_facts
from focusnb.project.profiles import Profile, change_profile, read_profile, remove_profile
from tests.project.trees import SHAPE, write_epu, write_movie, write_serialem
from tests.projects import make_project


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of profiles of a user who has none yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    return profiles.config_file()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


WHOLE = """# ours
[titan1]
voltage = 300
camera = "K3"           # behind the filter
gain_flip = true

[titan1.pixel_size]
81000 = 1.06
105000 = 0.83

# the old one
[talos]
voltage = 200
pixel_size = 1.5
"""


def test_what_is_written_is_read(configuration: Path) -> None:
    write(configuration, WHOLE)
    titan = read_profile("titan1")
    assert titan.facts == {"gain_flip": True, "voltage": 300.0, "camera": "K3"}
    assert titan.pixel_sizes == {81000: 1.06, 105000: 0.83}
    assert titan.magnifications == "81,000, 105,000"
    assert read_profile("talos").facts == {"pixel_size": 1.5, "voltage": 200.0}
    assert profiles.profile_names() == ["titan1", "talos"]


def test_changing_one_leaves_the_others_and_their_remarks(configuration: Path) -> None:
    write(configuration, WHOLE)
    change_profile("titan1", {"voltage": "200", "camera": None, "pixel_size@81,000": "1.058", "pixel_size@42k": "2.1"})
    titan = read_profile("titan1")
    assert titan.facts == {"gain_flip": True, "voltage": 200.0}
    assert titan.pixel_sizes == {42000: 2.1, 81000: 1.058, 105000: 0.83}
    text = configuration.read_text()
    assert "# ours" in text
    assert "# the old one\n[talos]\nvoltage = 200\npixel_size = 1.5" in text
    change_profile("new_one", {"specimen": 'a "b" \\ é\t\x7f'})
    assert read_profile("new_one").facts == {"specimen": 'a "b" \\ é\t\x7f'}
    change_profile("titan1", {"pixel_size@81000": "", "pixel_size@105000": ""})
    assert read_profile("titan1").pixel_sizes == {42000: 2.1}
    change_profile("titan1", {"pixel_size": ""})
    assert read_profile("titan1").pixel_sizes == {}
    remove_profile("titan1")
    assert profiles.profile_names() == ["talos", "new_one"]
    assert "# the old one\n[talos]" in configuration.read_text()


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b-1", "C_2"]), st.text(min_size=1, max_size=12), st.integers(1, 400)),
        max_size=5,
    ),
)
def test_any_sequence_of_changes_is_read_back(configuration: Path, changes: list[tuple[str, str, int]]) -> None:
    write(configuration, "# remarks\n")
    expected: dict[str, dict[str, Any]] = {}
    for name, camera, size in changes:
        change_profile(name, {"camera": camera, f"pixel_size@{size}000": f"{size / 100}"})
        expected.setdefault(name, {}).update({"camera": camera, size * 1000: size / 100})
    for name, values in expected.items():
        profile = read_profile(name)
        assert {**profile.facts, **profile.pixel_sizes} == values
    assert configuration.read_text().startswith("# remarks")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[titan1\n", r"microscopes\.toml: is not TOML"),
        ("voltage = 300\n", r"there is no microscope titan1; there are voltage; 'focusnb microscope set titan1"),
        ("titan1 = 3\n", "titan1 belongs to no microscope; write it below a line"),
        ("[titan1]\nvoltag = 300\n", r"\[titan1\]: voltag is not a value of Acquisition; did you mean voltage\?"),
        ("[titan1]\nvoltage = 5\n", "voltage = 5: Voltage should be greater than or equal to 20 kV"),
        ("[titan1]\nwidth = 5\nmovie = 'x'\n", "width is of an exposure, .*; movie is of an exposure, not of a"),
        ("[titan1]\nvoltage = [1, 2]\n", "voltage has several values"),
        ("[titan1.pixel_size]\nx = 1\n", "'x' below pixel_size is no magnification; write for example 81000 = 1.06"),
        ("[titan1.pixel_size]\n81000 = -1\n", "at magnification 81000: pixel_size = -1: Pixel size should be greater"),
        ("[titan1.voltage]\n81000 = 300\n", "voltage has several values; a fact has one"),
        ("[titan1]\nvoltage = 5\nwidth = 3\n[titan1.pixel_size]\nx = 1\n", "width is of.*; 'x' below.*; voltage = 5"),
        ("[titan2]\nvoltage = 5\n", r"there is no microscope titan1; did you mean titan2\?"),
        ("", "there is no microscope titan1; 'focusnb microscope set titan1 voltage=...' makes it"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_file_and_table(configuration: Path, text: str, words: str) -> None:
    write(configuration, text)
    with pytest.raises(ParameterError, match=words) as caught:
        read_profile("titan1")
    assert str(caught.value).startswith(str(configuration))


def test_a_file_that_is_no_text_or_may_not_be_read_is_told(configuration: Path) -> None:
    write(configuration, "")
    configuration.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParameterError, match="is not TOML"):
        read_profile("titan1")
    configuration.unlink()
    configuration.mkdir()
    with pytest.raises(ParameterError, match="cannot be read"):
        read_profile("titan1")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("a.b", {"voltage": "300"}, "'a.b': name a microscope with letters"),
        ("", {"voltage": "300"}, "name a microscope"),
        ("talos", {"voltage": "high"}, "voltage = 'high'"),
        ("talos", {"voltage@81000": "300"}, "voltage@81000: only pixel_size has values by magnification"),
        ("talos", {"pixel_size@big": "1"}, "'big' below pixel_size is no magnification"),
        (
            "titan1",
            {"pixel_size": "1"},
            "this microscope has pixel sizes by magnification; give pixel_size@MAGNIFICATION",
        ),
        ("talos", {"gain_reference": "/none/gain.mrc"}, r"/none/gain\.mrc: the gain reference does not exist"),
    ],
)
def test_a_change_that_is_not_valid_is_refused_and_nothing_written(
    configuration: Path, name: str, values: dict[str, str], words: str
) -> None:
    write(configuration, WHOLE)
    with pytest.raises(ParameterError, match=words):
        change_profile(name, {"amplitude_contrast": "0.07", **values})
    assert configuration.read_text() == WHOLE


def test_a_broken_profile_can_be_mended_and_removed_while_others_are_used(configuration: Path) -> None:
    write(configuration, WHOLE.replace("voltage = 300", "voltage = 3"))
    assert read_profile("talos").facts["voltage"] == 200
    change_profile("titan1", {"voltage": "300"})
    assert read_profile("titan1").facts["voltage"] == 300
    write(configuration, "x = 1\n" + WHOLE)
    remove_profile("titan1")
    assert tomllib.loads(configuration.read_text()) == {"x": 1, "talos": {"voltage": 200, "pixel_size": 1.5}}


def test_a_file_that_cannot_be_taken_apart_is_left_alone(configuration: Path) -> None:
    text = 'titan1 = {voltage = 300}\n[talos]\nspecimen = """\n[titan1]\n"""\n'
    write(configuration, text)
    with pytest.raises(ParameterError, match=r"cannot be changed here; change \[titan1\] with an editor"):
        change_profile("titan1", {"voltage": "200"})
    assert configuration.read_text() == text


# --------------------------------------------------------------------------------------- what an import makes of it

SIZES = {81000.0: 1.06, 105000.0: 0.83}


def pixel_size(
    candidates: dict[str, dict[str, Any]], profile: Profile | None = None
) -> tuple[dict[str, Any], list[str]]:
    report = ImportReport()
    profile = profile or Profile("titan1", {"voltage": 300.0}, SIZES)
    return later_facts(Path("x.tif"), candidates, report, profile=profile)["profile"], report.messages


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ({}, 0.83),
        ({"magnification": {"metadata": 104500}}, 0.83),
        ({"magnification": {"metadata": 105000, "set": 81000}}, 1.06),
        ({"super_resolution": {"metadata": 2}}, 0.415),
        ({"super_resolution": {"set": 1}, "camera": {"metadata": "K3"}, "width": {"header": 11520}, "height":
          {"header": 8184}}, 0.83),
        ({"camera": {"metadata": "BioQuantum K3"}, "width": {"header": 11520}, "height": {"header": 8184}}, 0.415),
        ({"camera": {"metadata": "BioQuantum K3"}, "width": {"header": 4092}, "height": {"header": 5760}}, 0.83),
        ({"camera": {"metadata": "BioQuantum K3"}, "width": {"header": 2880}, "height": {"header": 2046}}, 1.66),
        ({"camera": {"metadata": "BioQuantum K3"}, "width": {"header": 4092}, "height": {"header": 4092}}, 0.83),
        ({"camera": {"metadata": "Falcon 4i"}, "width": {"header": 4096}, "height": {"header": 4096}}, 0.83),
        ({"camera": {"metadata": "other"}, "width": {"header": 100}, "height": {"header": 100}}, 0.83),
    ],
)  # fmt: skip
def test_a_pixel_size_is_chosen_by_magnification_and_grid(candidates: dict[str, Any], expected: float) -> None:
    facts, told = pixel_size({"magnification": {"metadata": 105000}, **candidates})
    assert facts["pixel_size"] == pytest.approx(expected)
    assert facts["voltage"] == 300
    unclear = candidates.get("width", {}).get("header") in (100, 4092) and candidates["height"]["header"] != 5760
    assert [line.partition(" has ")[0] for line in told] == ["microscope titan1"] * unclear


def test_frames_of_an_unknown_camera_are_told_until_the_profile_knows_its_pixels() -> None:
    known = {"magnification": {"set": 81000}, "width": {"header": 8192}, "height": {"header": 8192}}
    facts, told = pixel_size({**known, "camera": {"metadata": "Apollo"}})
    assert facts["pixel_size"] == 1.06
    assert told == [
        "microscope titan1 has pixel sizes of the camera's physical pixels, and nothing tells whether frames of "
        "8192×8192 px of the camera Apollo are of these or finer: they are taken as these; if that is wrong give --set "
        "super_resolution=2, and for good the physical pixels of the camera with 'focusnb microscope set titan1 "
        "camera_pixels=WIDTHxHEIGHT'"
    ]
    assert pixel_size({**known, "pixel_size": {"set": 0.53}})[1] == [], "somebody knows better"
    change_profile("titan1", {"camera_pixels": "4096×4096", "pixel_size@81000": "1.06"})
    profile = read_profile("titan1")
    assert (profile.camera_pixels, profile.facts) == ((4096, 4096), {})
    assert pixel_size(known, profile) == ({"super_resolution": 2, "pixel_size": 0.53}, [])
    change_profile("titan1", {"voltage": "200"})
    assert read_profile("titan1").camera_pixels == (4096, 4096), "another change keeps it"
    with pytest.raises(ParameterError, match="camera_pixels = 'many' is no width and height; write for example"):
        change_profile("titan1", {"camera_pixels": "many"})
    change_profile("titan1", {"camera_pixels": ""})
    assert read_profile("titan1").camera_pixels is None


def test_the_camera_of_the_profile_tells_super_resolution() -> None:
    profile = Profile("titan1", {"camera": "K3"}, SIZES)
    known = {"magnification": {"set": 81000}, "width": {"header": 11520}, "height": {"header": 8184}}
    facts, _ = pixel_size(known, profile)
    assert facts == {"camera": "K3", "super_resolution": 2, "pixel_size": 0.53}
    facts, _ = pixel_size({**known, "super_resolution": {"set": 1}}, profile)
    assert facts == {"camera": "K3", "pixel_size": 1.06}
    plain = Profile("titan1", {"camera": "K3", "pixel_size": 0.5}, {})
    assert pixel_size(known, plain)[0]["pixel_size"] == 0.5


def test_a_magnification_that_is_not_there_is_told_with_those_that_are() -> None:
    facts, told = pixel_size({"magnification": {"metadata": 130000}})
    assert "pixel_size" not in facts
    assert told == [
        "microscope titan1 has no pixel size at magnification 130,000, only at 81,000, 105,000; give --set "
        "pixel_size=..., or 'focusnb microscope set titan1 pixel_size@130000=...'"
    ]
    facts, told = pixel_size({"voltage": {"metadata": 300}})
    assert "pixel_size" not in facts
    assert told == [
        "microscope titan1 has pixel sizes at the magnifications 81,000, 105,000, and nothing tells the magnification; "
        "give --set magnification=... or --set pixel_size=..."
    ]


def test_an_import_takes_facts_and_files_of_the_profile(tmp_path: Path, configuration: Path) -> None:
    tree = write_serialem(tmp_path / "camera", movies=3)
    gain = tmp_path / "references" / "titan.mrc"
    gain.parent.mkdir()
    write_mrc(gain, np.full(SHAPE[::-1], 1.5, np.float32), pixel_size=1.0)
    change_profile("titan1", {
        "voltage": "300", "spherical_aberration": "2.62", "amplitude_contrast": "0.07", "camera": "K3",
        "gain_reference": str(gain), "gain_rotation": "1", "pixel_size@81000": "1.08", "exposure_dose": "50",
    })  # fmt: skip
    with make_project(tmp_path / "project", steps=False) as project:
        report = project.add(*tree.movies, microscope="titan1", facts={"amplitude_contrast": 0.1})
        facts = project.facts(2)
        (kept,) = (project.folder / "references").glob("*/titan.mrc")
        assert facts.loc["gain_reference", ["value", "origin"]].tolist() == [
            str(kept.relative_to(project.folder)), "profile"
        ]  # fmt: skip
        assert kept.read_bytes() == gain.read_bytes()
        values = {name: facts.loc[name, ["value", "origin"]].tolist() for name in (
            "spherical_aberration", "amplitude_contrast", "pixel_size", "exposure_dose", "camera", "gain_rotation",
        )}  # fmt: skip
    assert values == {
        "spherical_aberration": [2.62, "profile"], "amplitude_contrast": [0.1, "set"], "pixel_size": [1.08, "profile"],
        "exposure_dose": [50.0, "profile"], "camera": ["K3", "profile"], "gain_rotation": [1, "profile"],
    }  # fmt: skip
    told = [message.partition("(and 2 more): ")[2] for message in report.messages]
    assert len(told) == 4
    assert all(told)
    beginnings = {" ".join(message.split()[:3]) for message in told}
    assert beginnings == {"pixel size is", "exposure dose is", "dose per frame", "amplitude contrast is"}


def test_a_gain_given_is_stronger_than_that_of_the_profile(tmp_path: Path) -> None:
    tree = write_serialem(tmp_path / "camera", movies=1)
    for name, value in (("titan", 1.5), ("given", 1.2)):
        write_mrc(tmp_path / f"{name}.mrc", np.full(SHAPE, value, np.float32), pixel_size=1.0)
    change_profile("titan1", {"gain_reference": str(tmp_path / "titan.mrc")})
    with make_project(tmp_path / "project", steps=False) as project:
        project.add(*tree.movies, microscope="titan1", gain_reference=tmp_path / "given.mrc")
        assert project.facts(1).loc["gain_reference", "origin"] == "set"
        assert str(project.facts(1).loc["gain_reference", "value"]).endswith("given.mrc")


def test_a_file_of_a_profile_that_is_gone_is_told_before_anything_is_imported(tmp_path: Path) -> None:
    tree = write_serialem(tmp_path / "camera", movies=1)
    write_mrc(tmp_path / "titan.mrc", np.ones(SHAPE, np.float32), pixel_size=1.0)
    change_profile("titan1", {"gain_reference": str(tmp_path / "titan.mrc")})
    (tmp_path / "titan.mrc").unlink()
    with make_project(tmp_path / "project", steps=False) as project:
        with pytest.raises(ParameterError, match=r"titan\.mrc.*does not exist"):
            project.add(*tree.movies, microscope="titan1")
        with pytest.raises(ParameterError, match="there is no microscope titan9; did you mean titan1"):
            project.add(*tree.movies, microscope="titan9")
        assert project.table().empty


def test_a_profile_given_later_tells_of_what_is_there(tmp_path: Path) -> None:
    tree = write_epu(tmp_path / "session", squares=1, super_resolution=True)
    change_profile("titan1", {"pixel_size@105000": "0.85", "spherical_aberration": "2.6"})
    with make_project(tmp_path / "project", steps=False) as project:
        project.add(tree.folder)
        assert project.facts(1).loc["pixel_size", ["value", "origin"]].tolist() == [0.415, "metadata"]
        report = project.add(tree.folder, microscope="titan1")
        assert report.updated == [1, 2, 3, 4]
        assert project.facts(1).loc["pixel_size", ["value", "origin"]].tolist() == [0.425, "profile"]
        (told,) = report.messages
        assert (
            "(and 3 more): pixel size is 0.425 Å/px by the microscope's profile and 0.415 Å/px by the metadata" in told
        )
        assert project.add(tree.folder, microscope="titan1").known == 4
        change_profile("titan2", {"voltage": "300"})
        project.add(tree.folder, microscope="titan2")
        assert project.facts(1).loc["pixel_size", ["value", "origin"]].tolist() == [0.415, "metadata"]
        assert project.facts(1).loc["spherical_aberration", "origin"] == "default"


def test_the_profile_is_beneath_what_is_set_and_above_metadata() -> None:
    said = {"voltage": {"metadata": 200.0, "profile": 300.0, "name": 100.0}}
    assert fact_rules.resolve(said)["voltage"] == (300.0, "profile")
    assert fact_rules.resolve({"voltage": {**said["voltage"], "set": 120.0}})["voltage"] == (120.0, "set")


def test_a_movie_without_metadata_gets_the_plain_pixel_size(tmp_path: Path) -> None:
    movie = write_movie(tmp_path / "a.tif", seed=1)
    change_profile("talos", {"pixel_size": "1.5"})
    with make_project(tmp_path / "project", steps=False) as project:
        report = project.add(movie, microscope="talos")
        assert project.facts(1).loc["pixel_size", ["value", "origin"]].tolist() == [1.5, "profile"]
        assert report.messages == []
