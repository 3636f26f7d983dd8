"""Import beside processing: what cameras write becomes exposures and tasks while the project is worked on."""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from focusnb.errors import FocusError, ParameterError, ProjectError
from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.processing.workflow import Workflow
from focusnb.project import tasks
from focusnb.project.options import Queueing
from focusnb.project.project import Project
from focusnb.project.sources import ImportSource, read_sources
from focusnb.project.watching import watch
from focusnb.steps.task import Outcome, run_task

AGAIN = 10.0
"""Seconds until the import is begun again that ended by a fault."""

Say = Callable[[str], None]


def check_during(project: Project, steps: Sequence[str]) -> None:
    """ParameterError unless these steps can run on what was just imported."""
    if not steps:
        return
    workflow = Workflow.named(project, steps)
    if workflow.needs():
        raise ParameterError(
            f"{', '.join(steps)} cannot run during import: {workflow.needs()[0]} is made by a step that is not among "
            "them"
        )
    workflow.check_beside(project)


def queueing_of(project: Project, source: ImportSource, *, served: bool) -> Queueing | None:
    """How a source's exposures are queued; None where whoever works on the project will find them.

    served : whether that one runs: they are queued together with their rows, so that it begins at once
    """
    if not (served or source.newest_first or source.during or not source.process):
        return None

    def chain(kind: str) -> tuple[str, ...]:
        try:
            return Workflow.of(project, kind).names
        except ParameterError:
            return ()  # told by whoever works on the project: a step is not trusted, or was taken away

    return Queueing(chain, held=not source.process, first=source.newest_first, during=source.during)


def run_now(project: Project, steps: Sequence[str], exposure: int) -> Outcome | None:
    """Run steps on an exposure here and now, and store what they find; None where nothing is stale.

    No time-out ends them: they are meant to be short.
    """
    queued = tasks.QueuedTask(
        id=uuid.uuid4().hex,
        batch=0,
        exposure=exposure,
        set=None,
        steps=Workflow.named(project, steps).names,
        params={},
        trial=None,
        attempts=0,
        everything=False,
        retry=False,
        timeout=None,
    )
    processor = Processor(project, InlineExecutor())
    try:
        processor._forget()
        # epoch 0: this may not be the process that works on the project, and no other has this task
        task, _ = processor._prepare(0, queued, gpu=False)
    finally:
        project.remember_steps(False)
    if task is None:
        return None
    outcome = run_task(task)
    project.store(outcome)
    return outcome


def run_during(project: Project, say: Say) -> int:
    """Run the steps that belong to the import of exposures, one after the other, and release their tasks.

    Those of an import that was interrupted are among them. A step that fails is told, and holds up nothing. Returns how
    many exposures there were.
    """
    due = tasks.before_release(project.library)
    for task, exposure, steps in due:
        try:
            outcome = run_now(project, steps, exposure)
        except ProjectError:
            raise  # the library is busy, or its disk full: it is tried again
        except FocusError as error:
            say(f"steps during import: {error}")
        except Exception:
            # a fault with one exposure: the others are imported and processed
            say(f"steps during import were left out for a fault of focusnb\n{traceback.format_exc().rstrip()}")
        else:
            for step in outcome.steps if outcome is not None else ():
                if step.status in ("failed", "broken"):
                    say(f"{step.step} during import: {step.reason}")
        tasks.release(project.library, task)
    return len(due)


def watch_sources(
    project: Project,
    sources: Callable[[], Sequence[ImportSource]],
    say: Say,
    stop: threading.Event,
    *,
    served: bool,
    on_added: Callable[[list[int]], None] = lambda ids: None,
) -> None:
    """Watch sources until told to stop; steps during import run where a source has any.

    on_added : called with the ids of new exposures
    """

    def added(source: ImportSource, ids: list[int]) -> None:
        if source.during:
            run_during(project, say)
        on_added(ids)

    run_during(project, say)
    watch(
        project,
        sources,
        say,
        stop,
        queueing=lambda source: queueing_of(project, source, served=served),
        on_added=added,
    )


class Importing:
    """Watches what a project remembers as its sources, in a thread with a library of its own."""

    def __init__(self, folder: Path, say: Say) -> None:
        """Prepare; say is called from the thread with what the user should know."""
        self._folder, self._say = folder, say
        self._stop = threading.Event()
        self._last: list[ImportSource] = []
        self._fault = ""
        self._thread = threading.Thread(target=self._work, name="focusnb-import", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, timeout: float = 60.0) -> None:
        """Finish the file under way, and watch no more; a copy from a mount that hangs is left behind."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def __enter__(self) -> Importing:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                with Project.open(self._folder) as project:
                    watch_sources(project, self._sources, self._say, self._stop, served=True, on_added=self._tell)
            except FocusError as error:
                self._say(f"import: {error}")
            except Exception:
                self._say(f"import ended by a fault and begins again\n{traceback.format_exc().rstrip()}")
            if not self._stop.is_set():
                self._stop.wait(AGAIN)

    def _sources(self) -> list[ImportSource]:
        """The sources as they are now; while the file cannot be read, as they were."""
        try:
            self._last, fault = read_sources(self._folder), ""
        except ProjectError as error:
            fault = str(error)
        if fault and fault != self._fault:
            self._say(fault)
        self._fault = fault
        return self._last

    def _tell(self, ids: list[int]) -> None:
        self._say(f"{len(ids)} imported")
