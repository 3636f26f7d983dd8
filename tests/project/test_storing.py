"""Storing outcomes: once, by the one who holds the lease, whole, and apart where it was a trial."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from focusnb.errors import ParameterError, ProjectError
from focusnb.io.images import read_image
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.project import lease, records, storing, tasks
from focusnb.project.project import Project
from focusnb.steps.task import Outcome, Task, run_task
from tests.projects import chain, left_overs, process, statuses


class Keeping(InlineExecutor):
    """An executor that keeps what it was given and what came back."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[Task] = []
        self.outcomes: list[Outcome] = []

    def submit(self, task: Task, done: Any, emit: Any = None, **options: Any) -> None:
        self.tasks.append(task)

        def keep(identity: str, result: Any) -> None:
            self.outcomes.append(result)
            done(identity, result)

        super().submit(task, keep, emit, **options)


def change_movie(project: Project, exposure: int, text: str) -> None:
    """As if another file had been recorded."""
    (project.path(exposure) / "raw" / f"{project.path(exposure).name}.tif").write_text(text)


def test_an_outcome_becomes_a_row_files_runs_and_a_record(project: Project) -> None:
    process(project, [2])
    row = project.table().loc[2]
    assert (row.status, row.level, row["size"], row.scaled, row.verdict) == ("done", 2.0, 4, 1200.0, "good")
    assert row.processed_at > row.imported_at
    folder = project.path(2)
    assert sorted(path.name for path in folder.iterdir()) == ["exposure.json", "log.txt", "plane.mrc", "raw"]
    assert (read_image(project.path(2, "plane")).data == 4).all()
    assert "loaded" in (folder / "log.txt").read_text()
    runs = project.runs(exposure=2)
    assert list(runs.step) == ["load", "scale", "judge"]
    assert list(runs.status) == ["done"] * 3
    assert (runs.seconds >= 0).all()
    assert (runs.finished_at >= runs.started_at).all()
    assert left_overs(project.folder) == []


def test_the_record_equals_the_row(project: Project) -> None:
    process(project)
    project.set_facts([1], tilt_angle=3)
    for identity in (1, 2, 3):
        record = json.loads((project.path(identity) / "exposure.json").read_text())
        with project.library.read() as connection:
            row = records.row_of(connection, identity)
        assert {name: record[name] for name in record if name not in ("format", "findings")} == {
            name: row[name] for name in record if name not in ("format", "findings")
        }
        names = ["level", "size", "plane", "scaled", "verdict", "sure"]
        assert record["findings"] == {name: row[name] for name in names}


def test_storing_again_changes_nothing(project: Project) -> None:
    executor = Keeping()
    process(project, [1], executor=executor)
    before, content = project.revision, (project.path(1) / "exposure.json").read_bytes()
    (outcome,) = executor.outcomes
    assert project.store(outcome) is False
    assert project.revision == before
    assert (project.path(1) / "exposure.json").read_bytes() == content
    assert len(project.runs(exposure=1)) == 3


def test_a_process_that_was_succeeded_stores_nothing(project: Project) -> None:
    first = lease.take_lease(project.library)
    executor = Keeping()
    processor = Processor(project, executor)
    processor.submit(chain(project), [1])
    (queued,) = tasks.waiting(project.library, 5)
    task, _ = processor._prepare(first, queued, gpu=False)
    assert task is not None
    tasks.start(project.library, first, queued, [{"id": call.run, "step": call.step} for call in task.calls])
    lease.forget_lease(project.library, first)
    second = lease.take_lease(project.library)
    assert second == first + 1
    outcome = run_task(task)
    before = project.revision
    for write in (
        lambda: project.store(outcome),
        lambda: lease.beat(project.library, first),
        lambda: tasks.start(project.library, first, queued, []),
        lambda: tasks.lose(project, first, task.id, "gone"),
    ):
        with pytest.raises(lease.LeaseLost, match=rf"epoch {first}, now {second}"):
            write()
    assert project.revision == before
    assert project.table().isna().level[1]
    lease.release_lease(project.library, second)
    # who comes next finds what was left and finishes it
    assert Processor(project, InlineExecutor()).run().done == 1
    assert left_overs(project.folder) == []


def test_a_failed_rerun_clears_what_it_would_have_made(project: Project) -> None:
    process(project, [2])
    change_movie(project, 2, "fail load\n")
    process(project, [2], everything=True)
    row = project.table().loc[2]
    assert row.status == "failed"
    assert row.reason == "b: load cannot"
    assert row[["level", "size", "plane", "scaled", "verdict", "sure"]].isna().all()
    assert not (project.path(2) / "plane.mrc").exists()
    with pytest.raises(ParameterError, match="b has no plane"):
        project.path(2, "plane")


def test_a_result_that_is_none_now_leaves_no_file_of_the_one_before(project: Project) -> None:
    process(project, [2])
    change_movie(project, 2, "none load\n")
    process(project, [2], everything=True)
    row = project.table().loc[2]
    assert (row.status, row["size"]) == ("done", 10)
    assert row.isna().plane
    assert not (project.path(2) / "plane.mrc").exists()


def test_a_full_disk_does_not_clear_what_was_found_before(project: Project) -> None:
    process(project, [2])
    before = project.table().loc[2]
    change_movie(project, 2, "full load\n")
    process(project, [2], everything=True)
    row = project.table().loc[2]
    assert row.status == "failed"
    assert "the disk is full" in row.reason
    names = ["level", "size", "plane", "scaled", "verdict", "sure"]
    assert row[names].tolist() == before[names].tolist()
    assert (read_image(project.path(2, "plane")).data == 4).all()


def test_a_trial_is_kept_apart(project: Project) -> None:
    process(project)
    before = project.table()
    process(project, [2, 3], trial="high", params={"scale": {"factor": 20.0}})
    assert statuses(project) == {"a": "done", "b": "done", "c": "done"}
    after = project.table()
    names = [name for name in before.columns if name != "processed_at"]
    assert after[names].equals(before[names])
    trial = project.table(trial="high")
    assert list(trial.index) == [2, 3]
    assert trial.scaled.tolist() == [12_000.0, 18_000.0]
    assert trial["level"].tolist() == before.loc[[2, 3], "level"].tolist()
    assert trial.attrs["units"]["scaled"] == "counts"
    assert trial.dtypes.to_dict() == before.dtypes.to_dict()
    assert sorted(p.name for p in (project.path(2) / "trials" / "high").iterdir()) == ["log.txt", "plane.mrc"]
    assert set(project.runs().trial.dropna()) == {"high"}
    assert project.stale(chain(project)) == {}
    with pytest.raises(ParameterError, match="there is no trial hihg"):
        project.table(trial="hihg")


def test_a_trial_that_fails_shows_nothing_of_the_adopted_results(project: Project) -> None:
    process(project, [2])
    change_movie(project, 2, "fail scale\n")
    process(project, [2], trial="bad")
    row = project.table(trial="bad").loc[2]
    assert (row.status, row.reason, row["size"]) == ("failed", "b: scale cannot", 11)
    assert row[["scaled", "verdict", "sure"]].isna().all()
    assert project.table().loc[2, "scaled"] == 1200
    change_movie(project, 2, "1\n")
    process(project, [2], trial="bad")
    assert project.table(trial="bad").loc[2, ["status", "scaled"]].tolist() == ["done", 600.0]


@pytest.mark.parametrize("name", ["", "../out", "a/b", ".hidden"])
def test_a_trial_needs_a_name_that_can_be_a_folder(project: Project, name: str) -> None:
    with pytest.raises(ParameterError, match="is no name of a trial"):
        tasks.submit(project.library, {1: ["load"]}, trial=name)


def test_an_override_wins_until_it_is_cleared_and_a_rerun_renews_what_lies_beneath(project: Project) -> None:
    process(project)
    project.override(2, scaled=7, verdict="bad")
    assert project.table().loc[2, ["scaled", "verdict"]].tolist() == [7.0, "bad"]
    project.set_facts([2], voltage=200)
    process(project)
    assert project.table().loc[2, ["scaled", "verdict"]].tolist() == [7.0, "bad"]
    with project.library.read() as connection:
        assert records.row_of(connection, 2)["scaled"] == 800
    project.override(2, scaled=8)
    assert project.table().scaled[2] == 8
    project.clear_override(2, "scaled")
    assert project.table().loc[2, ["scaled", "verdict"]].tolist() == [800.0, "bad"]
    project.clear_override(2)
    assert project.table().loc[2, "verdict"] == "good"
    with project.library.read() as connection:
        history = connection.exec_driver_sql("SELECT name, value, who, cleared_at FROM overrides ORDER BY id").all()
    assert [(name, value) for name, value, _, _ in history] == [("scaled", 7), ("verdict", '"bad"'), ("scaled", 8)]
    assert all(who and cleared for _, _, who, cleared in history)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"voltage": 200}, "voltage is no finding of this project; facts are set by set_facts"),
        ({"scalde": 200}, "scalde is no finding"),
        ({"plane": "other.mrc"}, "plane is no finding"),
        ({"verdict": "perhaps"}, "verdict = 'perhaps': Verdict is one of good, bad"),
        ({"size": 2000}, "size = 2000: Size must be at most 1000"),
        ({"size": 1.5}, "size = 1.5: Size is a whole number"),
        ({"scaled": "much"}, "scaled = 'much': Scaled is a number in counts"),
        ({"scaled": True}, "scaled = True: Scaled is a number in counts"),
        ({"scaled": float("nan")}, "scaled = nan: Scaled is a number in counts"),
        ({"sure": 1}, "sure = 1: Sure is true or false"),
    ],
)
def test_an_override_is_a_finding_within_its_limits(project: Project, values: dict[str, Any], message: str) -> None:
    before = project.revision
    with pytest.raises(ParameterError, match=message):
        project.override(1, **{"level": 3.0, **values})
    assert project.revision == before
    with pytest.raises(ParameterError, match="no exposure 99"):
        project.override(99, level=3.0)


@pytest.mark.parametrize("moment", ["rename", "record"])
def test_a_crash_between_files_and_commit_is_healed_by_the_next_run(
    project: Project, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    process(project, [2])
    change_movie(project, 2, "1\n2\n3\n4\n")
    processor = Processor(project, InlineExecutor())
    processor.submit(chain(project), [2], everything=True)

    class Crash(BaseException):
        pass

    def crash(*arguments: Any) -> None:
        raise Crash

    if moment == "rename":
        monkeypatch.setattr(storing, "_store_values", crash)
    else:
        real = records.write
        monkeypatch.setattr(records, "write", lambda *arguments: (real(*arguments), crash()))
    monkeypatch.setattr(Processor, "_give_back", crash)  # nobody tidies up after a crash
    with pytest.raises(Crash):
        processor.run()
    monkeypatch.undo()
    assert (read_image(project.path(2) / "plane.mrc").data == 8).all()  # renamed already
    assert project.table().loc[2, "size"] == 4  # and not known yet
    lease._working.clear()
    summary = Processor(project, InlineExecutor()).run()
    assert (summary.done, summary.lost) == (1, 1)
    assert project.table().loc[2, ["size", "status"]].tolist() == [8, "done"]
    assert json.loads((project.path(2) / "exposure.json").read_text())["findings"]["size"] == 8
    assert list(project.runs(exposure=2).status) == ["done"] * 3 + ["lost"] * 3 + ["done"] * 3
    assert left_overs(project.folder) == []


def test_what_a_step_made_is_known_though_it_was_taken_away_while_it_ran(project: Project) -> None:
    class Meddling(Keeping):
        def submit(self, task: Task, done: Any, emit: Any = None, **options: Any) -> None:
            outcome = run_task(task)
            os.rename(project.folder / "steps" / "chain.py", project.folder / "chain.py")
            done(task.id, outcome)

    assert process(project, [1], executor=Meddling()).done == 1
    assert project.table().loc[1, "verdict"] == "good"


def test_selections_are_kept_by_name(project: Project) -> None:
    assert project.select("best", [3, 1]) == [3, 1]
    assert project.select("best") == [3, 1]
    project.select("best", [2])
    assert project.select("best") == [2]
    with pytest.raises(ParameterError, match="there is no selection worst"):
        project.select("worst")


def test_an_exposure_that_does_not_exist_is_told(project: Project) -> None:
    for look in (project.path, project.facts, lambda identity: project.params("scale", identity)):
        with pytest.raises(ParameterError, match="there is no exposure 44"):
            look(44)


def test_a_library_that_cannot_be_written_stops_the_run_and_leaves_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise ProjectError("the disk is full")

    monkeypatch.setattr(storing, "_write_record", refuse)
    with pytest.raises(ProjectError, match="the disk is full"):
        process(project)
    monkeypatch.undo()
    assert left_overs(project.folder) == []
    assert project.table().isna().level.all()
    assert Processor(project, InlineExecutor()).run().done == 3
    assert project.runs()[project.runs().status == "done"].attempt.tolist() == [1] * 9


def test_the_folder_of_an_exposure_is_found(project: Project, tmp_path: Path) -> None:
    assert project.path(3) == tmp_path / "project" / "exposures" / "camera" / "c"
    assert project.find("c") == 3
    assert project.find("2") == 2
    with pytest.raises(ParameterError, match="x names no exposure"):
        project.find("x")


def test_overrides_of_several_are_all_set_or_none(project: Project) -> None:
    project.override([1, 2], scaled=7)
    assert project.table().scaled[[1, 2]].tolist() == [7, 7]
    with pytest.raises(ParameterError, match="no exposure 99"):
        project.override([3, 99], scaled=8)
    assert 8 not in project.table().scaled.tolist()
    project.clear_override([1, 2], "scaled")
    assert 7 not in project.table().scaled.tolist()
