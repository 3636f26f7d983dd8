"""The court sits: on the first exposures of each import group, while a session is processed or when it is asked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import sqlalchemy as sa

from focusnb.errors import FocusError, ParameterError
from focusnb.io.folders import ask
from focusnb.processing.court import CHECKS, Bench, Verdict, Witness
from focusnb.processing.court.bench import cannot_tell
from focusnb.processing.court.cures import common
from focusnb.processing.processor import Event
from focusnb.processing.queue import Queue
from focusnb.processing.workflow import Workflow
from focusnb.project import court as kept
from focusnb.project import facts as fact_rules
from focusnb.project import records, schema
from focusnb.project.project import Project
from focusnb.project.sets import TRASH
from focusnb.project.sources import ImportSource, read_sources
from focusnb.quantities import Acquisition
from focusnb.steps.base import FACTS

FEWEST, MOST = 5, 10
"""Exposures from which on a session that goes on is judged, and those that are looked at."""

QUIET = 300.0
"""Seconds without an exposure after which a session of fewer is judged."""

PREPARE = "prepare_movie"

Say = Callable[[str], None]


def groups(project: Project) -> list[str]:
    """The import groups of a project: the folders its exposures came from, in their order."""
    folder = schema.exposures.c.folder
    with project.library.read() as connection:
        query = sa.select(folder).where(schema.exposures.c.group != TRASH).order_by(schema.exposures.c.id)
        return list(dict.fromkeys(group_of(str(name)) for name in connection.execute(query).scalars()))


def group_of(folder: str) -> str:
    """The import group of an exposure by its folder in the project."""
    return Path(folder).parts[1]


def sit(project: Project, group: str, *, keep: bool = True) -> tuple[list[Verdict], list[Verdict]]:
    """Judge an import group by its first exposures; returns all verdicts, and those that are to be told.

    keep : keep them in the library
    To be told are what is suspicious or wrong and was not told, and what was told and is fine now.
    """
    record = kept.read(project.library).get(group, {})
    ids = _first(project, group, record.get("exposures", []))
    witnesses = _witnesses(project, ids)
    folders = _folders(project, group)
    watched = _watched(project, folders)
    source = folders[-1] if folders else Path("FOLDER")
    verdicts = _judge(
        Bench(witnesses, project=project.folder, source=source, folders=common(map(str, folders)), watched=watched)
    )
    told = record.get("told", {})
    news = [one for one in verdicts if (one.is_bad or one.word == "fine") and told.get(one.check, "fine") != one.word]
    fresh = {"exposures": ids, "verdicts": [verdict.to_dict() for verdict in verdicts], "told": told}
    if keep and fresh != record:
        kept.write(project, group, fresh)
    return verdicts, news


def _judge(bench: Bench) -> list[Verdict]:
    """The verdicts of all checks; one that damaged products keep from judging hides none of the others."""
    verdicts = []
    for name, check in CHECKS.items():
        try:
            verdicts.append(check(bench))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            told = f"what the steps left of these exposures is damaged ({type(error).__name__}: {error})"
            verdicts.append(cannot_tell(name, told, len(bench.all)))
    return verdicts


def note_told(project: Project, group: str, news: Iterable[Verdict]) -> None:
    """Remember that these verdicts were told."""
    record = kept.read(project.library).get(group, {})
    told = {**record.get("told", {}), **{verdict.check: verdict.word for verdict in news}}
    bad = {check: word for check, word in told.items() if word != "fine"}
    kept.write(project, group, {**record, "told": bad})


def _first(project: Project, group: str, known: Iterable[int]) -> list[int]:
    """The ids of the first exposures processed of a group: those looked at before that are still there, and more."""
    e = schema.exposures.c
    known = [int(identity) for identity in known]
    of_group = e.folder.startswith(f"exposures/{group}/", autoescape=True) & (e.group != TRASH)
    more = sa.select(e.id).where(of_group & e.processed_at.is_not(None) & e.id.not_in(known))
    with project.library.read() as connection:
        there = set(connection.execute(sa.select(e.id).where(e.id.in_(known) & of_group)).scalars())
        ids = [identity for identity in known if identity in there]
        ids += connection.execute(more.order_by(e.processed_at, e.id).limit(MOST - len(ids))).scalars()
    return ids


def _folders(project: Project, group: str) -> list[Path]:
    """The folders that the exposures of a group came from, in their order."""
    e = schema.exposures.c
    of_group = e.folder.startswith(f"exposures/{group}/", autoescape=True) & (e.group != TRASH)
    with project.library.read() as connection:
        sources = connection.execute(sa.select(e.source).where(of_group).order_by(e.id)).scalars()
        return [Path(name) for name in dict.fromkeys(os.path.dirname(source) for source in sources if source)]


def _watched(project: Project, folders: list[Path]) -> ImportSource | None:
    """The source of the project that brought the last of these folders' exposures, and brings more."""
    try:
        sources = read_sources(project.folder)
    except FocusError:
        return None
    for one in sources:
        for folder in one.folders if folders else ():
            # on a server that is gone a folder would keep the court waiting
            if folders[-1].is_relative_to(ask(folder, Path(folder).resolve, otherwise=Path(folder))):
                return one
    return None


def _witnesses(project: Project, ids: list[int]) -> list[Witness]:
    stale = _stale(project, ids)
    seen = []
    for identity in ids:
        with project.library.read() as connection:
            row = records.row_of(connection, identity)
        facts = {name: value for name, (value, _) in fact_rules.resolve(row["facts"]).items()}
        state = row["current"].get(PREPARE, {})
        failed = state.get("reason") or "no reason told" if state.get("status") in ("failed", "broken") else ""
        seen.append(
            Witness(
                identity,
                str(row["exposure"]),
                {**_DEFAULTS, **facts},
                {name: value for name, value in row.items() if value is not None and name not in FACTS},
                project.folder / str(row["folder"]),
                row["facts"],
                failed,
                frozenset(stale.get(identity, ())),
            )
        )
    return seen


_DEFAULTS = {spec.name: spec.default for spec in Acquisition.specs() if spec.default is not None}


def _stale(project: Project, ids: list[int]) -> Mapping[int, list[str]]:
    """Steps whose results are of other facts or choices than those of today, by exposure."""
    found: dict[int, list[str]] = {}
    try:
        for kind in project.mode.steps:
            of_kind = [one.id for one in project.exposures(ids) if one.kind == kind]
            if of_kind:
                found |= project.stale(Workflow.of(project, kind), of_kind)
    except ParameterError:
        return {}  # a step of the project's own is not trusted: what was found before is all there is
    return found


class Court:
    """Listens to a processor, judges each session once its first exposures are there, and says what is wrong.

    say : told a sentence once, and again only where a verdict changes
    """

    def __init__(self, project: Project, say: Say) -> None:
        self.project, self._say = project, say
        self._waiting: dict[str, float] = {}
        self._settled: dict[str, frozenset[int]] = {}
        self._fault = ""

    def heard(self, event: Event) -> None:
        """Look at an event of the processor; the court sits where it concerns one of the first exposures."""
        outcome = event.outcome
        if event.kind != "stored" or outcome is None or outcome.trial is not None or outcome.set is not None:
            return
        group = group_of(outcome.folder)
        settled = self._settled.get(group)
        if settled is None or outcome.exposure in settled:
            self._waiting[group] = time.monotonic()
            self._sit(group, fewest=FEWEST)

    def rest(self, quiet: float = QUIET) -> None:
        """Nothing waits now: judge also sessions of few exposures of which none has come for so many seconds."""
        for group, since in sorted(self._waiting.items()):
            if time.monotonic() - since >= quiet:
                self._sit(group, fewest=1)

    def _sit(self, group: str, *, fewest: int) -> None:
        """Judge a group; what is wrong with the court itself stops no session."""
        try:
            known = kept.read(self.project.library).get(group, {}).get("exposures", [])
            ids = _first(self.project, group, known)
            if not ids:
                self._waiting.pop(group, None)
            if len(ids) < fewest:
                return
            # what fails is tried again when it has been quiet, not at every turn
            self._waiting[group] = time.monotonic()
            self._tell(group, sit(self.project, group)[1])
            self._waiting.pop(group, None)
            if len(ids) >= MOST:
                self._settled[group] = frozenset(ids)
        except Exception as error:  # damaged products of a step may be anything
            reason = str(error) if isinstance(error, FocusError | OSError) else f"{type(error).__name__}: {error}"
            if reason != self._fault:
                self._fault = reason
                self._say(f"The first exposures of {group} could not be judged: {reason}")

    def _tell(self, group: str, news: list[Verdict]) -> None:
        """Pause, tell and remember it, in this order: cut off in between, it is told once more."""
        wrong = [verdict for verdict in news if verdict.word == "wrong"]
        paused = bool(wrong) and kept.action(self.project) == "pause"
        if paused:
            Queue(self.project).pause()
        for verdict in news:
            now = "" if verdict.is_bad else "now fine: "
            self._say(f"{group}: {now}{verdict.told}")
        if paused:
            self._say(
                f"Paused, so that no more is spoilt: see 'focusnb court {self.project.folder}'; "
                f"'focusnb queue resume {self.project.folder}' goes on"
            )
        if news:
            note_told(self.project, group, news)
