"""import, source: bring files into a project, once or as they come, and remember where they come from."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from focusnb.cli.console import bar, console, say
from focusnb.cli.declared import with_values_of
from focusnb.cli.projects import Facts, Folder
from focusnb.errors import ParameterError
from focusnb.io.folders import ask

if TYPE_CHECKING:
    from focusnb.project.gathering import ImportReport
    from focusnb.project.project import Project
    from focusnb.project.sources import ImportSource

Kind = StrEnum("Kind", ["movie", "image"])

app = typer.Typer(help="Folders that 'focusnb serve' watches for new exposures.", no_args_is_help=True)

KindOption = Annotated[Kind | None, typer.Option(help="Default: a file of several frames is a movie.")]
Gain = Annotated[Path | None, typer.Option(help="Gain reference: MRC, TIFF or DM4.")]
Defects = Annotated[Path | None, typer.Option(help="Defects: SerialEM's text, rectangles, a list of pixels, or a map.")]
Group = Annotated[str | None, typer.Option(help="Group of the exposures. Default: the name of their folder.")]
Link = Annotated[bool, typer.Option("--link", help="Link to the files instead of copying them.")]
Delete = Annotated[
    bool,
    typer.Option(
        "--delete-source",
        help="Delete each recording at its source once its copy was read back from the disk and compared and it has "
        "not changed for some minutes: 1 where metadata tell that it has all its frames, else 5 to 20. Folders and "
        "metadata stay. Not with --link.",
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN", help="Facts in file names: {specimen}_{tilt_angle}_{number}. Try it: focusnb names."
    ),
]
Microscope = Annotated[str | None, typer.Option(metavar="NAME", help="A profile: see 'focusnb microscope list'.")]
Include = Annotated[
    list[str],
    typer.Option(
        "--include",
        metavar="GLOB",
        help="Only files like this (*.tif; with a / it is compared with the path); may be repeated. Default: TIFF, MRC "
        "and EER.",
        show_default=False,
    ),
]
Ignore = Annotated[
    list[str],
    typer.Option(
        metavar="TEXT_OR_GLOB",
        help="Leave out files and folders with this in their names, whatever the case; may be repeated.",
        show_default=False,
    ),
]
Pair = Annotated[
    list[str],
    typer.Option(
        metavar="ROLE=END",
        help="What belongs to one exposure: the end of names (average=_mean) or a sub-folder (aligned=ali/) for a "
        "movie, aligned frames or an average; may be repeated. Usual names are known.",
        show_default=False,
    ),
]
Alone = Annotated[bool, typer.Option("--alone", help="Every file is an exposure of its own.")]
Delay = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long a file must be still to be complete. Default: 1 to 20 s, as format and metadata allow.",
    ),
]
Reserve = Annotated[
    float | None,
    typer.Option(
        min=0, metavar="GB", help="Kept free on the project's disk. Default: 2 % of it or 5 GB, at most a tenth."
    ),
]
NewestFirst = Annotated[bool, typer.Option("--newest-first", help="Process what comes before all that waits.")]
During = Annotated[
    list[str],
    typer.Option(
        metavar="STEP",
        help="A step to run during import, on one exposure after the other, before it is queued; may be repeated.",
        show_default=False,
    ),
]
NoProcessing = Annotated[
    bool, typer.Option("--no-processing", help="Keep what is imported back until 'focusnb queue release'.")
]
Name = Annotated[str | None, typer.Option(help="What the source is called. Default: the name of its folder.")]


def register(main: typer.Typer) -> None:
    """Add these commands."""
    main.command("import")(with_values_of(_source_options, import_files))
    main.add_typer(app, name="source")


def _source_options(
    name: Name = None,
    kind: KindOption = None,
    gain: Gain = None,
    defects: Defects = None,
    facts: Facts = [],  # noqa: B006
    group: Group = None,
    link: Link = False,
    delete_source: Delete = False,
    pattern: Pattern = None,
    microscope: Microscope = None,
    include: Include = [],  # noqa: B006
    ignore: Ignore = [],  # noqa: B006
    pair: Pair = [],  # noqa: B006
    alone: Alone = False,
    delay: Delay = None,
    reserve: Reserve = None,
    newest_first: NewestFirst = False,
    during: During = [],  # noqa: B006
    no_processing: NoProcessing = False,
) -> dict[str, Any]:
    """The options of every command that describes a source, as the values of one."""
    from focusnb.project.facts import parse_assignments

    values: dict[str, Any] = {
        "name": name,
        "kind": None if kind is None else str(kind),
        "gain_reference": None if gain is None else str(gain),
        "defects": None if defects is None else str(defects),
        "facts": parse_assignments(facts),
        "group": group,
        "link": link,
        "delete_source": delete_source,
        "pattern": pattern,
        "microscope": microscope,
        "patterns": include,
        "ignore": ignore,
        "pair": pair,
        "alone": alone,
        "delay": delay,
        "reserve": reserve,
        "newest_first": newest_first,
        "during": during,
        "process": not no_processing,
    }
    return {option: value for option, value in values.items() if value is not None}


def import_files(
    folder: Folder,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="What to import.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what comes, until Ctrl-C. Without it, import what is there.")
    ] = False,
    remember: Annotated[
        bool, typer.Option("--remember", help="Let 'focusnb serve' watch these folders from now on as well.")
    ] = False,
    *,
    values: dict[str, Any],
) -> None:
    """Import movies and images; what was imported before gets the facts given now and nothing else.

    A file is imported when it is complete; the command waits for files that still grow.
    """
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        project.library.check_writable()
        if remember:
            _remember(project, [*_folders(paths)], values)
        if watch:
            _watch(project, _checked(project, [*_folders(paths)], values))
        else:
            _once(project, paths, values)


def _folders(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        # a mount that hangs is watched as well, and nobody waits for it here
        if ask(path, path.is_file, otherwise=False):
            raise ParameterError(f"{path}: is a file; folders are watched")
        yield str(path)


def _checked(project: Project, folders: list[str], values: dict[str, Any]) -> ImportSource:
    """A source that can be watched."""
    from focusnb.processing.importing import check_during
    from focusnb.project.sources import make_source

    source = make_source({**values, "folders": folders})
    for path in source.folders:
        if project.folder == Path(path) or project.folder in Path(path).parents:
            raise ParameterError(f"{path}: lies in the project itself; name the folder of a camera")
    check_during(project, source.during)
    return source


def _remember(project: Project, folders: list[str], values: dict[str, Any]) -> None:
    from focusnb.project import lease
    from focusnb.project.gathering import ImportReport
    from focusnb.project.options import make_options
    from focusnb.project.sources import add_source
    from focusnb.project.watching import options_of

    source = _checked(project, folders, values)
    report = ImportReport()
    # references, pattern and profile are tried now, not when nobody looks
    make_options(project, report, **options_of(source))
    for message in report.messages:
        say(message)
    new = add_source(project, source)
    said = "is watched" if lease.holder(project.library) else f"is watched by 'focusnb serve {project.folder}'"
    say(f"Source {source.name} ({', '.join(source.folders)}) {said}{'' if new else ', as it is given now'}")
    for path in source.folders:
        if not ask(path, Path(path).is_dir, otherwise=False):
            say(f"{path}: is not there yet; it is waited for")


def _watch(project: Project, source: ImportSource) -> None:
    from focusnb.processing.importing import watch_sources
    from focusnb.project import lease
    from focusnb.project.activity import Activity, run_beside
    from focusnb.project.gathering import ImportReport
    from focusnb.project.options import make_options
    from focusnb.project.watching import options_of

    count, activity = 0, Activity()
    with _stopping() as stop, bar(0, "Imported") as advance:
        # what is wrong is told before anything is waited for; a reference may lie on a server that does not answer
        activity.turn_to(source.gain_reference or source.defects or project.folder)
        run_beside(lambda: make_options(project, ImportReport(), **options_of(source)), activity, say, stop.is_set)
        say(f"Watching {', '.join(source.folders)}; Ctrl-C ends it")

        def added(ids: list[int]) -> None:
            nonlocal count
            count += len(ids)
            advance(count, project.path(ids[-1]).name, None)
            if not console().is_terminal:
                say(f"{count} imported")

        served = lease.holder(project.library) is not None
        watch_sources(project, lambda: [source], say, stop, served=served, on_added=added)
    say(f"{count} imported")


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that the file under way is finished; a second one ends at once."""
    stop = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _once(project: Project, paths: list[Path], values: dict[str, Any]) -> None:
    from focusnb.io.folders import make_filter
    from focusnb.processing.importing import check_during, queueing_of, run_during
    from focusnb.project.activity import Activity, run_beside
    from focusnb.project.finding import SUFFIXES, find
    from focusnb.project.gathering import ImportReport
    from focusnb.project.sources import make_source
    from focusnb.project.watching import import_complete

    source = make_source({**values, "folders": [str(path) for path in paths], "name": "import"})
    check_during(project, source.during)
    found_report, activity = ImportReport(), Activity()
    wanted = None
    if source.patterns or source.ignore:
        wanted = make_filter(source.patterns or [f"*{suffix}" for suffix in SUFFIXES], source.ignore)
    with _stopping() as stop, bar(0, "Importing") as advance:

        def work() -> ImportReport:
            references = {Path(path).resolve() for path in (source.gain_reference, source.defects) if path is not None}
            return import_complete(
                project,
                find(paths, references, found_report.tell, wanted, activity.turn_to),
                source,
                say,
                queueing=queueing_of(project, source, served=False),
                progress=lambda done, total, text: advance(done, text, total),
                stopped=stop.is_set,
                activity=activity,
                then=lambda: run_during(project, say, stopped=stop.is_set),
            )

        # a source that does not answer keeps its thread, and not Ctrl-C
        report = run_beside(work, activity, say, stop.is_set)
        if report is None:
            raise typer.Exit(1)
    _tell(found_report, report)


def _tell(*reports: ImportReport) -> None:
    for message in (message for report in reports for message in report.messages):
        say(message)
    report = reports[-1]
    parts = [f"{len(report.added)} imported"]
    parts += [f"{len(set(report.updated))} updated"] * bool(report.updated)
    parts += [f"{report.known} known already"] * bool(report.known)
    say(", ".join(parts))


# What is remembered


def add(
    folder: Folder,
    paths: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders to watch, with all in them.")],
    *,
    values: dict[str, Any],
) -> None:
    """Remember folders, so that 'focusnb serve' imports what comes there; at once where it runs.

    A source of the same name is replaced.
    """
    from focusnb.project.project import Project

    with Project.open(folder) as project:
        project.library.check_writable()
        _remember(project, [*_folders(paths)], values)


app.command("add")(with_values_of(_source_options, add))


@app.command("list")
def show(folder: Folder) -> None:
    """List the folders that are watched, and how what comes there is imported."""
    from focusnb.project.project import Project
    from focusnb.project.sources import ImportSource, read_sources

    with Project.open(folder) as project:
        sources = read_sources(project.folder)
    if not sources:
        say(f"Nothing is watched; add a folder with 'focusnb source add {folder} FOLDER'")
    for source in sources:
        print(f"{source.name}: {', '.join(source.folders)}")
        for spec in ImportSource.specs():
            value = getattr(source, spec.name)
            if spec.name not in ("name", "folders") and value != spec.default:
                unit = f" {spec.unit}" * bool(spec.unit)
                print(f"    {spec.label}: {_shown(value)}{unit}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


@app.command("remove")
def remove(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The source, as 'focusnb source list' names it.")],
) -> None:
    """Watch a folder no more; what was imported stays, and so do the files."""
    from focusnb.project.project import Project
    from focusnb.project.sources import remove_source

    with Project.open(folder) as project:
        source = remove_source(project, name)
    say(f"Source {source.name} ({', '.join(source.folders)}) is watched no more")
