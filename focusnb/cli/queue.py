"""queue: see what waits and what happened, ask for work, and change one's mind; while processing goes on or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from focusnb.cli.console import console, say
from focusnb.cli.processing import TimeOut
from focusnb.cli.projects import Folder, Format, write_out
from focusnb.errors import ParameterError
from focusnb.project.exports.tables import encode

if TYPE_CHECKING:
    import pandas as pd

    from focusnb.processing.queue import Queue
    from focusnb.project.project import Project

app = typer.Typer(help="See and change what waits to be processed.", no_args_is_help=True)

Order = StrEnum("Order", {"first_come": "first-come", "newest_first": "newest-first"})  # type: ignore[misc]
Sort = StrEnum("Sort", ["time", "worker", "exposure", "step", "status"])

Which = Annotated[
    list[str] | None,
    typer.Argument(metavar="[EXPOSURE_OR_TASK...]", help="Names or ids of exposures, or the beginnings of task ids."),
]
Batch = Annotated[int | None, typer.Option(help="All tasks of this batch.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
TableFormat = Annotated[Format | None, typer.Option(help="csv, json, parquet or xlsx, instead of a table for people.")]
Out = Annotated[Path | None, typer.Option(help="A file instead of standard output.")]

_SHOWN = 40


@contextlib.contextmanager
def _open(folder: Path) -> Iterator[tuple[Project, Queue]]:
    from focusnb.processing.queue import Queue
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        yield project, Queue(project)


@app.command("show")
def show(folder: Folder, format: TableFormat = None, out: Out = None) -> None:
    """Show what is under way and what waits, in the order in which it is taken."""
    with _open(folder) as (project, queue):
        table = queue.table()
        if format is not None:
            columns = table.assign(finished=table["finished"].map(lambda steps: ", ".join(s["step"] for s in steps)))
            write_out(encode(columns, str(format)), str(format), out)
            return
        say(_state(project, queue))
        _print(table)


def _state(project: Project, queue: Queue) -> str:
    from focusnb.project import lease

    counts = queue.counts()
    names = {"running": "under way", "cancelling": "being cancelled", "queued": "waiting", "held": "held"}
    parts = [f"{counts[state]} {name}" for state, name in names.items() if counts.get(state)]
    ended = [f"{counts[state]} {state}" for state in ("done", "failed", "cancelled") if counts.get(state)]
    lines = [f"{', '.join(parts) or 'nothing waits'}; so far {', '.join(ended) or 'nothing'}"]
    newest = queue.order == "newest-first"
    lines.append(f"{'Newest first' if newest else 'First come, first served'}{'; PAUSED' if queue.paused else ''}")
    held = queue.holder()
    if held is None:
        lines.append(f"Nobody works on it: focusnb serve {project.folder}")
    else:
        seen = f"; the cluster can be watched at {held['dashboard']}" if held["dashboard"] else ""
        lines.append(f"{lease.describe_holder(held).capitalize()}{seen}")
    return "\n".join(lines)


def _print(table: pd.DataFrame) -> None:
    from rich.table import Table
    from rich.text import Text

    if not len(table):
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "Task", "Exposure", "State", "Batch", "Steps", "Worker"):
        shown.add_column(name, justify="right" if name in ("", "Batch") else "left", no_wrap=name != "Steps")
    styles = {"running": "green", "cancelling": "yellow", "held": "yellow"}
    for row in table.head(_SHOWN).itertuples():
        place = "▸" if row.state in ("running", "cancelling") else str(row.place)
        steps = f"{row.step}: {row.message}" if isinstance(row.message, str) and row.message else row.steps
        state = f"{row.state}, trial {row.trial}" if isinstance(row.trial, str) else row.state
        worker = row.worker if isinstance(row.worker, str) else ""
        cells = (place, row.task[:8], row.exposure, state, str(row.batch), steps, worker)
        shown.add_row(*(Text(str(cell), style=styles.get(row.state, "")) for cell in cells))
    console().print(shown)
    if len(table) > _SHOWN:
        say(f"... and {len(table) - _SHOWN} more; --format csv shows all")


@app.command("log")
def log(
    folder: Folder,
    sort: Annotated[Sort, typer.Option(help="What to sort by.")] = Sort.time,
    rows: Annotated[int, typer.Option(min=1, help="So many of the latest.")] = 100,
    format: TableFormat = None,
    out: Out = None,
) -> None:
    """Show what happened and is happening: one row per step of an exposure."""
    from rich.table import Table
    from rich.text import Text

    with _open(folder) as (_, queue):
        table = queue.log(sort=str(sort), limit=rows)
    if format is not None:
        write_out(encode(table, str(format)), str(format), out)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("Time", "Worker", "Exposure", "Step", "Status", "s", "Reason"):
        shown.add_column(name, justify="right" if name == "s" else "left", no_wrap=name != "Reason")
    styles = {"done": "green", "failed": "yellow", "broken": "red", "lost": "red", "running": "bold"}
    local = table["started_at"].dt.tz_convert(_zone())
    for time, row in zip(local, table.itertuples(), strict=True):
        seconds = f"{row.seconds:.2f}" if row.seconds == row.seconds else ""
        cells = (f"{time:%m-%d %H:%M:%S}", row.worker, row.exposure, row.step, row.status, seconds, row.reason)
        texts = ("" if cell is None or cell != cell else str(cell) for cell in cells)
        shown.add_row(*(Text(text, style=styles.get(row.status, "")) for text in texts))
    console().print(shown)


def _zone() -> Any:
    import datetime

    return datetime.datetime.now().astimezone().tzinfo


@app.command("add")
def add(
    folder: Folder,
    exposures: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPOSURE...]", help="Names or ids; default: all but TRASH.")
    ] = None,
    steps: Annotated[
        list[str] | None, typer.Option("--step", help="Only this step; may be repeated. Default: the whole workflow.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="The exposures of this group.")] = None,
    flag: Annotated[str | None, typer.Option(help="The exposures with this flag.")] = None,
    selection: Annotated[str | None, typer.Option(help="The exposures of a saved selection.")] = None,
    values: Annotated[
        list[str], typer.Option("--set", metavar="STEP.NAME=VALUE", help="A parameter for this batch alone.")
    ] = [],  # noqa: B006
    first: Annotated[bool, typer.Option("--first", help="On top of all that waits.")] = False,
    trial: Annotated[str | None, typer.Option(help="Keep the results apart under this name.")] = None,
    everything: Annotated[bool, typer.Option("--again", help="Also what is not stale.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Also what failed with the same inputs.")] = False,
    timeout: TimeOut = None,
) -> None:
    """Queue a batch: a workflow for exposures; only stale steps run unless told otherwise."""
    with _open(folder) as (project, queue):
        ids = _exposures(project, exposures, group=group, flag=flag, selection=selection)
        queued = queue.ask(
            ids,
            steps=steps or (),
            params=queue.checked_params(_params(values)),
            first=first,
            trial=trial,
            everything=everything,
            retry=retry,
            timeout=timeout,
        )
        say(f"{queued} of {len(ids)} exposures queued" + ("; the others are up to date" if queued < len(ids) else ""))


def _exposures(
    project: Project, names: list[str] | None, *, group: str | None, flag: str | None, selection: str | None
) -> list[int]:
    if names and (group or flag or selection):
        raise ParameterError("name exposures, or give --group, --flag or --selection; not both")
    if names:
        return [project.find(name) for name in names]
    ids = project.ids(group=group, flag=flag)
    if selection is not None:
        chosen = set(project.select(selection))
        ids = [identity for identity in ids if identity in chosen]
    return ids


def _params(assignments: list[str]) -> dict[str, dict[str, Any]]:
    params: dict[str, dict[str, Any]] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        step, dot, parameter = name.partition(".")
        if not (equals and dot):
            raise ParameterError(f"{text!r}: write --set STEP.NAME=VALUE, for example fit_ctf.resolution_high=3.5")
        params.setdefault(step, {})[parameter] = value
    return params


@app.command("first")
def first(folder: Folder, which: Which = None, batch: Batch = None) -> None:
    """Put tasks on top of all that waits."""
    with _open(folder) as (project, queue):
        say(f"{queue.put_first(**_which(project, which, batch))} put on top")


@app.command("move")
def move(
    folder: Folder,
    which: Annotated[list[str], typer.Argument(metavar="EXPOSURE_OR_TASK...", help="What to move.")],
    before: Annotated[str | None, typer.Option(help="The task or exposure to stand before.")] = None,
    after: Annotated[str | None, typer.Option(help="The task or exposure to stand after.")] = None,
) -> None:
    """Move tasks to just before or after another one."""
    with _open(folder) as (project, queue):
        (name, anchor), *_ = _given(before=before, after=after).items()
        moved = queue.move(_tasks(project, queue, which), **{name: _tasks(project, queue, [anchor])[0]})
        say(f"{moved} moved")


def _is_task(name: str) -> bool:
    """Whether a name may be the beginning of a task's id, long enough not to be meant otherwise."""
    return len(name) >= 4 and all(c in "0123456789abcdef" for c in name)


def _given(**values: str | None) -> dict[str, str]:
    given = {name: value for name, value in values.items() if value is not None}
    if len(given) != 1:
        raise ParameterError("give --before or --after, one of them")
    return given


def _tasks(project: Project, queue: Queue, names: list[str]) -> list[str]:
    table = queue.table()
    waiting = table[table["state"].isin(["queued", "held"])]
    found: list[str] = []
    for name in names:
        tasks = list(waiting["task"][waiting["exposure"] == name])
        if not tasks and name.isdigit():
            tasks = list(waiting["task"][waiting["exposure_id"] == int(name)])
        if not tasks and _is_task(name):
            tasks = list(waiting["task"][waiting["task"].str.startswith(name)])
        if not tasks:
            raise ParameterError(f"{name} does not wait; 'focusnb queue show {project.folder}' lists what does")
        found += tasks
    return found


@app.command("hold")
def hold(folder: Folder, which: Which = None, batch: Batch = None, everything: All = False) -> None:
    """Keep tasks back until they are released; they keep their places."""
    with _open(folder) as (project, queue):
        say(f"{queue.hold(**_which(project, which, batch, everything))} held")


@app.command("release")
def release(folder: Folder, which: Which = None, batch: Batch = None, everything: All = False) -> None:
    """Let tasks go that were kept back."""
    with _open(folder) as (project, queue):
        say(f"{queue.release(**_which(project, which, batch, everything))} released")


@app.command("pause")
def pause(folder: Folder) -> None:
    """Let nothing more begin; what is under way is finished."""
    with _open(folder) as (_, queue):
        queue.pause()
        say("Paused; 'focusnb queue resume' goes on")


@app.command("resume")
def resume(folder: Folder) -> None:
    """Go on after a pause."""
    with _open(folder) as (_, queue):
        queue.resume()
        say("It goes on" if queue.holder() else f"It goes on with 'focusnb run' or 'focusnb serve {folder}'")


@app.command("order")
def order(folder: Folder, order: Annotated[Order, typer.Argument(help="first-come or newest-first.")]) -> None:
    """Take what waits first come first served, or the newest first; what was put on top comes before either."""
    with _open(folder) as (_, queue):
        queue.order = str(order)
        say("The newest come first" if queue.order == "newest-first" else "First come, first served")


@app.command("cancel")
def cancel(folder: Folder, which: Which = None, batch: Batch = None, everything: All = False) -> None:
    """Take tasks out of the queue and stop those under way; exposures keep the results they had."""
    with _open(folder) as (project, queue):
        say(f"{queue.cancel(**_which(project, which, batch, everything))} cancelled")


@app.command("clear")
def clear(folder: Folder) -> None:
    """Take everything out of the queue that is not under way."""
    with _open(folder) as (_, queue):
        say(f"{queue.clear()} cancelled")


@app.command("retry")
def retry(
    folder: Folder,
    exposures: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPOSURE...]", help="Names or ids; default: all that failed.")
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="On top of all that waits.")] = False,
) -> None:
    """Queue again what failed, with the workflow and the parameters it had."""
    with _open(folder) as (project, queue):
        ids = [project.find(name) for name in exposures] if exposures else None
        say(f"{queue.retry(ids, first=first)} queued again")


def _which(
    project: Project, names: list[str] | None, batch: int | None, everything: bool | None = None
) -> dict[str, Any]:
    """What a command is about: exposures by name or id, tasks by the beginning of their id, a batch, or all."""
    if names and (batch is not None or everything):
        raise ParameterError("name exposures or tasks, or give a batch or --all; not both")
    if not names:
        if batch is None and not everything:
            also = ", or --all" if everything is not None else ""
            raise ParameterError(f"name exposures or tasks, or give --batch NUMBER{also}")
        return {"batch": batch}
    exposures, tasks = [], []
    for name in names:
        try:
            exposures.append(project.find(name))
        except ParameterError:
            if not _is_task(name):
                raise
            tasks.append(name)
    if exposures and tasks:
        raise ParameterError("name exposures or tasks, not both at once")
    return {"exposures": exposures} if exposures else {"tasks": tasks}
