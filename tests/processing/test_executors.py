"""Executors: the same outcome here and in another process, what dies there, what is told meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from focusnb.errors import ParameterError
from focusnb.processing import executors
from focusnb.processing.executors import InlineExecutor, LocalCluster, make_executor
from focusnb.project.project import Project
from focusnb.steps.task import Outcome, Progress, StepCall, Task
from tests.projects import CHAIN, write_shots


class Waiting:
    """Callbacks that can be waited for."""

    def __init__(self) -> None:
        self.results: dict[str, Outcome | str] = {}
        self.progress: list[Progress] = []
        self._came = threading.Condition()

    def done(self, task: str, result: Outcome | str) -> None:
        with self._came:
            self.results[task] = result
            self._came.notify()

    def wait(self, count: int) -> dict[str, Outcome | str]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.results) >= count, timeout=60)
        return self.results


def make_task(project: Project, folder: Path, name: str, text: str, **changes: Any) -> Task:
    """A task over the small steps for a new exposure."""
    (identity,) = project.add(write_shots(folder / name, **{name: text}) / f"{name}.tif").added
    exposure = next(project.exposures([identity]))
    return Task(
        id=name,
        exposure=identity,
        name=name,
        project=str(project.folder),
        folder=exposure.folder,
        calls=tuple(StepCall(step, f"{name}-{step}") for step in CHAIN),
        facts=exposure.facts,
        steps_folder=str(project.steps_folder),
        **changes,
    )


def test_a_task_gives_the_same_here_and_there(project: Project, tmp_path: Path, cluster: LocalCluster) -> None:
    results = []
    for executor, name in ((InlineExecutor(), "here"), (cluster, "there")):
        waiting = Waiting()
        executor.submit(make_task(project, tmp_path, name, "1\n2\n"), waiting.done, waiting.progress.append)
        result = waiting.wait(1)[name]
        assert isinstance(result, Outcome)
        results.append([(s.step, s.status, dict(s.values), dict(s.products)) for s in result.steps])
    assert results[0] == results[1]
    assert results[0][1] == ("scale", "done", {"scaled": 4.0}, {})


def test_a_worker_that_dies_is_told_and_replaced(project: Project, tmp_path: Path, cluster: LocalCluster) -> None:
    waiting = Waiting()
    tasks = [make_task(project, tmp_path, name, text) for name, text in {"a": "die scale\n", "b": "1\n"}.items()]
    cluster.submit(tasks[0], waiting.done)
    assert waiting.wait(1)["a"] == executors.LOST_WORKER
    assert tasks[0].run_folder.exists()
    cluster.submit(tasks[1], waiting.done, waiting.progress.append)
    assert isinstance(waiting.wait(2)["b"], Outcome)
    assert [(p.task, p.step, p.message, p.fraction) for p in waiting.progress] == [("b", "load", "loaded", 1.0)]


def test_what_is_under_way_can_be_given_up(project: Project, tmp_path: Path, cluster: LocalCluster) -> None:
    waiting = Waiting()
    task = make_task(project, tmp_path, "slow", "sleep load 60\n")
    cluster.submit(task, waiting.done)
    while not task.run_folder.exists():
        threading.Event().wait(0.02)
    cluster.give_up()
    after = Waiting()
    cluster.submit(make_task(project, tmp_path, "next", "1\n"), after.done)
    assert isinstance(after.wait(1)["next"], Outcome)


def test_the_number_of_workers_chooses_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_executor(0), InlineExecutor)
    with pytest.raises(ParameterError, match="-1 workers cannot work"):
        make_executor(-1)

    class Memory:
        total = 7_000_000_000

    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert executors.default_workers() == 2
    Memory.total = 1_000_000_000
    assert executors.default_workers() == 1
