"""The order of steps, and what cannot be put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest

from focusnb.errors import ParameterError
from focusnb.modes import MODES
from focusnb.parameters import image, quantity, transient
from focusnb.processing.workflow import Workflow
from focusnb.project.project import Project
from focusnb.steps.base import Step, StepInputs, StepResults, collecting
from tests.projects import CHAIN, chain, make_project

Number = Annotated[float, quantity("Number", unit="")]
Passing = Annotated[str, transient("Passing")]


def step(name: str, needs: str = "", makes: str = "", category: str = "statistics", **files: str) -> type[Step]:
    """A step that needs and makes values of these names."""
    needed: dict[str, Any] = {"__annotations__": dict.fromkeys(needs.split(), Number)}
    made: dict[str, Any] = {
        "__annotations__": dict.fromkeys(makes.split(), Number | None),
        **dict.fromkeys(makes.split()),
    }
    for value, file in files.items():
        made["__annotations__"][value] = Annotated[str, image(value.title(), file=file)] | None
        made[value] = None
    with collecting():
        return type(
            name,
            (Step,),
            {
                "__module__": __name__,
                "name": name,
                "title": name.title(),
                "category": category,
                "Inputs": type("Inputs", (StepInputs,), {**needed, "__module__": __name__}),
                "Results": type("Results", (StepResults,), {**made, "__module__": __name__}),
                "run": lambda self, inputs, params, work: None,
            },
        )


def test_steps_are_ordered_by_what_they_need_not_as_given(project: Project) -> None:
    steps = [project.step(name) for name in ("judge", "scale", "load")]
    assert Workflow(*steps).names == CHAIN
    assert repr(Workflow(*steps)) == "Workflow(load → scale → judge)"
    assert Workflow(*steps).needs() == []
    assert Workflow(*steps[:2]).needs() == ["stack"]
    assert Workflow().names == ()


def test_a_step_asked_for_comes_with_those_that_make_what_nobody_keeps(project: Project) -> None:
    assert Workflow.asked(project, ["scale"], "movie").names == ("load", "scale")
    assert Workflow.asked(project, ["judge"], "movie").names == ("judge",), "what it needs is kept"
    assert Workflow.asked(project, ["scale", "load"], "movie").names == ("load", "scale")
    with pytest.raises(ParameterError, match="scale is in the workflow twice"):
        Workflow.asked(project, ["scale", "scale"], "movie")


def test_what_is_made_of_movies_alone_is_not_made_of_an_image_that_can_do_without(tmp_path: Path) -> None:
    with make_project(tmp_path / "project", steps=False) as project:
        assert Workflow.asked(project, ["measure_image"], "movie").names == ("prepare_movie", "measure_image")
        assert Workflow.asked(project, ["measure_image"], "image").names == ("measure_image",)
        # it says that it needs a movie, in place of a value that is not there
        assert Workflow.asked(project, ["align_frames"], "image").names == ("prepare_movie", "align_frames")


def test_among_free_steps_the_category_decides_then_the_order_given() -> None:
    ctf, first, second = step("c1", category="ctf"), step("s2"), step("s1")
    last = step("p1", needs="x", category="prepare")
    maker = step("t1", makes="x", category="tomo")
    assert Workflow(ctf, first, second, last, maker).names == ("s2", "s1", "c1", "t1", "p1")


def test_two_makers_of_one_value_or_file_are_refused() -> None:
    with pytest.raises(
        ParameterError, match=r"one and two both make x; take one of them, and run the other as a trial"
    ):
        Workflow(step("one", makes="x"), step("two", makes="y x"))
    with pytest.raises(ParameterError, match=r"one and two both write sum\.mrc"):
        Workflow(step("one", u="sum.mrc"), step("two", v="sum.mrc"))


def test_a_step_named_twice_and_steps_that_wait_for_each_other_are_refused() -> None:
    one = step("one", makes="x")
    with pytest.raises(ParameterError, match="step one is in the workflow twice"):
        Workflow(one, one)
    with pytest.raises(ParameterError, match="one, two wait for each other's results"):
        Workflow(step("one", needs="y", makes="x"), step("two", needs="x", makes="y"), step("three"))


def test_every_usable_mode_has_a_workflow_that_needs_nothing_else(project: Project) -> None:
    for mode in MODES.values():
        for kind, names in mode.steps.items():
            workflow = Workflow.named(project, names)
            assert workflow.needs() == [], (mode.name, kind)
            assert set(workflow.names) == set(names)


def test_a_projects_own_steps_join_those_of_its_mode(project: Project) -> None:
    project.use_steps("load", "scale", "judge")
    workflow = Workflow.of(project, "movie")
    assert set(CHAIN) < set(workflow.names)
    assert "align_frames" in workflow.names
    with pytest.raises(ParameterError, match="there is no step lode"):
        project.use_steps("lode")
    with Project.open(project.folder) as again:
        assert again.step_names("movie")[-3:] == list(CHAIN)


def test_steps_of_a_project_nobody_trusts_do_not_run(project: Project) -> None:
    (project.folder / "steps" / "other.py").write_text("raise SystemExit('must not run')\n")
    with pytest.raises(ParameterError, match=r"there is no step load;.*focusnb step trust"):
        chain(project)


def test_the_chain_is_not_known_elsewhere(tmp_path: Any) -> None:
    with make_project(tmp_path / "other", steps=False) as other, pytest.raises(ParameterError, match="no step load"):
        chain(other)
