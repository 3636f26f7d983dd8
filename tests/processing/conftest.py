"""A project of text movies, tasks that do what they are told, and a cluster of two processes for each file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.processing.executors import LocalCluster, Result
from focusnb.project.project import Project
from focusnb.steps.task import Progress, StepCall, Task
from tests.projects import make_project
from tests.waiting import wait_until

STEPS = '''
"""Two steps: one that is done at once, and one that does what it is told."""

from typing import Annotated

from focusnb.parameters import quantity
from focusnb.steps.base import Step, StepParams, StepResults


class Begin(Step):
    """Begin."""

    name = "begin"
    title = "Begin"
    category = "prepare"

    class Results(StepResults):
        one: Annotated[int, quantity("One", unit="")] | None = None

    def run(self, inputs, params, work):
        return self.Results(one=1)


class Act(Step):
    """Do what is told."""

    name = "act"
    title = "Act"
    category = "align"

    class Params(StepParams):
        code: Annotated[str, quantity("Code")] = ""

    def run(self, inputs, params, work):
        exec(params.code, {"work": work})
        return self.Results()
'''

HOLD = "import ctypes; ctypes.PyDLL(None).sleep(60)"
"""Code that never gives the interpreter back."""


def await_file(path: Path) -> str:
    """Code that goes on when there is such a file, and ends with its worker."""
    return f"import time\nwhile not __import__('os').path.exists({str(path)!r}): time.sleep(0.02)\n"


class Waiting:
    """Callbacks that can be waited for."""

    def __init__(self) -> None:
        self.results: dict[str, Result] = {}
        self.progress: list[Progress] = []
        self._came = threading.Condition()

    def done(self, task: str, result: Result) -> None:
        with self._came:
            self.results[task] = result
            self._came.notify()

    def wait(self, count: int, timeout: float = 60) -> dict[str, Result]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.results) >= count, timeout), f"only {self.results} came"
        return self.results


def prepare_steps(folder: Path) -> Path:
    """Write the two steps; returns their folder."""
    steps = folder / "steps"
    steps.mkdir(parents=True, exist_ok=True)
    if not (steps / "told.py").exists():  # workers may be reading it
        (steps / "told.py").write_text(STEPS)
    return steps


def told(folder: Path, name: str, code: str = "", *, timeout: float | None = None, prepared: bool = True) -> Task:
    """A task that does what the code says, in its second step; its run folder is there."""
    task = Task(
        id=name,
        exposure=1,
        name=name,
        project=str(folder),
        folder=f"exposures/{name}",
        calls=(StepCall("begin", f"{name}-1"), StepCall("act", f"{name}-2", {"code": code}, timeout=timeout)),
        steps_folder=str(prepare_steps(folder)),
    )
    if prepared:
        task.run_folder.mkdir(parents=True)
    return task


def begun(task: Task) -> bool:
    """Whether a worker has begun with it."""
    return any(task.run_folder.glob(".outcome-*"))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project without exposures."""
    with make_project(tmp_path / "project") as project:
        yield project


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalCluster]:
    """Two processes."""
    cluster = LocalCluster(2, memory_limit="600 MB")
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(processes: LocalCluster) -> LocalCluster:
    """The two processes at rest: one that still ends what an earlier test cancelled would take a new task with it."""

    def at_rest() -> bool:
        try:
            working = processes._client.run(_works)
        except Exception:  # it ended while it was asked
            return False
        return len(working) == 2 and not any(working.values())

    wait_until(at_rest)
    return processes


def _works(dask_worker: Any) -> bool:
    return bool(dask_worker.active_threads)
