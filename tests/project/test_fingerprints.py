"""What makes a step stale, what is run again with it, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from focusnb.errors import ParameterError, ProgramMissing
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.processing.workflow import Workflow
from focusnb.project import fingerprints
from focusnb.project.fingerprints import Exposure
from focusnb.project.project import Project
from focusnb.steps import programs, trust
from tests.projects import chain, process, statuses, write_shots

ALL = ["load", "scale", "judge"]


@pytest.fixture
def done(project: Project) -> Project:
    """The project with its three exposures processed."""
    summary = process(project)
    assert (summary.done, summary.failed, summary.broken) == (3, 0, 0)
    assert project.stale(chain(project)) == {}
    return project


def rewrite(project: Project, old: str, new: str) -> None:
    """Change the project's own steps, with the user's consent."""
    path = project.folder / "steps" / "chain.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    trust.trust(project.folder)
    project.declare()


def test_a_choice_makes_its_step_and_what_follows_stale(done: Project) -> None:
    done.set_params("judge", limit=100)
    assert done.stale(chain(done)) == {1: ["judge"], 2: ["judge"], 3: ["judge"]}
    done.set_params("judge", limit=None)
    assert done.stale(chain(done)) == {}
    done.set_params("scale", level="exposure", key=2, factor=7)
    # scale reads what lives in memory only, so that its maker runs again with it
    assert done.stale(chain(done)) == {2: ALL}
    process(done)
    assert done.stale(chain(done)) == {}


def test_the_makers_of_what_lives_in_memory_run_again_though_they_are_not_stale(done: Project) -> None:
    before = done.runs()
    done.set_params("scale", factor=7)
    process(done, [1])
    after = done.runs()
    again = after[~after.run.isin(before.run)]
    assert list(again.step) == ALL
    same = before[(before.exposure_id == 1) & (before.step == "load")].fingerprint.item()
    assert again[again.step == "load"].fingerprint.item() == same


def test_a_value_equal_to_the_default_changes_nothing(done: Project) -> None:
    done.set_params("scale", factor=2.0)
    assert done.stale(chain(done)) == {}


def test_the_content_of_the_raw_file_counts(done: Project) -> None:
    with done.library.write() as transaction:
        transaction.update_exposure(3, {"content": "0" * 64})
    assert done.stale(chain(done)) == {3: ALL}


def test_the_text_of_a_users_step_counts(done: Project) -> None:
    rewrite(done, "Judge the scaled number.", "Judge the scaled number well.")
    assert done.stale(chain(done)) == {1: ALL, 2: ALL, 3: ALL}


def exposure(**changes: object) -> Exposure:
    values: dict[str, object] = {
        "id": 1,
        "name": "a",
        "folder": "exposures/camera/a",
        "group": "camera",
        "kind": "movie",
        "content": "abc",
        "facts": {"movie": "raw/a.tif", "voltage": 300.0, "gain_reference": "references/1/g.mrc", "tilt_angle": 3.0},
        "current": {},
        "overrides": {},
    }
    return Exposure(**{**values, **changes})  # type: ignore[arg-type]


def test_each_thing_that_counts_changes_the_fingerprint_and_nothing_else_does(project: Project) -> None:
    load, scale, judge = chain(project).steps

    def of(step: type, **changes: object) -> str:
        made_by = changes.pop("made_by", {"stack": "1", "scaled": "2", "plane": "3"})
        params = changes.pop("params", {"factor": 2.0})
        versions = changes.pop("programs", {})
        return fingerprints.fingerprint(step, params, exposure(**changes), made_by, versions)  # type: ignore[arg-type]

    base = exposure().facts
    assert of(load, content="other") != of(load)
    assert of(load, facts={**base, "gain_reference": "references/2/g.mrc"}) != of(load)
    assert of(load, facts={**base, "voltage": 200.0}) == of(load)
    assert of(load, facts={**base, "tilt_angle": 4.0}) == of(load)
    assert of(load, name="b", folder="exposures/camera/b", group="TRASH", id=7) == of(load)
    assert of(scale, facts={**base, "voltage": 200.0}) != of(scale)
    assert of(scale, content="other") == of(scale)  # it comes in through what load made
    assert of(scale, params={"factor": 3.0}) != of(scale)
    assert of(scale, made_by={"stack": "new"}) != of(scale)
    assert of(judge, overrides={"scaled": 5.0}) != of(judge)
    assert of(judge, overrides={"scaled": 5.0}) != of(judge, overrides={"scaled": 6.0})
    assert of(judge, overrides={"verdict": "bad"}) == of(judge)

    class Next(judge):  # type: ignore[misc, valid-type]
        name: ClassVar[str] = ""
        version: ClassVar[str] = "2"

    Next.name = judge.name
    assert of(Next) != of(judge)


def test_the_version_of_a_program_counts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    load = chain(project).steps[0]
    monkeypatch.setattr(load, "programs", classmethod(lambda cls: ("thing",)))

    class Found:
        version = "1.2"

    monkeypatch.setattr(programs, "find", lambda name: Found)
    assert fingerprints.program_versions([load]) == {"thing": "1.2"}

    def refuse(name: str) -> None:
        raise ProgramMissing("thing is not installed")

    monkeypatch.setattr(programs, "find", refuse)
    assert fingerprints.program_versions([load]) == {"thing": "missing"}
    one = fingerprints.fingerprint(load, {}, exposure(), {}, {"thing": "1.2"})
    assert one != fingerprints.fingerprint(load, {}, exposure(), {}, {"thing": "1.3"})


Fill = Callable[..., Project]


@pytest.fixture
def with_shot(project: Project, tmp_path: Path) -> Fill:
    """Return a function that adds one exposure of given lines as id 4."""

    def add(text: str) -> Project:
        project.add(write_shots(tmp_path / "more", d=text))
        return project

    return add


def test_what_failed_with_the_same_inputs_is_not_tried_again(with_shot: Fill) -> None:
    project = with_shot("fail scale\n")
    assert process(project).failed == 1
    assert project.stale(chain(project)) == {}
    assert process(project).exposures == 0
    assert process(project, retry=True).failed == 1
    assert list(project.runs(exposure=4).status) == ["done", "failed", "skipped", "done", "failed", "skipped"]
    project.set_params("judge", limit=5)
    assert project.stale(chain(project), [4]) == {}  # judge waits for scale
    project.set_params("scale", level="exposure", key=4, factor=3)
    assert project.stale(chain(project), [4]) == {4: ALL}


def test_a_fault_is_not_tried_again_either(with_shot: Fill) -> None:
    project = with_shot("fault load\n")
    assert process(project).broken == 1
    assert statuses(project)["d"] == "broken"
    assert "ZeroDivisionError" in project.table().reason[4]
    assert project.stale(chain(project)) == {}


def test_what_the_machine_refused_is_tried_again(with_shot: Fill) -> None:
    project = with_shot("full load\n")
    assert process(project).failed == 1
    assert "the disk is full" in project.table().reason[4]
    assert project.stale(chain(project)) == {4: ALL}


def test_everything_runs_what_is_up_to_date(done: Project) -> None:
    assert process(done, [2]).done == 0
    assert process(done, [2], everything=True).done == 1
    assert list(done.runs(exposure=2).step) == ALL * 2


def test_an_override_makes_what_reads_it_stale_and_is_what_it_reads(done: Project) -> None:
    assert done.table().verdict[1] == "good"
    done.override(1, scaled=1.0)
    assert done.stale(chain(done)) == {1: ["judge"]}
    process(done)
    assert done.table().verdict[1] == "bad"
    # a rerun of the step that makes the value renews what lies beneath; the steps after it read the override
    process(done, [1], everything=True)
    assert done.table().loc[1, ["scaled", "verdict"]].tolist() == [1.0, "bad"]
    assert done.stale(chain(done)) == {}
    done.clear_override(1)
    assert done.table().scaled[1] == 600
    assert done.stale(chain(done)) == {1: ["judge"]}


def test_an_override_stands_in_for_what_could_not_be_made(with_shot: Fill) -> None:
    project = with_shot("fail scale\n")
    process(project)
    assert project.table().isna().verdict[4]
    project.override(4, scaled=50.0)
    assert project.stale(chain(project)) == {4: ["judge"]}
    process(project)
    assert project.table().verdict[4] == "good"
    process(project, [4], everything=True)
    assert project.table().verdict[4] == "good"
    assert list(project.runs(exposure=4).status)[-3:] == ["done", "failed", "done"]


def test_a_part_of_the_chain_takes_the_rest_from_the_disk(done: Project) -> None:
    judge = Workflow.named(done, ["judge"])
    assert judge.needs() == ["scaled"]
    done.set_params("judge", limit=1e6)
    assert done.stale(judge) == {1: ["judge"], 2: ["judge"], 3: ["judge"]}
    processor = Processor(done, InlineExecutor())
    processor.submit(judge)
    assert processor.run().done == 3
    assert list(done.table().verdict) == ["bad"] * 3
    assert done.stale(chain(done)) == {}


def test_choices_of_one_batch_count_and_are_checked(done: Project) -> None:
    plan = done.plan(chain(done), [1], params={"judge": {"limit": 77.0}})
    assert [(p.step, p.params) for p in plan[1]] == [("judge", {"limit": 77.0})]
    with pytest.raises(ParameterError, match="limit = 'high'"):
        done.plan(chain(done), [1], params={"judge": {"limit": "high"}})
