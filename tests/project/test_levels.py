"""Choices on their levels: where a value comes from, what is refused, what a user's defaults do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from focusnb.errors import ParameterError
from focusnb.project.project import Project


def values(project: Project, exposure: int | None = None) -> dict[str, tuple[object, str]]:
    model, origin = project.params("scale", exposure)
    return {name: (getattr(model, name), origin[name]) for name in origin}


def test_each_level_wins_over_the_one_beneath(project: Project) -> None:
    project.move([2, 3], "good")
    assert values(project, 3)["factor"] == (2.0, "default")
    project.set_params("scale", factor=3)
    assert values(project, 3)["factor"] == (3.0, "project")
    project.set_params("scale", level="group", key="good", factor="4")
    project.set_params("scale", level="exposure", key=3, factor=5, high=20)
    assert [values(project, i)["factor"] for i in (1, 2, 3)] == [(3.0, "project"), (4.0, "group"), (5.0, "exposure")]
    assert values(project, 3)["low"] == (0, "default")
    assert values(project)["factor"] == (3.0, "project")
    project.move([2], "bad")
    assert values(project, 2)["factor"] == (3.0, "project")


def test_none_clears_a_level(project: Project) -> None:
    project.set_params("scale", factor=3, high=7)
    project.set_params("scale", level="exposure", key=1, factor=5)
    project.set_params("scale", level="exposure", key=1, factor=None)
    assert values(project, 1) == {"factor": (3.0, "project"), "low": (0, "default"), "high": (7, "project")}
    project.set_params("scale", factor=None)
    assert values(project, 1)["factor"] == (2.0, "default")
    assert values(project, 1)["high"] == (7, "project")


def test_all_are_valid_or_none_is_written(project: Project) -> None:
    before = project.revision
    with pytest.raises(ParameterError, match="factor = -1: Factor should be greater than 0"):
        project.set_params("scale", high=3, factor=-1)
    with pytest.raises(ParameterError, match="faktor is not a value of Params; did you mean factor"):
        project.set_params("scale", high=3, faktor=1)
    assert project.revision == before
    assert values(project)["high"] == (10, "default")


def test_choices_must_fit_together_wherever_they_meet(project: Project) -> None:
    with pytest.raises(ParameterError, match="low 10 is not below high 10"):
        project.set_params("scale", low=10)
    project.set_params("scale", level="group", key="camera", low=5)
    with pytest.raises(ParameterError, match=r"low 5 is not below high 4 \(with the choices of group camera\)"):
        project.set_params("scale", high=4)
    project.move([2], "good")
    project.set_params("scale", level="group", key="good", high=8)
    project.set_params("scale", level="exposure", key=2, low=7)
    with pytest.raises(ParameterError, match=r"low 7 is not below high 6 \(with the choices of exposure 2\)"):
        project.set_params("scale", level="group", key="good", high=6)
    assert values(project, 2) == {"factor": (2.0, "default"), "low": (7, "exposure"), "high": (8, "group")}


def test_values_that_need_each_other_can_be_set_together(project: Project) -> None:
    project.set_params("scale", low=30, high=40)
    assert values(project) == {"factor": (2.0, "default"), "low": (30, "project"), "high": (40, "project")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": "default"}, "default is no level"),
        ({"level": "group"}, "level group needs a key"),
        ({"level": "project", "key": "good"}, "level project needs no key"),
        ({"level": "exposure", "key": 99}, "there is no exposure 99"),
    ],
)
def test_a_level_that_is_none_is_refused(project: Project, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        project.set_params("scale", factor=3, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a user's own defaults; trust of the tests' steps stays where it was."""
    folder = tmp_path / "config"
    (folder / "focusnb").mkdir(parents=True)
    monkeypatch.setitem(os.environ, "XDG_CONFIG_HOME", str(folder))
    return folder / "focusnb" / "defaults.toml"


def test_a_users_defaults_are_copied_into_a_new_project_and_not_read_again(defaults: Path, tmp_path: Path) -> None:
    defaults.write_text("[align_frames]\ndose_weighting = false\n")
    with Project.create(tmp_path / "p", mode="drift") as project:
        model, origin = project.params("align_frames")
        assert (model.dose_weighting, origin["dose_weighting"]) == (False, "project")  # type: ignore[attr-defined]
        defaults.write_text("[align_frames]\ndose_weighting = true\nb_factor = 50\n")
        assert not project.params("align_frames")[0].dose_weighting  # type: ignore[attr-defined]
    with Project.open(tmp_path / "p") as project:
        assert project.params("align_frames")[1]["b_factor"] == "default"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not toml", "defaults.toml: is not valid TOML"),
        ("b_factor = 3", "b_factor is not within the table of a step"),
        ("[align_frames]\nb_factor = -3", "b_factor = -3"),
        ("[align_tea]\nb_factor = 3", "there is no step align_tea"),
    ],
)
def test_defaults_that_are_wrong_leave_no_half_made_project(
    defaults: Path, tmp_path: Path, text: str, message: str
) -> None:
    defaults.write_text(text)
    with pytest.raises(ParameterError, match=message):
        Project.create(tmp_path / "p", mode="drift")
    assert not (tmp_path / "p").exists()
    defaults.unlink()
    Project.create(tmp_path / "p", mode="drift").close()


def test_choices_of_several_exposures_are_written_at_once(project: Project) -> None:
    before = project.revision
    project.set_params("scale", level="exposure", key=[1, 2], factor=3)
    assert project.revision == before + 1
    assert [project.params("scale", identity)[0].factor for identity in (1, 2, 3)] == [3, 3, 2]
    with pytest.raises(ParameterError, match="no exposure 77"):
        project.set_params("scale", level="exposure", key=[3, 77], factor=4)
    assert project.params("scale", 3)[1]["factor"] == "default"
    project.set_params("scale", level="exposure", key=[2], factor=None)
    assert [project.params("scale", identity)[0].factor for identity in (1, 2)] == [3, 2]
