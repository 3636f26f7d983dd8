"""One project, several processes that want to work on it: one works, the others say whom they met, or succeed it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.project import lease, schema
from focusnb.project.project import Project
from tests.projects import left_overs, make_project, statuses, write_shots
from tests.waiting import wait_until

QUICK = "from focusnb.project import lease; lease.HEARTBEAT, lease.SILENCE = 0.2, 2.0; "
"""Signs of life every 0.2 s, and death after 2 s."""


class Processors:
    """Starts processes that work on one project; they are gone in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *options: str, before: str = "") -> subprocess.Popen[str]:
        """Run ``focusnb run`` on the project, with some Python before it."""
        command = [sys.executable, "-c", f"{before}from focusnb.cli import main; main()", "run", str(self.folder)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([*command, *options], start_new_session=True, **pipes)
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project of the small steps, with one exposure that takes long and one that does not."""
    with make_project(tmp_path / "project") as project:
        project.add(write_shots(tmp_path / "camera", slow="sleep load 600\n", quick="1\n"))
        yield project


@pytest.fixture
def processors(project: Project) -> Iterator[Processors]:
    processors = Processors(project.folder)
    yield processors
    processors.close()


def holder(project: Project) -> int | None:
    """The number of the process that works on the project."""
    held = lease.holder(project.library)
    return None if held is None else int(held["process"])


def running(project: Project) -> bool:
    return "running" in statuses(project).values()


def test_of_two_that_start_at_once_one_works_and_the_other_says_who(project: Project, processors: Processors) -> None:
    both = [processors.start("--workers", "0") for _ in range(2)]
    loser = wait_until(lambda: next((process for process in both if process.poll() is not None), None))
    (winner,) = (process for process in both if process is not loser)
    held = lease.holder(project.library)
    assert held is not None
    assert abs(time.time() - held["since"]) < 300
    assert loser.returncode == 1
    told, errors = loser.communicate()
    assert told == ""
    since = r"process (\d+) on (\S+) works on this project since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d); stop it first\n"
    found = re.fullmatch(rf"focusnb: {re.escape(str(project.folder))}/library.sqlite: {since}", errors)
    assert found is not None, errors
    assert (int(found[1]), found[2]) == (winner.pid, os.uname().nodename)
    assert found[3] == time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["since"]))
    wait_until(lambda: running(project))
    assert (winner.poll(), holder(project)) == (None, winner.pid)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_one_that_was_killed_is_succeeded_at_once(project: Project, processors: Processors, workers: str) -> None:
    first = processors.start("--workers", workers)
    wait_until(lambda: running(project), 60)
    assert holder(project) == first.pid
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert holder(project) is None
    watched: list[str] = []
    lease.release_lease(project.library, lease.take_lease(project.library, tell=watched.append))
    assert watched == [], "it is waited for by nobody"
    (raw,) = (project.path(project.find("slow")) / "raw").iterdir()
    raw.write_text("1\n")
    second = processors.start("--workers", "0", "--until-idle")
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    # text is no movie for the steps of the mode; those of the project have done theirs
    assert set(project.table().verdict) == {"bad"}
    runs = project.runs()
    assert set(runs[runs.status == "lost"].reason) == {"processing was interrupted"}
    assert set(runs[runs.step == "load"].status) == {"done", "lost"}
    assert left_overs(project.folder) == []


def test_one_on_another_host_that_fell_silent_is_watched_and_succeeded(
    project: Project, processors: Processors
) -> None:
    epoch = lease.take_lease(project.library)
    with project.library.write() as transaction:
        held = {"host": "elsewhere", "machine": "another", "process": 17, "heartbeat": time.time()}
        transaction.execute(schema.lease.update().values(held))
    next_one = processors.start("--workers", "0", before=QUICK)
    assert next_one.stderr is not None
    told = next_one.stderr.readline()
    assert re.match(r"process 17 on elsewhere works on this project since [-\d]+ [:\d]+; it is succeeded unless", told)
    assert re.search(r"it gives a sign of life within [12] s", told)
    wait_until(lambda: holder(project) == next_one.pid)
    with pytest.raises(lease.LeaseLost, match="was succeeded by another one"):
        lease.beat(project.library, epoch)
    lease.forget_lease(project.library, epoch)
