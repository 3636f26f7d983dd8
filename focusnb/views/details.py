"""Everything known of one exposure as tables of text: facts, findings, runs, parameters, log, and why it failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from focusnb.errors import ParameterError
from focusnb.parameters import PRODUCTS, Spec
from focusnb.steps.base import FACTS
from focusnb.views.exposure import ExposureRecord, facts_in_force, origin_in_words, step_title
from focusnb.views.values import MISSING, format_value, is_missing

if TYPE_CHECKING:
    from focusnb.project.project import Project

LONGEST_LOG = 20_000
"""Characters of a log that are shown: its end."""

LEVELS = {"default": "default", "project": "project", "group": "group", "exposure": "this exposure"}
"""The level a choice comes from, in words."""

WRONG = ("failed", "broken", "lost")


@dataclass(frozen=True)
class Row:
    """One value of a table.

    label, text, unit : what it is called, the value, its unit
    name : as Python and the command line call it
    group : the heading it stands below
    origin : where it comes from, in words; empty where that is the usual one
    note : more, such as what other origins say
    help : what the value means
    marked : set by hand, or otherwise not as usual
    """

    label: str
    text: str
    unit: str = ""
    name: str = ""
    group: str = ""
    origin: str = ""
    note: str = ""
    help: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a step failed.

    step, title : its name and title
    status : failed (this exposure cannot), broken (a fault of the step) or lost (its worker died)
    reason : a sentence, with the cure where the step knows it
    cure : what to do
    traceback : for a fault, what to send to whoever wrote the step
    """

    step: str
    title: str
    status: str
    reason: str
    cure: str
    traceback: str = ""


def failures(project: Project, record: ExposureRecord, runs: pd.DataFrame | None = None) -> list[Failure]:
    """Return why steps of an exposure failed, the one that decides its status first; empty where none did.

    runs : its history, for the traceback of a fault
    """
    found = []
    for step, state in record.current.items():
        if state.get("status") not in WRONG:
            continue
        status, error = str(state["status"]), str(state.get("error") or "")
        reason = str(state.get("reason") or "it gave no reason").strip()
        trace = ""
        if runs is not None and not runs.empty:
            own = runs.loc[runs["run"] == state.get("run"), "traceback"].dropna()
            trace = str(own.iloc[-1]) if len(own) else ""
        cure = _cure(project, record, status, error, reason)
        found.append(Failure(step, step_title(project, step), status, reason, cure, trace))
    return sorted(found, key=lambda failure: (failure.status != record.status, failure.reason != record.reason))


def _cure(project: Project, record: ExposureRecord, status: str, error: str, reason: str) -> str:
    again = f"focusnb run {project.folder} --retry"
    if error == "ResourceError":
        return "The computer was the cause, not the exposure: it is tried again by itself once there is room."
    if error == "ProgramMissing":
        return f"Install the program, then '{again}' runs it again."
    if error == "Memory":
        return f"It needs more memory than a worker has: give each worker more, then '{again}'."
    if status == "lost":
        return f"Its worker died again and again. '{again}' tries once more; the log says how far it came."
    if status == "broken":
        return "This is a fault of the step, not of the exposure: send the traceback below to whoever wrote it."
    told = ""
    source = record.values.get("movie") or record.values.get("image")
    if error == "FormatError" and source:
        told = "Look at the recorded file itself, and import it again where the camera still has a good copy. "
    return f"{told}With other parameters or facts the step runs again by itself; '{again}' repeats it as it is."


def fact_rows(project: Project, record: ExposureRecord) -> list[Row]:
    """The facts of an exposure: value, unit, where it comes from, and what other origins say."""
    specs, rows = project.specs(), []
    in_force = facts_in_force(record)
    for name in [name for name in specs if name in FACTS]:
        spec = specs[name]
        value, origin = in_force.get(name, (record.values.get(name), ""))
        if is_missing(value):
            continue
        others = {o: v for o, v in record.facts.get(name, {}).items() if o != origin and v != value}
        note = "; ".join(f"{origin_in_words(o)} says {format_value(spec, v)}" for o, v in others.items())
        rows.append(_row(spec, value, origin=origin_in_words(origin), note=note, marked=origin == "hand"))
    return rows


def finding_rows(project: Project, record: ExposureRecord) -> list[Row]:
    """The findings of an exposure, by group; those set by hand say by whom, and what was measured."""
    rows = []
    for name, spec in project.specs().items():
        if name in FACTS or spec.kind in PRODUCTS or spec.kind == "transient":
            continue
        override = record.overrides.get(name)
        value = record.values.get(name) if override is None else override.value
        if is_missing(value) and override is None:
            continue
        if override is None:
            rows.append(_row(spec, value))
            continue
        beneath = format_value(spec, record.measured.get(name))
        note = f"by {override.who or 'somebody'}, {moment(override.at)}"
        note += f"; measured: {beneath}" if beneath != MISSING else "; nothing was measured"
        rows.append(_row(spec, value, origin="by hand", note=note, marked=True))
    return rows


def _row(spec: Spec, value: Any, *, origin: str = "", note: str = "", marked: bool = False) -> Row:
    text = format_value(spec, value)
    unit = "" if text == MISSING else spec.unit
    return Row(spec.label, text, unit, spec.name, spec.group, origin, note, spec.help, marked)


def parameter_rows(project: Project, record: ExposureRecord) -> list[Row]:
    """The choices in force for the steps of an exposure, below the title of each step, with the level they come from.

    A choice with which the present results were made, and which is another by now, says so.
    """
    kind = str(record.values.get("kind") or "movie")
    try:
        names = list(dict.fromkeys([*project.step_names(kind), *record.current]))
    except (ParameterError, KeyError):
        names = list(record.current)
    rows: list[Row] = []
    for name in names:
        try:
            chosen, origins = project.params(name, record.id)
        except ParameterError as error:
            rows.append(Row("Parameters", MISSING, group=name, note=str(error), marked=True))
            continue
        used = record.current.get(name, {}).get("params") or {}
        for spec in chosen.specs():
            value = getattr(chosen, spec.name)
            note = ""
            if spec.name in used and used[spec.name] != value:
                note = f"the results were made with {_choice(spec, used[spec.name])}"
            level = origins.get(spec.name, "default")
            row = _row(spec, value, origin=LEVELS.get(level, level), note=note, marked=level != "default")
            rows.append(Row(**{**vars(row), "text": _choice(spec, value), "group": step_title(project, name)}))
    return rows


def _choice(spec: Spec, value: Any) -> str:
    """A choice as text; one that is left to the step is so by its own rule."""
    return "automatic" if value is None else format_value(spec, value)


def read_runs(project: Project, record: ExposureRecord) -> pd.DataFrame:
    """The history of an exposure, newest first."""
    return project.runs(exposure=record.id).iloc[::-1]


def run_rows(project: Project, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """The history as text: step, status, when, how long, where, by which versions, why not."""
    rows = []
    for run in runs.to_dict("records"):
        versions = [f"version {run['version']}"] if not is_missing(run["version"]) else []
        programs = run["versions"] if isinstance(run["versions"], Mapping) else {}
        versions += [f"{program} {version}" for program, version in programs.items()]
        seconds = run["seconds"]
        rows.append(
            {
                "step": step_title(project, run["step"]),
                "status": run["status"],
                "trial": "" if is_missing(run["trial"]) else str(run["trial"]),
                "when": MISSING if is_missing(run["started_at"]) else moment(run["started_at"]),
                "seconds": MISSING if is_missing(seconds) else f"{seconds:.1f}",
                "host": "" if is_missing(run["host"]) else str(run["host"]),
                "versions": ", ".join(versions),
                "reason": "" if is_missing(run["reason"]) else str(run["reason"]),
                "attempt": int(run["attempt"]),
            }
        )
    return rows


def log_text(record: ExposureRecord, runs: pd.DataFrame | None = None) -> str:
    """The end of an exposure's log, from its file or else from its history; a sentence where there is none."""
    path = record.folder / "log.txt"
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(max(0, size - LONGEST_LOG))
            text = file.read().decode("utf-8", "replace")
        if size > LONGEST_LOG:
            text = f"… the {size - LONGEST_LOG} bytes before are in {path}\n{text}"
    except OSError:
        kept = [] if runs is None or runs.empty else [run for run in runs.iloc[::-1].to_dict("records") if run["log"]]
        text = "\n\n".join(f"{run['step']}\n{run['log']}" for run in kept)[-LONGEST_LOG:]
    return text or "There is no log: no step has run on this exposure yet."


def moment(time: Any) -> str:
    """A point in time as the computer's clock on the wall shows it."""
    stamp = pd.Timestamp(time)
    if stamp.tzinfo is not None:
        stamp = pd.Timestamp(stamp.to_pydatetime().astimezone())
    return f"{stamp:%Y-%m-%d %H:%M:%S}"
