"""Writing what was finished elsewhere: exposures with their files and facts, and a run for each step's results."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from focusnb.errors import FormatError, ParameterError
from focusnb.io import files
from focusnb.io.movies import open_movie
from focusnb.project import facts as fact_rules
from focusnb.project import placing, records, schema, storing
from focusnb.project.adopting import products
from focusnb.project.adopting.finished import MOTION, AdoptionReport, Findings, Finished
from focusnb.project.fingerprints import is_adopted
from focusnb.project.gathering import sentence
from focusnb.project.importer import copy_reference
from focusnb.project.library import Transaction, now
from focusnb.project.tasks import active_states, status_of
from focusnb.quantities import Acquisition
from focusnb.steps.base import Step

if TYPE_CHECKING:
    from focusnb.project.project import Project

BATCH = 100
"""Exposures written in one transaction."""

_BLOCK = 1 << 16
_SAMPLED = "sampled-"


@dataclass(frozen=True)
class Options:
    """How to adopt; see :func:`focusnb.project.adopting.adopt`."""

    facts: Mapping[str, Any]
    group: str | None = None
    copy: bool = False
    movies: bool = False
    without_files: bool = False
    pictures: bool = True


class _Place(NamedTuple):
    """The step that findings belong to, and what other steps of the workflow make."""

    step: type[Step]
    elsewhere: frozenset[str]


@dataclass
class _Change:
    """What is to be written of one exposure: columns, runs, and the row it is to be where it is new."""

    finished: Finished
    identity: int | None
    name: str
    values: dict[str, Any]
    runs: list[dict[str, Any]] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)
    ready: Path | None = None
    """Where its files were made ready, where it is new."""
    gone: list[Path] = field(default_factory=list)
    seen: int = 0
    """Revision of the row when this was worked out."""


class Writer:
    """Writes finished exposures into a project, a batch at a time."""

    def __init__(self, project: Project, options: Options, report: AdoptionReport) -> None:
        self.project, self.options, self.report = project, options, report
        placing.sweep_stages(project)
        self._places: dict[tuple[str, str], _Place | None] = {}
        self._references: dict[Path, str] = {}
        self._batch: list[Finished] = []
        e = schema.exposures.c
        with project.library.read() as connection:
            self._folders = set(connection.execute(sa.select(e.folder)).scalars())

    def add(self, finished: Finished) -> None:
        """Take one exposure; it is written with its batch."""
        self._batch.append(finished)
        if len(self._batch) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was taken and not yet written; no import waits while files are read or copied for that."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        with placing.staging(self.project) as stage:
            present = self._present(batch)
            changes = []
            for number, finished in enumerate(batch):
                try:
                    change = self._change(finished, present, stage / str(number))
                except FormatError as error:
                    self._leave_out(f"{sentence(error)} It was left out.")
                else:
                    changes += [change] * (change is not None)
            with placing.filling(self.project):
                self._write([change for change in self._moved_in(changes) if change is not None])

    def _moved_in(self, changes: list[_Change]) -> Iterator[_Change | None]:
        """Move the files of new exposures to folders of their own; what came meanwhile from elsewhere is renewed."""
        present = self._present([change.finished for change in changes if change.ready is not None])
        for change in changes:
            if change.ready is None:
                yield change
                continue
            row = next((present[str(path)] for path in _starts(change.finished) if str(path) in present), None)
            if row is not None:
                yield self._renewed(change.finished, row)
                continue
            folder, name = self._free_folder(change.row["group"], change.finished.name, Path(change.row["source"]))
            placing.move_folder(change.ready, self.project.folder / folder)
            self._folders.add(folder)
            change.row |= {"exposure": name, "folder": folder}
            yield change

    def _present(self, batch: list[Finished]) -> dict[str, dict[str, Any]]:
        """The rows there are of a batch, by the file they came from."""
        e = schema.exposures.c
        sources = {str(path) for one in batch for path in _starts(one)}
        with self.project.library.read() as connection:
            ids = connection.execute(sa.select(e.id, e.source).where(e.source.in_(sources))).all()
            return {row.source: records.row_of(connection, row.id) for row in ids}

    # One exposure

    def _change(self, finished: Finished, present: dict[str, dict[str, Any]], ready: Path) -> _Change | None:
        row = next((present[str(path)] for path in _starts(finished) if str(path) in present), None)
        if row is not None:
            return self._renewed(finished, row)
        start, kind = self._start(finished)
        if start is None or not (os.path.isfile(start) or self.options.without_files):
            self._leave_out(
                "is not there; left out, --without-files adopts the values alone", about=str(start or finished.name)
            )
            return None
        change = self._new(finished, start, kind, ready)
        # a second row of the same file, in this batch or a later one, is the same exposure
        present[str(start)] = {"id": None}
        return change

    def _leave_out(self, message: str, *, about: str = "") -> None:
        self.report.left_out += 1
        self.report.tell(message, about=about)

    def _start(self, finished: Finished) -> tuple[Path | None, str]:
        movie = None if finished.movie is None else products.resolved(finished.movie)
        if self.options.movies and movie is not None and movie.is_file():
            return movie, "movie"
        if self.options.movies:
            self.report.tell("its movie is not there; it starts from its sum", about=finished.name)
        return (None if finished.image is None else products.resolved(finished.image)), "image"

    def _new(self, finished: Finished, start: Path, kind: str, place: Path) -> _Change:
        """A new exposure; its files are made ready in a place of their own."""
        group, name = self.options.group or finished.group, _as_name(finished.name)
        (place / "raw").mkdir(parents=True)
        try:
            content = self._place(start, place / "raw") if start.is_file() else ""
            for path in finished.beside:
                files.copy_verified(path, place / "raw" / path.name, into=self.project.folder)
            candidates = self._facts(finished, start, kind)
            change = _Change(finished, None, name, {}, ready=place)
            current = self._findings(finished, kind, place, {}, change)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        change.row = {
            "group": group,
            "status": records.overall(current)[0],
            "flag": finished.flag,
            "comment": finished.comment,
            "source": str(start),
            "content": content,
            "imported_at": now(),
        }
        change.values |= {"facts": candidates, "current": current, **fact_rules.columns(candidates)}
        change.values["processed_at"] = now() if current else None
        self._tell_disagreements(candidates, name)
        return change

    def _renewed(self, finished: Finished, row: Mapping[str, Any]) -> _Change | None:
        if row["id"] is None:
            self.report.known += 1
            return None
        change = _Change(finished, int(row["id"]), str(row["exposure"]), {}, seen=int(row["revision"]))
        place = self.project.folder / str(row["folder"])
        start = Path(str(row["source"]))
        kind = str(fact_rules.resolve(row["facts"])["kind"][0])
        candidates = {name: dict(origins) for name, origins in row["facts"].items()}
        adopted = any(is_adopted(state) for state in row["current"].values())
        for name, origins in self._facts(finished, start, kind).items():
            for origin, value in origins.items() if name not in (kind, "kind") else ():
                # what an mdoc said of an exposure that was imported stays
                if adopted or origin == "set" or origin not in candidates.get(name, {}):
                    candidates.setdefault(name, {})[origin] = value
        candidates = fact_rules.add_origin(candidates, "set", self.options.facts)
        if start.is_file() and _is_other(start, str(row["content"] or "")):
            change.values["content"] = self._place(start, place / "raw")
            candidates[kind] = {"header": f"raw/{start.name}"}
        if candidates != row["facts"]:
            change.values |= {"facts": candidates, **fact_rules.columns(candidates)}
            self._tell_disagreements(candidates, change.name)
        current = self._findings(finished, kind, place, row["current"], change)
        if current != row["current"]:
            change.values |= {"current": current, "processed_at": now()}
        if not change.values:
            self.report.known += 1
            return None
        return change

    def _free_folder(self, group: str, name: str, source: Path) -> tuple[str, str]:
        """A folder that no exposure has; what an interrupted adoption of this file left is used again."""
        group, stem = _as_name(group), _as_name(name)
        for number in range(1, 1_000_000):
            chosen = stem if number == 1 else f"{stem}_{number}"
            folder = f"exposures/{group}/{chosen}"
            if folder not in self._folders and _may_be_used(self.project.folder / folder, source):
                return folder, chosen
        raise FormatError(f"{source}: there are too many exposures called {stem}")

    def _place(self, source: Path, folder: Path) -> str:
        """Put the raw file where it belongs; returns what tells its content from another one."""
        target = folder / source.name
        if self.options.copy:
            return files.copy_verified(source, target, into=self.project.folder)
        target.unlink(missing_ok=True)
        target.symlink_to(source)
        return _sample(source)

    # Facts

    def _facts(self, finished: Finished, start: Path, kind: str) -> fact_rules.Candidates:
        candidates = fact_rules.add_origin({}, "default", fact_rules.DEFAULTS)
        if start.is_file():
            try:
                with open_movie(start) as movie:
                    said = {name: value for name, value in movie.header_facts.items() if name in _FACTS}
                    candidates = fact_rules.add_origin(candidates, "header", self._valid(said, start.name))
            except FormatError as error:
                self.report.tell(f"{sentence(error)} It is adopted all the same, and its row will say so.")
            candidates[kind] = {"header": f"raw/{start.name}"}
        own = finished.movie_facts if kind == "movie" else finished.image_facts
        told = {
            name: self._reference(value, name) if isinstance(value, Path) else value
            for name, value in {**finished.facts, **own}.items()
        }
        candidates = fact_rules.add_origin(candidates, "metadata", self._valid(told, finished.name))
        candidates["kind"] = {"header": kind}
        return fact_rules.add_origin(candidates, "set", self.options.facts)

    def _reference(self, path: Path, name: str) -> str | None:
        if name in self.options.facts:
            return None
        if path not in self._references:
            self._references[path] = copy_reference(self.project, path, name.replace("_", " "))
        return self._references[path]

    def _valid(self, values: Mapping[str, Any], about: str) -> dict[str, Any]:
        """Facts within their limits; the others are told."""
        try:
            return fact_rules.check_facts(values)
        except ParameterError:
            kept = {}
            for name, value in values.items():
                try:
                    kept |= fact_rules.check_facts({name: value})
                except ParameterError as error:
                    self.report.tell(f"{error}; not used", about=about)
            return kept

    def _tell_disagreements(self, candidates: fact_rules.Candidates, name: str) -> None:
        for told in fact_rules.disagreements(candidates):
            self.report.tell(told.sentence, about=name, topic=told.topic)

    # Findings

    def _findings(
        self, finished: Finished, kind: str, place: Path, present: Mapping[str, Any], change: _Change
    ) -> dict[str, Any]:
        """Enter what was found into the columns, and write its files; returns the runs that are now in force."""
        current = dict(present)
        for findings in finished.findings:
            where = self._place_of(kind, findings.key)
            if where is None:
                self.report.tell(
                    f"no step of this project makes {findings.key}; what {findings.program} found is not kept"
                )
                continue
            name, fingerprint = where.step.name, findings.digest()
            state = current.get(name, {})
            if state and not is_adopted(state):
                self.report.tell(
                    f"has results of {name} that focusnb made; those of {findings.program} were not adopted",
                    about=change.name,
                    topic=f"own results {name} {findings.program}",
                )
                continue
            if state.get("fingerprint") == fingerprint and not self._lacks(place, where, state):
                continue
            values = self._written(findings, kind, where, place, change.name)
            if not values:
                continue
            kept = [
                spec for spec in where.step.makes() if spec.kind != "transient" and spec.name not in where.elsewhere
            ]
            change.values |= {spec.name: values.get(spec.name) for spec in kept}
            change.gone += [place / spec.file for spec in kept if spec.file is not None and spec.name not in values]
            run, state = self._run(findings, where.step, fingerprint, values)
            current[name] = {**state, "makes": [spec.name for spec in kept]}
            change.runs.append(run)
        return current

    def _lacks(self, place: Path, where: _Place, state: Mapping[str, Any]) -> bool:
        """Whether the motion's table, which is small and always written, is gone."""
        table = next((spec.file for spec in where.step.makes() if spec.name == "motion"), None)
        return bool(state.get("adopted", {}).get("motion")) and table is not None and not (place / table).is_file()

    def _place_of(self, kind: str, finding: str) -> _Place | None:
        """The step that makes a finding: of the workflow of the kind, else of another one of the project."""
        if (kind, finding) not in self._places:
            project = self.project
            usual = project.step_names(kind)
            others = [name for names in project.mode.steps.values() for name in names]
            steps = [project.step(name) for name in dict.fromkeys([*usual, *others])]
            found = next((step for step in steps if finding in {spec.name for spec in step.makes()}), None)
            elsewhere = {s.name for n in usual if found and n != found.name for s in project.step(n).makes()}
            self._places[kind, finding] = None if found is None else _Place(found, frozenset(elsewhere))
        return self._places[kind, finding]

    def _written(self, findings: Findings, kind: str, where: _Place, place: Path, name: str) -> dict[str, Any]:
        """Write the files of findings; returns the values of the step, those that are not valid left out and told."""
        names = {spec.name: spec.file for spec in where.step.makes() if spec.name not in where.elsewhere}
        values = {n: v for n, v in findings.values.items() if n in names}
        for finding, source in findings.files.items():
            target = names.get(finding)
            if target is not None:
                products.link(source, place / target, copy=self.options.copy, into=self.project.folder)
                values[finding] = target
        picture = names.get("micrograph_preview") if self.options.pictures and kind == "movie" else None
        try:
            if findings.motion is not None and findings.key == MOTION:
                found = products.write_motion(findings.motion, names, place, picture=self.options.pictures)
                values |= {n: v for n, v in found.items() if n in names}
            if picture is not None and products.draw_sum(findings, place / picture):
                values["micrograph_preview"] = picture
        except FormatError as error:
            self.report.tell(f"{sentence(error)} It was not adopted.", about=name)
        for wrong, told in where.step.Results.faults(values).items():
            self.report.tell(f"{told}; not adopted", about=name)
            values.pop(wrong, None)
        return values

    def _run(
        self, findings: Findings, step: type[Step], fingerprint: str, values: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The row of history, and the state of the step in force."""
        at, run = now(), uuid.uuid4().hex
        by = f"{findings.program} {findings.version}".strip()
        products = {s.name: s.file for s in step.makes() if s.file is not None and s.name in values}
        common = {"status": "done", "version": f"by {by}", "fingerprint": fingerprint, "attempt": 1, "params": {}}
        common |= {"started_at": at, "finished_at": at}
        row = {
            "id": run,
            "step": step.name,
            **common,
            "values": {n: v for n, v in values.items() if n not in products},
            "products": products,
            "versions": {findings.program: findings.version or "not told", "adopted from": str(findings.file)},
            "log": f"Adopted from {findings.file}, which {by} wrote",
        }
        adopted: dict[str, Any] = {"program": findings.program, "version": findings.version, "file": str(findings.file)}
        state = {
            "run": run,
            **common,
            "reason": None,
            "error": None,
            "adopted": {**adopted, "motion": "motion" in values},
        }
        return row, {**state, "beside": not self.project.is_usual(step.name)}

    # The library

    def _write(self, changes: list[_Change]) -> None:
        if not changes:
            return
        with self.project.library.write() as transaction:
            written = [self._write_one(transaction, change) for change in changes]
        for change in written:
            if change is None:
                continue
            for path in change.gone:
                path.unlink(missing_ok=True)
            (self.report.added if change.row else self.report.updated).append(int(change.identity or 0))

    def _write_one(self, transaction: Transaction, change: _Change) -> _Change | None:
        if change.row:
            row = {**change.row, "revision": transaction.revision}
            inserted = transaction.execute(schema.exposures.insert(), row)
            change.identity = int(inserted.inserted_primary_key[0])
        else:
            present = records.row_of(transaction.connection, int(change.identity or 0))
            # somebody wrote to the row meanwhile, as a process that works on the project does: nothing of that is lost
            again = change if present["revision"] == change.seen else self._renewed(change.finished, present)
            if again is None:
                return None
            change = again
            if "current" in change.values:
                states = active_states(transaction, "exposure", int(present["id"]))
                status, reason = status_of(states, change.values["current"])
                change.values |= {"status": status, "reason": reason}
        assert change.identity is not None
        transaction.update_exposure(change.identity, change.values)
        runs = [{**run, "exposure_id": change.identity, "revision": transaction.revision} for run in change.runs]
        if runs:
            transaction.execute(schema.runs.insert(), runs)
        storing.write_record(self.project, transaction, change.identity)
        return change


_FACTS = frozenset(spec.name for spec in Acquisition.specs() if spec.kind != "file")


def _starts(finished: Finished) -> list[Path]:
    """The files by which an exposure is known again: its sum, or its movie where that was imported."""
    return [products.resolved(path) for path in (finished.image, finished.movie) if path is not None]


def _sample(path: Path) -> str:
    """Tell a file's content from others by its length and three parts: to read 10,000 micrographs takes an hour."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(str(size).encode())
            for start in sorted({0, max(0, size // 2 - _BLOCK // 2), max(0, size - _BLOCK)}):
                file.seek(start)
                digest.update(file.read(_BLOCK))
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}).") from error
    return _SAMPLED + digest.hexdigest()


def _is_other(path: Path, content: str) -> bool:
    """Whether a file is not, or not any more, the one that was linked to; a copy, or an import, is not compared."""
    return not content or (content.startswith(_SAMPLED) and _sample(path) != content)


def _as_name(text: str) -> str:
    """A text as the name of a folder: never hidden, never a path."""
    return re.sub(r"[^\w.\-+]", "_", text).lstrip(".") or "exposure"


def _may_be_used(folder: Path, source: Path) -> bool:
    """Whether a folder is free, or holds what an interrupted adoption of this file left.

    What a library was rebuilt without is not overwritten.
    """
    try:
        inside = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    if records.FILE_NAME not in inside:
        return os.path.lexists(folder / "raw" / source.name) or set(inside) <= {"raw"}
    try:
        return bool(json.loads((folder / records.FILE_NAME).read_text())["source"] == str(source))
    except (OSError, ValueError, KeyError, TypeError):
        return False
