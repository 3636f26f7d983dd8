"""new, table, rebuild."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from focusnb.cli.console import say
from focusnb.errors import ParameterError
from focusnb.modes import MODES
from focusnb.project.exports.tables import FORMATS
from focusnb.quantities import IMPORTED, Acquisition

ModeName = StrEnum("ModeName", {name.replace("-", "_"): name for name in MODES})  # type: ignore[misc]
Format = StrEnum("Format", list(FORMATS))  # type: ignore[misc]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder.", show_default=False)]


def _facts_help() -> str:
    settable = [spec for spec in Acquisition.specs() if spec.name not in IMPORTED]
    names = ", ".join(f"{spec.name}{f' ({spec.unit})' * bool(spec.unit)}" for spec in settable)
    return f"A fact that files and metadata do not tell; may be repeated. Facts: {names}."


Facts = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help=_facts_help(), show_default=False)]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("new")(new)
    app.command("table")(table)
    app.command("rebuild")(rebuild)


def new(
    folder: Folder,
    mode: Annotated[ModeName, typer.Option(help="What the project is for.", show_default=False)],
    library: Annotated[
        str | None, typer.Option(metavar="URL", help="A PostgreSQL database, where several hosts write.")
    ] = None,
) -> None:
    """Make a new project."""
    from focusnb.project.project import Project

    with Project.create(folder, mode=str(mode), library=library) as project:
        say(f"{project.mode.title} project made in {project.folder}")
        say(f"Next: focusnb import {folder} CAMERA_FOLDER --gain GAIN --set pixel_size=... --set voltage=...")


def table(
    folder: Folder,
    format: Annotated[Format, typer.Option(help="csv, json, parquet or xlsx (Excel).")] = Format.csv,
    out: Annotated[Path | None, typer.Option(help="A file instead of standard output.")] = None,
    group: Annotated[str | None, typer.Option(help="Only this group; TRASH is one.")] = None,
    trial: Annotated[str | None, typer.Option(help="Show the results of a trial.")] = None,
) -> None:
    """Write one row per exposure: facts, findings, status and reason."""
    from focusnb.project.exports.tables import encode_exposures
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        frame = project.table(trial=trial)
    if group is not None:
        frame = frame[frame["group"] == group]
    write_out(encode_exposures(frame, str(format)), str(format), out)


def write_out(data: bytes, format: str, out: Path | None) -> None:
    """Write data to a file or to standard output."""
    if out is not None:
        from focusnb.io import files

        files.write_bytes(out, data)
    elif format in ("parquet", "xlsx") and sys.stdout.isatty():
        raise ParameterError(f"{format} is not text; give a file with --out, or redirect the output")
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def rebuild(folder: Folder) -> None:
    """Make the library again from the exposures' records; the old one is kept beside it."""
    from focusnb.project.rebuilding import rebuild as make_again

    project, told = make_again(folder)
    with project:
        for message in told:
            say(message)
        say(f"{len(project.table())} exposures are in the new library of {project.folder}")
