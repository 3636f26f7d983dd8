"""The detached process: it begins, goes on with what comes, says who it is, stops when asked, and leaves nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from focusnb.cli.processing import _interruptible
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.processing.queue import Queue
from focusnb.project import lease
from focusnb.project.project import Project
from tests.cli.test_cli import MAIN, shell
from tests.projects import chain, left_overs, make_project, statuses, write_shots
from tests.waiting import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project whose mode's steps are out of the way: text is no movie, but load, scale and judge like it."""
    with make_project(tmp_path / "project") as project:
        project.add(write_shots(tmp_path / "camera", a="1\n"))
    yield tmp_path / "project"
    with Project.open(tmp_path / "project") as project:
        held = lease.holder(project.library)
        if held is not None:
            with contextlib.suppress(ProcessLookupError):  # it may be just ending
                os.kill(held["process"], signal.SIGKILL)


def test_it_serves_until_it_is_told_to_stop(folder: Path, tmp_path: Path) -> None:
    began = shell("serve", folder, "--workers", 0)
    assert began.status == 0, began.err
    assert "its log is" in began.err
    with Project.open(folder) as project:
        held = lease.holder(project.library)
        assert held is not None
        assert f"Process {held['process']} works on" in began.err
        assert psutil.Process(held["process"]).terminal() is None
        wait_until(
            lambda: statuses(project)["a"] != "new" and not {"queued", "running"} & set(statuses(project).values())
        )
        # what comes later is processed as well
        project.add(write_shots(tmp_path / "later", b="1\n"))
        wait_until(lambda: statuses(project).get("b") not in (None, "new", "queued", "running"))
        for command in (("serve", folder), ("run", folder, "--until-idle")):
            refused = shell(*command)
            assert refused.status == 1
            assert f"process {held['process']} on {os.uname().nodename} works on this project since" in refused.err
        stopped = shell("stop", folder)
        assert stopped.status == 0
        assert "It has stopped" in stopped.err
        wait_until(lambda: not psutil.pid_exists(held["process"]))
        assert lease.holder(project.library) is None
        log = (folder / "logs" / "serve.log").read_text()
        assert "begins to work on" in log
        assert "  a  " in log
        assert "stopped after 2 exposures" in log
        assert left_overs(folder) == []
    assert "Nobody works on" in shell("stop", folder).err


@pytest.mark.parametrize("way", ["term", "stop"])
def test_it_can_be_ended_in_the_middle_and_gives_back_what_was_under_way(
    folder: Path, tmp_path: Path, way: str
) -> None:
    with Project.open(folder) as project:
        (project.path(1) / "raw" / "a.tif").write_text("sleep load 600\n")

        assert Queue(project).submit(chain(project)) == 1
        command = [sys.executable, "-c", MAIN, "serve", str(folder), "--foreground", "--workers", "1"]
        serving = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: statuses(project)["a"] == "running")
        wait_until(lambda: any(path.name.startswith(".run-") for path in project.path(1).iterdir()))
        if way == "term":
            serving.send_signal(signal.SIGTERM)
        else:
            assert shell("stop", folder, "--now").status == 0
        _, errors = serving.communicate(timeout=120)
        assert (serving.returncode, "Traceback" in errors) == (0, False)
        assert statuses(project)["a"] == "queued"
        assert left_overs(folder) == []
        assert set(project.runs().status) == {"lost"}


def test_what_keeps_it_from_beginning_is_told(folder: Path) -> None:
    ended = shell("serve", folder, "--cluster", "nonsense")
    assert ended.status == 2
    assert "there is no cluster nonsense" in ended.err
    assert "Traceback" not in ended.err


def test_an_interruption_whose_exception_is_lost_ends_the_run_all_the_same(folder: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Project.open(folder) as project:
        Queue(project).submit(chain(project))
        processor = Processor(project, InlineExecutor())

        def run() -> None:
            with _interruptible(processor):
                with contextlib.suppress(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGINT)
                assert processor.run().exposures == 0

        with pytest.raises(KeyboardInterrupt):
            run()
        assert statuses(project) == {"a": "queued"}
    assert signal.getsignal(signal.SIGINT) is before
