"""publish, report: a session for the outside, from a project's library, with or without a process that serves it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from focusnb.cli.console import say
from focusnb.cli.declared import with_options
from focusnb.cli.projects import Folder
from focusnb.errors import ParameterError
from focusnb.monitoring.settings import PublishSettings, shown_address

Place = Annotated[
    str | None,
    typer.Argument(
        metavar="[TARGET]",
        help="A folder, sftp://user@host/path, rsync:user@host:path, s3://bucket/path or another address of fsspec.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("publish")(with_options(publish, PublishSettings.specs()))
    app.command("report")(report)


def publish(
    folder: Folder,
    target: Place = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C; otherwise publish once.")] = False,
    every: Annotated[
        float | None, typer.Option(min=2, metavar="SECONDS", help="Between two states with --follow.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="'focusnb serve' publishes there from now on, with these settings.")
    ] = False,
    drop: Annotated[bool, typer.Option("--drop", help="'focusnb serve' publishes there no longer.")] = False,
    values: Any = None,
) -> None:
    """Show a session to the outside: a page that any web server can serve, and what it shows, blurred and nameless.

    Without TARGET: tell where it is published to, and with which settings; settings given are kept.
    """
    from focusnb.monitoring.settings import read_publishing, write_publishing
    from focusnb.project.project import Project, read_settings

    read_settings(folder.resolve())
    settings, targets = read_publishing(folder.resolve())
    given = {**values, **({} if every is None else {"refresh": every})}
    settings = _changed(settings, given)
    if target is None:
        if follow or keep or drop:
            raise ParameterError("give the target to publish to: a folder, sftp://user@host/path, s3://bucket/path ...")
        if given:
            write_publishing(folder.resolve(), settings, targets)
        _describe(settings, targets)
        return
    if drop:
        if target not in targets:
            known = ", ".join(map(shown_address, targets)) or "nothing"
            raise ParameterError(f"{shown_address(target)} is not among what is published to: {known}")
        write_publishing(folder.resolve(), settings, tuple(place for place in targets if place != target))
        say(f"{shown_address(target)} is not published to any more; what lies there stays")
        return
    from focusnb.monitoring.targets import open_target

    address = target if "://" in target or target.startswith("rsync:") else str(Path(target).expanduser().resolve())
    open_target(address)
    with Project.open(folder) as project:
        if keep:
            project.library.check_writable()
            write_publishing(project.folder, settings, tuple(dict.fromkeys([*targets, address])))
            say(f"'focusnb serve {folder}' publishes to {shown_address(address)} every {settings.refresh:g} s")
        if follow:
            _follow(project, address, settings)
        elif not keep:
            _once(project, address, settings)


def _changed(settings: PublishSettings, given: Mapping[str, Any]) -> PublishSettings:
    return PublishSettings.make({**settings.model_dump(), **given})


def _describe(settings: PublishSettings, targets: tuple[str, ...]) -> None:
    for place in targets:
        say(f"'focusnb serve' publishes to {shown_address(place)}")
    if not targets:
        say("'focusnb serve' publishes nowhere; name a target with --keep")
    for spec in PublishSettings.specs():
        unit = f" {spec.unit}" if spec.unit else ""
        value = getattr(settings, spec.name)
        shown = f"{value:g}{unit}" if isinstance(value, float) else value if value != "" else "(none)"
        say(f"  {spec.name.replace('_', '-'):12s} {shown}")


def _once(project: Any, address: str, settings: PublishSettings) -> None:
    from focusnb.monitoring.publish import Publisher
    from focusnb.monitoring.snapshot import make_snapshot

    report = Publisher(address).publish(make_snapshot(project, settings=settings, keep=True))
    place, size = shown_address(address), report.bytes / 1e3
    say(f"Published to {place}: {report.written} files, {size:.0f} kB; open index.html there, through a web server")


def _follow(project: Any, address: str, settings: PublishSettings) -> None:
    from focusnb.monitoring.publish import Follower, Publisher
    from focusnb.monitoring.snapshot import SnapshotMaker

    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    follower = Follower(Publisher(address), tell=say)
    maker = SnapshotMaker(project, keep=True)
    say(f"Publishing to {shown_address(address)} every {settings.refresh:g} s; Ctrl-C ends it")
    try:
        while True:
            follower.offer(maker.make(settings))
            if stop.wait(settings.refresh):
                break
    finally:
        follower.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    say(f"Ended after {follower.published} publications")


def report(
    folder: Folder,
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where report.html, series.csv and plots are written.")],
    names: Annotated[bool, typer.Option("--names/--no-names", help="With names and unblurred images.")] = False,
) -> None:
    """Write a session's report: one page, its series as CSV and its plots as PNG."""
    from focusnb.monitoring.report import write_report
    from focusnb.monitoring.settings import read_publishing
    from focusnb.monitoring.snapshot import make_snapshot
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        settings = _changed(read_publishing(project.folder)[0], {"hours": 168.0, "previews": 0})
        if names:
            settings = _changed(settings, {"names": True, "blur": 0.0})
        written = write_report(make_snapshot(project, settings=settings), out)
    say(f"{len(written)} files written to {out}; open {written[0]}")
