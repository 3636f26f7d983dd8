"""align: correct and align movies without a project."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from focusnb.cli.alone import calls_of, folders_of, place, sentence
from focusnb.cli.console import say, show_table
from focusnb.cli.processing import Gpu
from focusnb.cli.projects import Facts
from focusnb.errors import FocusError, FormatError, ParameterError, StepError

if TYPE_CHECKING:
    from focusnb.steps.base import Step
    from focusnb.steps.task import Outcome, Progress, StepCall

RECORD = "align.json"
"""What was done with which movie, in the folder of its results."""

STEPS = ("prepare_movie", "align_frames")

_SHOWN = ("exposure", "status", "drift", "motion_total", "motion_early", "mean_counts", "gain_fit")
_NAMED = 4  # files by name in the summary


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for, the same for all movies; given : facts by name."""

    given: Mapping[str, Any]
    chain: tuple[type[Step], ...]
    calls: tuple[StepCall, ...]
    out: Path
    force: bool
    gpu: bool


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("align")(align)


def align(
    movies: Annotated[list[Path], typer.Argument(metavar="MOVIE...", help="Movies to align.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Where results are written; of several movies, each in a folder there."),
    ],
    gain: Annotated[Path | None, typer.Option(help="Gain reference: MRC, TIFF, DM4 or EER's .gain.")] = None,
    defects: Annotated[
        Path | None, typer.Option(help="Defects: SerialEM's text, rectangles, a list of pixels, or a map.")
    ] = None,
    facts: Facts = [],  # noqa: B006
    steps: Annotated[
        str, typer.Option(metavar="NAME,...", help="Steps to run; 'focusnb step list' shows them.")
    ] = ",".join(STEPS),
    params: Annotated[
        list[str],
        typer.Option(
            "--param",
            metavar="STEP.NAME=VALUE",
            help="A parameter of a step, as 'focusnb step show STEP' tells them; may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is not of the same movie.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write what was found to standard output as JSON.")] = False,
    gpu: Gpu = False,
) -> None:
    """Correct and align movies without a project: micrographs, motion, previews and a log in one folder.

    Facts are read from the file and from the mdoc or XML beside it, as an import does; --set gives what they do not
    tell. A movie that cannot be aligned is told, and the others go on.
    """
    from focusnb.processing.heap import keep_freed_memory

    chain = _chain(steps)
    asked = _Asked(_given(facts, gain, defects), chain, calls_of(chain, params), out, force, gpu)
    keep_freed_memory()
    records = [_align_one(movie, folder, asked) for movie, folder in folders_of(movies, out).items()]
    _summarise(records)
    if as_json:
        print(json.dumps(records, ensure_ascii=False, allow_nan=False))
    if any(record["status"] != "done" for record in records):
        raise typer.Exit(1)


# What is asked for


def _given(assignments: list[str], gain: Path | None, defects: Path | None) -> dict[str, Any]:
    """The facts of the command line, validated, with whole paths."""
    from focusnb.project.facts import check_facts, parse_assignments

    values: dict[str, Any] = dict(parse_assignments(assignments))
    own = [name for name in ("kind", "movie", "image", "metadata") if name in values]
    if own:
        raise ParameterError(f"{own[0]} is told by the movie that is named; it cannot be set")
    values |= {name: str(path) for name, path in (("gain_reference", gain), ("defects", defects)) if path is not None}
    checked = check_facts(values)
    for name, label in (("gain_reference", "gain reference"), ("defects", "defects file")):
        if name in checked:
            path = Path(checked[name])
            if not path.is_file():
                raise ParameterError(f"{path}: the {label} does not exist; check the path")
            checked[name] = str(path.resolve())
    return checked


def _chain(names: str) -> tuple[type[Step], ...]:
    """The steps in their order; ParameterError where one needs what none of them makes."""
    from focusnb.processing.workflow import Workflow
    from focusnb.steps.base import find_step

    workflow = Workflow(*(find_step(name.strip()) for name in names.split(",") if name.strip()))
    over_sets = [step.name for step in workflow.steps if step.over == "set"]
    if over_sets:
        raise ParameterError(f"{over_sets[0]} runs on a set of exposures, not on a movie; leave it out")
    if workflow.needs():
        raise ParameterError(f"these steps need {', '.join(workflow.needs())}; add the step that makes it to --steps")
    return workflow.steps


# One movie


def _align_one(movie: Path, folder: Path, asked: _Asked) -> dict[str, Any]:
    """Run the steps on a movie and keep what they made; what is wrong with it is in the record, never raised."""
    record: dict[str, Any] = {
        "exposure": movie.stem,
        "movie": str(movie.resolve()),
        "folder": str(folder),
        "status": "failed",
        "reason": "",
        "facts": {},
        "findings": {},
        "files": [],
    }
    try:
        resolved = _facts_of(movie, asked.given, asked.chain)
        record["facts"] = {name: {"value": value, "origin": origin} for name, (value, origin) in resolved.items()}
        facts = {name: value for name, (value, _) in resolved.items()}
        old = _check_folder(movie, folder, facts, asked)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".align-", dir=asked.out))
    except (FocusError, OSError) as error:
        return {**record, "reason": sentence(error)}
    try:
        outcome, run_folder = _run(movie, facts, temporary, asked)
        record |= _found(outcome, asked.chain)
        record["files"] = place(run_folder, folder, record["files"], old)
        _write_record(folder, record, asked.calls)
    except OSError as error:
        return {**record, "status": "failed", "reason": sentence(error)}
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return record


def _facts_of(movie: Path, given: Mapping[str, Any], chain: Sequence[type[Step]]) -> dict[str, tuple[Any, str]]:
    """What is known of a movie, with its origin; StepError tells what the steps need and nobody knows."""
    from focusnb.io.movies import open_movie
    from focusnb.project import facts as fact_rules
    from focusnb.project.gathering import ImportReport, gather_facts

    if not movie.is_file():
        raise StepError(f"{movie}: does not exist; check the path")
    with open_movie(movie) as opened:
        if opened.shape[0] < 2:
            raise FormatError(f"{movie}: holds {opened.shape[0]} frame, a movie has several; is it an image?")
    report = ImportReport()
    candidates, _ = gather_facts(movie, given, report, keep=lambda named, label: str(named.resolve()))
    for message in (
        *report.messages,
        *(f"{movie.name}: {told.sentence}" for told in fact_rules.disagreements(candidates)),
    ):
        say(message)
    known = {
        **fact_rules.resolve(candidates),
        "kind": ("movie", "header"),
        "movie": (str(movie.resolve()), "header"),
    }
    missing = {spec.name: spec for step in chain for spec in step.facts() if spec.required and spec.name not in known}
    if missing:
        labels = " and ".join(spec.label.lower() for spec in missing.values())
        options = " ".join(f"--set {spec.name}=VALUE{f' ({spec.unit})' * bool(spec.unit)}" for spec in missing.values())
        raise StepError(f"{movie.name}: {labels} is told neither by the file nor beside it; give {options}")
    return known


def _check_folder(movie: Path, folder: Path, facts: Mapping[str, Any], asked: _Asked) -> list[str]:
    """The names of files that an earlier run left for this one to replace; StepError where they are another's."""
    made = [spec for step in asked.chain for spec in step.makes() if spec.file is not None]
    names = [RECORD, "log.txt", *(str(spec.file) for spec in made)]
    inputs = {facts.get(name) for name in ("movie", "gain_reference", "defects")}
    spoiled = next((name for name in names if str((folder / name).resolve()) in inputs), None)
    if spoiled is not None:
        raise StepError(f"{folder / spoiled}: is read for {movie.name} and would be overwritten; give another --out")
    try:
        before = json.loads((folder / RECORD).read_text())
        other, files = str(before["movie"]), [str(name) for name in before["files"]]
    except FileNotFoundError:
        other, files = "", []
    except (ValueError, KeyError, TypeError):
        other, files = "another program", []
    there = next((name for name in names if (folder / name).exists()), None)
    if other != facts["movie"] and there is not None and not asked.force:
        owner = f"the results of {other}" if other else f"{there}, which is not known to be of this movie"
        raise StepError(f"{folder}: holds {owner}; {movie.name} needs another --out, or --force to overwrite")
    return [name for name in files if Path(name).name == name]


def _run(movie: Path, facts: Mapping[str, Any], temporary: Path, asked: _Asked) -> tuple[Outcome, Path]:
    """Run the chain as a task in a temporary folder; returns the outcome and where its files are."""
    from focusnb.steps.task import Task, run_task

    def tell(progress: Progress) -> None:
        if progress.message:
            say(f"{movie.name}: {progress.message}")

    task = Task(
        id="align",
        exposure=0,
        name=movie.name,
        project=str(asked.out.resolve()),
        folder=f"{temporary.name}/exposures/{movie.stem}",
        calls=asked.calls,
        facts=facts,
        use_gpu=asked.gpu,
        trial="align",  # beside a project's folders, no session is added to
    )
    return run_task(task, tell), task.run_folder


def _found(outcome: Outcome, chain: Sequence[type[Step]]) -> dict[str, Any]:
    """What the steps found and made, and the first reason why one did not."""
    plain = {spec.name for step in chain for spec in step.makes() if spec.kind == "value"}
    wrong = next((step for step in outcome.steps if step.status != "done"), None)
    return {
        "status": "done" if wrong is None else wrong.status,
        "reason": "" if wrong is None else wrong.reason,
        "findings": {n: value for step in outcome.steps for n, value in step.values.items() if n in plain},
        "files": [name for step in reversed(outcome.steps) for name in step.products.values()],
    }


def _write_record(folder: Path, record: Mapping[str, Any], calls: tuple[StepCall, ...]) -> None:
    from focusnb import __version__
    from focusnb.io import files

    steps = {call.step: dict(call.params) for call in calls}
    files.write_json(folder / RECORD, {"focusnb": __version__, **record, "steps": steps})


# All of them


def _summarise(records: list[dict[str, Any]]) -> None:
    """Show a table of the movies and where their files are."""
    import pandas as pd

    from focusnb.steps.base import built_in_steps

    specs = {spec.name: spec for step in built_in_steps().values() for spec in step.makes()}
    rows = [{**record["findings"], **record} for record in records]
    table = pd.DataFrame(
        [{name: _rounded(row.get(name), specs.get(name)) for name in _SHOWN} for row in rows], columns=list(_SHOWN)
    )
    table["reason"] = [record["reason"] or None for record in records]
    table.attrs["labels"] = {name: specs[name].label for name in _SHOWN if name in specs}
    table.attrs["units"] = {name: specs[name].unit for name in _SHOWN if name in specs}
    show_table(table, _SHOWN)
    for record in records:
        names = record["files"]
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            say(f"{record['folder']}: {', '.join(names[:_NAMED])}{more}")


def _rounded(value: Any, spec: Any) -> Any:
    return round(value, spec.precision) if isinstance(value, float) and spec.precision is not None else value
