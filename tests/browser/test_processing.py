"""Processing begun from the page goes on whatever becomes of the page; what is left of the page is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from focusnb.microscope import record_session
from focusnb.processing import detached
from focusnb.processing.queue import Queue
from focusnb.project import lease
from focusnb.project.project import Project
from focusnb.steps import trust
from tests.browser.conftest import Dash
from tests.projects import make_project

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

COUNT = 4

LINGER = '''
"""Take a while, so that a page can come and go meanwhile."""

import time
from typing import Annotated

from focusnb.parameters import quantity
from focusnb.quantities import Micrograph
from focusnb.steps.base import Step, StepInputs, StepParams, StepResults


class Linger(Step):
    """Wait, and tell the mean."""

    name = "linger"
    title = "Linger"
    version = "1"
    category = "statistics"

    class Inputs(StepInputs):
        micrograph: Micrograph

    class Params(StepParams):
        pass

    class Results(StepResults):
        lingered: Annotated[float, quantity("Lingered", unit="s")] | None = None

    def run(self, inputs, params, work):
        time.sleep(6)
        return self.Results(lingered=6.0)
'''


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A session of small movies that nobody has processed yet; whoever processes it at the end is stopped."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    recorded = record_session(tmp_path / "camera", movies=COUNT, size=(224, 256), frames=4, bad=False)
    with make_project(tmp_path / "session", steps=False) as project:
        (project.folder / "steps" / "linger.py").write_text(LINGER.lstrip())
        trust.trust(project.folder)
        project.declare()
        project.use_steps("linger")
        project.add(recorded.folder)
    yield tmp_path / "session"
    with Project.open(tmp_path / "session") as project:
        detached.stop(project, now=True)


def kernels(server: Dash) -> dict[int, psutil.Process]:
    """The kernels of a server's pages, by process number."""
    found = {}
    for child in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if "ipykernel_launcher" in child.cmdline():
                found[child.pid] = child
        except psutil.Error:  # it ended while we looked
            continue
    return found


def until(true: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Wait for something; fails with what did not come about."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def open_page(watch: Any, server: Dash) -> tuple[Any, Page]:
    window = watch(size=(1500, 1000))
    window.page.goto(server.address)
    window.page.locator(".fnb-live").wait_for()
    return window, window.page


def done(session: Path) -> int:
    with Project.open(session) as project:
        return project.counts().get("done", 0)


@pytest.mark.parametrize("end", ["kernel killed", "tab closed"])
def test_processing_outlives_the_page_that_started_it(watch: Any, dash: Any, session: Path, end: str) -> None:
    server = dash(session)
    window, page = open_page(watch, server)
    processing = page.locator(".fnb-processing")
    processing.get_by_role("button", name="Start").click()
    processing.get_by_text("under way").wait_for()
    with Project.open(session) as project:
        worker = lease.holder(project.library)
        assert Queue(project).counts()["running"] > 0, "a task runs"
    assert worker is not None
    [(number, kernel)] = kernels(server).items()

    if end == "kernel killed":
        kernel.kill()
        until(lambda: not psutil.pid_exists(number), "the killed kernel is still there")
        window.complaints.clear()  # the console tells that the kernel is gone
        page.goto("about:blank")
    else:
        page.close(run_before_unload=True)
    left = COUNT - done(session)
    until(lambda: not kernels(server), "a kernel remained")
    window.complaints.clear()
    assert left > 0, "the page went away while there was work left"

    # who comes now sees that it is being worked on, and the exposures get done
    _, fresh = open_page(watch, server)
    fresh.locator(".fnb-live", has_text="processing on").wait_for()
    fresh.locator(".fnb-processing").get_by_role("button", name="Stop").wait_for()
    until(lambda: done(session) == COUNT, "the exposures were not processed")
    fresh.locator(".fnb-count", has_text="done").get_by_text(str(COUNT), exact=True).wait_for()
    with Project.open(session) as project:
        held = lease.holder(project.library)
        assert held is not None
        assert held["process"] == worker["process"], "the same process has worked on it all the time"
        assert project.table().lingered.tolist() == [6.0] * COUNT
    assert len(kernels(server)) == 1, "one page, one kernel"
