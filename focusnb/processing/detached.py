"""The detached process that serves a project: start it and ask it to stop, from the command line or a panel."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from focusnb.errors import ProjectError
from focusnb.project import lease, requests

if TYPE_CHECKING:
    from focusnb.project.project import Project

LOG = Path("logs") / "serve.log"
"""The log of the detached process, in the project's folder."""

BEGUN = "it is at work"
"""What the log says as soon as the process holds the project."""

PATIENCE = 60.0
"""Seconds until a process that was started or asked to stop is given up."""


def start(project: Project, options: Sequence[str] = ()) -> int:
    """Start a process that serves a project and outlives this one; returns its number.

    options : of ``focusnb serve``
    Raises ProjectError where it cannot begin, with the reason it gave.
    """
    log = project.folder / LOG
    log.parent.mkdir(exist_ok=True)
    size = log.stat().st_size if log.exists() else 0
    main = "import sys; from focusnb.cli import main; sys.argv[0] = 'focusnb'; main()"
    command = [sys.executable, "-c", main, "serve", str(project.folder), "--foreground", *options]
    with open(log, "ab") as out:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        has_ended = started.poll() is not None  # asked first: what it said in the end is then in the log
        with open(log, "rb") as file:
            file.seek(size)
            said = file.read().decode("utf-8", "replace")
        if BEGUN in said:
            return started.pid
        if has_ended:
            lines = said.strip().splitlines() or [f"it ended with {started.returncode} and said nothing"]
            raise ProjectError(f"{lines[-1].partition('focusnb: ')[2] or lines[-1]} (from {log})")
        time.sleep(0.1)
    raise ProjectError(f"process {started.pid} did not begin within {PATIENCE:.0f} s; see {log}")


def stop(project: Project, *, now: bool = False, waiting: Callable[[], None] | None = None) -> bool:
    """Ask the process that works on a project to stop and wait until it has; False where nobody works on it.

    now : do not finish what is under way: it waits again
    waiting : called once when it has answered that it stops and still finishes what is under way
    Raises ProjectError where it does not answer.
    """
    held = lease.holder(project.library)
    if held is None:
        return False
    request = requests.ask(project.library, "stop", {"now": now})
    told = False
    deadline = time.monotonic() + PATIENCE
    while (holder := lease.holder(project.library)) is not None and holder["epoch"] == held["epoch"]:
        answered = requests.answer_of(project.library, request) == "stopping"
        if answered and not told and not now:
            told = True
            if waiting is not None:
                waiting()
        if (now or not answered) and time.monotonic() > deadline:
            raise ProjectError(
                f"{project.folder}: process {held['process']} on {held['host']} did not answer within "
                f"{PATIENCE:.0f} s; end it there with 'kill {held['process']}'"
            )
        time.sleep(0.1)
    return True
