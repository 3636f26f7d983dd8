"""adopt: exposures whose work another program has finished, with what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from focusnb.cli.console import bar, say
from focusnb.cli.projects import Facts, Folder


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("adopt")(adopt)


def adopt(
    folder: Folder,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="RELION's micrographs_ctf.star or corrected_micrographs.star, a folder or a log of MotionCor2 or 3, "
            "a project folder of Focus or 2dx.",
        ),
    ],
    copy: Annotated[bool, typer.Option("--copy", help="Copy sums and movies instead of linking to them.")] = False,
    movies: Annotated[
        bool,
        typer.Option("--movies", help="Start from the recorded movies where they are, instead of from their sums."),
    ] = False,
    without_files: Annotated[
        bool, typer.Option("--without-files", help="Adopt the values of micrographs that are not there as well.")
    ] = False,
    pictures: Annotated[
        bool, typer.Option(" /--no-pictures", help="Draw no trajectories, which takes longer than all else.")
    ] = True,
    facts: Facts = [],  # noqa: B006
    group: Annotated[str | None, typer.Option(help="Group of new exposures. Default: as the source has it.")] = None,
) -> None:
    """Adopt what RELION, MotionCor2 or 3, Focus or 2dx finished: exposures with their values.

    Those steps are not run again by themselves ('focusnb step run DIR STEP --again' does); steps that were not done
    there run on what was. Adopted again, a source adds what is new and renews what changed.
    """
    from focusnb.project import adopting
    from focusnb.project.facts import parse_assignments
    from focusnb.project.project import Project

    values = parse_assignments(facts)
    with Project.open(folder) as project, bar(0, "Adopting") as advance:
        report = adopting.adopt(
            project,
            sources,
            facts=values,
            group=group,
            copy=copy,
            movies=movies,
            without_files=without_files,
            pictures=pictures,
            progress=lambda done, total, name: advance(done, name, total),
        )
    for message in report.messages:
        say(message)
    parts = [f"{len(report.added)} adopted"]
    parts += [f"{len(report.updated)} updated"] * bool(report.updated)
    parts += [f"{report.known} known already"] * bool(report.known)
    parts += [f"{report.left_out} left out"] * bool(report.left_out)
    say(", ".join(parts))
