"""run, serve, stop: the process that works on a project, in the foreground or detached."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from focusnb.cli.console import bar, say
from focusnb.cli.projects import Folder
from focusnb.errors import ProjectError

if TYPE_CHECKING:
    from focusnb.processing.executors import Executor
    from focusnb.processing.processor import Event, Processor, Summary
    from focusnb.project.project import Project
    from focusnb.steps.base import Cost

Workers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Processes that work side by side; 0 works in this one. Default: as many as cores and memory allow."
    ),
]
Cluster = Annotated[
    str | None, typer.Option(metavar="NAME", help="A cluster of ~/.config/focusnb/clusters.toml, or local.")
]
Gpu = Annotated[bool, typer.Option("--gpu", help="Compute on a CUDA device (extra: gpu).")]
TimeOut = Annotated[
    float | None, typer.Option(min=0.1, metavar="SECONDS", help="How long a step may take; default: as each declares.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("run")(run)
    app.command("serve")(serve)
    app.command("stop")(stop)


def run(
    folder: Folder,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Return when nothing waits; without it, go on with what is imported.")
    ] = False,
    workers: Workers = None,
    cluster: Cluster = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed with the same inputs.")] = False,
    timeout: TimeOut = None,
    gpu: Gpu = False,
) -> None:
    """Process what is new or stale, here in the foreground."""
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        process(
            project,
            workers=workers,
            cluster=cluster,
            until_idle=until_idle,
            retry=retry,
            gpu=gpu,
            timeout=timeout,
        )


def process(
    project: Project,
    *,
    workers: int | None,
    cluster: str | None = None,
    until_idle: bool = True,
    retry: bool = False,
    gpu: bool = False,
    timeout: float | None = None,
    on_stored: Callable[[Event], None] | None = None,
    reasons: bool = True,
    submit: Callable[[Processor], int] | None = None,
    leave: bool = False,
) -> Summary | None:
    """Run a project's queue with a progress bar and a summary.

    submit : queues other work than what is stale
    reasons : tell why exposures failed
    leave : where another process works on the project, leave the work to it
    """
    from focusnb.processing.court.sitting import Court
    from focusnb.processing.processor import Processor
    from focusnb.project import lease

    if project.library.read_only:
        raise ProjectError(f"{project.folder}: cannot be written; give this user write access and run again")
    held = lease.holder(project.library) if leave else None
    if held is not None and submit is not None:
        queued = submit(Processor(project))
        say(f"{queued} queued; {lease.describe_holder(held)} and takes them")
        return None
    processor = Processor(
        project, lambda cost: _executor(cost, workers=workers, cluster=cluster, gpu=gpu), timeout=timeout
    )
    finished = began = 0
    court = Court(project, say)
    with bar(0, "Processing") as advance, _stopping_at(processor, signal.SIGTERM):

        def begin() -> None:
            (submit or (lambda p: p.submit_stale(retry=retry)))(processor)

        def tell(event: Event) -> None:
            nonlocal finished, began
            began += event.kind == "started"
            finished += event.kind in ("stored", "cancelled")
            if event.kind == "waiting":
                say(event.reason)
            elif event.kind == "ready" and event.reason and not until_idle:
                say(f"The cluster can be watched at {event.reason}")
            if event.kind == "stored" and on_stored is not None:
                on_stored(event)
            if event.kind in ("started", "stored", "cancelled"):
                counts = processor.queue() if event.kind != "stored" or finished % 10 == 0 else None
                waiting = None if counts is None else sum(counts.get(s, 0) for s in ("queued", "running", "cancelling"))
                total = None if waiting is None else finished + waiting
                advance(finished, event.name, total)
            elif event.progress is not None:
                advance(finished, f"{event.name}: {event.progress.message}")
            court.heard(event)

        def refill() -> int:
            court.rest()
            return processor.refill()

        with _interruptible(processor):
            summary = processor.run(
                until_idle=until_idle, on_event=tell, begin=begin, refill=None if until_idle else refill
            )
    court.rest(quiet=0)
    if until_idle and not began:
        say(_nothing_to_do(project, processor.queue(), retry=retry))
        return None
    for name, reason in summary.reasons.items() if reasons else ():
        say(reason if reason.startswith(name) else f"{name}: {reason}")
    parts = [f"{summary.done} done"]
    parts += [f"{summary.failed} failed"] * bool(summary.failed)
    parts += [f"{summary.broken} broken (a fault in a step: the traceback is in its log.txt)"] * bool(summary.broken)
    parts += [f"{summary.cancelled} cancelled"] * bool(summary.cancelled)
    say(f"{', '.join(parts)} in {summary.seconds:.0f} s")
    return summary


def _nothing_to_do(project: Project, counts: dict[str, int], *, retry: bool) -> str:
    kept = counts.get("held", 0) + counts.get("queued", 0)
    if kept:
        return f"Nothing was begun: {kept} wait, held or in a paused queue; see 'focusnb queue show {project.folder}'"
    wrong = len(project.ids(status="failed")) + len(project.ids(status="broken"))
    if wrong and not retry:
        return f"Nothing to do; {wrong} failed before: --retry tries them again"
    return "Nothing to do: all is up to date"


def _executor(cost: Cost, *, workers: int | None, cluster: str | None, gpu: bool) -> Executor:
    from focusnb.processing import shared

    # a second set of processes beside those of this host that serve all projects would only take their time away
    name = cluster or ("local" if workers is None and not gpu and shared.running("local") else None)
    return _fitting(name, cost, workers=workers, gpu=gpu)


def _fitting(name: str | None, cost: Cost, *, workers: int | None, gpu: bool) -> Executor:
    """Open a cluster; where the shared one of this host was made for smaller tasks, workers of one's own."""
    from focusnb.processing.clusters import open_cluster

    executor = open_cluster(name, workers=workers, gpu=gpu, cost=cost)
    if name == "local" and executor.refuse(cost):
        executor.close()
        return open_cluster(None, workers=workers, cost=cost)
    return executor


@contextlib.contextmanager
def _stopping_at(processor: Processor, *signals: int) -> Iterator[None]:
    """Give back what is under way and end in good order when the system asks for it."""
    before = {number: signal.signal(number, lambda *_: processor.cancel(now=True)) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _interruptible(processor: Processor) -> Iterator[None]:
    """Let Ctrl-C end the processing also where its exception is lost, as in a callback of the garbage collector."""
    asked: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        asked.append(number)
        processor.cancel(now=True)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


# The detached process


def serve(
    folder: Folder,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay here instead of detaching, as systemd wants it.")
    ] = False,
    cluster: Cluster = None,
    workers: Workers = None,
    timeout: TimeOut = None,
    gpu: Gpu = False,
) -> None:
    """Work on a project until it is told to stop: import what comes to the folders it watches ('focusnb source'),
    process what is imported, queued or has become stale, watch it ('focusnb alerts') and show it ('focusnb publish').

    It goes on when this terminal closes. 'focusnb stop' ends it, 'focusnb queue' looks into it, and its log is in
    the project's folder, logs/serve.log.
    """
    from focusnb.processing.clusters import read_config
    from focusnb.project import lease
    from focusnb.project.project import Project

    if cluster is not None:
        read_config(cluster)
    with Project.open(folder) as project:
        project.library.check_writable()
        held = lease.holder(project.library)
        if held is not None and lease.is_here(held):
            raise ProjectError(f"{project.folder}: {lease.describe_holder(held)}; stop it first")
        if foreground:
            _serve(project, cluster=cluster, workers=workers, timeout=timeout, gpu=gpu)
            return
        options = ["--cluster", cluster] * bool(cluster) + ["--gpu"] * gpu
        options += ["--workers", str(workers)] if workers is not None else []
        options += ["--timeout", str(timeout)] if timeout is not None else []
        _detach(project, options)


def _detach(project: Project, options: list[str]) -> None:
    from focusnb.processing import detached

    process = detached.start(project, options)
    say(f"Process {process} works on {project.folder} from now on; its log is {project.folder / detached.LOG}")
    say(f"Look at it: focusnb queue show {project.folder}    Stop it: focusnb stop {project.folder}")


def _serve(project: Project, *, cluster: str | None, workers: int | None, timeout: float | None, gpu: bool) -> None:
    from focusnb.monitoring.service import Monitoring
    from focusnb.processing import detached
    from focusnb.processing.court.sitting import Court
    from focusnb.processing.importing import Importing
    from focusnb.processing.processor import Processor

    logger = _logger(project.folder / detached.LOG)

    def make(cost: Cost) -> Executor:
        name = cluster or (None if workers is not None or gpu else "local")
        return _fitting(name, cost, workers=workers, gpu=gpu)

    processor = Processor(project, make, timeout=timeout)
    court = Court(project, lambda text: logger.info("%s", text))

    def hear(event: Event) -> None:
        _note(logger, event)
        court.heard(event)

    def refill() -> int:
        court.rest()
        return processor.refill()

    logger.info("process %d begins to work on %s", os.getpid(), project.folder)
    try:
        importing = Importing(project.folder, lambda text: logger.info("%s", text), timeout=timeout)
        watching = Monitoring(project.folder, tell=lambda text: logger.info("%s", text))
        with _stopping_at(processor, signal.SIGTERM, signal.SIGINT), importing, watching:
            summary = processor.run(
                until_idle=False,
                begin=lambda: processor.submit_stale(asked=False),
                on_event=hear,
                refill=refill,
            )
    except BaseException as error:
        logger.error("ended by %s: %s", type(error).__name__, error)
        raise
    logger.info("stopped after %d exposures in %.0f s", summary.exposures, summary.seconds)


def _logger(path: Path) -> logging.Logger:
    path.parent.mkdir(exist_ok=True)
    logger = logging.getLogger("focusnb.serve")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # a session lasts for days: the log keeps its size
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=10_000_000, backupCount=5, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    logger.handlers[:] = [handler]
    return logger


def _note(logger: logging.Logger, event: Event) -> None:
    from focusnb.processing import detached

    if event.kind == "begun":
        logger.info(detached.BEGUN)
    elif event.kind == "ready":
        logger.info("workers are ready%s", f"; they can be watched at {event.reason}" if event.reason else "")
    elif event.kind == "stored" and event.outcome is not None:
        wrong = [step for step in event.outcome.steps if step.status in ("failed", "broken")]
        seconds = event.outcome.finished - event.outcome.started
        told = "; ".join(f"{step.status}: {step.reason}" for step in wrong) or "done"
        logger.info("%s  %s in %.1f s on %s", event.name, told, seconds, event.outcome.worker or "no worker")
        for step in wrong:
            if step.traceback:
                logger.info("%s", step.traceback.rstrip())
    elif event.kind in ("lost", "cancelled"):
        logger.info("%s  %s: %s", event.name, event.kind, event.reason)
    elif event.kind == "waiting":
        logger.info("%s", event.reason)


def stop(
    folder: Folder,
    now: Annotated[bool, typer.Option("--now", help="Do not finish what is under way: it waits again.")] = False,
) -> None:
    """Ask the process that works on a project to stop, and wait until it has."""
    from focusnb.processing import detached
    from focusnb.project import lease
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        held = lease.holder(project.library)
        if held is None:
            say(f"Nobody works on {project.folder}")
            return
        say(f"{lease.describe_holder(held).capitalize()}; it is asked to stop")
        finishing = "It finishes what is under way; 'focusnb stop --now' does not wait for that"
        detached.stop(project, now=now, waiting=lambda: say(finishing))
        say("It has stopped")
