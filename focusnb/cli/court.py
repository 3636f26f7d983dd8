"""court: what the first movies of a session say of the facts that were given for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from focusnb.cli.console import console, say
from focusnb.cli.projects import Folder, Format, write_out

if TYPE_CHECKING:
    from focusnb.processing.court import Verdict

_STYLES = {"fine": "green", "suspicious": "yellow", "wrong": "red", "cannot tell": "dim"}


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("court")(court)


def court(
    folder: Folder,
    pause: Annotated[
        bool | None,
        typer.Option(
            "--pause/--warn",
            help="Pause the queue where a fact is wrong, or say so and go on (the default); kept for the project.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[Format | None, typer.Option(help="csv, json, parquet or xlsx, instead of text.")] = None,
    out: Annotated[Path | None, typer.Option(help="A file instead of standard output.")] = None,
) -> None:
    """Show what the first ten movies of each session say of the facts given for it.

    Looked at are the orientation, use and age of the gain reference, defects, the dose against the counts, the number
    and brightness of frames, and the pixel size where ice, gold or graphene make a sharp ring. 'focusnb run' and
    'serve' tell by themselves what is suspicious or wrong, once.
    """
    from focusnb.processing.court.sitting import groups, sit
    from focusnb.project import court as kept
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        if pause is not None:
            kept.set_action(project, "pause" if pause else "warn")
        found = {group: sit(project, group, keep=not project.library.read_only)[0] for group in groups(project)}
        action = kept.action(project)
    if format is not None:
        write_out(_encoded(found, str(format)), str(format), out)
        return
    if not found:
        say(f"There is no exposure yet: focusnb import {folder} CAMERA_FOLDER")
    for group, verdicts in found.items():
        _show(group, verdicts)
    paused = "the queue is paused" if action == "pause" else "it is told and work goes on"
    say(f"Where a fact is wrong, {paused} (--pause or --warn changes that)")


def _show(group: str, verdicts: list[Verdict]) -> None:
    from rich.table import Table
    from rich.text import Text

    from focusnb.processing.court import TITLES

    say(f"Session {group}")
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("Check", "Verdict", "Seen in", "Why"):
        shown.add_column(name, no_wrap=name != "Why")
    for one in verdicts:
        seen = f"{one.seen} of {one.of}" if one.is_bad else ""
        style = _STYLES.get(one.word, "")
        shown.add_row(TITLES.get(one.check, one.check), Text(one.word, style), seen, Text(one.sentence))
    console().print(shown)
    for one in verdicts:
        if one.cure:
            say(f"{TITLES.get(one.check, one.check)}: {one.cure}")


def _encoded(found: dict[str, list[Verdict]], format: str) -> bytes:
    import pandas as pd

    from focusnb.project.exports.tables import encode

    rows = [
        {
            "session": group,
            "check": one.check,
            "verdict": one.word,
            "sentence": one.sentence,
            "cure": one.cure,
            "seen": one.seen,
            "of": one.of,
            "numbers": "; ".join(f"{name} {value:g}" for name, value in one.numbers.items()),
        }
        for group, verdicts in found.items()
        for one in verdicts
    ]
    columns = ["session", "check", "verdict", "sentence", "cure", "seen", "of", "numbers"]
    return encode(pd.DataFrame(rows, columns=columns), format)
