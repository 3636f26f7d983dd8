"""simulate and demo: a simulated microscope, and a first session made with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from focusnb.cli.console import bar, say, show_table
from focusnb.cli.processing import Workers, process

Movies = Annotated[int, typer.Option(min=1, help="How many exposures.")]
SpecimenFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A real micrograph to be the specimen instead of a simulated one.")
]
Seed = Annotated[int, typer.Option(help="Another number is another session.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("simulate")(simulate)
    app.command("demo")(demo)


def simulate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The camera's folder to write to.")],
    movies: Movies = 10,
    specimen: SpecimenFile = None,
    seed: Seed = 0,
    cadence: Annotated[float, typer.Option(min=0, help="Seconds between two movies; 0: as fast as possible.")] = 0.0,
    bad: Annotated[bool, typer.Option("--bad/--no-bad", help="Let a few exposures go wrong on purpose.")] = True,
) -> None:
    """Write movies as a camera does, with gain reference, defects and mdocs; the truth is kept beside them."""
    session = _record(folder, movies, specimen, seed, cadence=cadence, bad=bad)
    say(f"{movies} exposures in {folder}; what they really show is in {session.truth}")


def _record(folder: Path, movies: int, specimen: Path | None, seed: int, **options: Any) -> Any:
    from focusnb import microscope

    with bar(movies, "Recording") as advance:
        return microscope.record_session(
            folder, movies=movies, specimen=specimen, seed=seed, progress=advance, **options
        )


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where demo-camera and demo-project are made.")
    ] = Path("."),
    movies: Movies = 10,
    specimen: SpecimenFile = None,
    seed: Seed = 0,
    workers: Workers = None,
) -> None:
    """Record a small session on a simulated microscope, import and process it, and leave the project to explore.

    Given again, it goes on where it was interrupted and shows the table.
    """
    from focusnb.project.project import SETTINGS_NAME, Project

    camera, target = folder / "demo-camera", folder / "demo-project"
    if not (target / SETTINGS_NAME).exists():
        say(f"A simulated microscope records {movies} exposures into {camera} ...")
        session = _record(camera, movies, specimen, seed, bad=True)
        Project.create(target, mode="single-particle").close()
    else:
        from focusnb import microscope

        session = microscope.load_session(camera)
    with Project.open(target) as project:
        report = project.add(camera, gain_reference=session.gain, defects=session.defects, facts=session.facts)
        for message in report.messages:
            say(message)
        say(f"{len(report.added) + report.known} exposures are imported; processing them ...")
        process(project, workers=workers, on_stored=_tell_row(project), reasons=False)
        show_table(project.table())
    say("")
    say(f"The project is in {target}. Look at it:")
    commands = {
        f"focusnb dash {target}": "its page in the browser: table, images, plots",
        f"focusnb table {target}": "the library as CSV",
        f"ls {target}/exposures/demo-camera/*": "micrographs, previews and log of each exposure",
        "jupyter lab notebooks/01_first_session.ipynb": "a guided tour of this session",
    }
    width = max(map(len, commands))
    for command, purpose in commands.items():
        say(f"  {command:{width}s}   {purpose}")
    say(f"What the exposures really show is in {session.truth}")


def _tell_row(project: Any) -> Any:
    """Print a line for each exposure as it comes in."""
    from focusnb.project import storing

    def tell(event: Any) -> None:
        if event.outcome.set is not None:
            return
        values = storing.findings(project.library, event.exposure)
        wrong = next((s for s in event.outcome.steps if s.status in ("failed", "broken")), None)
        if wrong is not None:
            say(f"  {event.name:34s} {wrong.status}")
            return
        defocus = f"{values['defocus_u'] / 1e4:.2f} µm" if values.get("defocus_u") else "–"
        drift, ice = values.get("drift"), values.get("iciness")
        numbers = f"defocus {defocus:>8s}   CTF {values.get('ctf_quality', '–'):6s}"
        numbers += f"   drift {drift:5.1f} Å" if drift is not None else ""
        numbers += f"   iciness {ice:.2f}" if ice is not None else ""
        say(f"  {event.name:34s} {numbers}")

    return tell
