"""Import beside processing: steps during import, one exposure after the other; tasks held and released."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from focusnb.errors import ParameterError
from focusnb.processing import importing
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.importing import check_during, queueing_of, run_during, watch_sources
from focusnb.project import tasks
from focusnb.project.options import Queueing
from focusnb.project.project import Project
from focusnb.project.sources import add_source, make_source
from focusnb.steps.base import Cost
from tests.projects import CHAIN, left_overs, make_project, process, statuses, write_shots


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


def inline(cost: Cost) -> InlineExecutor:
    """No worker process: what is tested runs at once."""
    return InlineExecutor()


def queueing(**options: Any) -> Queueing:
    return Queueing(lambda kind: CHAIN, **options)


def import_shots(project: Project, folder: Path, how: Queueing | None, **texts: str) -> list[int]:
    return project.add(write_shots(folder, **texts), queueing=how).added


def watch_until(
    project: Project, sources: list[Any], done: Callable[[], bool], told: list[str], **options: Any
) -> None:
    """Watch until something is so."""
    stop = threading.Event()
    timer = threading.Timer(120, stop.set)
    timer.start()

    def added(ids: list[int]) -> None:
        if done():
            stop.set()

    options = {"make": inline, **options}
    try:
        watch_sources(project, lambda: sources, told.append, stop, served=True, on_added=added, **options)
    finally:
        timer.cancel()


def test_steps_during_import_run_in_order_before_anything_else(project: Project, tmp_path: Path) -> None:
    how = queueing(during=("load", "scale"), first=True)
    ids = import_shots(project, tmp_path / "camera", how, a="1\n", b="1\n2\n", c="fail scale\n")
    assert tasks.counts(project.library) == {"held": 3}
    told: list[str] = []
    assert run_during(project, told.append, make=inline) == 3
    table = project.table()
    assert table.level.notna().all()
    assert list(table.scaled.dropna()) == [2.0, 4.0]
    assert told == ["scale during import: c: scale cannot"]
    runs = project.runs()
    assert list(runs[runs.step == "load"].sort_values("started_at").exposure_id) == ids
    assert tasks.counts(project.library) == {"queued": 3}
    assert run_during(project, told.append, make=inline) == 0
    # what is left is done by whoever processes the project, and nothing twice
    process(project)
    assert statuses(project) == {"a": "done", "b": "done", "c": "failed"}
    assert list(project.runs(exposure=1).step).count("scale") == 1


def test_an_import_that_was_interrupted_takes_up_its_steps(project: Project, tmp_path: Path) -> None:
    import_shots(project, tmp_path / "camera", queueing(during=("load",)), a="1\n")
    told: list[str] = []
    watch_until(
        project,
        [make_source({"folders": [write_shots(tmp_path / "other", b="2\n")], "delay": 0, "during": ["load"]})],
        lambda: True,
        told,
    )
    assert not any("during import" in line for line in told)
    assert list(project.table().exposure) == ["a", "b"]
    assert project.table().level.notna().all()
    assert set(tasks.counts(project.library)) == {"queued"}


def test_what_is_not_to_be_processed_stays_held(project: Project, tmp_path: Path) -> None:
    import_shots(project, tmp_path / "camera", queueing(during=("load",), held=True), a="1\n")
    run_during(project, lambda text: None, make=inline)
    assert tasks.counts(project.library) == {"held": 1}
    assert tasks.before_release(project.library) == [], "they are not run again"
    assert project.table().level.notna().all()


def test_a_step_that_is_gone_is_told_and_holds_up_nothing(project: Project, tmp_path: Path) -> None:
    import_shots(project, tmp_path / "camera", queueing(during=("nonsense",)), a="1\n")
    told: list[str] = []
    run_during(project, told.append, make=inline)
    (line,) = told
    assert "nonsense" in line
    assert tasks.counts(project.library) == {"queued": 1}


def test_steps_that_cannot_run_during_import_are_refused(project: Project) -> None:
    check_during(project, ())
    check_during(project, ("load",))
    with pytest.raises(ParameterError, match="scale cannot run during import: stack is made by a step"):
        check_during(project, ("scale",))
    with pytest.raises(ParameterError, match="nonsense"):
        check_during(project, ("nonsense",))


def test_who_queues_what_is_imported(project: Project, tmp_path: Path) -> None:
    plain = make_source({"folders": ["/camera"]})
    assert queueing_of(project, plain, served=False) is None
    served = queueing_of(project, plain, served=True)
    assert served is not None
    assert (served.held, served.first, served.during) == (False, False, ())
    assert set(CHAIN) <= set(served.chain("movie"))
    held = queueing_of(project, make_source({"folders": ["/camera"], "process": False}), served=False)
    assert held is not None
    assert held.held
    # where the steps are not trusted any more the import goes on
    (project.folder / "steps" / "chain.py").write_text("changed = True\n")
    assert served.chain("movie") == ()


def test_a_project_watches_what_it_remembers_in_a_thread(project: Project, tmp_path: Path) -> None:
    told: list[str] = []
    arrived = threading.Event()

    def say(text: str) -> None:
        told.append(text)
        if re.match(r"\d+ imported", text):
            arrived.set()

    camera = write_shots(tmp_path / "camera", a="1\n")
    with importing.Importing(project.folder, say) as beside:
        add_source(project, make_source({"folders": [camera], "delay": 0}))
        assert arrived.wait(120)
        arrived.clear()
        (project.folder / "sources.json").write_text("{ damaged")
        write_shots(camera, b="2\n")
        assert arrived.wait(120), "as they were before"
        beside.stop()
    assert list(project.table().exposure) == ["a", "b"]
    assert list(project.table().status) == ["queued", "queued"]
    assert sum("sources.json: cannot be read" in line for line in told) == 1


def test_a_fault_with_one_exposure_during_import_holds_up_no_other(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_shots(project, tmp_path / "camera", queueing(during=("load",)), a="1\n", b="2\n")
    real = importing.DuringImport._run

    def run(self: Any, exposure: int, steps: Any) -> Any:
        if exposure == 1:
            raise ValueError("a fault of ours")
        return real(self, exposure, steps)

    monkeypatch.setattr(importing.DuringImport, "_run", run)
    told: list[str] = []
    assert run_during(project, told.append, make=inline) == 2
    assert any("a fault of ours" in line for line in told)
    assert tasks.counts(project.library) == {"queued": 2}
    assert project.table().level.notna().tolist() == [False, True]


def test_a_step_that_hangs_or_dies_during_import_ends_alone_and_its_exposure_is_released(
    project: Project, tmp_path: Path
) -> None:
    # one that dies is tried again when the project is processed: it may have died of something else
    died = tmp_path / "died"
    # the one that is to be done in time writes no image: where nothing was compiled yet, that takes seconds
    texts = {"a": "none load\n", "b": f"once load {died}\n", "c": "sleep load 600\n"}
    import_shots(project, tmp_path / "camera", queueing(during=("load",)), **texts)
    told: list[str] = []
    assert run_during(project, told.append, timeout=3) == 3
    assert tasks.counts(project.library) == {"queued": 3}
    dead, hung = told
    assert hung.startswith("load during import: c: load was not done after 3 s and was stopped")
    assert dead == "steps during import: b: its worker died while it was processed; it is processed with the others"
    assert project.table().level.notna().tolist() == [True, False, False]
    assert left_overs(project.folder) == []
    process(project)
    assert statuses(project) == {"a": "done", "b": "done", "c": "failed"}


def test_an_import_that_is_to_end_does_not_wait_for_a_step_that_hangs(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "FINISHES", 0.1)
    import_shots(project, tmp_path / "camera", queueing(during=("load",)), a="sleep load 600\n")
    stop = threading.Event()

    def stopped() -> bool:
        if any(any(folder.iterdir()) for folder in project.path(1).glob(".run-*")):
            stop.set()  # the worker has it in hand
        return stop.is_set()

    during = importing.DuringImport(project, lambda text: None, stopped=stopped)
    try:
        assert during.run() == 0
    finally:
        during.close()
    assert tasks.counts(project.library) == {"held": 1}
    assert len(tasks.before_release(project.library)) == 1, "the next import takes it up"
    assert left_overs(project.folder) == []


def test_two_processes_run_steps_during_import_once_and_one_at_a_time(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_shots(project, tmp_path / "camera", queueing(during=("load",), held=True), a="1\n", b="2\n")
    monkeypatch.setattr(importing, "ASKED", 0.01)
    real, under_way, ran = importing.DuringImport._run, [], []

    def run(self: Any, exposure: int, steps: Any) -> Any:
        under_way.append(exposure)
        threading.Event().wait(0.1)
        ran.append((exposure, len(under_way)))
        try:
            return real(self, exposure, steps)
        finally:
            under_way.pop()

    def another() -> None:
        with Project.open(project.folder) as opened:
            run_during(opened, lambda text: None, make=inline)

    monkeypatch.setattr(importing.DuringImport, "_run", run)
    threads = [threading.Thread(target=another) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran == [(1, 1), (2, 1)]
    assert tasks.counts(project.library) == {"held": 2}, "what is to stay held is not let go by the second"


def test_one_that_is_to_end_does_not_wait_for_another_process(project: Project, tmp_path: Path) -> None:
    import_shots(project, tmp_path / "camera", queueing(during=("load",)), a="1\n")
    with importing._turn(project.folder / "exposures" / importing.TURN, lambda: False):
        assert run_during(project, lambda text: None, make=inline, stopped=lambda: True) == 0
    (task, _, _), *_ = tasks.before_release(project.library)
    tasks.release(project.library, task)
    tasks.release(project.library, task)
    tasks.release(project.library, "deleted meanwhile")
    assert tasks.counts(project.library) == {"queued": 1}
